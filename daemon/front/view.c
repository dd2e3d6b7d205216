#include "daemon/front/view.h"

#include "daemon/base/packed.h"
#include "daemon/front/client.h"
#include "daemon/front/reply.h"
#include "daemon/front/router.h"
#include "daemon/front/server.h"
#include "proto/pack.h"

void view_begin(struct view *v, const struct query *q)
{
	v->q = q;
	v->now = loop_now(q->client->server->loop);
	packed_begin(&v->buf, &v->pk);
}

void view_send(struct view *v)
{
	reply_packed(v->q->client, v->q->id, &v->buf);
	msgpack_sbuffer_destroy(&v->buf);
}

void view_pack_left(struct view *v, const char *key, uint64_t at)
{
	pack_text(&v->pk, key);
	if (at == LOOP_NEVER)
		msgpack_pack_nil(&v->pk);
	else
		msgpack_pack_uint64(&v->pk, at > v->now ? (at - v->now) / NS_PER_MS : 0);
}

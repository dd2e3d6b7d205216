#include "daemon/front/upgrade.h"

#include "daemon/base/cleanup.h"
#include "daemon/base/mem.h"
#include "daemon/front/client.h"
#include "daemon/front/errand.h"
#include "daemon/front/method.h"
#include "daemon/front/query.h"
#include "daemon/front/server.h"
#include "daemon/front/view.h"
#include "proto/pack.h"

struct upgrade_errand {
	struct errand errand;
	struct loop_grave grave;
};

static void upgrade_release(struct loop_grave *g)
{
	free(container_of(g, struct upgrade_errand, grave));
}

/* The upgrade itself goes on. */
static void upgrade_drop(struct errand *e)
{
	struct upgrade_errand *ue = container_of(e, struct upgrade_errand, errand);
	struct server *s = e->client->server;

	s->upgrade = NULL;
	errand_end(e);
	loop_bury(s->loop, &ue->grave, upgrade_release);
}

static void upgrade_await(struct client *c, uint64_t id)
{
	struct upgrade_errand *ue = MEM_NEW(struct upgrade_errand);

	c->server->upgrade = &ue->errand;
	errand_begin(&ue->errand, c, id, upgrade_drop);
}

bool upgrade_is_awaited(const struct client *c)
{
	return c->server->upgrade && c->server->upgrade->client == c;
}

void upgrade_pack_awaited(const struct client *c, msgpack_packer *pk)
{
	pack_bool(pk, upgrade_is_awaited(c));
	msgpack_pack_uint64(pk, upgrade_is_awaited(c) ? c->server->upgrade->id : 0);
}

void upgrade_take_awaited(struct client *c, struct unpacker *u)
{
	bool awaited = unpack_bool(u);
	uint64_t id = unpack_uint(u);

	if (awaited)
		upgrade_await(c, id);
}

/* NULL: nobody waits. Else *q is whom to answer, and it is not waited for any more. */
static struct client *upgrade_end(struct server *s, struct query *q)
{
	struct errand *e = s->upgrade;

	if (!e)
		return NULL;
	*q = (struct query){ .client = e->client, .id = e->id };
	upgrade_drop(e);
	return q->client;
}

void upgrade_note_done(struct server *s, const char *from, uint64_t ns)
{
	struct query q;
	struct view v;

	if (!upgrade_end(s, &q))
		return;
	view_begin(&v, &q);
	msgpack_pack_map(&v.pk, 3);
	pack_kv_text(&v.pk, "from", from);
	pack_kv_text(&v.pk, "to", PYPOOL_VERSION);
	pack_kv_uint(&v.pk, "paused_us", ns / 1000);
	view_send(&v);
	client_note_reply(q.client);
}

void upgrade_note_failed(struct server *s, enum error_code code, const char *message)
{
	struct query q;

	if (!upgrade_end(s, &q))
		return;
	query_fail(&q, code, "%s", message);
	client_note_reply(q.client);
}

void method_upgrade(struct query *q)
{
	struct server *s = q->client->server;

	if (s->upgrade) {
		query_fail(q, ERROR_BAD_REQUEST, "an upgrade is on already");
		return;
	}
	if (!query_may_wait(q))
		return;
	upgrade_await(q->client, q->id);
	s->ops->upgrade(s);
}

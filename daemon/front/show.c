/* The method config.show: the configuration in force. */
#include "daemon/front/client.h"
#include "daemon/front/method.h"
#include "daemon/front/query.h"
#include "daemon/front/server.h"
#include "daemon/front/view.h"
#include "proto/pack.h"

/* What concerns the daemon is for admins of the daemon, a pool for its own. */
static void pack_top(struct view *v, struct server *s)
{
	if (v->q->client->grant.role >= v->q->needs) {
		s->ops->show(s, &v->pk);
		return;
	}
	pack_kv_text(&v->pk, "files", NULL);
	pack_kv_text(&v->pk, "options", NULL);
	pack_kv_text(&v->pk, "access", NULL);
}

void method_config_show(struct query *q)
{
	struct server *s = q->client->server;
	unsigned n = 0;
	struct view v;

	if (params_has(&q->params, PARAM_POOL) && !query_find_pool(q))
		return;
	for (unsigned i = 0; i < s->n_pools; i++)
		n += query_concerns(q, s->pools[i]);
	view_begin(&v, q);
	msgpack_pack_map(&v.pk, 4);
	pack_top(&v, s);
	pack_text(&v.pk, "pools");
	msgpack_pack_array(&v.pk, n);
	for (unsigned i = 0; i < s->n_pools; i++) {
		if (query_concerns(q, s->pools[i]))
			s->ops->show_pool(s, s->pools[i], &v.pk);
	}
	view_send(&v);
}

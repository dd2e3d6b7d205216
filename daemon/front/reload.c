/* The method pool.reload: begins one, and tells how it ended when it is waited for. */
#include "daemon/base/cleanup.h"
#include "daemon/base/mem.h"
#include "daemon/front/client.h"
#include "daemon/front/errand.h"
#include "daemon/front/method.h"
#include "daemon/front/query.h"
#include "daemon/front/reply.h"
#include "daemon/front/server.h"
#include "daemon/front/view.h"
#include "daemon/pool/failure.h"
#include "daemon/pool/pool.h"
#include "proto/pack.h"

struct reload_errand {
	struct errand errand;
	struct reload_waiter waiter;
	const struct pool *pool; /* borrows: pools outlive clients */
	struct loop_grave grave;
};

static void reload_release(struct loop_grave *g)
{
	free(container_of(g, struct reload_errand, grave));
}

static void reload_errand_end(struct reload_errand *re)
{
	struct loop *l = re->errand.client->server->loop;

	reload_forget(&re->waiter);
	errand_end(&re->errand);
	loop_bury(l, &re->grave, reload_release);
}

static void reload_drop(struct errand *e)
{
	reload_errand_end(container_of(e, struct reload_errand, errand));
}

/* The phases of what would be the new code: of the template, if there is one, and of the canary. */
static void pack_dry(msgpack_packer *pk, const struct reload_result *r)
{
	pack_kv_bool(pk, "dry_run", true);
	if (r->template)
		failure_pack_phases(pk, "template", r->template);
	else
		pack_kv_text(pk, "template", NULL);
	failure_pack_phases(pk, "init", r->canary);
}

static void answer_done(const struct query *q, const struct pool *p, const struct reload_result *r)
{
	struct view v;

	view_begin(&v, q);
	msgpack_pack_map(&v.pk, r->dry ? 7 : 4);
	pack_kv_text(&v.pk, "pool", p->settings->name);
	pack_kv_uint(&v.pk, "generation", r->generation);
	pack_kv_uint(&v.pk, "replaced", r->replaced);
	pack_kv_uint(&v.pk, "ms", r->ns / NS_PER_MS);
	if (r->dry)
		pack_dry(&v.pk, r);
	view_send(&v);
}

static void answer_failed(const struct query *q, const struct pool *p, const struct reload_result *r)
{
	struct outcome o;

	if (r->cut) {
		outcome_error(&o, ERROR_DRAINING, "the daemon is shutting down; the reload was given up");
	} else {
		outcome_error(&o, ERROR_INIT_FAILED,
			      "pool %s: the first worker with the new code could not be started, the workers of generation %llu serve on: %s",
			      p->settings->name, (unsigned long long)r->generation, r->failure->message);
		o.phase = r->failure->phase;
		o.cause = (struct span){ .p = (const uint8_t *)r->failure->cause.data, .len = r->failure->cause.size };
	}
	query_refuse(q, &o);
}

static void reload_on_done(struct reload_waiter *rw, const struct reload_result *r)
{
	struct reload_errand *re = container_of(rw, struct reload_errand, waiter);
	const struct query q = { .client = re->errand.client, .id = re->errand.id };
	const struct pool *p = re->pool;

	reload_errand_end(re);
	if (r->cut || r->failure)
		answer_failed(&q, p, r);
	else
		answer_done(&q, p, r);
	client_note_reply(q.client);
}

static void reload_wait(const struct query *q, struct pool *p, const struct pool_settings *settings)
{
	struct reload_errand *re = MEM_NEW(struct reload_errand);

	re->pool = p;
	re->waiter.done = reload_on_done;
	re->waiter.dry = q->params.dry_run;
	errand_begin(&re->errand, q->client, q->id, reload_drop);
	reload_start(p, settings, &re->waiter);
}

/* *to: of the configuration as it is now. False: q is answered. */
static bool reload_renew(const struct query *q, const struct pool *p, const struct pool_settings **to)
{
	struct server *s = q->client->server;
	_cleanup_free_ char *why = NULL;
	struct outcome o;

	if (s->ops->renew(s, p, q->params.dry_run, to, &why))
		return true;
	outcome_error(&o, ERROR_INIT_FAILED, "the configuration is not taken, and nothing is changed: %s", why);
	o.phase = "config";
	query_refuse(q, &o);
	return false;
}

void method_pool_reload(struct query *q)
{
	struct pool *p = query_choose_pool(q);
	const struct pool_settings *settings;
	struct view v;

	if (!p || !query_may_wait(q))
		return;
	if (p->state != POOL_RUNNING) {
		query_fail(q, ERROR_DRAINING, "the daemon is shutting down; pool %s is not reloaded", p->settings->name);
		return;
	}
	if (q->params.dry_run && p->settings->replace_after) {
		query_fail(q, ERROR_BAD_REQUEST, "pool %s has replace = after: no worker can be tried beside those that it has",
			   p->settings->name);
		return;
	}
	if (!reload_renew(q, p, &settings))
		return;
	if (q->params.dry_run || !params_has(&q->params, PARAM_WAIT) || q->params.wait) {
		reload_wait(q, p, settings);
		return;
	}
	reload_start(p, settings, NULL);
	view_begin(&v, q);
	msgpack_pack_map(&v.pk, 2);
	pack_kv_text(&v.pk, "pool", p->settings->name);
	pack_kv_uint(&v.pk, "generation", p->generation);
	view_send(&v);
}

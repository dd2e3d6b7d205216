/* The methods by which an operator changes something: all of them need the role admin. */
#include "daemon/pool/operate.h"

#include "daemon/front/client.h"
#include "daemon/front/method.h"
#include "daemon/front/query.h"
#include "daemon/front/reply.h"
#include "daemon/front/server.h"
#include "daemon/front/view.h"
#include "daemon/pool/pool.h"
#include "proto/pack.h"

#define WORKERS_MAX 4096

/* A pool that is not leaving; NULL: q is answered. */
static struct pool *choose_running(const struct query *q)
{
	struct pool *p = query_choose_pool(q);

	if (p && p->state != POOL_RUNNING) {
		query_fail(q, ERROR_DRAINING, "the daemon is shutting down; pool %s is left as it is", p->settings->name);
		return NULL;
	}
	return p;
}

static void answer_state(const struct query *q, const struct pool *p)
{
	struct view v;

	view_begin(&v, q);
	msgpack_pack_map(&v.pk, 4);
	pack_kv_text(&v.pk, "pool", p->settings->name);
	pack_kv_text(&v.pk, "state", pool_state_name(p));
	pack_kv_uint(&v.pk, "queued", pool_waiting(p));
	pack_kv_uint(&v.pk, "running", p->n_running);
	view_send(&v);
}

static void set_paused(const struct query *q, bool paused)
{
	struct pool *p = choose_running(q);

	if (!p)
		return;
	operate_pause(p, paused);
	answer_state(q, p);
}

void method_pool_pause(struct query *q)
{
	set_paused(q, true);
}

void method_pool_resume(struct query *q)
{
	set_paused(q, false);
}

/* What is not given stays, or gives way to what is. False: q is answered. */
static bool choose_size(const struct query *q, const struct pool *p, uint64_t *min, uint64_t *max)
{
	const struct params *a = &q->params;
	bool has_min = params_has(a, PARAM_MIN_WORKERS), has_max = params_has(a, PARAM_MAX_WORKERS);

	*min = has_min ? a->min_workers : p->settings->min_workers;
	*max = has_max ? a->max_workers : p->settings->max_workers;
	if (!has_min && *min > *max)
		*min = *max;
	if (!has_max && *max < *min)
		*max = *min;
	if (!has_min && !has_max)
		query_fail(q, ERROR_BAD_REQUEST, "pool.resize needs min_workers, max_workers or both");
	else if (*min > *max)
		query_fail(q, ERROR_BAD_REQUEST, "max_workers = %llu is less than min_workers = %llu", (unsigned long long)*max,
			   (unsigned long long)*min);
	else if (!*max || *max > WORKERS_MAX)
		query_fail(q, ERROR_BAD_REQUEST, "max_workers = %llu: accepted are 1 to %d", (unsigned long long)*max,
			   WORKERS_MAX);
	else
		return true;
	return false;
}

void method_pool_resize(struct query *q)
{
	struct pool *p = choose_running(q);
	uint64_t min, max;
	struct view v;

	if (!p || !choose_size(q, p, &min, &max))
		return;
	operate_resize(p, (unsigned)min, (unsigned)max);
	view_begin(&v, q);
	msgpack_pack_map(&v.pk, 3);
	pack_kv_text(&v.pk, "pool", p->settings->name);
	pack_kv_uint(&v.pk, "min_workers", p->settings->min_workers);
	pack_kv_uint(&v.pk, "max_workers", p->settings->max_workers);
	view_send(&v);
}

/* One that lives; NULL: q is answered. */
static struct worker *choose_living(const struct query *q)
{
	unsigned long long id = q->params.worker;
	struct worker *w = client_find_worker(q->client, id, q->needs);

	if (w && w->state != WORKER_DEAD)
		return w;
	query_fail(q, ERROR_BAD_REQUEST, w ? "worker %llu is dead" : "there is no worker %llu", id);
	return NULL;
}

/* The worker that is named, which must be of the pool if that is named too; NULL: q is answered. */
static struct worker *choose_of_pool(const struct query *q)
{
	struct worker *w = choose_living(q);

	return w && query_is_of_pool(q, w) ? w : NULL;
}

void method_pool_recycle(struct query *q)
{
	bool one = params_has(&q->params, PARAM_WORKER);
	struct worker *w = one ? choose_of_pool(q) : NULL;
	struct pool *p = one ? NULL : choose_running(q);
	struct view v;

	if (!w && !p)
		return;
	if (w)
		p = w->pool;
	view_begin(&v, q);
	msgpack_pack_map(&v.pk, 2);
	pack_kv_text(&v.pk, "pool", p->settings->name);
	pack_kv_uint(&v.pk, "recycled", operate_recycle(p, w));
	view_send(&v);
}

void method_worker_kill(struct query *q)
{
	struct worker *w;
	struct view v;

	if (!params_has(&q->params, PARAM_WORKER)) {
		query_fail(q, ERROR_BAD_REQUEST, "worker.kill needs worker: the number of a worker");
		return;
	}
	w = choose_of_pool(q);
	if (!w)
		return;
	view_begin(&v, q);
	msgpack_pack_map(&v.pk, 3);
	pack_kv_uint(&v.pk, "worker", w->id);
	pack_kv_text(&v.pk, "pool", w->pool->settings->name);
	pack_kv_uint(&v.pk, "pid", (uint64_t)w->last_pid);
	view_send(&v);
	operate_kill(w);
}

void method_shutdown(struct query *q)
{
	struct server *s = q->client->server;
	struct view v;

	view_begin(&v, q);
	msgpack_pack_map(&v.pk, 1);
	pack_kv_bool(&v.pk, "now", q->params.now);
	view_send(&v);
	s->ops->shutdown(s, q->params.now);
}

/* The method why: all that explains what one call, worker or pool is doing, and what it waits for. Keys may be added,
 * never renamed. */
#include <utlist.h>

#include "daemon/front/client.h"
#include "daemon/front/method.h"
#include "daemon/front/router.h"
#include "daemon/front/server.h"
#include "daemon/front/view.h"
#include "daemon/pool/affinity.h"
#include "daemon/pool/failure.h"
#include "daemon/pool/forecast.h"
#include "daemon/pool/lease.h"
#include "daemon/pool/postmortem.h"
#include "daemon/pool/session.h"
#include "daemon/pool/text.h"
#include "proto/pack.h"

#define LINES_SHOWN 50

/* nil when it is not known. */
static void pack_guess(msgpack_packer *pk, const char *key, bool known, uint64_t v)
{
	pack_text(pk, key);
	if (known)
		msgpack_pack_uint64(pk, v);
	else
		msgpack_pack_nil(pk);
}

/* --- a call --- */

/* What a worker is at, for a call that waits for it. */
static void pack_holder(struct view *v, const struct worker *w)
{
	const struct request *r = w->slot.request;

	msgpack_pack_map(&v->pk, 10);
	pack_kv_uint(&v->pk, "worker", w->id);
	pack_kv_uint(&v->pk, "pid", (uint64_t)w->last_pid);
	pack_kv_text(&v->pk, "state", worker_state_name(w->state));
	pack_kv_uint(&v->pk, "ms", (v->now - (slot_is_free(w) ? w->since : w->slot.started)) / NS_PER_MS);
	pack_guess(&v->pk, "call", !slot_is_free(w), w->slot.call);
	pack_kv_text(&v->pk, "target", slot_is_free(w) ? NULL : w->slot.target);
	pack_kv_bool(&v->pk, "answered", slot_is_abandoned(w));
	view_pack_left(v, "deadline_ms", r ? r->deadline : LOOP_NEVER);
	pack_kv_uint(&v->pk, "lease", w->lease ? w->lease->id : 0);
	pack_kv_text(&v->pk, "phase", w->ready_at ? NULL : handshake_last(&w->hs)->name);
}

/* Those that r could be given to. */
static void pack_holders(struct view *v, const struct request *r)
{
	const struct worker *w;

	pack_text(&v->pk, "workers");
	w = affinity_awaited(r);
	if (w) {
		msgpack_pack_array(&v->pk, 1);
		pack_holder(v, w);
		return;
	}
	msgpack_pack_array(&v->pk, pool_living(r->pool));
	DL_FOREACH(r->pool->workers, w)
		pack_holder(v, w);
}

static unsigned lease_ahead(const struct request *r)
{
	unsigned n = 0;

	for (const struct request *o = r->lease->waiting; o && o != r; o = o->lease_next)
		n++;
	return n;
}

static void pack_waiting(struct view *v, struct request *r)
{
	const struct poison_entry *keeper = poison_keeper(r);
	const struct histogram *run = &r->pool->stats.run;
	unsigned own, ahead;
	const struct worker *lingers = session_awaits(r);
	uint64_t start = 0;
	bool known;

	if (r->lease)
		own = ahead = lease_ahead(r);
	else if (r->held)
		own = ahead = 0; /* it waits for calls of its like */
	else if (r->in_session)
		own = ahead = session_ahead(r);
	else
		ahead = queue_ahead(r->lane->queue, r, &own);
	known = !keeper && forecast_start(r, ahead, &start);
	pack_kv_uint(&v->pk, "held", keeper ? keeper->kills : 0);
	pack_kv_uint(&v->pk, "lingers", lingers ? lingers->id : 0);
	pack_kv_uint(&v->pk, "ahead_own", own);
	pack_kv_uint(&v->pk, "ahead", ahead);
	pack_guess(&v->pk, "start_ms", known, start / NS_PER_MS);
	pack_guess(&v->pk, "run_mean_us", run->count, run->count ? run->sum_us / run->count : 0);
	view_pack_left(v, "queue_ms", r->queue_deadline);
	pack_holders(v, r);
}

static void pack_running(struct view *v, const struct request *r)
{
	const struct worker *w = r->worker;

	pack_kv_uint(&v->pk, "worker", w->id);
	pack_kv_uint(&v->pk, "pid", (uint64_t)w->last_pid);
	pack_kv_uint(&v->pk, "run_ms", (v->now - r->started) / NS_PER_MS);
	pack_kv_bool(&v->pk, "stack_asked", w->glance.on);
}

static void pack_call(struct view *v, struct request *r)
{
	bool runs = r->state == REQUEST_RUNNING;

	msgpack_pack_map(&v->pk, runs ? 15 : 19);
	pack_kv_text(&v->pk, "kind", "call");
	pack_kv_uint(&v->pk, "call", r->call);
	pack_kv_text(&v->pk, "state", request_state_name(r->state));
	pack_kv_text(&v->pk, "pool", r->pool->settings->name);
	pack_kv_text(&v->pk, "target", r->target);
	pack_kv_uint(&v->pk, "client", r->key.caller);
	pack_kv_uint(&v->pk, "id", r->key.id);
	pack_kv_uint(&v->pk, "waited_ms", ((runs ? r->started : v->now) - r->received) / NS_PER_MS);
	view_pack_left(v, "deadline_ms", r->deadline);
	pack_kv_uint(&v->pk, "lease", r->lease ? r->lease->id : 0);
	pack_kv_text(&v->pk, "session", r->session ? r->session->name : NULL);
	if (runs)
		pack_running(v, r);
	else
		pack_waiting(v, r);
}

/* A number that was given to something which is not remembered, or was never given. */
static void pack_unknown(struct view *v, const char *kind, uint64_t number, uint64_t last, const char *gone)
{
	msgpack_pack_map(&v->pk, 3);
	pack_kv_text(&v->pk, "kind", kind);
	pack_kv_uint(&v->pk, kind, number);
	pack_kv_text(&v->pk, "state", number && number <= last ? gone : "unknown");
}

static void explain_call(struct view *v, uint64_t call)
{
	const struct registry *g = v->q->client->server->registry;
	struct request *r = registry_find_call(g, call);

	if (r && client_role_on(v->q->client, r->pool) >= v->q->needs)
		pack_call(v, r);
	else
		pack_unknown(v, "call", call, g->last_call, "finished");
}

/* --- a worker --- */

static void pack_history(struct view *v, const struct worker *w)
{
	const struct worker_move *m;
	uint32_t n = 0;

	while (worker_move(w, n))
		n++;
	pack_text(&v->pk, "history");
	msgpack_pack_array(&v->pk, n);
	for (uint32_t i = 0; i < n; i++) {
		m = worker_move(w, i);
		msgpack_pack_map(&v->pk, 4);
		pack_kv_text(&v->pk, "from", worker_state_name(m->from));
		pack_kv_text(&v->pk, "to", worker_state_name(m->to));
		pack_kv_text(&v->pk, "why", m->why == WORKER_WHY_NONE ? NULL : worker_why_name(m->why));
		pack_kv_uint(&v->pk, "ms", (v->now - m->at) / NS_PER_MS);
	}
}

static void pack_last_lines(struct view *v, const struct worker *w)
{
	uint64_t end = w->proc.tail ? tail_mark(w->proc.tail) : 0;

	postmortem_pack_lines(&v->pk, "output", w->proc.tail, end > LINES_SHOWN ? end - LINES_SHOWN : 0);
}

static void pack_worker(struct view *v, const struct worker *w)
{
	char how[POSTMORTEM_TEXT];
	bool dead = w->state == WORKER_DEAD;

	msgpack_pack_map(&v->pk, 20);
	pack_kv_text(&v->pk, "kind", "worker");
	pack_kv_uint(&v->pk, "worker", w->id);
	pack_kv_text(&v->pk, "state", worker_state_name(w->state));
	pack_kv_text(&v->pk, "pool", w->pool->settings->name);
	pack_kv_uint(&v->pk, "pid", (uint64_t)w->last_pid);
	pack_kv_uint(&v->pk, "since_ms", (v->now - w->since) / NS_PER_MS);
	pack_kv_uint(&v->pk, "age_ms", (v->now - w->born) / NS_PER_MS);
	pack_kv_text(&v->pk, "why", w->why == WORKER_WHY_NONE ? NULL : worker_why_name(w->why));
	pack_kv_text(&v->pk, "due", w->due == WORKER_WHY_NONE ? NULL : worker_why_name(w->due));
	pack_kv_uint(&v->pk, "misses", w->misses);
	pack_kv_uint(&v->pk, "calls", w->calls_done);
	pack_kv_uint(&v->pk, "generation", w->generation);
	pack_kv_uint(&v->pk, "lease", w->lease ? w->lease->id : 0);
	pack_kv_bool(&v->pk, "probe", w->probe);
	pack_kv_bool(&v->pk, "adopted", w->proc.foreign);
	view_pack_slot(v, w);
	pack_history(v, w);
	failure_pack_phases(&v->pk, "init", w);
	pack_kv_text(&v->pk, "exit", dead && w->last_pid ? postmortem_exit_text(w, how) : NULL);
	pack_last_lines(v, w);
}

static void explain_worker(struct view *v, uint64_t id)
{
	const struct server *s = v->q->client->server;
	const struct worker *w = client_find_worker(v->q->client, id, v->q->needs);

	if (w)
		pack_worker(v, w);
	else
		pack_unknown(v, "worker", id, s->registry->last_worker, "forgotten");
}

/* --- a pool --- */

static bool is_recycled(const struct worker *w)
{
	return w->due != WORKER_WHY_NONE || w->state == WORKER_DRAINING ||
	       (w->state == WORKER_STOPPING && worker_why_is_polite(w->why));
}

/* Workers that are replaced now. */
static void pack_recycling(struct view *v, const struct pool *p)
{
	const struct worker *w;
	uint32_t n = 0;

	DL_FOREACH(p->workers, w)
		n += is_recycled(w);
	pack_text(&v->pk, "recycling");
	msgpack_pack_array(&v->pk, n);
	DL_FOREACH(p->workers, w) {
		if (!is_recycled(w))
			continue;
		msgpack_pack_map(&v->pk, 4);
		pack_kv_uint(&v->pk, "worker", w->id);
		pack_kv_text(&v->pk, "state", worker_state_name(w->state));
		pack_kv_text(&v->pk, "why", worker_why_name(w->due != WORKER_WHY_NONE ? w->due : w->why));
		pack_kv_uint(&v->pk, "since_ms", (v->now - w->since) / NS_PER_MS);
	}
}

/* The eldest call that waits: its age is what callers feel. */
static void pack_eldest(struct view *v, const struct pool *p)
{
	const struct request *r;

	DL_FOREACH2(p->requests, r, pool_next)
	{
		if (r->state == REQUEST_QUEUED)
			break;
	}
	pack_text(&v->pk, "eldest");
	if (!r) {
		msgpack_pack_nil(&v->pk);
		return;
	}
	msgpack_pack_map(&v->pk, 3);
	pack_kv_uint(&v->pk, "call", r->call);
	pack_kv_text(&v->pk, "target", r->target);
	pack_kv_uint(&v->pk, "waited_ms", (v->now - r->received) / NS_PER_MS);
}

/* What the last reload, or dry run, ended with; nil: with success, or there was none. */
static void pack_reload_failure(struct view *v, const struct failure *f)
{
	pack_text(&v->pk, "reload_failure");
	if (!f) {
		msgpack_pack_nil(&v->pk);
		return;
	}
	msgpack_pack_map(&v->pk, 3);
	pack_kv_text(&v->pk, "message", f->message);
	pack_kv_text(&v->pk, "phase", f->phase);
	pack_text(&v->pk, "cause");
	pack_raw(&v->pk, (struct span){ .p = (const uint8_t *)f->cause.data, .len = f->cause.size });
}

static void explain_pool(struct view *v, const struct pool *p)
{
	const struct supply *s = &p->supply;
	uint64_t wait = supply_wait(p);

	msgpack_pack_map(&v->pk, 21);
	pack_kv_text(&v->pk, "kind", "pool");
	pack_kv_text(&v->pk, "pool", p->settings->name);
	pack_kv_text(&v->pk, "state", pool_state_name(p));
	pack_kv_uint(&v->pk, "min_workers", p->settings->min_workers);
	pack_kv_uint(&v->pk, "max_workers", p->settings->max_workers);
	for (unsigned i = WORKER_STARTING; i <= WORKER_STOPPING; i++)
		pack_kv_uint(&v->pk, worker_state_name(i), p->in_state[i]);
	pack_kv_uint(&v->pk, "queued", pool_waiting(p));
	pack_kv_uint(&v->pk, "running", p->n_running);
	pack_kv_uint(&v->pk, "deaths_in_row", s->deaths_in_row);
	pack_guess(&v->pk, "next_try_ms", wait > 0, wait / NS_PER_MS + 1);
	view_pack_failure(&v->pk, p);
	pack_reload_failure(v, p->reload.failure);
	view_pack_breaker(&v->pk, p);
	pack_recycling(v, p);
	pack_eldest(v, p);
	pack_kv_text(&v->pk, "replace", p->settings->replace_after ? "after" : "before");
}

/* --- the method --- */

void method_why(struct query *q)
{
	const struct params *a = &q->params;
	const struct pool *p = NULL;
	struct view v;

	if (params_has(a, PARAM_CALL) + params_has(a, PARAM_WORKER) + params_has(a, PARAM_POOL) != 1) {
		query_fail(q, ERROR_BAD_REQUEST,
			   "why needs call (a daemon-wide number), worker (a number) or pool (a name), one of them");
		return;
	}
	if (params_has(a, PARAM_POOL)) {
		p = query_find_pool(q);
		if (!p)
			return;
	}
	view_begin(&v, q);
	if (params_has(a, PARAM_CALL))
		explain_call(&v, a->call);
	else if (params_has(a, PARAM_WORKER))
		explain_worker(&v, a->worker);
	else
		explain_pool(&v, p);
	view_send(&v);
}

#include "daemon/pool/pool.h"

#include <utlist.h>

#include "daemon/base/cleanup.h"
#include "daemon/base/log.h"
#include "daemon/base/mem.h"
#include "daemon/base/packed.h"
#include "daemon/pool/affinity.h"
#include "daemon/pool/caller.h"
#include "daemon/pool/direct.h"
#include "daemon/pool/event.h"
#include "daemon/pool/failure.h"
#include "daemon/pool/keep.h"
#include "daemon/pool/lease.h"
#include "daemon/pool/postmortem.h"
#include "daemon/pool/session.h"
#include "daemon/pool/template.h"
#include "proto/pack.h"

#define REPLY_ROOM (64 * 1024) /* of a reply's envelope, above max_reply */

const char *pool_state_name(const struct pool *p)
{
	if (p->state != POOL_RUNNING)
		return p->state == POOL_STOPPED ? "stopped" : "draining";
	if (breaker_is_open(&p->supply.breaker))
		return "open";
	if (pool_is_down(p))
		return "down";
	if (!p->settled)
		return "starting";
	if (p->paused)
		return "paused";
	return p->supply.failure || health_missing(p) ? "degraded" : "serving";
}

unsigned pool_living(const struct pool *p)
{
	unsigned n = 0;

	for (unsigned s = 0; s < WORKER_DEAD; s++)
		n += p->in_state[s];
	return n;
}

/* What the workers wait for that are to be forked: the process of a template that imports the application. */
static struct worker *pool_warming(const struct pool *p)
{
	struct worker *w = p->template ? p->template->worker : NULL;

	return w && w->state == WORKER_INITIALIZING ? w : NULL;
}

struct worker *pool_eldest(const struct pool *p)
{
	struct worker *w, *eldest = NULL;

	DL_FOREACH (p->workers, w) {
		if ((w->state == WORKER_BUSY || w->state == WORKER_INITIALIZING) && (!eldest || w->since < eldest->since))
			eldest = w;
	}
	return eldest || p->workers ? eldest : pool_warming(p);
}

static unsigned pool_serving(const struct pool *p)
{
	return p->in_state[WORKER_IDLE] + p->in_state[WORKER_BUSY] + p->in_state[WORKER_DRAINING];
}

bool pool_is_down(const struct pool *p)
{
	const struct worker *w;

	if (!p->supply.failure || pool_serving(p))
		return false;
	for (w = p->workers; w; w = w->next) {
		if (!w->probe && (w->state == WORKER_STARTING || w->state == WORKER_INITIALIZING))
			return false; /* one of the first start may still make it */
	}
	return true;
}

bool pool_expects_fork(const struct pool *p)
{
	return (p->template && p->template->waiting) || (p->reload.next && p->reload.next->waiting);
}

void pool_mark(struct pool *p)
{
	loop_defer(p->loop, &p->dispatch);
}

/* Calls that no lease has a worker for are answered at once. */
static bool pool_refuses(const struct pool *p)
{
	return p->state == POOL_RUNNING && (breaker_is_open(&p->supply.breaker) || pool_is_down(p));
}

static void pool_refuse(struct pool *p, struct request *r)
{
	struct postmortem pm;

	if (breaker_is_open(&p->supply.breaker))
		postmortem_open(&pm, p);
	else
		postmortem_down(&pm, p);
	request_finish(r, &pm.outcome);
	postmortem_deinit(&pm);
}

static void pool_refuse_all(struct pool *p)
{
	poison_release_shared(p);
	while (p->queue.count)
		pool_refuse(p, queue_any(&p->queue));
}

static void pool_fail_draining(struct request *r)
{
	struct outcome o;

	outcome_error(&o, ERROR_DRAINING, "the daemon is shutting down; %s was not started", r->target);
	request_finish(r, &o);
}

/* Gives an idle worker to a checkout. */
static void pool_lend(struct worker *w, struct request *r)
{
	struct lease *l;
	struct outcome o;
	_cleanup_(msgpack_sbuffer_destroy) msgpack_sbuffer buf = { 0 };
	msgpack_packer pk;

	request_start(r, w);
	if (w->state == WORKER_IDLE)
		worker_set_state(w, WORKER_BUSY, WORKER_WHY_NONE);
	l = lease_new(w, r->caller, r->session, r->ttl);
	if (r->direct && !direct_open(l, &o)) {
		request_finish(r, &o);
		lease_end(l, LEASE_END_NO_SOCKET);
		return;
	}
	if (r->session)
		affinity_bind(r->session, w);
	packed_begin(&buf, &pk);
	msgpack_pack_map(&pk, 5 + r->direct);
	pack_kv_uint(&pk, "lease", l->id);
	pack_kv_uint(&pk, "worker", w->id);
	pack_kv_uint(&pk, "pid", (uint64_t)w->last_pid);
	pack_kv_uint(&pk, "generation", w->generation);
	pack_text(&pk, "expires_ms");
	if (r->ttl)
		msgpack_pack_uint64(&pk, r->ttl / NS_PER_MS);
	else
		msgpack_pack_nil(&pk);
	if (r->direct)
		pack_kv_uint(&pk, "fds", 1);
	outcome_value(&o, (struct slice){ .span = { .p = (const uint8_t *)buf.data, .len = buf.size } });
	o.worker = w->id;
	o.fd = r->direct ? &l->socket.client : NULL;
	request_finish(r, &o);
}

/* One that has closed its call channel stays idle for a moment, until it is dead or killed. */
static struct worker *pool_find_idle(const struct pool *p)
{
	struct worker *w = p->idle;

	while (w && !worker_can_be_sent(w))
		w = w->idle_next;
	return w;
}

void pool_serve_request(struct worker *w, struct request *r)
{
	if (r->kind == REQUEST_CHECKOUT) {
		pool_lend(w, r);
		return;
	}
	switch (poison_judge(r)) {
	case POISON_PASS:
		slot_start(w, r);
		break;
	case POISON_HOLD:
		poison_hold(r);
		break;
	case POISON_REFUSE:
		poison_refuse(r);
		break;
	}
}

static void pool_serve(struct pool *p)
{
	struct request *r;
	struct worker *w;

	while (p->state == POOL_RUNNING && !p->paused && p->queue.count && (w = pool_find_idle(p))) {
		r = queue_pop(&p->queue);
		w = affinity_choose(r, w);
		if (!w)
			continue;
		w->own_last = false;
		pool_serve_request(w, r);
	}
}

static void pool_stop_workers(struct pool *p)
{
	struct worker *w, *next;

	p->state = POOL_STOPPING;
	DL_FOREACH_SAFE (p->workers, w, next)
		worker_stop(w, WORKER_WHY_SHUTDOWN);
}

static void pool_advance_drain(struct pool *p)
{
	if (p->state == POOL_DRAINING && !p->requests && !p->n_direct)
		pool_stop_workers(p);
	if (p->state == POOL_STOPPING && pool_living(p) == 0 && !p->templates) {
		p->state = POOL_STOPPED;
		event_pool(p, "stopped", NULL);
		p->ops->stopped(p);
	}
}

/* Its first template is being made. */
static bool pool_is_warming(const struct pool *p)
{
	return p->template && !template_is_settled(p->template);
}

/* Those that were taken up count: they are there, but what they run for the daemon of before may take its time. */
static unsigned pool_settling(const struct pool *p)
{
	const struct worker *w;
	unsigned n = pool_serving(p);

	DL_FOREACH (p->workers, w)
		n += w->adopted;
	return n;
}

static void pool_check_settled(struct pool *p)
{
	if (p->settled || (!p->supply.failure && (pool_settling(p) < p->settings->min_workers ||
						   (pool_is_warming(p) && !pool_living(p)))))
		return;
	p->settled = true;
	event_pool(p, "settled", NULL);
	p->ops->settled(p);
}

static void pool_dispatch(struct loop_task *t)
{
	struct pool *p = container_of(t, struct pool, dispatch);

	poison_advance(p);
	sessions_advance(p);
	reload_advance(p);
	supply_advance(p);
	if (pool_refuses(p))
		pool_refuse_all(p);
	affinity_serve(p, true);
	pool_serve(p);
	affinity_serve(p, false);
	pool_check_settled(p);
	pool_advance_drain(p);
}

static void worker_bury(struct loop_grave *g)
{
	worker_free(container_of(g, struct worker, grave));
}

static void pool_keep_dead(struct pool *p, struct worker *w)
{
	DL_APPEND(p->dead, w);
	if (++p->n_dead <= POOL_DEAD_KEPT)
		return;
	w = p->dead;
	DL_DELETE(p->dead, w);
	p->n_dead--;
	loop_bury(p->loop, &w->grave, worker_bury);
}

void pool_keep_dead_template(struct pool *p, struct worker *w)
{
	DL_DELETE(p->templates, w);
	pool_keep_dead(p, w);
	pool_mark(p);
}

bool pool_may_rerun(const struct pool *p, const char *target)
{
	struct span list = { .p = p->idempotent, .len = p->idempotent_len }, name;
	uint32_t n = 0;

	if (!list.len || !mp_read_array(&list, &n))
		return false;
	while (n-- && mp_read_text(&list, &name)) {
		if (span_equals(name, target))
			return true;
	}
	return false;
}

static void pool_learn_idempotent(struct pool *p, struct worker *w)
{
	free(p->idempotent);
	p->idempotent = TAKE_PTR(w->hs.idempotent);
	p->idempotent_len = w->hs.idempotent_len;
	w->hs.idempotent_len = 0;
}

static void pool_note_dead(struct pool *p, struct worker *w)
{
	p->in_state[WORKER_DEAD]--;
	p->stats.died++;
	p->stats.deaths[w->why]++;
	if (!reload_note_dead(w))
		supply_note_dead(w);
	DL_DELETE(p->workers, w);
	pool_keep_dead(p, w);
}

void pool_note_worker(struct pool *p, struct worker *w, enum worker_state from)
{
	if (w->state == WORKER_DEAD)
		pool_note_dead(p, w);
	if ((from == WORKER_IDLE || from == WORKER_BUSY) && w->state != WORKER_IDLE && w->state != WORKER_BUSY)
		supply_note_gone(w);
	if (w->state >= WORKER_STOPPING)
		keep_no_worker(w);
	else if (from == WORKER_INITIALIZING && !w->adopted)
		keep_worker(w);
	if (from == WORKER_INITIALIZING && w->state == WORKER_IDLE && reload_is_only_tried(w)) {
		reload_note_ready(w);
	} else if (from == WORKER_INITIALIZING && w->state == WORKER_IDLE) {
		p->stats.ready++;
		pool_learn_idempotent(p, w);
		supply_note_ready(w);
		reload_note_ready(w);
		supply_make_old(w); /* one that was taken up may be */
		w->adopted = false;
	}
	if (w->state == WORKER_IDLE && pool_is_leaving(p))
		worker_stop(w, WORKER_WHY_SHUTDOWN);
	else if (w->state == WORKER_IDLE && w->own.count)
		affinity_call(w);
	pool_mark(p);
}

void pool_note_finished(struct pool *p)
{
	if (p->state != POOL_RUNNING)
		pool_mark(p);
}

/* Without the hooks of sessions that end: those keep nobody out. */
static unsigned pool_waiting_calls(const struct pool *p)
{
	unsigned all = pool_waiting(p), hooks = p->self.n_requests - p->n_hooks_running;

	return all > hooks ? all - hooks : 0;
}

/* More than max_queue may wait until the end of the turn, when some are served at once. */
static bool pool_has_room(const struct pool *p, const struct lease *lease, unsigned waiting)
{
	unsigned room = p->settings->max_queue + (lease && worker_can_be_sent(lease->worker));
	const struct worker *w;

	for (w = lease || p->paused ? NULL : p->idle; w && waiting >= room; w = w->idle_next)
		room += worker_can_be_sent(w);
	return waiting < room;
}

/* One that the program before this one has taken is not refused: the workers may have gone that were its room. */
static bool pool_is_full(const struct pool *p, const struct request_spec *spec, const struct lease *lease, unsigned waiting)
{
	unsigned max = p->settings->max_queue;

	return max && waiting >= max && !spec->call && !pool_has_room(p, lease, waiting);
}

void pool_submit(struct pool *p, struct caller *c, const struct request_spec *spec, struct lease *lease)
{
	struct request *r = request_new(p, c, spec);
	unsigned waiting = lease ? lease->n_waiting : pool_waiting_calls(p);
	struct outcome o;

	if (p->state != POOL_RUNNING) {
		pool_fail_draining(r);
	} else if (!lease && pool_refuses(p) && affinity_queue_of(r) == &p->queue && !request_is_edit(r)) {
		pool_refuse(p, r);
	} else if (lease && r->kind == REQUEST_CHECKOUT) {
		outcome_error(&o, ERROR_SESSION_BUSY, "this connection has leased session \"%s\" already: lease %llu",
			      r->session->name, (unsigned long long)lease->id);
		request_finish(r, &o);
	} else if (poison_judge(r) == POISON_REFUSE) {
		poison_refuse(r);
	} else if (pool_is_full(p, spec, lease, waiting)) {
		outcome_error(&o, ERROR_OVERLOADED, "pool %s is full: %u calls wait, max_queue is %u", p->settings->name,
			      waiting, p->settings->max_queue);
		request_finish(r, &o);
	} else {
		r->lease = lease;
		request_enqueue(r);
		if (lease)
			lease_advance(lease);
		else if (!r->session)
			pool_mark(p);
	}
}

/* Its own requests: nobody waits for the answers. */
static void pool_on_own_finished(struct caller *c, const struct request *r, const struct outcome *o)
{
	(void)c;
	if (o->code != ERROR_NONE && o->code != ERROR_DRAINING) /* then the worker runs them as it leaves */
		LOG(WARN, "session.close.failed", KV("pool", r->pool->settings->name), KV("session", r->session->name),
		    KV("result", error_name(o->code)), KV("message", o->message));
}

static const struct caller_ops self_ops = { .finished = pool_on_own_finished };

static uint32_t max_frame_of(const struct pool_settings *settings)
{
	uint64_t max_frame = settings->max_reply + REPLY_ROOM;

	return max_frame < FRAME_MAX_LIMIT ? (uint32_t)max_frame : FRAME_MAX_LIMIT;
}

const struct pool_settings *pool_settings_of(const struct worker *w)
{
	const struct pool *p = w->pool;

	return w->generation > p->generation && p->reload.settings ? p->reload.settings : p->settings;
}

void pool_take_settings(struct pool *p, const struct pool_settings *settings)
{
	p->settings = p->given = settings;
	p->worker_limits.max_frame = max_frame_of(settings); /* of workers that are started from now on */
	supply_take_settings(p);
	poison_take_settings(p);
	recorder_take_settings(p);
	health_stop(p);
	health_start(p);
}

struct pool *pool_new(const struct pool_settings *settings, const struct pool_env *env, const struct pool_ops *ops)
{
	struct pool *p = MEM_NEW(struct pool);

	*p = (struct pool){
		.settings = settings,
		.given = settings,
		.ops = ops,
		.loop = env->loop,
		.blobs = env->blobs,
		.registry = env->registry,
		.gate = env->gate,
		.spawner = env->spawner,
		.library = env->library,
		.oom = env->oom,
		.groups = env->groups,
		.generation = 1,
		.dispatch = { .run = pool_dispatch },
		.worker_limits = {
			.max_frame = max_frame_of(settings),
			.out_soft = SIZE_MAX, /* one call at a time, already bounded by its client's frame */
			.out_hard = SIZE_MAX,
			.frames_per_turn = 16,
		},
	};
	caller_init(&p->self, &self_ops, p->registry, getuid());
	reload_init(p);
	supply_init(p, env->seed);
	health_init(p);
	recorder_init(p);
	poison_init(p, env->seed);
	return p;
}

void pool_start(struct pool *p)
{
	keep_pool(p);
	if (p->settings->start_fork) {
		p->template = template_new(p, p->generation);
		template_start(p->template); /* also for a pool that has no worker yet */
	}
	supply_advance(p);
	health_start(p);
	pool_mark(p);
}

void pool_drain(struct pool *p)
{
	struct worker *w, *next;

	if (p->state != POOL_RUNNING)
		return;
	p->state = POOL_DRAINING;
	event_pool(p, "draining", NULL);
	supply_stop(p);
	reload_cut(p);
	p->template = template_free(p->template);
	poison_release_all(p);
	sessions_fail_waiting(p, pool_fail_draining);
	while (p->queue.count)
		pool_fail_draining(queue_any(&p->queue));
	DL_FOREACH_SAFE (p->workers, w, next) {
		while (w->lease && w->lease->waiting)
			pool_fail_draining(w->lease->waiting);
		if (w->lease && w->lease->direct)
			direct_drain(w->lease);
		while (w->own.count)
			pool_fail_draining(queue_any(&w->own));
		if (w->state == WORKER_STARTING || w->state == WORKER_INITIALIZING)
			worker_stop(w, WORKER_WHY_SHUTDOWN);
	}
	pool_mark(p);
}

static void pool_kill_all(struct worker *list)
{
	struct worker *w, *next;

	DL_FOREACH_SAFE (list, w, next) {
		if (process_is_running(&w->proc))
			worker_kill(w);
	}
}

void pool_stop_now(struct pool *p)
{
	pool_drain(p);
	while (p->requests) {
		struct outcome o;

		outcome_error(&o, ERROR_CANCELLED, "the daemon was told to stop at once while %s ran",
			      p->requests->target);
		request_finish(p->requests, &o);
	}
	if (p->state == POOL_DRAINING)
		pool_stop_workers(p);
	pool_kill_all(p->workers);
	pool_kill_all(p->templates);
	pool_mark(p);
}

struct pool *pool_free(struct pool *p)
{
	struct worker *w, *next;

	if (!p)
		return NULL;
	sessions_deinit(p);
	caller_gone(&p->self);
	if (p->requests || p->workers || p->templates || p->queue.count || p->n_running || p->n_direct)
		LOG_BUG("a pool ends with work in it");
	DL_FOREACH_SAFE (p->dead, w, next)
		worker_free(w);
	queue_deinit(&p->queue);
	reload_deinit(p);
	supply_deinit(p);
	poison_deinit(p);
	free(p->idempotent);
	health_stop(p);
	recorder_deinit(p);
	loop_task_cancel(p->loop, &p->dispatch);
	free(p);
	return NULL;
}

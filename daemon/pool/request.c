#include "daemon/pool/request.h"

#include <utlist.h>

#include "daemon/base/cleanup.h"
#include "daemon/base/log.h"
#include "daemon/base/mem.h"
#include "daemon/pool/account.h"
#include "daemon/pool/affinity.h"
#include "daemon/pool/caller.h"
#include "daemon/pool/lease.h"
#include "daemon/pool/pool.h"
#include "daemon/pool/postmortem.h"
#include "daemon/pool/session.h"
#include "daemon/pool/worker.h"

#define GLANCE_TIME (20 * NS_PER_MS) /* before the end of its patience */
#define SMALL_BODY 2048 /* a waiting body of up to this size is copied, so that it does not hold a whole read buffer */

const char *request_state_name(enum request_state s)
{
	static const char *const names[] = {
		[REQUEST_RECEIVED] = "received",
		[REQUEST_QUEUED] = "queued",
		[REQUEST_RUNNING] = "running",
		[REQUEST_DONE] = "done",
	};

	return names[s];
}

static void request_expire_queued(struct request *r)
{
	struct postmortem pm;

	postmortem_waited(&pm, r);
	request_finish(r, &pm.outcome);
	postmortem_deinit(&pm);
}

/* The worker that it waits for, or for one like it; NULL when there is none. */
static struct worker *request_awaited(const struct request *r)
{
	struct worker *w = affinity_awaited(r);

	return w ? w : pool_eldest(r->pool);
}

/* Its time is nearly over: who has the worker, and where is that? */
static void request_look_ahead(struct request *r)
{
	struct worker *w = request_awaited(r);

	if (w && process_is_running(&w->proc) && !glance_last(w, GLANCE_FRESH))
		glance_ask(w, NULL, GLANCE_TIME);
	loop_timer_set(&r->timer, r->queue_deadline);
}

/* When to look at the worker that it waits for. */
static uint64_t request_look_at(const struct request *r)
{
	if (r->queue_deadline == LOOP_NEVER || r->queue_deadline < GLANCE_TIME)
		return r->queue_deadline;
	return r->queue_deadline - GLANCE_TIME;
}

static void request_on_timer(struct loop_timer *t)
{
	struct request *r = container_of(t, struct request, timer);

	if (r->state == REQUEST_QUEUED && loop_now(r->pool->loop) < r->queue_deadline)
		request_look_ahead(r);
	else if (r->state == REQUEST_QUEUED)
		request_expire_queued(r);
	else if (loop_now(r->pool->loop) < r->deadline)
		loop_timer_set(t, r->deadline); /* armed for the queue, now it runs: cheaper than arming at each start */
	else
		slot_overdue(r->worker);
}

static uint64_t min_u64(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* Now plus a time limit; 0 is no limit. */
static uint64_t limit_at(uint64_t from, uint64_t limit)
{
	return limit ? from + limit : LOOP_NEVER;
}

static void request_set_times(struct request *r, const struct request_spec *spec)
{
	const struct pool_settings *s = r->pool->settings;
	uint64_t timeout = spec->timeout;
	uint64_t queue_timeout = spec->queue_timeout ? spec->queue_timeout : s->queue_timeout;

	r->received = spec->received;
	if (spec->kind == REQUEST_CLOSE) { /* nobody waits for it, and its hooks must run: its time begins when they do */
		r->deadline = r->queue_deadline = LOOP_NEVER;
		return;
	}
	if (!timeout)
		timeout = spec->kind == REQUEST_EXECUTE ? s->call_timeout : s->queue_timeout;
	if (s->max_timeout)
		timeout = timeout ? min_u64(timeout, s->max_timeout) : s->max_timeout;
	r->deadline = limit_at(spec->received, timeout);
	r->queue_deadline = min_u64(limit_at(spec->received, queue_timeout), r->deadline);
	if (spec->retried)
		r->queue_deadline = r->deadline; /* it has waited its turn before */
	r->ttl = spec->ttl ? spec->ttl : s->lease_ttl;
}

/* A hook at the end of a session is charged to nobody: its session still is charged to its uid. */
static void request_charge(const struct request *r, struct account *a)
{
	if (r->kind == REQUEST_CLOSE)
		return;
	account_charge_call(a, r->body_bytes);
	if (r->kind == REQUEST_CHECKOUT)
		account_charge_lease(a);
}

static void request_give_back(const struct request *r, struct account *a)
{
	if (r->kind == REQUEST_CLOSE)
		return;
	if (r->kind == REQUEST_CHECKOUT)
		account_release_lease(a);
	account_release_call(a, r->body_bytes);
}

/* What it is called when it is no call of a handler. */
static struct span request_target(const struct request_spec *spec)
{
	switch (spec->kind) {
	case REQUEST_CHECKOUT:
		return SPAN_LIT("checkout");
	case REQUEST_PUT:
		return SPAN_LIT("session.put");
	case REQUEST_DELETE:
		return SPAN_LIT("session.delete");
	case REQUEST_CLOSE:
		return SPAN_LIT("session.close");
	default:
		return spec->target;
	}
}

struct request *request_new(struct pool *p, struct caller *c, const struct request_spec *spec)
{
	struct span target = request_target(spec);
	struct span trace = spec->traceparent;
	struct request *r = mem_new(sizeof(*r) + target.len + 1 + trace.len + 1);

	memcpy(r->target, target.p, target.len);
	if (trace.len)
		r->traceparent = memcpy(r->target + target.len + 1, trace.p, trace.len);
	r->key = (struct request_key){ .caller = c->id, .id = spec->id };
	r->call = spec->call ? spec->call : registry_next(p->registry, &p->registry->last_call);
	r->kind = spec->kind;
	r->want_meta = spec->want_meta;
	r->idempotent = spec->idempotent;
	r->direct = spec->direct;
	r->attempts = spec->attempts;
	r->retried = spec->retried;
	r->pool = p;
	r->caller = c;
	r->session = spec->session;
	if (r->session)
		r->session->n_requests++;
	r->body = slice_ref(spec->body.blob, spec->body.span);
	r->args = spec->args;
	r->body_bytes = spec->body_bytes ? spec->body_bytes : spec->body.span.len;
	loop_timer_init(&r->timer, p->loop, request_on_timer);
	request_set_times(r, spec);

	DL_APPEND2(c->requests, r, caller_prev, caller_next);
	c->n_requests++;
	c->body_bytes += r->body_bytes;
	request_charge(r, c->account);
	DL_APPEND2(p->requests, r, pool_prev, pool_next);
	p->n_requests++;
	registry_add_request(p->registry, r);
	p->stats.accepted++;
	return r;
}

struct request *request_take_over(struct pool *p, struct caller *c, const struct request_left *left)
{
	const struct request_spec spec = {
		.kind = REQUEST_EXECUTE,
		.id = left->id,
		.received = left->received,
		.body = left->body,
		.target = left->target,
		.args = left->args,
		.traceparent = left->traceparent,
		.want_meta = left->want_meta,
		.idempotent = left->idempotent,
		.session = left->session,
		.call = left->call,
		.attempts = left->attempts,
		.retried = left->retried,
		.body_bytes = left->body_bytes,
	};
	struct request *r = request_new(p, c, &spec);

	r->state = REQUEST_RUNNING;
	r->ahead = left->ahead;
	r->lease = left->lease;
	r->started = left->started;
	r->deadline = left->deadline;
	r->queue_deadline = left->queue_deadline;
	r->tail_mark = tail_mark(left->worker->proc.tail);
	r->worker = left->worker;
	r->worker->slot.request = r;
	if (r->session)
		session_take_over_head(r->session, r);
	p->n_running++;
	loop_timer_set(&r->timer, r->deadline);
	return r;
}

/* A span into the old body, moved to the new one. */
static struct span span_move(struct span s, const uint8_t *from, const uint8_t *to)
{
	return s.len ? (struct span){ .p = to + (s.p - from), .len = s.len } : s;
}

static void request_shrink_body(struct request *r)
{
	struct span old = r->body.span;
	struct blob *copy;

	if (old.len > SMALL_BODY || !r->body.blob)
		return;
	copy = blob_copy(r->pool->blobs, old);
	if (!copy)
		return; /* no memory to save memory: it stays where it is */
	r->args = span_move(r->args, old.p, copy->data);
	slice_clear(&r->body);
	r->body = (struct slice){ .blob = copy, .span = { .p = copy->data, .len = old.len } };
}

static unsigned request_count_ahead(const struct request *r)
{
	if (r->lease)
		return r->lease->n_waiting;
	return affinity_queue_of(r)->count + (r->session ? r->session->n_waiting : 0);
}

void request_enqueue(struct request *r)
{
	struct pool *p = r->pool;

	r->state = REQUEST_QUEUED;
	r->ahead = request_count_ahead(r);
	loop_timer_set(&r->timer, request_look_at(r));
	if (r->lease || r->session || !p->idle)
		request_shrink_body(r);
	if (r->lease)
		lease_push(r->lease, r);
	else if (r->session)
		session_push(r->session, r);
	else
		queue_push(&p->queue, r);
}

static void request_leave_queue(struct request *r)
{
	if (r->lane)
		queue_remove(r->lane->queue, r);
	else if (r->held)
		poison_drop(r);
	else if (r->in_session)
		session_remove(r);
	else if (r->lease && r->state == REQUEST_QUEUED)
		lease_remove(r->lease, r);
}

void request_start(struct request *r, struct worker *w)
{
	request_leave_queue(r);
	r->state = REQUEST_RUNNING;
	r->attempts++;
	r->worker = w;
	r->started = loop_now(r->pool->loop);
	if (r->kind == REQUEST_CLOSE) { /* as hooks at a worker's end */
		r->deadline = limit_at(r->started, r->pool->settings->stop_timeout);
		loop_timer_set(&r->timer, r->deadline);
	}
	r->tail_mark = tail_mark(w->proc.tail);
	r->pool->n_running++;
	r->pool->n_hooks_running += request_is_hook(r);
	histogram_add(&r->pool->stats.wait, (r->started - r->received) / 1000);
}

bool request_requeue(struct request *r)
{
	struct pool *p = r->pool;

	if (r->lease || !r->body.span.len || p->state != POOL_RUNNING || (r->session && session_is_strict(r->session)))
		return false;
	r->worker->slot.request = NULL;
	r->worker = NULL;
	r->state = REQUEST_QUEUED;
	p->n_running--;
	queue_push_front(&p->queue, r);
	loop_timer_set(&r->timer, request_look_at(r));
	return true;
}

bool request_retry(struct request *r)
{
	if (!r->idempotent || r->retried || loop_now(r->pool->loop) >= r->deadline || !request_requeue(r))
		return false;
	r->retried = true;
	r->queue_deadline = r->deadline; /* it has waited its turn before */
	loop_timer_set(&r->timer, r->deadline);
	return true;
}

static void request_count(struct request *r, const struct outcome *o)
{
	struct stats *st = &r->pool->stats;

	if (o->abandoned)
		st->abandoned++;
	else if (o->code == ERROR_NONE)
		st->completed++;
	else if (o->code == ERROR_CANCELLED)
		st->cancelled++;
	else
		st->failed++;
	if (r->state == REQUEST_RUNNING) {
		r->pool->n_running--;
		r->pool->n_hooks_running -= request_is_hook(r);
		histogram_add(&st->run, (loop_now(r->pool->loop) - r->started) / 1000);
	}
}

static const char *request_result(const struct outcome *o)
{
	if (o->abandoned)
		return "abandoned";
	return o->code == ERROR_NONE ? "ok" : error_name(o->code);
}

/* Of what its caller follows through a trace, a failure that is not the handler's own can be found at the usual level. */
static bool request_is_told(const struct request *r, const struct outcome *o)
{
	return r->traceparent && !o->abandoned && o->code != ERROR_NONE && o->code != ERROR_APP_ERROR && o->code != ERROR_CANCELLED &&
	       o->code != ERROR_UNSERIALIZABLE;
}

static void request_log(const struct request *r, const struct outcome *o)
{
	enum log_level level = request_is_told(r, o) ? LOG_LEVEL_INFO : LOG_LEVEL_DEBUG;
	const struct log_field fields[] = {
		KV("pool", r->pool->settings->name),
		KV("call", r->call),
		KV("client", r->key.caller),
		KV("req", r->key.id),
		KV("target", r->target),
		KV("result", request_result(o)),
		KV("executed", executed_name(o->executed)),
		KV("ms", (loop_now(r->pool->loop) - r->received) / NS_PER_MS),
		KV("worker", o->worker),
		KV_IF_ANY("traceparent", r->traceparent),
	};

	if (log_enabled(level))
		log_write(level, "call.done", fields, ARRAY_SIZE(fields));
}

static void request_release(struct loop_grave *g)
{
	free(container_of(g, struct request, grave));
}

/* One that ran before and did not run again may have run. */
static const struct outcome *request_correct(const struct request *r, const struct outcome *o, struct outcome *corrected)
{
	if (!r->retried || o->executed != EXECUTED_NEVER)
		return o;
	*corrected = *o;
	corrected->executed = EXECUTED_MAYBE;
	return corrected;
}

void request_finish(struct request *r, const struct outcome *told)
{
	struct outcome corrected;
	const struct outcome *o = request_correct(r, told, &corrected);
	struct pool *p = r->pool;
	struct caller *c = r->caller;

	if (r->state == REQUEST_DONE) {
		LOG_BUG("a request is finished twice");
		return;
	}
	loop_timer_stop(&r->timer);
	request_leave_queue(r);
	if (r->state == REQUEST_QUEUED)
		poison_note_gone(r);
	request_count(r, o);
	request_log(r, o);
	c->ops->finished(c, r, o);
	recorder_note(r, o);
	if (r->worker) {
		if (!slot_is_free(r->worker))
			poison_note_kept(r->worker);
		r->worker->slot.request = NULL;
	}
	if (r->session)
		session_note_finished(r);
	r->state = REQUEST_DONE;
	r->worker = NULL;
	r->lease = NULL;
	r->session = NULL;
	r->caller = NULL;
	DL_DELETE2(c->requests, r, caller_prev, caller_next);
	c->n_requests--;
	c->body_bytes -= r->body_bytes;
	request_give_back(r, c->account);
	DL_DELETE2(p->requests, r, pool_prev, pool_next);
	p->n_requests--;
	registry_remove_request(p->registry, r);
	slice_clear(&r->body);
	loop_bury(p->loop, &r->grave, request_release);
	pool_note_finished(p);
}

/* Ends r with o, and interrupts what runs. */
static void request_drop(struct request *r, struct outcome *o)
{
	struct worker *w = r->worker;

	if (w)
		o->worker = w->id;
	if (r->state != REQUEST_RUNNING)
		o->executed = EXECUTED_NEVER;
	request_finish(r, o);
	if (w)
		slot_abandon(w, SLOT_CANCELLED);
}

void request_cancel(struct request *r)
{
	struct outcome o;
	bool runs = r->state == REQUEST_RUNNING;

	outcome_error(&o, ERROR_CANCELLED, runs ? "the caller cancelled %s while it ran; it is being interrupted" :
						  "the caller cancelled %s before it was started", r->target);
	request_drop(r, &o);
}

void request_abandon(struct request *r)
{
	struct outcome o = { .code = ERROR_CANCELLED, .executed = EXECUTED_MAYBE, .abandoned = true };

	request_drop(r, &o);
}

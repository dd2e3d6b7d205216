#include "daemon/pool/slot.h"

#include <stdio.h>

#include "daemon/base/cleanup.h"
#include "daemon/base/log.h"
#include "daemon/base/mem.h"
#include "daemon/pool/affinity.h"
#include "daemon/pool/direct.h"
#include "daemon/pool/lease.h"
#include "daemon/pool/pool.h"
#include "daemon/pool/postmortem.h"
#include "daemon/pool/request.h"
#include "daemon/pool/session.h"
#include "daemon/pool/session_values.h"
#include "daemon/pool/stack.h"
#include "daemon/pool/worker.h"
#include "proto/envelope.h"
#include "proto/pack.h"

#define STACK_TIME (40 * NS_PER_MS) /* the caller is answered within 50 ms of its deadline */
#define RESEND_MAX                                                                                                     \
	(64 * 1024)     /* calls up to this size can be given to another worker when theirs dies before reading */
#define SLOW_STACK 2000 /* bytes of a stack in the log */
#define INTERRUPT_AGAIN (10 * NS_PER_MS) /* and after twice that, ...: the signal may have come right before a system call */
#define INTERRUPT_DIRECT NS_PER_MS /* who waits for a call in a direct lease sees the end of its socket until then */
#define HEAD_MAX 1024   /* envelope, target and traceparent: names are at most 255 bytes */

bool slot_is_free(const struct worker *w)
{
	return w->slot.call == 0;
}

bool slot_is_abandoned(const struct worker *w)
{
	return !slot_is_free(w) && !w->slot.request && !(w->lease && w->lease->direct);
}

/* Bytes of fixed room as a msgpack_packer's target; what is packed here is bounded by construction. */
struct head {
	uint8_t bytes[HEAD_MAX];
	size_t used;
};

static int head_write(void *data, const char *bytes, size_t len)
{
	struct head *h = data;

	if (len > sizeof(h->bytes) - h->used)
		return -1;
	memcpy(h->bytes + h->used, bytes, len);
	h->used += len;
	return 0;
}

/* [0, call, "execute", [{target, deadline_ns?, traceparent?, session?, args?}]] up to the value of args, which comes last and is
 * not copied; nor are the values of a session: with some, *values follows h, then the key "args". */
static void slot_pack_head(struct head *h, struct worker *w, const struct request *r, struct slice *values)
{
	msgpack_packer pk;
	unsigned keys = 1 + (r->deadline != LOOP_NEVER) + (r->traceparent != NULL) + (r->session != NULL) +
			(r->args.len != 0);

	h->used = 0;
	*values = (struct slice){ 0 };
	msgpack_packer_init(&pk, h, head_write);
	msgpack_pack_array(&pk, 4);
	msgpack_pack_int(&pk, ENVELOPE_REQUEST);
	msgpack_pack_uint64(&pk, r->call);
	pack_text(&pk, r->kind == REQUEST_CLOSE ? "session_close" : "execute");
	msgpack_pack_array(&pk, 1);
	msgpack_pack_map(&pk, keys);
	pack_kv_text(&pk, "target", r->target);
	if (r->deadline != LOOP_NEVER)
		pack_kv_uint(&pk, "deadline_ns", r->deadline);
	if (r->traceparent)
		pack_kv_text(&pk, "traceparent", r->traceparent);
	if (r->session)
		session_pack_head(r->session, w, &pk, values);
	if (r->args.len && !values->span.len)
		pack_text(&pk, "args");
}

/* What r is to its worker, as one message. */
static void slot_send(struct worker *w, const struct request *r)
{
	static const uint8_t args_key[] = { 0xa4, 'a', 'r', 'g', 's' };
	struct slice parts[4], values;
	struct head head;
	unsigned n = 1;

	slot_pack_head(&head, w, r, &values);
	parts[0] = (struct slice){ .span = { .p = head.bytes, .len = head.used } };
	if (values.span.len)
		parts[n++] = values;
	if (values.span.len && r->args.len)
		parts[n++] = (struct slice){ .span = { .p = args_key, .len = sizeof(args_key) } };
	if (r->args.len)
		parts[n++] = (struct slice){ .blob = r->body.blob, .span = r->args };
	stream_send(&w->calls, parts, n);
}

/* What was printed up to here belongs to the call before, also a line without its end. */
static void slot_cut_output(struct worker *w)
{
	tail_finish(w->proc.tail, 0);
	worker_log_output(w);
}

void slot_end_output(struct worker *w)
{
	if (!slot_is_free(w))
		return;
	process_drain_output(&w->proc);
	slot_cut_output(w);
	w->slot.last_call = 0;
	w->slot.traceparent[0] = '\0';
}

/* When it is lost its call goes to another worker, but not before it is dead: two must not run it at once. */
static bool slot_awaits_retry(const struct worker *w)
{
	const struct request *r = w->slot.request;

	return r->idempotent && !r->retried && !r->lease && !(r->session && session_is_strict(r->session)) &&
	       pool_may_rerun(w->pool, r->target);
}

static void slot_take(struct worker *w, uint64_t call, const char *target, const char *traceparent)
{
	w->slot.call = w->slot.last_call = call;
	w->slot.request = NULL;
	w->slot.run_us = 0;
	w->slot.started = loop_now(w->pool->loop);
	w->slot.direct = w->slot.broken = w->slot.digested = false;
	(void)snprintf(w->slot.target, sizeof(w->slot.target), "%s", target); /* cut: for people only */
	(void)snprintf(w->slot.traceparent, sizeof(w->slot.traceparent), "%s", traceparent ? traceparent : ""); /* fits */
}

void slot_start(struct worker *w, struct request *r)
{
	if (w->lease) /* the call starts inside the callback of the last reply, before the loop has read what came with it */
		process_drain_output(&w->proc);
	slot_cut_output(w);
	glance_cut(w, true); /* it was of a worker that waits */
	request_start(r, w);
	slot_take(w, r->call, r->target, r->traceparent);
	process_note_call(&w->proc, r->call, r->deadline, r->session ? r->session->id : 0);
	w->slot.request = r;
	w->slot.digested = r->digested;
	w->slot.digest = r->digest;
	if (w->pool->settings->slow_call && w->slot.slow_timer.at == LOOP_NEVER)
		loop_timer_set(&w->slot.slow_timer, w->slot.started + w->pool->settings->slow_call);
	if (w->state == WORKER_IDLE)
		worker_set_state(w, WORKER_BUSY, WORKER_WHY_NONE);
	if (r->session && r->kind == REQUEST_EXECUTE)
		affinity_bind(r->session, w);
	slot_send(w, r);
	if (r->body.span.len > RESEND_MAX && !recorder_is_on(w->pool) && !slot_awaits_retry(w)) {
		poison_note_kept(w); /* the last moment at which its arguments are known */
		r->args = (struct span){ 0 };
		slice_clear(&r->body);
	}
}

/* [0, call, "direct", [{lease, deadline_ns?}]] */
void slot_start_direct(struct worker *w, const struct lease *l)
{
	struct registry *g = w->pool->registry;
	struct head head = { .used = 0 };
	msgpack_packer pk;

	slot_cut_output(w);
	glance_cut(w, true);
	slot_take(w, registry_next(g, &g->last_call), "direct lease", NULL); /* no name of a handler has a space */
	process_note_call(&w->proc, w->slot.call, l->expires, l->session ? l->session->id : 0);
	w->slot.direct = true;
	msgpack_packer_init(&pk, &head, head_write);
	msgpack_pack_array(&pk, 4);
	msgpack_pack_int(&pk, ENVELOPE_REQUEST);
	msgpack_pack_uint64(&pk, w->slot.call);
	pack_text(&pk, "direct");
	msgpack_pack_array(&pk, 1);
	msgpack_pack_map(&pk, 1 + (l->expires != LOOP_NEVER));
	pack_kv_uint(&pk, "lease", l->id);
	if (l->expires != LOOP_NEVER)
		pack_kv_uint(&pk, "deadline_ns", l->expires);
	stream_send(&w->calls, &(struct slice){ .span = { .p = head.bytes, .len = head.used } }, 1);
}

void slot_break(struct worker *w, const char *what)
{
	struct outcome o;

	LOG(WARN, "worker.protocol", KV("pool", w->pool->settings->name), KV("worker", w->id), KV("what", what));
	if (w->slot.request && !slot_awaits_retry(w)) {
		outcome_error(&o, ERROR_WORKER_PROTOCOL, "worker %llu (pid %d) broke the protocol while it ran %s: %s; killed",
			      (unsigned long long)w->id, (int)w->proc.pid, w->slot.target, what);
		o.worker = w->id;
		request_finish(w->slot.request, &o);
	}
	w->slot.broken = w->slot.request != NULL;
	worker_stop(w, WORKER_WHY_PROTOCOL);
}

void slot_starve(struct worker *w)
{
	struct outcome o;

	LOG(WARN, "worker.starved", KV("pool", w->pool->settings->name), KV("worker", w->id));
	if (w->slot.request) {
		outcome_error(
			&o, ERROR_OVERLOADED,
			"no memory for what goes between the daemon and worker %llu (pid %d), which had %s; killed",
			(unsigned long long)w->id, (int)w->proc.pid, w->slot.target);
		o.executed = EXECUTED_MAYBE;
		o.worker = w->id;
		request_finish(w->slot.request, &o);
	}
	worker_stop(w, WORKER_WHY_NO_MEMORY);
}

/* The codes that a worker may answer with. */
static enum error_code slot_error_code(struct span name)
{
	enum error_code code = error_find(name.p, name.len);

	switch (code) {
	case ERROR_APP_ERROR:
	case ERROR_UNSERIALIZABLE:
	case ERROR_UNKNOWN_TARGET:
	case ERROR_BAD_REQUEST:
	case ERROR_TOO_LARGE:
	case ERROR_CANCELLED:
	case ERROR_DEADLINE_EXCEEDED:
	case ERROR_INTERNAL:
		return code;
	default:
		return ERROR_NONE;
	}
}

/* {code, message, cause?} */
static bool slot_read_error(struct span error, struct outcome *o)
{
	struct span code = { 0 }, message = { 0 }, cause = { 0 };
	uint32_t pairs;

	if (!mp_read_map(&error, &pairs))
		return false;
	while (pairs--) {
		struct span key, value;

		if (!mp_read_text(&error, &key) || !mp_read_any(&error, &value))
			return false;
		if (span_equals(key, "code") && !mp_read_text(&value, &code))
			return false;
		if (span_equals(key, "message") && !mp_read_text(&value, &message))
			return false;
		if (span_equals(key, "cause"))
			cause = value;
	}
	if (slot_error_code(code) == ERROR_NONE)
		return false;
	outcome_error(o, slot_error_code(code), "%.*s", (int)message.len, (const char *)message.p);
	if (o->code == ERROR_TOO_LARGE || o->code == ERROR_CANCELLED || o->code == ERROR_DEADLINE_EXCEEDED)
		o->executed = EXECUTED_YES; /* the handler had begun */
	o->cause = cause;
	return true;
}

/* {run_us, session?}: *writes is what the handler wrote into its session. */
static void slot_read_meta(struct worker *w, struct span meta, struct span *writes)
{
	uint32_t pairs = 0;

	*writes = (struct span){ 0 };

	if (!meta.len || !mp_read_map(&meta, &pairs))
		return;
	while (pairs--) {
		struct span key, value;

		if (!mp_read_text(&meta, &key) || !mp_read_any(&meta, &value))
			return;
		if (span_equals(key, "run_us"))
			(void)mp_read_uint(&value, &w->slot.run_us); /* of another type: not told */
		else if (span_equals(key, "session"))
			*writes = value;
	}
}

void slot_count(struct worker *w, uint64_t calls)
{
	w->calls_done += calls;
	process_note_done(&w->proc, w->calls_done);
}

static void slot_free(struct worker *w, bool good)
{
	poison_note_ended(w, good);
	glance_forget(&w->slot.overdue);
	glance_cut(w, true);
	w->slot.call = 0;
	process_note_call(&w->proc, 0, 0, 0);
	session_note_slot_free(w);
}

void slot_forget_noted(struct worker *w)
{
	process_note_call(&w->proc, 0, 0, 0);
	session_note_slot_free(w);
}

void slot_take_frame(struct worker *w, const struct slice *body)
{
	struct envelope e;
	struct complaint c;
	struct outcome o;
	struct request *r = w->slot.request;
	struct span writes;

	if (w->slot.broken)
		return; /* it is not believed any more */
	if (!envelope_parse(body->span, &e, &c))
		return slot_break(w, c.message);
	if (e.type != ENVELOPE_RESPONSE)
		return slot_break(w, "a message that is no response");
	if (slot_is_free(w))
		return slot_break(w, "a reply that nobody asked for");
	if (e.id != w->slot.call)
		return slot_break(w, "a reply to another call");
	if (mp_read_nil(&(struct span){ .p = e.error.p, .len = e.error.len }))
		outcome_value(&o, (struct slice){ .blob = body->blob, .span = e.result });
	else if (!slot_read_error(e.error, &o))
		return slot_break(w, "an error reply that is malformed");
	slot_read_meta(w, e.meta, &writes);
	o.worker = w->id;
	if (r && r->session && writes.len && o.code == ERROR_NONE && !session_commit(r, writes, &o) &&
	    o.code == ERROR_WORKER_PROTOCOL)
		return slot_break(w, o.message);
	slot_free(w, o.code == ERROR_NONE);
	if (w->slot.direct) {
		direct_note_answer(w, e.result);
	} else {
		slot_count(w, 1);
		supply_note_reply(w);
	}
	if (r) {
		if (o.code != ERROR_NONE)
			process_drain_output(&w->proc);
		request_finish(r, &o);
	}
	worker_settle(w);
}

static void slot_on_overdue(struct glance_waiter *gw, const struct glance *g)
{
	struct worker *w = container_of(gw, struct worker, slot.overdue);
	struct request *r = w->slot.request;
	struct postmortem pm;

	if (!r || g->call != w->slot.call)
		return; /* it was answered, or cancelled, in the meantime */
	process_drain_output(&w->proc);
	stream_drain_input(&w->calls); /* its answer may have come with the stack, or with its death */
	if (w->slot.request != r)
		return;
	postmortem_overdue(&pm, r, g);
	request_finish(r, &pm.outcome);
	postmortem_deinit(&pm);
	slot_abandon(w, SLOT_DEADLINE);
}

void slot_overdue(struct worker *w)
{
	struct request *r = w->slot.request;

	process_drain_output(&w->proc);
	stream_drain_input(&w->calls);
	if (w->slot.request == r)
		glance_ask(w, &w->slot.overdue, STACK_TIME);
}

static void slot_on_slow(struct glance_waiter *gw, const struct glance *g)
{
	struct worker *w = container_of(gw, struct worker, slot.slow);
	struct span stack = stack_cut(glance_stack(g));
	_cleanup_free_ char *text = NULL;
	char place[STACK_TEXT], activity[GLANCE_TEXT];

	if (slot_is_free(w) || g->call != w->slot.call)
		return;
	text = mem_strndup(stack.p, stack.len < SLOW_STACK ? stack.len : SLOW_STACK);
	LOG(WARN, "call.slow", KV("pool", w->pool->settings->name), KV("worker", w->id), KV("pid", w->last_pid),
	    KV("call", w->slot.call), KV("target", w->slot.target),
	    KV("ms", (loop_now(w->pool->loop) - w->slot.started) / NS_PER_MS), KV("place", stack_place(stack, place)),
	    KV("activity", glance_activity(g, activity)), KV_IF_ANY("traceparent", w->slot.traceparent), KV("stack", text));
}

static void slot_on_slow_timer(struct loop_timer *t)
{
	struct worker *w = container_of(t, struct worker, slot.slow_timer);
	uint64_t due = w->slot.started + w->pool->settings->slow_call;

	if (slot_is_free(w) || w->slot.direct || w->slot.slow_call == w->slot.call || !w->pool->settings->slow_call)
		return;
	if (loop_now(w->pool->loop) < due) {
		loop_timer_set(t, due);
		return;
	}
	w->slot.slow_call = w->slot.call;
	glance_ask(w, &w->slot.slow, STACK_TIME);
}

void slot_init(struct worker *w)
{
	w->slot.overdue.done = slot_on_overdue;
	w->slot.slow.done = slot_on_slow;
	loop_timer_init(&w->slot.slow_timer, w->pool->loop, slot_on_slow_timer);
}

void slot_close(struct worker *w)
{
	glance_forget(&w->slot.overdue);
	glance_forget(&w->slot.slow);
	loop_timer_stop(&w->slot.slow_timer);
}

void slot_abandon(struct worker *w, enum slot_reason reason)
{
	uint64_t grace = w->pool->settings->cancel_grace;

	if (slot_is_free(w) || w->state == WORKER_STOPPING || w->state == WORKER_DEAD)
		return;
	w->abandoned = reason;
	w->grace_until = loop_now(w->pool->loop) + grace;
	w->again = w->slot.direct ? INTERRUPT_DIRECT : INTERRUPT_AGAIN;
	if ((w->slot.direct ? process_set_wanted : process_interrupt)(&w->proc, w->slot.call, reason) < 0)
		LOG(DEBUG, "worker.interrupt.late", KV("pool", w->pool->settings->name), KV("worker", w->id));
	loop_timer_set(&w->timer, loop_now(w->pool->loop) + (grace < w->again ? grace : w->again));
}

void slot_interrupt_again(struct worker *w)
{
	uint64_t now = loop_now(w->pool->loop), left = w->grace_until - now;

	(void)process_interrupt(&w->proc, w->slot.call, w->abandoned); /* as before: its end is seen elsewhere */
	w->again *= 2;
	loop_timer_set(&w->timer, now + (left < w->again ? left : w->again));
}

/*
 * Calls in flight. Each has an id that is never used again on this handle, so that a late answer finds nobody else. A
 * call that nobody waits for any more (over its time, or cancelled) stays until the daemon has answered it: an answer to
 * an id that is not here is a broken protocol.
 */
#include <errno.h>
#include <stdlib.h>
#include <utlist.h>

#include "client/handle.h"
#include "proto/pack.h"

static struct call **calls_bucket(struct pypool *p, uint64_t id)
{
	return &p->buckets[id & (p->n_buckets - 1)];
}

/* Twice the buckets when there are more calls than buckets. */
static int calls_grow(struct pypool *p)
{
	size_t n = p->n_buckets ? p->n_buckets * 2 : 64;
	struct call **old = p->buckets, *call;

	if (p->n_in_flight < p->n_buckets)
		return 0;
	p->buckets = calloc(n, sizeof(struct call *));
	if (!p->buckets) {
		p->buckets = old;
		return -ENOMEM;
	}
	free(old);
	p->n_buckets = n;
	for (call = p->in_flight; call; call = call->next) {
		struct call **bucket = calls_bucket(p, call->id);

		call->chain = *bucket;
		*bucket = call;
	}
	return 0;
}

static void calls_insert(struct pypool *p, struct call *call)
{
	struct call **bucket = calls_bucket(p, call->id);

	call->chain = *bucket;
	*bucket = call;
	p->n_in_flight++;
	DL_APPEND(p->in_flight, call);
	if (call->deadline_ns && (!p->next_deadline_ns || call->deadline_ns < p->next_deadline_ns))
		p->next_deadline_ns = call->deadline_ns;
}

static void calls_remove(struct pypool *p, struct call *call)
{
	struct call **link = calls_bucket(p, call->id);

	while (*link != call)
		link = &(*link)->chain;
	*link = call->chain;
	p->n_in_flight--;
	DL_DELETE(p->in_flight, call);
}

struct call *call_find(struct pypool *p, uint64_t id)
{
	struct call *call = p->n_buckets ? *calls_bucket(p, id) : NULL;

	while (call && call->id != id)
		call = call->chain;
	return call;
}

static struct call *call_free(struct call *call)
{
	if (!call)
		return NULL;
	if (call->out)
		call->out->call = NULL;
	(void)pypool_reply_free(call->reply);
	free(call);
	return NULL;
}

static struct call *call_new(struct pypool *p, struct outgoing *out, uint32_t limit_ms, pypool_done *done, void *data)
{
	struct call *call = calloc(1, sizeof(*call));

	if (!call || calls_grow(p) < 0) {
		free(call);
		return NULL;
	}
	call->reply = answer_new();
	if (!call->reply)
		return call_free(call);
	call->id = p->next_id++;
	call->done = done;
	call->data = data;
	call->deadline_ns = limit_ms ? handle_now_ns() + (uint64_t)limit_ms * 1000000 : 0;
	call->out = out;
	out->call = call;
	return call;
}

static int submit_check(struct pypool *p, size_t frame_bytes)
{
	if (frame_bytes > p->max_frame)
		return handle_fail(p, -EMSGSIZE, "too_large", PYPOOL_NEVER,
				   "the request has %zu bytes, the daemon takes at most %u", frame_bytes, p->max_frame);
	return 0;
}

int call_submit(struct pypool *p, const char *method, const struct span *params, size_t n, uint32_t limit_ms,
		pypool_done *done, void *data, uint64_t *id)
{
	struct outgoing *out;
	struct call *call;
	size_t len = 0;
	int r;

	if (!handle_is_up(p))
		return handle_fail(p, -ENOTCONN, "connection_lost", PYPOOL_NEVER, "not connected");
	if (strlen(method) > 255)
		return handle_fail(p, -EINVAL, "bad_argument", PYPOOL_NEVER, "a method's name has at most 255 bytes");
	for (size_t i = 0; i < n; i++)
		len += params[i].len;
	r = submit_check(p, len);
	if (r < 0)
		return r;
	out = transport_frame(p->next_id, method, params, n);
	call = out ? call_new(p, out, limit_ms, done, data) : NULL;
	if (!call) {
		free(out);
		return handle_fail(p, -ENOMEM, "no_memory", PYPOOL_NEVER, "out of memory for a request of %zu bytes",
				   len);
	}
	r = submit_check(p, out->len - FRAME_PREFIX);
	if (r < 0) {
		(void)call_free(call);
		free(out);
		return r;
	}
	calls_insert(p, call);
	DL_APPEND(p->out, out);
	if (id)
		*id = call->id;
	return 0;
}

void call_answer(struct pypool *p, struct call *call)
{
	calls_remove(p, call);
	if (call->out) {
		call->out->call = NULL;
		call->out = NULL;
	}
	if (call->done)
		DL_APPEND(p->answered, call);
	else
		(void)call_free(call);
}

void calls_lose(struct pypool *p)
{
	struct call *call;

	while ((call = p->in_flight)) {
		/* A frame that has not wholly left was never dispatched. */
		if (call->done)
			answer_failf(call->reply, p->lost, p->last->error.code, call->out ? PYPOOL_NEVER : PYPOOL_MAYBE,
				     "%s", p->last->error.message);
		call_answer(p, call);
	}
	p->next_deadline_ns = 0;
}

/* Tells the daemon that an answer is no longer wanted. Without memory it is not told: it finds out by its own limits. */
static int calls_send_cancel(struct pypool *p, uint64_t id)
{
	struct scratch s = { 0 };
	struct span params;
	msgpack_packer pk;

	msgpack_packer_init(&pk, &s, scratch_write);
	msgpack_pack_map(&pk, 1);
	pack_kv_uint(&pk, "id", id);
	params = scratch_span(&s);
	/* Its answer is dropped: it says nothing that the call's own does not. */
	return call_submit(p, "cancel", &params, 1, 0, NULL, NULL, NULL);
}

static void call_expire(struct pypool *p, struct call *call)
{
	struct outgoing *out = call->out;
	struct call *ghost;

	call->deadline_ns = 0;
	if (out && out->sent == 0) {
		answer_failf(call->reply, -ETIMEDOUT, "deadline_exceeded", PYPOOL_NEVER,
			     "the request could not be sent to the daemon in time");
		call_answer(p, call);
		transport_drop(p, out);
		return;
	}
	/* Its place in the table stays for the late answer; the caller gets a call of its own. */
	ghost = calloc(1, sizeof(*ghost));
	if (!ghost)
		return; /* it goes on waiting: better late than lost */
	*ghost = (struct call){ .reply = call->reply, .done = call->done, .data = call->data };
	call->reply = NULL;
	call->done = NULL;
	answer_failf(ghost->reply, -ETIMEDOUT, "deadline_exceeded", PYPOOL_MAYBE,
		     "no answer from the daemon in time; the call is cancelled");
	DL_APPEND(p->answered, ghost);
	(void)calls_send_cancel(p, call->id);
}

void calls_expire(struct pypool *p, uint64_t now_ns)
{
	struct call *call, *following;
	uint64_t next = 0;

	if (!p->next_deadline_ns || now_ns < p->next_deadline_ns)
		return;
	for (call = p->in_flight; call; call = following) {
		following = call->next;
		if (!call->deadline_ns)
			continue;
		if (call->deadline_ns <= now_ns)
			call_expire(p, call);
		else if (!next || call->deadline_ns < next)
			next = call->deadline_ns;
	}
	p->next_deadline_ns = next;
}

int pypool_cancel(struct pypool *p, uint64_t id)
{
	int r = handle_check(p);
	struct call *call;

	if (r < 0)
		return r;
	call = call_find(p, id);
	if (!call || !call->done)
		return handle_fail(p, -ENOENT, "bad_argument", PYPOOL_NEVER, "no call %llu is in flight",
				   (unsigned long long)id);
	return calls_send_cancel(p, id);
}

void calls_deliver(struct pypool *p)
{
	if (p->delivering)
		return;
	p->delivering = true;
	while (p->answered) {
		struct call *call = p->answered;
		struct pypool_reply *reply = call->reply;

		DL_DELETE(p->answered, call);
		call->reply = NULL;
		call->done(p, reply, call->data);
		(void)call_free(call);
	}
	p->delivering = false;
}

static void calls_free_all(struct call **list)
{
	while (*list) {
		struct call *call = *list;

		DL_DELETE(*list, call);
		(void)call_free(call);
	}
}

void calls_deinit(struct pypool *p)
{
	calls_free_all(&p->in_flight);
	calls_free_all(&p->answered);
	free(p->buckets);
	p->buckets = NULL;
	p->n_buckets = 0;
}

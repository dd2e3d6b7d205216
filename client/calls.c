/*
 * Calls in flight. Each has an id that is never used again on this handle, so that a late answer finds nobody else. A
 * call that nobody waits for any more (over its time, or cancelled) stays until the daemon has answered it: an answer to
 * an id that is not here is a broken protocol.
 */
#include <errno.h>
#include <stdio.h>
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
	struct call **buckets, *call;

	if (p->n_in_flight < p->n_buckets)
		return 0;
	buckets = calloc(n, sizeof(struct call *));
	if (!buckets)
		return -ENOMEM;
	free(p->buckets);
	p->buckets = buckets;
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
	p->n_direct_calls += call->link->lease != NULL;
	p->n_sockets_due += call->direct;
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
	p->n_direct_calls -= call->link->lease != NULL;
	p->n_sockets_due -= call->direct;
	DL_DELETE(p->in_flight, call);
}

struct call *calls_eldest(struct pypool *p, const struct link *link)
{
	struct call *call = p->in_flight;

	while (call && call->link != link)
		call = call->next;
	return call;
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

static struct call *call_new(struct pypool *p, struct link *link, struct outgoing *out, uint64_t deadline_ns,
			     pypool_done *done, void *data)
{
	struct call *call = calloc(1, sizeof(*call));

	if (!call || calls_grow(p) < 0) {
		free(call);
		return NULL;
	}
	call->reply = answer_new();
	if (!call->reply)
		return call_free(call);
	call->link = link;
	call->done = done;
	call->data = data;
	call->deadline_ns = deadline_ns;
	call->out = out;
	if (out)
		out->call = call;
	return call;
}

struct call *call_resume(struct pypool *p, struct link *link, uint64_t id, struct outgoing *out, uint64_t deadline_ns,
			 pypool_done *done, void *data)
{
	struct call *call = call_new(p, link, out, deadline_ns, done, data);

	if (!call)
		return NULL;
	call->id = id;
	calls_insert(p, call);
	if (out)
		DL_APPEND(link->out, out);
	return call;
}

int call_check_size(struct pypool *p, size_t bytes)
{
	if (bytes > p->max_frame)
		return handle_fail(p, -EMSGSIZE, "too_large", PYPOOL_NEVER,
				   "the request has %zu bytes, the daemon takes at most %u", bytes, p->max_frame);
	return 0;
}

/* What the answer to this will mean for the library itself. */
static void call_note_method(struct call *call, const char *method, const struct span *params, size_t n)
{
	struct pypool_span value;
	struct span s;

	if (call->link->lease || n == 0)
		return;
	if (strcmp(method, "checkout") == 0) {
		call->kind = CALL_CHECKOUT;
		s = pypool_get_key(span_give(params[0]), "direct", &value) == 0 ? span_of(value) : (struct span){ 0 };
		if (!mp_read_bool(&s, &call->direct))
			call->direct = false;
	} else if (strcmp(method, "checkin") == 0 && pypool_get_key(span_give(params[0]), "lease", &value) == 0) {
		s = span_of(value);
		if (!mp_read_uint(&s, &call->lease))
			return;
		call->kind = CALL_CHECKIN;
		lease_note_leaving(call->link->p, call->lease);
	}
}

int call_submit(struct pypool *p, struct link *link, const char *method, const struct span *params, size_t n,
		uint32_t limit_ms, pypool_done *done, void *data, uint64_t *id)
{
	uint64_t deadline_ns = limit_ms ? handle_now_ns() + (uint64_t)limit_ms * 1000000 : 0;
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
	r = call_check_size(p, len);
	if (r < 0)
		return r;
	out = transport_frame(p->next_id, method, params, n);
	call = out ? call_new(p, link, out, deadline_ns, done, data) : NULL;
	if (!call) {
		free(out);
		return handle_fail(p, -ENOMEM, "no_memory", PYPOOL_NEVER, "out of memory for a request of %zu bytes",
				   len);
	}
	r = call_check_size(p, out->len - FRAME_PREFIX);
	if (r < 0) {
		(void)call_free(call);
		free(out);
		return r;
	}
	call->id = p->next_id++;
	call_note_method(call, method, params, n);
	calls_insert(p, call);
	DL_APPEND(link->out, out);
	watch_update(link);
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
static int call_send_cancel(struct pypool *p, const struct call *call)
{
	struct scratch s = { 0 };
	struct span params;
	msgpack_packer pk;

	msgpack_packer_init(&pk, &s, scratch_write);
	msgpack_pack_map(&pk, 1);
	pack_kv_uint(&pk, "id", call->id);
	params = scratch_span(&s);
	/* Its answer is dropped: it says nothing that the call's own does not. */
	return call_submit(p, &p->main, "cancel", &params, 1, 0, NULL, NULL, NULL);
}

/* Nothing of it has been sent: it never will be. */
static void call_withdraw(struct pypool *p, struct call *call, int number, const char *code, const char *message)
{
	struct outgoing *out = call->out;
	struct link *link = call->link;

	answer_failf(call->reply, number, code, PYPOOL_NEVER, "%s", message);
	call_answer(p, call);
	transport_drop(link, out);
}

/* Its place in the table stays for the late answer; the caller gets a call of its own. False: no memory. */
static bool call_desert(struct pypool *p, struct call *call, int number, const char *code, const char *message)
{
	struct call *ghost = calloc(1, sizeof(*ghost));

	if (!ghost)
		return false;
	*ghost = (struct call){ .reply = call->reply, .done = call->done, .data = call->data };
	call->reply = NULL;
	call->done = NULL;
	call->deadline_ns = 0;
	answer_failf(ghost->reply, number, code, PYPOOL_MAYBE, "%s", message);
	DL_APPEND(p->answered, ghost);
	return true;
}

/* Nobody stands between a direct call and its worker who could be asked to stop it. One that waits behind another is left
 * alone, for a worker that answers to nobody; the one that runs ends with its lease. */
static void call_desert_direct(struct pypool *p, struct call *call, int number, const char *code, const char *what)
{
	bool runs = calls_eldest(p, call->link) == call;
	char message[160];

	(void)snprintf(message, sizeof(message), "%s; %s", what,
		       runs ? "its direct lease is given up"
			    : "it waits in its worker behind another call and may yet run");
	if (call_desert(p, call, number, code, message) && runs)
		lease_give_up(call->link->lease, "a call under it had to be stopped");
}

/* False: other calls may have gone with it. */
static bool call_expire(struct pypool *p, struct call *call)
{
	bool direct = call->link->lease;

	call->deadline_ns = 0;
	if (call->out && call->out->sent == 0)
		call_withdraw(p, call, -ETIMEDOUT, "deadline_exceeded",
			      "the request could not be sent to the daemon in time");
	else if (call->link->lease)
		call_desert_direct(p, call, -ETIMEDOUT, "deadline_exceeded", "no answer from the worker in time");
	else if (call_desert(p, call, -ETIMEDOUT, "deadline_exceeded",
			     "no answer from the daemon in time; the call is cancelled"))
		(void)call_send_cancel(p, call);
	/* Without memory it goes on waiting: better late than lost. */
	return !direct;
}

void calls_expire(struct pypool *p, uint64_t now_ns)
{
	struct call *call, *following;
	uint64_t next = 0;

	if (!p->next_deadline_ns || now_ns < p->next_deadline_ns)
		return;
	for (call = p->in_flight; call; call = following) {
		following = call->next;
		if (call->deadline_ns && call->deadline_ns <= now_ns && !call_expire(p, call))
			following = p->in_flight;
	}
	for (call = p->in_flight; call; call = call->next)
		if (call->deadline_ns && (!next || call->deadline_ns < next))
			next = call->deadline_ns;
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
	if (!call->link->lease)
		return call_send_cancel(p, call);
	if (call->out && call->out->sent == 0)
		call_withdraw(p, call, -EREMOTEIO, "cancelled", "cancelled before it was sent");
	else
		call_desert_direct(p, call, -EREMOTEIO, "cancelled", "cancelled");
	return 0;
}

bool calls_add_news(struct pypool *p, struct span method, struct span params)
{
	struct call *news = calloc(1, sizeof(*news));
	struct pypool_reply *reply = news ? answer_new() : NULL;

	if (!reply) {
		free(news);
		return false;
	}
	/* One block of bytes: the name, NUL-terminated, and the params. */
	reply->bytes = malloc(method.len + 1 + params.len);
	news->reply = reply;
	news->kind = CALL_NEWS;
	if (!reply->bytes) {
		(void)call_free(news);
		return false;
	}
	memcpy(reply->bytes, method.p, method.len);
	reply->bytes[method.len] = '\0';
	if (params.len)
		memcpy(reply->bytes + method.len + 1, params.p, params.len);
	reply->value = (struct pypool_span){ .data = reply->bytes + method.len + 1, .size = params.len };
	DL_APPEND(p->answered, news);
	return true;
}

static void call_deliver(struct pypool *p, struct call *call)
{
	struct pypool_reply *reply = call->reply;

	if (call->kind == CALL_NEWS) {
		if (p->notify)
			p->notify(p, (const char *)reply->bytes, reply->value, p->notify_data);
	} else {
		call->reply = NULL;
		call->done(p, reply, call->data);
	}
	(void)call_free(call);
}

void calls_deliver(struct pypool *p)
{
	if (p->delivering)
		return;
	p->delivering = true;
	while (p->answered) {
		struct call *call = p->answered;

		DL_DELETE(p->answered, call);
		call_deliver(p, call);
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

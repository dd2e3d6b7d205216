/*
 * Direct leases: a socket to a worker, made for one lease alone, that came with the answer to its checkout. Calls
 * under it go straight there and are answered in their order. The daemon still ends the lease when its time comes, or
 * its worker dies: then the socket is at its end, and a moment later (or before) the daemon says why.
 *
 * A lease is closed at once and freed later, by leases_bury(), when nobody can be inside of it any more.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <unistd.h>
#include <utlist.h>

#include "client/blocking.h"
#include "client/handle.h"
#include "client/params.h"

struct lease {
	struct lease *prev;
	struct lease *next;
	struct link link;
	uint64_t id;
	bool leaving;         /* checkin is on its way */
	uint64_t told_by_ns;  /* the socket is at its end: the daemon's word is waited for until then; 0: it goes on */
	uint32_t patience_ms; /* what SO_RCVTIMEO and SO_SNDTIMEO are now; 0: no limit */
};

struct lease *lease_find(struct pypool *p, uint64_t id)
{
	struct lease *l = p->leases;

	while (l && l->id != id)
		l = l->next;
	return l;
}

uint64_t lease_id(const struct lease *l)
{
	return l->id;
}

struct link *lease_link(struct lease *l)
{
	return &l->link;
}

bool lease_is_over(const struct lease *l)
{
	return l->told_by_ns || l->leaving;
}

/* ---- end ---- */

static void lease_hang_up(struct lease *l)
{
	if (l->link.fd < 0)
		return;
	watch_remove(&l->link);
	/* A process that was forked may have a copy of the fd: the worker shall see the end all the same. */
	(void)shutdown(l->link.fd, SHUT_RDWR);
	(void)close(l->link.fd); /* nothing is left to report */
	l->link.fd = -1;
}

/* What became of the calls of a lease that is over. cause: one encoded value, or empty. */
struct fate {
	int number;
	const char *code;
	struct span message;
	struct span cause;
};

static void lease_answer_call(struct call *call, const struct fate *f)
{
	/* A frame that has not wholly left was never run. */
	answer_failf(call->reply, f->number, f->code, call->out ? PYPOOL_NEVER : PYPOOL_MAYBE, "%.*s",
		     (int)f->message.len, (const char *)f->message.p);
	answer_set_cause(call->reply, f->cause);
}

static void lease_close(struct lease *l, const struct fate *f)
{
	struct pypool *p = l->link.p;
	struct call *call;

	lease_hang_up(l);
	while ((call = calls_eldest(p, &l->link))) {
		if (call->done)
			lease_answer_call(call, f);
		call_answer(p, call);
	}
	transport_deinit(&l->link);
	DL_DELETE(p->leases, l);
	LL_PREPEND(p->buried, l);
}

void leases_bury(struct pypool *p)
{
	while (p->buried) {
		struct lease *l = p->buried;

		LL_DELETE(p->buried, l);
		free(l);
	}
}

/* The library's own word about the end. */
static void lease_close_saying(struct lease *l, int number, const char *code, const char *why)
{
	char message[300];

	(void)snprintf(message, sizeof(message), "lease %llu has ended: %s", (unsigned long long)l->id, why);
	lease_close(l, &(struct fate){ .number = number, .code = code, .message = span_str(message) });
}

void leases_lose(struct pypool *p)
{
	while (p->leases)
		lease_close_saying(p->leases, -ENOTCONN, "connection_lost",
				   "the connection is gone"); /* no calls are left */
}

void leases_deinit(struct pypool *p)
{
	while (p->leases) {
		struct lease *l = p->leases;

		if (l->link.fd >= 0)
			(void)close(l->link.fd); /* this process' copy of it */
		transport_deinit(&l->link);
		DL_DELETE(p->leases, l);
		free(l);
	}
	leases_bury(p);
}

void lease_note_end(struct lease *l, int error)
{
	struct pypool *p = l->link.p;

	lease_hang_up(l);
	if (l->leaving)
		lease_close_saying(l, -EREMOTEIO, "cancelled", "it was checked in");
	else if (error == -ENOMEM)
		lease_close_saying(l, -ENOMEM, "no_memory", "out of memory for what its worker sends");
	else if (!calls_eldest(p, &l->link))
		lease_close_saying(l, -EREMOTEIO, "lease_expired", "its socket was closed");
	else if (!l->told_by_ns)
		l->told_by_ns = handle_now_ns() + CLIENT_GRACE_MS * UINT64_C(1000000);
}

void lease_note_bad(struct lease *l, const char *what)
{
	char why[240];

	(void)snprintf(why, sizeof(why), "its socket cannot be trusted any more: %s", what); /* cut: for people */
	lease_close_saying(l, -EPROTO, "bad_reply", why);
}

uint64_t leases_due(const struct pypool *p)
{
	const struct lease *l;
	uint64_t due = 0;

	for (l = p->leases; l; l = l->next)
		if (l->told_by_ns && (!due || l->told_by_ns < due))
			due = l->told_by_ns;
	return due;
}

void leases_flush(struct pypool *p)
{
	struct lease *l;

	for (l = p->n_direct_calls ? p->leases : NULL; l; l = l->next)
		if (l->link.out)
			transport_flush(&l->link);
}

void leases_expire(struct pypool *p, uint64_t now_ns)
{
	struct lease *l, *following;

	for (l = p->leases; l; l = following) {
		following = l->next;
		if (l->told_by_ns && l->told_by_ns <= now_ns)
			lease_close_saying(l, -EREMOTEIO, "lease_expired", "its socket was closed");
	}
}

/* ---- news ---- */

static const char *news_code(struct span reason)
{
	return span_equals(reason, "worker_died") ? "worker_died" : "lease_expired";
}

static struct span news_get(struct pypool_span params, const char *key)
{
	struct pypool_span value;

	return pypool_get_key(params, key, &value) == 0 ? span_of(value) : (struct span){ 0 };
}

/* "lease_lost", [{lease, worker, reason, message, cause?}] */
void lease_note_news(struct pypool *p, const struct response *resp)
{
	struct pypool_span params = span_give(resp->result);
	struct span id = news_get(params, "lease"), reason = news_get(params, "reason"), text = { 0 };
	struct span message = news_get(params, "message");
	struct fate fate = { .number = -EREMOTEIO,
			     .message = SPAN_LIT("the lease has ended"),
			     .cause = news_get(params, "cause") };
	struct lease *l;
	uint64_t v;

	if (!span_equals(resp->method, "lease_lost") || !mp_read_uint(&id, &v))
		return;
	l = lease_find(p, v);
	if (l)
		transport_read(&l->link); /* what its worker has answered still counts */
	l = lease_find(p, v);
	if (!l)
		return;
	(void)mp_read_text(&message, &fate.message); /* else it is what it was */
	(void)mp_read_text(&reason, &text);
	fate.code = news_code(text);
	lease_close(l, &fate);
}

/* ---- checkin ---- */

static void lease_send_checkin(struct pypool *p, uint64_t id)
{
	struct scratch s = { 0 };
	struct span params;
	msgpack_packer pk;

	msgpack_packer_init(&pk, &s, scratch_write);
	msgpack_pack_map(&pk, 1);
	pack_kv_uint(&pk, "lease", id);
	params = scratch_span(&s);
	/* Its answer says nothing. Without memory it is not sent: the daemon sees the end of the socket, or of the ttl. */
	(void)call_submit(p, &p->main, "checkin", &params, 1, 0, NULL, NULL, NULL);
}

void lease_give_up(struct lease *l, const char *why)
{
	lease_send_checkin(l->link.p, l->id);
	lease_close_saying(l, -EREMOTEIO, "lease_expired", why);
}

void lease_note_leaving(struct pypool *p, uint64_t id)
{
	struct lease *l = lease_find(p, id);

	if (l)
		l->leaving = true;
}

void lease_note_checkin(struct pypool *p, const struct call *call)
{
	struct lease *l = lease_find(p, call->lease);

	if (l)
		lease_close_saying(l, -EREMOTEIO, "cancelled", "it was checked in");
}

/* ---- checkout ---- */

static int lease_take_fd(struct pypool *p)
{
	int fd;

	if (p->n_fds == 0)
		return -1;
	fd = p->fds[0];
	p->n_fds--;
	memmove(p->fds, p->fds + 1, p->n_fds * sizeof(p->fds[0]));
	return fd;
}

static bool lease_new(struct pypool *p, uint64_t id, int fd)
{
	struct lease *l = calloc(1, sizeof(*l));

	if (!l)
		return false;
	l->id = id;
	transport_init(&l->link, p, l, fd);
	DL_APPEND(p->leases, l);
	return true;
}

bool lease_note_checkout(struct pypool *p, struct call *call, const struct response *resp)
{
	struct pypool_span result = span_give(resp->result);
	uint64_t id = answer_uint(result, "lease");
	struct span nil = resp->error;
	int fd = -1;

	if (!mp_read_nil(&nil))
		return true;
	if (call->direct && answer_uint(result, "fds") > 0) {
		fd = lease_take_fd(p);
		if (fd < 0 || answer_uint(result, "fds") > 1) {
			if (fd >= 0)
				(void)close(fd); /* never used */
			return false;
		}
	}
	if (call->done && (fd < 0 || lease_new(p, id, fd)))
		return true;
	if (fd >= 0)
		(void)close(fd); /* never used */
	if (call->done)
		answer_failf(call->reply, -ENOMEM, "no_memory", PYPOOL_MAYBE,
			     "out of memory for a lease; it is given back");
	lease_send_checkin(p, id);
	return true;
}

/* ---- there and back ---- */

static void lease_on_done(struct pypool *p, struct pypool_reply *reply, void *data)
{
	(void)p; /* the waiter has it */
	*(struct pypool_reply **)data = reply;
}

/* Limits for one wait each; set only when they change, so that calls with the same limit cost no system call more. */
static void lease_set_patience(struct lease *l, uint32_t ms)
{
	struct timeval tv = { .tv_sec = ms / 1000, .tv_usec = (suseconds_t)(ms % 1000) * 1000 };

	if (l->patience_ms == ms)
		return;
	l->patience_ms = ms;
	/* These cannot fail; if they did, an answer would be waited for without limit, as without a timeout. */
	(void)setsockopt(l->link.fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
	(void)setsockopt(l->link.fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv));
}

/* Bytes that were sent; fewer than all, also none, when something came up. */
static size_t lease_send(struct lease *l, struct scratch *head, const struct span *params, size_t n_params)
{
	struct iovec iov[3] = { { .iov_base = head->bytes, .iov_len = head->len } };
	struct msghdr msg = { .msg_iov = iov, .msg_iovlen = 1 };
	ssize_t n;

	for (size_t i = 0; i < n_params; i++) {
		struct span s = params[i];

		if (s.len == 0)
			continue;
		if (msg.msg_iovlen == 1 && s.len <= sizeof(head->bytes) - iov[0].iov_len) {
			memcpy(head->bytes + iov[0].iov_len, s.p, s.len);
			iov[0].iov_len += s.len;
		} else {
			iov[msg.msg_iovlen++] = (struct iovec){ .iov_base = (void *)(uintptr_t)s.p, .iov_len = s.len };
		}
	}
	if (msg.msg_iovlen == 1)
		n = send(l->link.fd, iov[0].iov_base, iov[0].iov_len, MSG_NOSIGNAL);
	else
		n = sendmsg(l->link.fd, &msg, MSG_NOSIGNAL);
	return n < 0 ? 0 : (size_t)n;
}

/* One whole frame, and nothing behind it. False: something else has come up. */
static bool lease_receive(struct lease *l, struct frame *f)
{
	struct link *link = &l->link;
	size_t need = FRAME_PREFIX;

	for (;;) {
		enum frame_status status;
		ssize_t n;

		if (!transport_make_room(link, need))
			return false;
		n = recv(link->fd, link->in + link->in_len, link->in_size - link->in_len, 0);
		if (n <= 0)
			return false;
		link->in_len += (size_t)n;
		status = frame_next(&link->reader, link->in, link->in_len, f);
		if (status != FRAME_MORE)
			return status == FRAME_READY && f->taken == link->in_len;
		need = f->need;
	}
}

/* The answer to a call, if that is all that there is. NULL: the general way finds out. */
static struct pypool_reply *lease_take_answer(struct lease *l, uint64_t id)
{
	struct pypool_reply *reply;
	struct response resp;
	struct frame f;

	if (!lease_receive(l, &f) || !response_parse(f.body, &resp) || resp.is_news || !resp.has_id || resp.id != id)
		return NULL;
	reply = answer_new();
	if (!reply)
		return NULL;
	answer_fill(reply, resp.error, resp.result, NULL);
	l->link.in_len = 0;
	return reply;
}

/* The call goes on as one that was submitted: what has been sent and received of it stays where it is. */
static struct pypool_reply *lease_go_on(struct lease *l, uint64_t id, size_t sent, const struct span *params, size_t n,
					uint64_t deadline_ns)
{
	struct pypool *p = l->link.p;
	struct pypool_reply *reply = NULL;
	struct outgoing *out = transport_frame(id, "execute", params, n);

	if (!out)
		return NULL;
	out->sent = sent;
	if (out->sent == out->len) {
		free(out);
		out = NULL;
	}
	if (watch_add(&l->link) < 0 || !call_resume(p, &l->link, id, out, deadline_ns, lease_on_done, &reply)) {
		free(out);
		return NULL;
	}
	transport_read(&l->link); /* what is here already wakes nobody */
	while (!reply)
		blocking_turn(p);
	return reply;
}

int lease_execute(struct lease *l, const struct span *params, size_t n, uint32_t limit_ms, struct pypool_reply **out)
{
	uint64_t deadline_ns = limit_ms ? handle_now_ns() + limit_ms * UINT64_C(1000000) : 0;
	struct pypool *p = l->link.p;
	struct pypool_reply *reply = NULL;
	struct scratch head;
	uint64_t id = p->next_id++;
	size_t len = 0, sent;
	int r;

	for (size_t i = 0; i < n; i++)
		len += params[i].len;
	r = call_check_size(p, len + 300);
	if (r < 0)
		return r;
	transport_pack_head(&head, id, "execute", len);
	lease_set_patience(l, limit_ms);
	sent = lease_send(l, &head, params, n);
	if (sent == head.len + len)
		reply = lease_take_answer(l, id);
	if (!reply)
		reply = lease_go_on(l, id, sent, params, n, deadline_ns);
	if (!reply) {
		lease_give_up(l, "out of memory for a call under it");
		return handle_fail(p, -ENOMEM, "no_memory", sent ? PYPOOL_MAYBE : PYPOOL_NEVER,
				   "out of memory or descriptors for a call; its direct lease is given up");
	}
	if (reply->failed)
		return handle_fail_reply(p, reply);
	*out = reply;
	return 0;
}

/*
 * Frames out of and into a socket. Reads as much as is there, answers the calls that the frames belong to. File
 * descriptors come from the daemon alone, and only with the answers to direct checkouts: while none is due they are
 * not asked for, so that the kernel closes them.
 */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>
#include <utlist.h>

#include "client/handle.h"
#include "proto/pack.h"

#define TRANSPORT_IOV 64
#define TRANSPORT_STEAL_BYTES 65536 /* a reply this large takes the buffer instead of a copy */
#define TRANSPORT_KEEP_BYTES (1024 * 1024)
#define TRANSPORT_FDS_MAX 253 /* of one message: the kernel's limit */

/* ---- out ---- */

int scratch_write(void *data, const char *buf, size_t len)
{
	struct scratch *s = data;

	if (len > sizeof(s->bytes) - s->len)
		return -1;
	memcpy(s->bytes + s->len, buf, len);
	s->len += len;
	return 0;
}

void transport_pack_head(struct scratch *head, uint64_t id, const char *method, size_t body_len)
{
	msgpack_packer pk;

	msgpack_packer_init(&pk, head, scratch_write);
	head->len = FRAME_PREFIX;
	msgpack_pack_array(&pk, 4);
	msgpack_pack_int(&pk, 0);
	msgpack_pack_uint64(&pk, id);
	pack_text(&pk, method);
	msgpack_pack_array(&pk, 1);
	if (body_len == 0)
		msgpack_pack_map(&pk, 0);
	frame_put_prefix(head->bytes, (uint32_t)(head->len - FRAME_PREFIX + body_len));
}

struct outgoing *transport_frame(uint64_t id, const char *method, const struct span *params, size_t n)
{
	struct scratch head = { 0 };
	size_t len, body = 0;
	struct outgoing *out;

	for (size_t i = 0; i < n; i++)
		body += params[i].len;
	transport_pack_head(&head, id, method, body);
	len = head.len + body;
	out = len > UINT32_MAX ? NULL : malloc(sizeof(*out) + len);
	if (!out)
		return NULL;
	*out = (struct outgoing){ .len = len };
	memcpy(out->data, head.bytes, head.len);
	len = head.len;
	for (size_t i = 0; i < n; i++) {
		if (params[i].len > 0)
			memcpy(out->data + len, params[i].p, params[i].len);
		len += params[i].len;
	}
	return out;
}

void transport_drop(struct link *link, struct outgoing *out)
{
	DL_DELETE(link->out, out);
	if (out->call)
		out->call->out = NULL;
	free(out);
}

static void transport_sent(struct link *link, size_t n)
{
	while (n > 0 && link->out) {
		struct outgoing *out = link->out;
		size_t part = out->len - out->sent < n ? out->len - out->sent : n;

		out->sent += part;
		n -= part;
		if (out->sent == out->len)
			transport_drop(link, out);
	}
}

static ssize_t transport_send_some(struct link *link)
{
	struct iovec iov[TRANSPORT_IOV];
	struct msghdr msg = { .msg_iov = iov };
	struct outgoing *out;

	for (out = link->out; out && msg.msg_iovlen < TRANSPORT_IOV; out = out->next)
		iov[msg.msg_iovlen++] =
			(struct iovec){ .iov_base = out->data + out->sent, .iov_len = out->len - out->sent };
	return sendmsg(link->fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
}

void transport_flush(struct link *link)
{
	while (link->fd >= 0 && link->out && !link->send_error) {
		ssize_t n = transport_send_some(link);

		if (n >= 0) {
			transport_sent(link, (size_t)n);
			continue;
		}
		n = -errno;
		if (n == -EINTR)
			continue;
		if (n != -EAGAIN)
			link->send_error = (int)n; /* its last words are read first: they may say why */
		break;
	}
	watch_update(link);
}

/* ---- in ---- */

static bool response_parse_news(struct span body, uint32_t n, struct response *out)
{
	struct span params;
	uint32_t pieces;

	out->is_news = true;
	if (!mp_read_text(&body, &out->method))
		return false;
	if (n == 2)
		return true;
	return n == 3 && mp_read_any(&body, &params) && mp_read_array(&params, &pieces) && pieces <= 1 &&
	       (pieces == 0 || mp_read_any(&params, &out->result));
}

bool response_parse(struct span body, struct response *out)
{
	uint64_t type;
	uint32_t n;

	*out = (struct response){ 0 };
	if (!mp_read_array(&body, &n) || !mp_read_uint(&body, &type))
		return false;
	if (type == 2)
		return response_parse_news(body, n, out);
	if (type != 1 || n != 4)
		return false;
	out->has_id = mp_read_uint(&body, &out->id);
	if (!out->has_id && !mp_read_nil(&body))
		return false;
	return mp_read_any(&body, &out->error) && mp_read_any(&body, &out->result) && body.len == 0;
}

static void transport_lose_bad(struct link *link, const char *what)
{
	if (link->lease) {
		lease_note_bad(link->lease, what);
		return;
	}
	(void)handle_fail(link->p, -EPROTO, "bad_reply", PYPOOL_MAYBE, "the daemon broke the protocol: %s", what);
	handle_lose(link->p, -EPROTO);
}

/* The word of the daemon about the connection, or of a worker about its lease, as a whole; it closes after this. */
static void transport_lose_told(struct link *link, const struct response *resp)
{
	struct pypool_reply *reply = answer_new();

	if (reply)
		answer_fill(reply, resp->error, resp->result, NULL);
	if (!reply) {
		transport_lose_bad(link, "an error that there is no memory for");
	} else if (!reply->failed) {
		transport_lose_bad(link, "a response without an id and without an error");
	} else if (link->lease) {
		lease_note_bad(link->lease, reply->error.message);
	} else {
		(void)handle_fail_reply(link->p, reply);
		handle_lose(link->p, -ENOTCONN);
		return;
	}
	(void)pypool_reply_free(reply);
}

static void transport_take_news(struct link *link, const struct response *resp)
{
	if (link->lease)
		return; /* none is known there, and unknown ones are skipped */
	lease_note_news(link->p, resp);
	if (link->fd >= 0 && link->p->notify && !calls_add_news(link->p, resp->method, resp->result)) {
		(void)handle_fail(link->p, -ENOTCONN, "connection_lost", PYPOOL_MAYBE,
				  "out of memory for a notification");
		handle_lose(link->p, -ENOTCONN);
	}
}

/* buffer: the malloced memory that resp lies in, if the reply may take it over. True: it did. */
static bool transport_take_answer(struct link *link, const struct response *resp, uint8_t *buffer)
{
	struct call *call = call_find(link->p, resp->id);

	if (!call || call->link != link || (call->out && call->out->sent == 0)) {
		transport_lose_bad(link, "a response to a request that was not sent, or a second one");
		return false;
	}
	if (!call->done || call->kind != CALL_PLAIN)
		buffer = NULL; /* nobody wants it, or it is looked at here */
	if (call->done)
		answer_fill(call->reply, resp->error, resp->result, buffer);
	if (call->kind == CALL_CHECKOUT && !lease_note_checkout(link->p, call, resp)) {
		transport_lose_bad(link, "a direct lease without its socket");
		return buffer != NULL;
	}
	if (call->kind == CALL_CHECKIN)
		lease_note_checkin(link->p, call);
	call_answer(link->p, call);
	return buffer != NULL;
}

static bool transport_take_body(struct link *link, struct span body, uint8_t *buffer)
{
	struct response resp;

	if (!response_parse(body, &resp)) {
		transport_lose_bad(link, "a message that is not a response");
	} else if (resp.is_news) {
		transport_take_news(link, &resp);
	} else if (!resp.has_id) {
		transport_lose_told(link, &resp);
	} else {
		return transport_take_answer(link, &resp, buffer);
	}
	return false;
}

/* Answers all complete frames of the buffer. Returns the bytes that the next frame needs at least. */
static size_t transport_take_frames(struct link *link)
{
	size_t at = 0, need = FRAME_PREFIX;

	while (at < link->in_len && link->fd >= 0) {
		char text[FRAME_TEXT];
		struct frame frame;
		enum frame_status status = frame_next(&link->reader, link->in + at, link->in_len - at, &frame);
		bool alone;

		if (status == FRAME_MORE) {
			need = frame.need;
			break;
		}
		if (status != FRAME_READY) {
			transport_lose_bad(link, frame_status_text(&link->reader, status, text));
			return 0;
		}
		alone = at == 0 && frame.taken == link->in_len && frame.taken >= TRANSPORT_STEAL_BYTES;
		if (transport_take_body(link, frame.body, alone ? link->in : NULL)) {
			link->in = NULL;
			link->in_size = 0;
		}
		at += frame.taken;
	}
	if (link->fd < 0)
		return 0;
	link->in_len -= at;
	if (link->in && link->in_len > 0 && at > 0)
		memmove(link->in, link->in + at, link->in_len);
	return need;
}

bool transport_make_room(struct link *link, size_t need)
{
	size_t size = need > CLIENT_READ_BYTES ? need : CLIENT_READ_BYTES;
	uint8_t *in;

	/* After a large reply: do not hold its memory for the life of the connection. */
	if (link->in_size >= size && (link->in_len > 0 || link->in_size <= TRANSPORT_KEEP_BYTES))
		return true;
	in = realloc(link->in, size);
	if (!in)
		return false;
	link->in = in;
	link->in_size = size;
	return true;
}

static void transport_lose_end(struct link *link, int error)
{
	const char *where = link->in_len > 0 ? " in the middle of a message" : "";

	if (link->lease) {
		lease_note_end(link->lease, error);
		return;
	}
	if (error == 0)
		(void)handle_fail(link->p, -ENOTCONN, "connection_lost", PYPOOL_MAYBE,
				  "the daemon closed the connection%s", where);
	else
		(void)handle_fail(link->p, -ENOTCONN, "connection_lost", PYPOOL_MAYBE, "the connection broke%s: %s",
				  where, strerrordesc_np(-error));
	handle_lose(link->p, -ENOTCONN);
}

/* ---- file descriptors ---- */

/* Keeps the fds of a message in the order of their coming. False: one too many. */
static bool transport_keep_fds(struct pypool *p, const struct cmsghdr *c)
{
	size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
	bool fit = true;

	for (size_t i = 0; i < n; i++) {
		int fd;

		memcpy(&fd, CMSG_DATA(c) + i * sizeof(fd), sizeof(fd));
		if (p->n_fds < CLIENT_FDS_MAX && p->n_fds < p->n_sockets_due) {
			p->fds[p->n_fds++] = fd;
		} else {
			(void)close(fd); /* not ours to report: the connection ends with a reason of its own */
			fit = false;
		}
	}
	return fit;
}

/* recv() that takes fds too; all of them, so that none is left unseen. */
static ssize_t transport_receive_fds(struct link *link, const char **wrong)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(TRANSPORT_FDS_MAX * sizeof(int))];
	} control;
	struct iovec iov = { .iov_base = link->in + link->in_len, .iov_len = link->in_size - link->in_len };
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)
	};
	ssize_t n = recvmsg(link->fd, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

	if (n < 0)
		return -errno;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&msg); c; c = CMSG_NXTHDR(&msg, c)) {
		if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS && !transport_keep_fds(link->p, c))
			*wrong = "more file descriptors than were asked for";
	}
	if (msg.msg_flags & MSG_CTRUNC)
		*wrong = "file descriptors that this process could not take: is it at its limit of open files?";
	return n;
}

static ssize_t transport_receive(struct link *link, const char **wrong)
{
	ssize_t n;

	if (!link->lease && link->p->n_sockets_due)
		return transport_receive_fds(link, wrong);
	n = recv(link->fd, link->in + link->in_len, link->in_size - link->in_len, MSG_DONTWAIT);
	return n < 0 ? -errno : n;
}

/* An fd comes with the first byte of the frame that claims it, so that only a frame that is not whole may leave one. */
static bool transport_fds_are_claimed(const struct link *link)
{
	return link->lease || link->fd < 0 || link->p->n_fds <= (link->in_len > 0);
}

/* ---- reading ---- */

/* Nothing is there now. A daemon that takes no more has said its last word; a lease goes on until its end is seen. */
static void transport_note_empty(struct link *link)
{
	if (link->send_error && !link->lease)
		transport_lose_end(link, link->send_error);
}

/* False: nothing more is there now, or the connection has ended. */
static bool transport_read_some(struct link *link, size_t *need)
{
	const char *wrong = NULL;
	size_t room;
	ssize_t n;

	if (!transport_make_room(link, *need)) {
		transport_lose_end(link, -ENOMEM);
		return false;
	}
	room = link->in_size - link->in_len;
	n = transport_receive(link, &wrong);
	if (n == -EINTR)
		return true;
	if (n == -EAGAIN) {
		transport_note_empty(link);
		return false;
	}
	if (wrong)
		transport_lose_bad(link, wrong);
	else if (n <= 0)
		transport_lose_end(link, (int)n);
	if (wrong || n <= 0)
		return false;
	link->in_len += (size_t)n;
	*need = transport_take_frames(link);
	if (!transport_fds_are_claimed(link))
		transport_lose_bad(link, "a file descriptor that no answer names");
	/* Less than asked for: surely empty now. But the reason of a failed send is wanted to its end. */
	return link->fd >= 0 && ((size_t)n == room || link->send_error);
}

void transport_read(struct link *link)
{
	size_t need;

	if (link->fd < 0)
		return;
	need = transport_take_frames(link); /* the one that is partly here, and what lease_execute() has left */
	while (link->fd >= 0 && transport_read_some(link, &need))
		;
}

void transport_init(struct link *link, struct pypool *p, struct lease *lease, int fd)
{
	*link = (struct link){ .p = p, .lease = lease, .fd = fd };
	frame_reader_init(&link->reader, FRAME_PREFIXED, FRAME_MAX_LIMIT);
}

void transport_deinit(struct link *link)
{
	while (link->out)
		transport_drop(link, link->out);
	free(link->in);
	frame_reader_deinit(&link->reader);
	transport_init(link, link->p, link->lease, link->fd);
}

/* Frames out of and into the socket. Reads as much as is there, answers the calls that the frames belong to. */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <utlist.h>

#include "client/handle.h"
#include "proto/pack.h"

#define TRANSPORT_IOV 64
#define TRANSPORT_STEAL_BYTES 65536 /* a reply this large takes the buffer instead of a copy */
#define TRANSPORT_KEEP_BYTES (1024 * 1024)

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

struct outgoing *transport_frame(uint64_t id, const char *method, const struct span *params, size_t n)
{
	struct scratch head = { 0 };
	size_t len, body = 0;
	struct outgoing *out;
	msgpack_packer pk;

	msgpack_packer_init(&pk, &head, scratch_write);
	msgpack_pack_array(&pk, 4);
	msgpack_pack_int(&pk, 0);
	msgpack_pack_uint64(&pk, id);
	pack_text(&pk, method);
	msgpack_pack_array(&pk, 1);
	for (size_t i = 0; i < n; i++)
		body += params[i].len;
	if (body == 0)
		msgpack_pack_map(&pk, 0);
	len = head.len + body;
	out = len > UINT32_MAX ? NULL : malloc(sizeof(*out) + FRAME_PREFIX + len);
	if (!out)
		return NULL;
	*out = (struct outgoing){ .len = FRAME_PREFIX + len };
	frame_put_prefix(out->data, (uint32_t)len);
	memcpy(out->data + FRAME_PREFIX, head.bytes, head.len);
	len = FRAME_PREFIX + head.len;
	for (size_t i = 0; i < n; i++) {
		if (params[i].len > 0)
			memcpy(out->data + len, params[i].p, params[i].len);
		len += params[i].len;
	}
	return out;
}

void transport_drop(struct pypool *p, struct outgoing *out)
{
	DL_DELETE(p->out, out);
	if (out->call)
		out->call->out = NULL;
	free(out);
}

static void transport_sent(struct pypool *p, size_t n)
{
	while (n > 0 && p->out) {
		struct outgoing *out = p->out;
		size_t part = out->len - out->sent < n ? out->len - out->sent : n;

		out->sent += part;
		n -= part;
		if (out->sent == out->len)
			transport_drop(p, out);
	}
}

static ssize_t transport_send_some(struct pypool *p)
{
	struct iovec iov[TRANSPORT_IOV];
	struct msghdr msg = { .msg_iov = iov };
	struct outgoing *out;

	for (out = p->out; out && msg.msg_iovlen < TRANSPORT_IOV; out = out->next)
		iov[msg.msg_iovlen++] =
			(struct iovec){ .iov_base = out->data + out->sent, .iov_len = out->len - out->sent };
	return sendmsg(p->fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
}

void transport_flush(struct pypool *p)
{
	while (p->fd >= 0 && p->out && !p->send_error) {
		ssize_t n = transport_send_some(p);

		if (n >= 0) {
			transport_sent(p, (size_t)n);
			continue;
		}
		n = -errno;
		if (n == -EINTR)
			continue;
		if (n != -EAGAIN)
			p->send_error = (int)n; /* its last words are read first: they may say why */
		return;
	}
}

/* ---- in ---- */

struct response {
	bool is_ours; /* false: a notification, which means nothing to us */
	bool has_id;
	uint64_t id;
	struct span error;
	struct span result;
};

/* [1, id or nil, error, result], or [2, …]. */
static bool response_parse(struct span body, struct response *out)
{
	uint64_t type;
	uint32_t n;

	*out = (struct response){ 0 };
	if (!mp_read_array(&body, &n) || !mp_read_uint(&body, &type))
		return false;
	if (type == 2)
		return n == 3 || n == 2;
	if (type != 1 || n != 4)
		return false;
	out->is_ours = true;
	out->has_id = mp_read_uint(&body, &out->id);
	if (!out->has_id && !mp_read_nil(&body))
		return false;
	return mp_read_any(&body, &out->error) && mp_read_any(&body, &out->result) && body.len == 0;
}

static void transport_lose_bad(struct pypool *p, const char *what)
{
	(void)handle_fail(p, -EPROTO, "bad_reply", PYPOOL_MAYBE, "the daemon broke the protocol: %s", what);
	handle_lose(p, -EPROTO);
}

/* The daemon's word about the connection as a whole; it closes after this. */
static void transport_lose_told(struct pypool *p, const struct response *resp)
{
	struct pypool_reply *reply = answer_new();

	if (reply) {
		answer_fill(reply, resp->error, resp->result, NULL);
		if (!reply->failed) {
			(void)pypool_reply_free(reply);
			transport_lose_bad(p, "a response without an id and without an error");
			return;
		}
		(void)handle_fail_reply(p, reply);
	}
	handle_lose(p, -ENOTCONN);
}

/* buffer: the malloced memory that body lies in, if the reply may take it over. True: it did. */
static bool transport_take_body(struct pypool *p, struct span body, uint8_t *buffer)
{
	struct response resp;
	struct call *call;

	if (!response_parse(body, &resp)) {
		transport_lose_bad(p, "a message that is not a response");
		return false;
	}
	if (!resp.is_ours)
		return false;
	if (!resp.has_id) {
		transport_lose_told(p, &resp);
		return false;
	}
	call = call_find(p, resp.id);
	if (!call || (call->out && call->out->sent == 0)) {
		transport_lose_bad(p, "a response to a request that was not sent, or a second one");
		return false;
	}
	if (!call->done)
		buffer = NULL; /* nobody wants it */
	else
		answer_fill(call->reply, resp.error, resp.result, buffer);
	call_answer(p, call);
	return buffer != NULL;
}

/* Answers all complete frames of the buffer. Returns the bytes that the next frame needs at least. */
static size_t transport_take_frames(struct pypool *p)
{
	size_t at = 0, need = FRAME_PREFIX;

	while (at < p->in_len && p->fd >= 0) {
		char text[FRAME_TEXT];
		struct frame frame;
		enum frame_status status = frame_next(&p->reader, p->in + at, p->in_len - at, &frame);
		bool alone;

		if (status == FRAME_MORE) {
			need = frame.need;
			break;
		}
		if (status != FRAME_READY) {
			transport_lose_bad(p, frame_status_text(&p->reader, status, text));
			return 0;
		}
		alone = at == 0 && frame.taken == p->in_len && frame.taken >= TRANSPORT_STEAL_BYTES;
		if (transport_take_body(p, frame.body, alone ? p->in : NULL)) {
			p->in = NULL;
			p->in_size = 0;
		}
		at += frame.taken;
	}
	if (p->fd < 0)
		return 0;
	p->in_len -= at;
	if (p->in && p->in_len > 0 && at > 0)
		memmove(p->in, p->in + at, p->in_len);
	return need;
}

static bool transport_make_room(struct pypool *p, size_t need)
{
	size_t size = need > CLIENT_READ_BYTES ? need : CLIENT_READ_BYTES;
	uint8_t *in;

	/* After a large reply: do not hold its memory for the life of the connection. */
	if (p->in_size >= size && (p->in_len > 0 || p->in_size <= TRANSPORT_KEEP_BYTES))
		return true;
	in = realloc(p->in, size);
	if (!in)
		return false;
	p->in = in;
	p->in_size = size;
	return true;
}

static void transport_lose_end(struct pypool *p, int error)
{
	const char *where = p->in_len > 0 ? " in the middle of a message" : "";

	if (error == 0)
		(void)handle_fail(p, -ENOTCONN, "connection_lost", PYPOOL_MAYBE, "the daemon closed the connection%s",
				  where);
	else
		(void)handle_fail(p, -ENOTCONN, "connection_lost", PYPOOL_MAYBE, "the connection broke%s: %s", where,
				  strerrordesc_np(-error));
	handle_lose(p, -ENOTCONN);
}

/* False: nothing more is there now, or the connection has ended. */
static bool transport_read_some(struct pypool *p, size_t *need)
{
	size_t room;
	ssize_t n;

	if (!transport_make_room(p, *need)) {
		transport_lose_end(p, -ENOMEM);
		return false;
	}
	room = p->in_size - p->in_len;
	n = recv(p->fd, p->in + p->in_len, room, MSG_DONTWAIT);
	if (n < 0) {
		n = -errno;
		if (n == -EINTR)
			return true;
		if (n != -EAGAIN)
			transport_lose_end(p, (int)n);
		else if (p->send_error)
			transport_lose_end(p, p->send_error);
		return false;
	}
	if (n == 0) {
		transport_lose_end(p, 0);
		return false;
	}
	p->in_len += (size_t)n;
	*need = transport_take_frames(p);
	/* Less than asked for: surely empty now. But the reason of a failed send is wanted to its end. */
	return p->fd >= 0 && ((size_t)n == room || p->send_error);
}

/* What the frame that is partly here needs; frames are taken as soon as they are whole. */
static size_t transport_need(struct pypool *p)
{
	struct frame frame;

	if (p->in_len > 0 && frame_next(&p->reader, p->in, p->in_len, &frame) == FRAME_MORE)
		return frame.need;
	return FRAME_PREFIX;
}

void transport_read(struct pypool *p)
{
	size_t need;

	if (p->fd < 0)
		return;
	need = transport_need(p);
	while (transport_read_some(p, &need))
		;
}

void transport_deinit(struct pypool *p)
{
	while (p->out)
		transport_drop(p, p->out);
	free(p->in);
	p->in = NULL;
	p->in_len = 0;
	p->in_size = 0;
	p->send_error = 0;
	frame_reader_deinit(&p->reader);
	frame_reader_init(&p->reader, FRAME_PREFIXED, FRAME_MAX_LIMIT);
}

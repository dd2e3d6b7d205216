#include "tests/unit/client_world.h"

#include <check.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "proto/frame.h"
#include "proto/pack.h"

void outcome_on_done(struct pypool *p, struct pypool_reply *reply, void *data)
{
	const struct pypool_error *e = pypool_reply_error(reply);
	struct outcome *o = data;

	(void)p;
	o->n++;
	if (e) {
		o->number = pypool_error_number(e);
		o->executed = pypool_error_executed(e);
		snprintf(o->code, sizeof(o->code), "%s", pypool_error_code(e));
		snprintf(o->message, sizeof(o->message), "%s", pypool_error_message(e));
	} else {
		o->number = 0;
		(void)pypool_get_int(pypool_reply_value(reply), &o->value);
	}
	ck_assert_ptr_null(pypool_reply_free(reply));
}

void fake_write(struct world *w, const void *data, size_t n)
{
	ck_assert_int_eq(send(w->daemon, data, n, MSG_NOSIGNAL), (ssize_t)n);
}

void fake_send_frame(struct world *w, const void *body, size_t n)
{
	uint8_t prefix[FRAME_PREFIX];

	frame_put_prefix(prefix, (uint32_t)n);
	fake_write(w, prefix, sizeof(prefix));
	fake_write(w, body, n);
}

void fake_answer_int(struct world *w, uint64_t id, int value)
{
	msgpack_sbuffer b;
	msgpack_packer pk;

	msgpack_sbuffer_init(&b);
	msgpack_packer_init(&pk, &b, msgpack_sbuffer_write);
	msgpack_pack_array(&pk, 4);
	msgpack_pack_int(&pk, 1);
	msgpack_pack_uint64(&pk, id);
	msgpack_pack_nil(&pk);
	msgpack_pack_int(&pk, value);
	fake_send_frame(w, b.data, b.size);
	msgpack_sbuffer_destroy(&b);
}

void fake_answer_hello(struct world *w, uint64_t max_frame)
{
	msgpack_sbuffer b;
	msgpack_packer pk;

	msgpack_sbuffer_init(&b);
	msgpack_packer_init(&pk, &b, msgpack_sbuffer_write);
	msgpack_pack_array(&pk, 4);
	msgpack_pack_int(&pk, 1);
	msgpack_pack_int(&pk, 1);
	msgpack_pack_nil(&pk);
	msgpack_pack_map(&pk, 2);
	pack_kv_uint(&pk, "protocol", 1);
	pack_kv_uint(&pk, "max_frame", max_frame);
	fake_send_frame(w, b.data, b.size);
	msgpack_sbuffer_destroy(&b);
}

void fake_answer_error(struct world *w, uint64_t id, bool has_id, const char *executed)
{
	msgpack_sbuffer b;
	msgpack_packer pk;

	msgpack_sbuffer_init(&b);
	msgpack_packer_init(&pk, &b, msgpack_sbuffer_write);
	msgpack_pack_array(&pk, 4);
	msgpack_pack_int(&pk, 1);
	if (has_id)
		msgpack_pack_uint64(&pk, id);
	else
		msgpack_pack_nil(&pk);
	msgpack_pack_map(&pk, 6);
	msgpack_pack_int(&pk, 7); /* a key of a kind that nobody knows */
	msgpack_pack_nil(&pk);
	pack_kv_text(&pk, "code", "overloaded");
	pack_kv_text(&pk, "message", "the queue is full");
	pack_kv_text(&pk, "executed", executed);
	pack_kv_uint(&pk, "retry_after_ms", 800);
	pack_text(&pk, "cause");
	msgpack_pack_map(&pk, 1);
	pack_kv_text(&pk, "traceback", "line 1\nline 2");
	msgpack_pack_nil(&pk);
	fake_send_frame(w, b.data, b.size);
	msgpack_sbuffer_destroy(&b);
}

void fake_answer_text(struct world *w, uint64_t id, const char *text)
{
	msgpack_sbuffer b;
	msgpack_packer pk;

	msgpack_sbuffer_init(&b);
	msgpack_packer_init(&pk, &b, msgpack_sbuffer_write);
	msgpack_pack_array(&pk, 4);
	msgpack_pack_int(&pk, 1);
	msgpack_pack_uint64(&pk, id);
	pack_text(&pk, text);
	msgpack_pack_nil(&pk);
	fake_send_frame(w, b.data, b.size);
	msgpack_sbuffer_destroy(&b);
}

static void fake_read_all(struct world *w, void *data, size_t n)
{
	struct pollfd pfd = { .fd = w->daemon, .events = POLLIN };

	ck_assert_int_eq(poll(&pfd, 1, WAIT_MS), 1);
	ck_assert_int_eq(recv(w->daemon, data, n, MSG_WAITALL), (ssize_t)n);
}

/* The next request: its id and method; *params is the bytes behind the method, valid until the next one. */
static uint64_t fake_read_request(struct world *w, char *method, size_t size, struct span *params)
{
	static uint8_t body[65536];
	uint8_t prefix[FRAME_PREFIX];
	struct span s, name;
	uint64_t type, id;
	uint32_t n;
	size_t len;

	fake_read_all(w, prefix, sizeof(prefix));
	len = (size_t)prefix[0] << 24 | (size_t)prefix[1] << 16 | (size_t)prefix[2] << 8 | prefix[3];
	ck_assert_uint_le(len, sizeof(body));
	fake_read_all(w, body, len);
	s = (struct span){ .p = body, .len = len };
	ck_assert_int_eq(cursor_check(s), CURSOR_DONE);
	ck_assert(mp_read_array(&s, &n) && n == 4);
	ck_assert(mp_read_uint(&s, &type) && type == 0);
	ck_assert(mp_read_uint(&s, &id));
	ck_assert(mp_read_text(&s, &name));
	snprintf(method, size, "%.*s", (int)name.len, (const char *)name.p);
	ck_assert(mp_read_array(&s, &n) && n == 1);
	if (params)
		*params = s;
	return id;
}

uint64_t fake_expect(struct world *w, const char *method, struct span *params)
{
	char name[64];
	uint64_t id = fake_read_request(w, name, sizeof(name), params);

	ck_assert_str_eq(name, method);
	return id;
}

struct world world_new(void)
{
	struct world w;
	int fds[2];

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	w.daemon = fds[1];
	ck_assert_int_eq(pypool_new(&w.p), 0);
	ck_assert_int_eq(pypool_attach(w.p, fds[0]), 0);
	return w;
}

struct world world_greeted(void)
{
	struct world w = world_new();

	ck_assert_uint_eq(fake_expect(&w, "hello", NULL), 1);
	fake_answer_hello(&w, 1 << 20);
	return w;
}

void world_free(struct world *w)
{
	ck_assert_ptr_null(pypool_free(w->p));
	if (w->daemon >= 0)
		close(w->daemon);
}

uint64_t world_submit(struct world *w, uint32_t timeout_ms, struct outcome *o)
{
	uint64_t id;

	*o = (struct outcome){ .value = -1 };
	ck_assert_int_eq(pypool_submit(w->p, "ping", (struct pypool_span){ 0 }, timeout_ms, outcome_on_done, o, &id),
			 0);
	return id;
}

void world_wait(struct world *w, struct outcome *o)
{
	for (int turns = 0; o->n == 0; turns++) {
		struct pollfd pfd = { .fd = pypool_fd(w->p), .events = pypool_events(w->p) };
		int timeout = pypool_timeout_ms(w->p);

		ck_assert_int_lt(turns, 1000);
		ck_assert_int_ge(poll(&pfd, 1, timeout < 0 ? WAIT_MS : timeout), timeout < 0 ? 1 : 0);
		(void)pypool_dispatch(w->p);
	}
}

struct world world_of(struct pypool *p, int fd)
{
	return (struct world){ .p = p, .daemon = fd };
}

void fake_send_frame_fds(struct world *w, const void *body, size_t n, const int *fds, unsigned n_fds)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(253 * sizeof(int))];
	} control = { 0 };
	uint8_t prefix[FRAME_PREFIX];
	struct iovec iov[2] = { { prefix, sizeof(prefix) }, { (void *)(uintptr_t)body, n } };
	struct msghdr msg = { .msg_iov = iov, .msg_iovlen = 2 };
	struct cmsghdr *c;

	frame_put_prefix(prefix, (uint32_t)n);
	if (n_fds > 0) {
		msg.msg_control = control.bytes;
		msg.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
		c = CMSG_FIRSTHDR(&msg);
		*c = (struct cmsghdr){ .cmsg_level = SOL_SOCKET,
				       .cmsg_type = SCM_RIGHTS,
				       .cmsg_len = CMSG_LEN(n_fds * sizeof(int)) };
		memcpy(CMSG_DATA(c), fds, n_fds * sizeof(int));
	}
	ck_assert_int_eq(sendmsg(w->daemon, &msg, MSG_NOSIGNAL), (ssize_t)(sizeof(prefix) + n));
}

bool fake_sees_end(struct world *w)
{
	uint8_t byte;

	return recv(w->daemon, &byte, 1, MSG_DONTWAIT) == 0;
}

/* libpypool against a daemon that the test plays itself, step by step, over a socketpair. */
#include <check.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "client/pypool.h"
#include "proto/frame.h"
#include "proto/pack.h"

#define WAIT_MS 5000

/* What became of one submitted call. */
struct outcome {
	int n; /* times that the callback ran */
	int number;
	enum pypool_executed executed;
	char code[64];
	char message[256];
	int64_t value;
};

struct world {
	struct pypool *p;
	int daemon; /* the daemon's end */
};

static void outcome_on_done(struct pypool *p, struct pypool_reply *reply, void *data)
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

static void daemon_write(struct world *w, const void *data, size_t n)
{
	ck_assert_int_eq(send(w->daemon, data, n, MSG_NOSIGNAL), (ssize_t)n);
}

static void daemon_send_frame(struct world *w, const void *body, size_t n)
{
	uint8_t prefix[FRAME_PREFIX];

	frame_put_prefix(prefix, (uint32_t)n);
	daemon_write(w, prefix, sizeof(prefix));
	daemon_write(w, body, n);
}

static void daemon_answer_int(struct world *w, uint64_t id, int value)
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
	daemon_send_frame(w, b.data, b.size);
	msgpack_sbuffer_destroy(&b);
}

static void daemon_answer_hello(struct world *w, uint64_t max_frame)
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
	daemon_send_frame(w, b.data, b.size);
	msgpack_sbuffer_destroy(&b);
}

static void daemon_answer_error(struct world *w, uint64_t id, bool has_id, const char *executed)
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
	daemon_send_frame(w, b.data, b.size);
	msgpack_sbuffer_destroy(&b);
}

static void daemon_answer_text(struct world *w, uint64_t id, const char *text)
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
	daemon_send_frame(w, b.data, b.size);
	msgpack_sbuffer_destroy(&b);
}

static void daemon_read_all(struct world *w, void *data, size_t n)
{
	struct pollfd pfd = { .fd = w->daemon, .events = POLLIN };

	ck_assert_int_eq(poll(&pfd, 1, WAIT_MS), 1);
	ck_assert_int_eq(recv(w->daemon, data, n, MSG_WAITALL), (ssize_t)n);
}

/* The next request: its id and method; *params is the bytes behind the method, valid until the next one. */
static uint64_t daemon_read_request(struct world *w, char *method, size_t size, struct span *params)
{
	static uint8_t body[65536];
	uint8_t prefix[FRAME_PREFIX];
	struct span s, name;
	uint64_t type, id;
	uint32_t n;
	size_t len;

	daemon_read_all(w, prefix, sizeof(prefix));
	len = (size_t)prefix[0] << 24 | (size_t)prefix[1] << 16 | (size_t)prefix[2] << 8 | prefix[3];
	ck_assert_uint_le(len, sizeof(body));
	daemon_read_all(w, body, len);
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

static uint64_t daemon_expect(struct world *w, const char *method, struct span *params)
{
	char name[64];
	uint64_t id = daemon_read_request(w, name, sizeof(name), params);

	ck_assert_str_eq(name, method);
	return id;
}

static struct world world_new(void)
{
	struct world w;
	int fds[2];

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	w.daemon = fds[1];
	ck_assert_int_eq(pypool_new(&w.p), 0);
	ck_assert_int_eq(pypool_attach(w.p, fds[0]), 0);
	return w;
}

/* The daemon has read hello, and its answer lies in the socket. */
static struct world world_greeted(void)
{
	struct world w = world_new();

	ck_assert_uint_eq(daemon_expect(&w, "hello", NULL), 1);
	daemon_answer_hello(&w, 1 << 20);
	return w;
}

static void world_free(struct world *w)
{
	ck_assert_ptr_null(pypool_free(w->p));
	if (w->daemon >= 0)
		close(w->daemon);
}

static uint64_t world_submit(struct world *w, uint32_t timeout_ms, struct outcome *o)
{
	uint64_t id;

	*o = (struct outcome){ .value = -1 };
	ck_assert_int_eq(pypool_submit(w->p, "ping", (struct pypool_span){ 0 }, timeout_ms, outcome_on_done, o, &id), 0);
	return id;
}

/* Drives the loop until the outcome is there. */
static void world_wait(struct world *w, struct outcome *o)
{
	for (int turns = 0; o->n == 0; turns++) {
		struct pollfd pfd = { .fd = pypool_fd(w->p), .events = pypool_events(w->p) };
		int timeout = pypool_timeout_ms(w->p);

		ck_assert_int_lt(turns, 1000);
		ck_assert_int_ge(poll(&pfd, 1, timeout < 0 ? WAIT_MS : timeout), timeout < 0 ? 1 : 0);
		(void)pypool_dispatch(w->p);
	}
}

START_TEST(hello_is_sent_first_and_without_waiting)
{
	struct world w = world_new();
	struct span params;
	uint64_t v;
	struct pypool_span protocol;
	struct outcome o;

	world_submit(&w, 0, &o);
	ck_assert_int_eq(pypool_dispatch(w.p), 0);
	ck_assert_uint_eq(daemon_expect(&w, "hello", &params), 1);
	ck_assert_int_eq(pypool_get_key((struct pypool_span){ params.p, params.len }, "protocol", &protocol), 0);
	params = (struct span){ .p = protocol.data, .len = protocol.size };
	ck_assert(mp_read_uint(&params, &v) && v == 1);
	ck_assert_uint_eq(daemon_expect(&w, "ping", NULL), 2);
	ck_assert_uint_eq(pypool_in_flight(w.p), 1); /* hello is ours */
	world_free(&w);
	ck_assert_int_eq(o.n, 1);
}
END_TEST

START_TEST(name_and_hello_answer_are_passed)
{
	struct world w = { .daemon = -1 };
	struct span params;
	struct pypool_span v, answer;
	int fds[2];
	int64_t max_frame;

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	w.daemon = fds[1];
	ck_assert_int_eq(pypool_new(&w.p), 0);
	ck_assert_int_eq(pypool_set_name(w.p, ""), -EINVAL);
	ck_assert_int_eq(pypool_set_name(w.p, "tester"), 0);
	ck_assert_int_eq(pypool_attach(w.p, fds[0]), 0);
	daemon_expect(&w, "hello", &params);
	ck_assert_int_eq(pypool_get_key((struct pypool_span){ params.p, params.len }, "client", &v), 0);
	ck_assert_int_eq(pypool_get_text(v, &v), 0);
	ck_assert_uint_eq(v.size, 6);
	ck_assert_mem_eq(v.data, "tester", 6);
	daemon_answer_hello(&w, 12345);
	daemon_answer_int(&w, 2, 0); /* the ping that pypool_hello waits for */
	ck_assert_int_eq(pypool_hello(w.p, &answer, 1000), 0);
	ck_assert_int_eq(pypool_get_key(answer, "max_frame", &v), 0);
	ck_assert_int_eq(pypool_get_int(v, &max_frame), 0);
	ck_assert_int_eq(max_frame, 12345);
	pypool_disconnect(w.p);
	ck_assert_int_eq(pypool_hello(w.p, &answer, 10), -ENOTCONN);
	world_free(&w);
}
END_TEST

START_TEST(hello_that_is_not_answered_is_a_timeout)
{
	struct world w = world_new();
	struct pypool_span answer;

	ck_assert_int_eq(pypool_hello(w.p, &answer, 20), -ETIMEDOUT);
	ck_assert_str_eq(pypool_error_code(pypool_last_error(w.p)), "deadline_exceeded");
	world_free(&w);
}
END_TEST

START_TEST(hello_that_is_refused_ends_the_connection_with_the_reason)
{
	struct world w = world_new();

	daemon_expect(&w, "hello", NULL);
	daemon_answer_text(&w, 1, "bad_request: protocol 1 is not spoken here (executed: never)");
	ck_assert_int_eq(pypool_dispatch(w.p), -EPROTO);
	ck_assert_ptr_nonnull(strstr(pypool_error_message(pypool_last_error(w.p)), "not spoken here"));
	world_free(&w);
}
END_TEST

START_TEST(replies_out_of_order_find_their_calls)
{
	struct world w = world_greeted();
	struct outcome o[100];
	uint64_t ids[100];

	for (int i = 0; i < 100; i++)
		ids[i] = world_submit(&w, 0, &o[i]);
	ck_assert_int_eq(pypool_dispatch(w.p), 0);
	for (int i = 0; i < 100; i++)
		ck_assert_uint_eq(daemon_expect(&w, "ping", NULL), ids[i]);
	ck_assert_uint_eq(pypool_in_flight(w.p), 100);
	for (int i = 99; i >= 0; i--)
		daemon_answer_int(&w, ids[i], i);
	for (int i = 0; i < 100; i++)
		world_wait(&w, &o[i]);
	for (int i = 0; i < 100; i++) {
		ck_assert_int_eq(o[i].n, 1);
		ck_assert_int_eq(o[i].number, 0);
		ck_assert_int_eq(o[i].value, i);
	}
	ck_assert_uint_eq(pypool_in_flight(w.p), 0);
	world_free(&w);
}
END_TEST

START_TEST(fault_3_frames_that_come_byte_by_byte_are_put_together)
{
	static const uint8_t bytes[] = { 0, 0, 0, 5, 0x94, 0x01, 0x02, 0xc0, 0x2a };
	struct world w = world_greeted();
	struct outcome o;

	ck_assert_uint_eq(world_submit(&w, 0, &o), 2);
	ck_assert_int_eq(pypool_dispatch(w.p), 0);
	for (size_t i = 0; i < sizeof(bytes); i++) {
		ck_assert_int_eq(o.n, 0);
		daemon_write(&w, &bytes[i], 1);
		ck_assert_int_eq(pypool_dispatch(w.p), 0);
	}
	ck_assert_int_eq(o.n, 1);
	ck_assert_int_eq(o.value, 42);
	world_free(&w);
}
END_TEST

START_TEST(large_value_arrives_whole_and_belongs_to_its_reply)
{
	struct world w = world_greeted();
	struct pypool_reply *reply = NULL;
	struct pypool_span text;
	size_t n = 150000; /* fits the socket's buffer, so that one thread can play both sides */
	static uint8_t body[200000];
	msgpack_sbuffer b;
	msgpack_packer pk;

	memset(body, 'x', sizeof(body));
	msgpack_sbuffer_init(&b);
	msgpack_packer_init(&pk, &b, msgpack_sbuffer_write);
	msgpack_pack_array(&pk, 4);
	msgpack_pack_int(&pk, 1);
	msgpack_pack_int(&pk, 3);
	msgpack_pack_nil(&pk);
	msgpack_pack_bin(&pk, n);
	msgpack_pack_bin_body(&pk, body, n);
	ck_assert_int_eq(pypool_dispatch(w.p), 0);
	{
		/* One call is under way, so that the answer to the next can be laid down before that one is sent. */
		struct outcome o;

		world_submit(&w, 0, &o);
		ck_assert_int_eq(pypool_dispatch(w.p), 0);
		daemon_answer_int(&w, 2, 1);
		world_wait(&w, &o);
	}
	daemon_send_frame(&w, b.data, b.size);
	ck_assert_int_eq(pypool_call(w.p, "ping", (struct pypool_span){ 0 }, 1000, &reply), 0);
	ck_assert_ptr_null(pypool_reply_error(reply));
	world_free(&w);
	ck_assert_int_eq(pypool_get_text(pypool_reply_value(reply), &text), 0);
	ck_assert_uint_eq(text.size, n);
	ck_assert_mem_eq(text.data, body, n);
	pypool_reply_free(reply);
	msgpack_sbuffer_destroy(&b);
}
END_TEST

START_TEST(error_map_is_told_in_full)
{
	struct world w = world_greeted();
	struct pypool_reply *reply = (void *)1;
	const struct pypool_error *e;
	struct pypool_span v;

	daemon_answer_error(&w, 2, true, "never");
	ck_assert_int_eq(pypool_call(w.p, "ping", (struct pypool_span){ 0 }, 1000, &reply), -EREMOTEIO);
	ck_assert_ptr_eq(reply, (void *)1); /* untouched */
	e = pypool_last_error(w.p);
	ck_assert_int_eq(pypool_error_number(e), -EREMOTEIO);
	ck_assert_str_eq(pypool_error_code(e), "overloaded");
	ck_assert_str_eq(pypool_error_message(e), "the queue is full");
	ck_assert_int_eq(pypool_error_executed(e), PYPOOL_NEVER);
	ck_assert_uint_eq(pypool_error_retry_after_ms(e), 800);
	ck_assert_int_eq(pypool_get_key(pypool_error_cause(e), "traceback", &v), 0);
	ck_assert_int_eq(pypool_get_key(pypool_error_map(e), "code", &v), 0);
	world_free(&w);
}
END_TEST

START_TEST(executed_that_is_not_known_is_maybe)
{
	struct world w = world_greeted();
	struct outcome o;

	world_submit(&w, 0, &o);
	ck_assert_int_eq(pypool_dispatch(w.p), 0);
	daemon_answer_error(&w, 2, true, "perhaps");
	world_wait(&w, &o);
	ck_assert_int_eq(o.executed, PYPOOL_MAYBE);
	world_free(&w);
}
END_TEST

static const struct {
	const char *text;
	const char *code;
	const char *message;
	enum pypool_executed executed;
} error_texts[] = {
	{ "quota: too many calls (executed: never)", "quota", "too many calls", PYPOOL_NEVER },
	{ "app_error: ValueError: a (b) (executed: yes)", "app_error", "ValueError: a (b)", PYPOOL_YES },
	{ "x: y (executed: sometimes)", "x", "y (executed: sometimes)", PYPOOL_MAYBE },
	{ "x: (executed: never)", "x", "(executed: never)", PYPOOL_MAYBE },
	{ "no colon at all", "internal", "no colon at all", PYPOOL_MAYBE },
	{ "", "internal", "", PYPOOL_MAYBE },
	{ "(", "internal", "(", PYPOOL_MAYBE },
	{ ":", "", "", PYPOOL_MAYBE },
	{ ": )", "", ")", PYPOOL_MAYBE },
};

START_TEST(error_text_is_taken_apart)
{
	struct world w = world_greeted();
	struct outcome o;

	world_submit(&w, 0, &o);
	ck_assert_int_eq(pypool_dispatch(w.p), 0);
	daemon_answer_text(&w, 2, error_texts[_i].text);
	world_wait(&w, &o);
	ck_assert_int_eq(o.number, -EREMOTEIO);
	ck_assert_str_eq(o.code, error_texts[_i].code);
	ck_assert_str_eq(o.message, error_texts[_i].message);
	ck_assert_int_eq(o.executed, error_texts[_i].executed);
	world_free(&w);
}
END_TEST

START_TEST(error_about_the_connection_ends_all_calls_with_its_text)
{
	struct world w = world_greeted();
	struct outcome a, b;

	world_submit(&w, 0, &a);
	world_submit(&w, 0, &b);
	ck_assert_int_eq(pypool_dispatch(w.p), 0);
	daemon_answer_error(&w, 0, false, "never");
	ck_assert_int_eq(pypool_dispatch(w.p), -ENOTCONN);
	ck_assert_int_eq(a.n, 1);
	ck_assert_int_eq(b.n, 1);
	ck_assert_str_eq(a.code, "overloaded");
	ck_assert_str_eq(b.message, "the queue is full");
	ck_assert_int_eq(a.executed, PYPOOL_MAYBE); /* the word was about the connection, not about this call */
	ck_assert_int_eq(pypool_submit(w.p, "ping", (struct pypool_span){ 0 }, 0, outcome_on_done, &a, NULL), -ENOTCONN);
	world_free(&w);
}
END_TEST

START_TEST(daemon_that_closes_in_a_message_loses_the_call_maybe_executed)
{
	struct world w = world_greeted();
	struct outcome o;

	world_submit(&w, 0, &o);
	ck_assert_int_eq(pypool_dispatch(w.p), 0);
	daemon_write(&w, "\0\0\0\x05\x94", 5);
	close(w.daemon);
	w.daemon = -1;
	world_wait(&w, &o);
	ck_assert_int_eq(o.number, -ENOTCONN);
	ck_assert_str_eq(o.code, "connection_lost");
	ck_assert_ptr_nonnull(strstr(o.message, "in the middle of a message"));
	ck_assert_int_eq(o.executed, PYPOOL_MAYBE);
	ck_assert_int_lt(pypool_fd(w.p), 0);
	world_free(&w);
}
END_TEST

START_TEST(call_that_never_left_was_never_executed)
{
	struct world w = world_greeted();
	struct outcome o;

	ck_assert_int_eq(pypool_dispatch(w.p), 0);
	close(w.daemon);
	w.daemon = -1;
	world_submit(&w, 0, &o);
	world_wait(&w, &o);
	ck_assert_str_eq(o.code, "connection_lost");
	ck_assert_int_eq(o.executed, PYPOOL_NEVER);
	world_free(&w);
}
END_TEST

START_TEST(last_words_are_read_though_the_daemon_takes_no_more)
{
	struct world w = world_greeted();
	struct outcome o;

	ck_assert_int_eq(pypool_dispatch(w.p), 0);
	daemon_answer_error(&w, 0, false, "never");
	close(w.daemon);
	w.daemon = -1;
	world_submit(&w, 0, &o);
	world_wait(&w, &o);
	ck_assert_str_eq(o.code, "overloaded");
	ck_assert_int_eq(o.executed, PYPOOL_NEVER);
	world_free(&w);
}
END_TEST

START_TEST(timeout_cancels_at_the_daemon_and_the_late_answer_is_dropped)
{
	struct world w = world_greeted();
	struct outcome o, next;
	struct span params;
	struct pypool_span v;
	int64_t id;

	world_submit(&w, 10, &o);
	ck_assert_int_eq(pypool_dispatch(w.p), 0);
	world_wait(&w, &o);
	ck_assert_int_eq(o.number, -ETIMEDOUT);
	ck_assert_str_eq(o.code, "deadline_exceeded");
	ck_assert_int_eq(o.executed, PYPOOL_MAYBE);
	ck_assert_uint_eq(daemon_expect(&w, "ping", NULL), 2);
	ck_assert_uint_eq(daemon_expect(&w, "cancel", &params), 3);
	ck_assert_int_eq(pypool_get_key((struct pypool_span){ params.p, params.len }, "id", &v), 0);
	ck_assert_int_eq(pypool_get_int(v, &id), 0);
	ck_assert_int_eq(id, 2);
	ck_assert_uint_eq(pypool_in_flight(w.p), 0);
	ck_assert_int_eq(pypool_cancel(w.p, 2), -ENOENT);

	daemon_answer_int(&w, 2, 5); /* too late, and no reason to end the connection */
	daemon_answer_int(&w, 3, 1);
	ck_assert_int_eq(pypool_dispatch(w.p), 0);
	ck_assert_int_eq(o.n, 1);
	world_submit(&w, 0, &next);
	ck_assert_int_eq(pypool_dispatch(w.p), 0);
	daemon_answer_int(&w, 4, 6);
	world_wait(&w, &next);
	ck_assert_int_eq(next.value, 6);
	world_free(&w);
}
END_TEST

START_TEST(timeout_of_a_request_that_was_not_sent_is_never)
{
	static uint8_t big[4 + 1000000];
	struct world w = world_greeted();
	struct outcome first, o;
	uint64_t id;

	ck_assert_int_eq(pypool_dispatch(w.p), 0);
	/* {"x": bin}: more than the socket holds while the daemon does not read. */
	memcpy(big, "\x81\xa1x\xc6", 4);
	memcpy(big + 4, (uint8_t[]){ 0, 15, 66, 56 }, 4); /* 1,000,000 - 8 + ... = 0x000f4238 */
	first = (struct outcome){ 0 };
	ck_assert_int_eq(pypool_submit(w.p, "ping", (struct pypool_span){ big, 8 + 0x0f4238 }, 0, outcome_on_done, &first,
				       &id),
			 0);
	world_submit(&w, 10, &o);
	ck_assert_int_eq(pypool_dispatch(w.p), 0);
	ck_assert_int_eq(pypool_events(w.p) & POLLOUT, POLLOUT);
	world_wait(&w, &o);
	ck_assert_int_eq(o.number, -ETIMEDOUT);
	ck_assert_int_eq(o.executed, PYPOOL_NEVER);
	ck_assert_int_eq(first.n, 0);
	world_free(&w);
	ck_assert_int_eq(first.n, 1);
	ck_assert_int_eq(first.executed, PYPOOL_NEVER); /* only a part of it had left */
}
END_TEST

START_TEST(answer_that_lies_ready_wins_over_its_deadline)
{
	struct world w = world_greeted();
	struct outcome o;
	struct pollfd none;

	world_submit(&w, 1, &o);
	ck_assert_int_eq(pypool_dispatch(w.p), 0);
	daemon_answer_int(&w, 2, 9);
	while (pypool_timeout_ms(w.p) > 0)
		(void)poll(&none, 0, pypool_timeout_ms(w.p));
	ck_assert_int_eq(pypool_dispatch(w.p), 0);
	ck_assert_int_eq(o.number, 0);
	ck_assert_int_eq(o.value, 9);
	world_free(&w);
}
END_TEST

START_TEST(cancel_asks_the_daemon_and_the_call_gets_its_own_answer)
{
	struct world w = world_greeted();
	struct outcome o;
	uint64_t id = world_submit(&w, 0, &o);

	ck_assert_int_eq(pypool_cancel(w.p, id), 0);
	ck_assert_int_eq(pypool_cancel(w.p, 999), -ENOENT);
	ck_assert_int_eq(pypool_dispatch(w.p), 0);
	daemon_expect(&w, "ping", NULL);
	daemon_expect(&w, "cancel", NULL);
	daemon_answer_int(&w, 3, 1);
	ck_assert_int_eq(pypool_dispatch(w.p), 0);
	ck_assert_int_eq(o.n, 0);
	daemon_answer_text(&w, 2, "cancelled: by its caller (executed: never)");
	world_wait(&w, &o);
	ck_assert_str_eq(o.code, "cancelled");
	world_free(&w);
}
END_TEST

/* Runs in a forked child; its exit status is the number of the check that failed. */
static int child_checks(struct pypool *p)
{
	struct pypool_reply *reply = NULL;

	if (pypool_ping(p, 10) != -EPERM)
		return 1;
	if (strcmp(pypool_error_code(pypool_last_error(p)), "wrong_process") != 0)
		return 2;
	if (pypool_dispatch(p) != -EPERM || pypool_fd(p) != -EPERM)
		return 3;
	if (pypool_executef(p, "f", &reply, "") != -EPERM || reply)
		return 4;
	if (pypool_connect(p, NULL, 0) != -EPERM)
		return 5;
	pypool_disconnect(p);
	return pypool_free(p) ? 6 : 0;
}

START_TEST(fault_26_forked_child_is_refused_and_harms_nobody)
{
	struct world w = world_greeted();
	struct outcome o;
	int status;
	pid_t pid;

	world_submit(&w, 0, &o);
	ck_assert_int_eq(pypool_dispatch(w.p), 0);
	pid = fork();
	if (pid == 0)
		_exit(child_checks(w.p) + (o.n ? 100 : 0));
	ck_assert_int_gt(pid, 0);
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert(WIFEXITED(status));
	ck_assert_int_eq(WEXITSTATUS(status), 0);
	ck_assert_uint_eq(daemon_expect(&w, "ping", NULL), 2);
	daemon_answer_int(&w, 2, 3); /* the parent's connection is as it was */
	world_wait(&w, &o);
	ck_assert_int_eq(o.value, 3);
	world_free(&w);
}
END_TEST

#define HOSTILE(s) { s, sizeof(s) - 1 }
static const struct {
	const char *bytes;
	size_t n;
} hostile[] = {
	HOSTILE("HTTP/1.1 400 Bad Request\r\n"),
	HOSTILE("\0\0\0\0"),                                  /* an empty frame */
	HOSTILE("\x7f\xff\xff\xff"),                          /* too large, known from the header */
	HOSTILE("\0\0\0\x01\xc1"),                            /* not MessagePack */
	HOSTILE("\0\0\0\x02\xc0\xc0"),                        /* two values */
	HOSTILE("\0\0\0\x05\xdd\x10\0\0\0"),                  /* 2^28 elements */
	HOSTILE("\0\0\0\x01\x90"),                            /* no message at all */
	HOSTILE("\0\0\0\x01\xc0"),                            /* not even an array */
	HOSTILE("\0\0\0\x03\x92\x01\x02"),                    /* too short */
	HOSTILE("\0\0\0\x06\x95\x01\x02\xc0\xc0\xc0"),        /* too long */
	HOSTILE("\0\0\0\x05\x94\x01\x63\xc0\xc0"),            /* an id that nobody has */
	HOSTILE("\0\0\0\x05\x94\x01\xff\xc0\xc0"),            /* a negative id */
	HOSTILE("\0\0\0\x05\x94\x01\xc0\xc0\xc0"),            /* nobody's success */
	HOSTILE("\0\0\0\x06\x94\0\x02\xa1x\x90"),             /* a request, and cut */
	HOSTILE("\0\0\0\x05\x94\x01\x02\xc0\x01\0\0\0\x05\x94\x01\x02\xc0\x01"), /* the same answer twice */
};

START_TEST(hostile_bytes_end_the_connection_and_every_call_is_answered_once)
{
	struct world w = world_greeted();
	struct outcome a, b;

	world_submit(&w, 0, &a);
	world_submit(&w, 0, &b);
	ck_assert_int_eq(pypool_dispatch(w.p), 0);
	daemon_write(&w, hostile[_i].bytes, hostile[_i].n);
	ck_assert_int_eq(pypool_dispatch(w.p), -EPROTO);
	ck_assert_int_eq(a.n, 1);
	ck_assert_int_eq(b.n, 1);
	ck_assert_int_eq(b.number, -EPROTO);
	ck_assert_str_eq(b.code, "bad_reply");
	ck_assert_int_eq(b.executed, PYPOOL_MAYBE);
	world_free(&w);
	ck_assert_int_eq(a.n, 1);
}
END_TEST

START_TEST(error_values_of_any_type_are_survived)
{
	/* [1, 2, error, nil] */
	static const struct {
		const char *bytes;
		size_t n;
	} errors[] = {
		HOSTILE("\x01"), HOSTILE("\x80"), HOSTILE("\x90"), HOSTILE("\xc3"), HOSTILE("\x81\xa4" "code\xc0"),
		HOSTILE("\x82\xa4" "code\xa0\xa7message\x90"), HOSTILE("\x81\xc0\xc0"), HOSTILE("\x81\x80\x80"),
		HOSTILE("\xc4\x00"),
	};
	struct world w = world_greeted();
	uint8_t body[64] = { 0x94, 0x01, 0x02 };
	struct outcome o;

	for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
		body[2] = (uint8_t)world_submit(&w, 0, &o);
		ck_assert_int_eq(pypool_dispatch(w.p), 0);
		memcpy(body + 3, errors[i].bytes, errors[i].n);
		body[3 + errors[i].n] = 0xc0;
		daemon_send_frame(&w, body, 4 + errors[i].n);
		world_wait(&w, &o);
		ck_assert_int_eq(o.number, -EREMOTEIO);
		ck_assert_int_eq(o.executed, PYPOOL_MAYBE);
	}
	world_free(&w);
}
END_TEST

START_TEST(notifications_mean_nothing_and_do_no_harm)
{
	struct world w = world_greeted();
	struct outcome o;

	world_submit(&w, 0, &o);
	daemon_send_frame(&w, "\x93\x02\xa5" "event\x91\x80", 10);
	ck_assert_int_eq(pypool_dispatch(w.p), 0);
	daemon_answer_int(&w, 2, 4);
	world_wait(&w, &o);
	ck_assert_int_eq(o.value, 4);
	world_free(&w);
}
END_TEST

START_TEST(execute_sends_its_options_and_a_deadline)
{
	struct world w = world_greeted();
	struct pypool_options options = { .pool = "big", .lease = 7, .timeout_ms = 2000, .queue_timeout_ms = 500, .meta = 1 };
	struct pypool_span map, v;
	struct outcome o = { 0 };
	struct span params;
	int64_t n;

	ck_assert_int_eq(pypool_submit_execute(w.p, "word_count", (struct pypool_span){ "\x91\xa1z", 3 }, &options,
					       outcome_on_done, &o, NULL),
			 0);
	ck_assert_int_eq(pypool_dispatch(w.p), 0);
	daemon_expect(&w, "execute", &params);
	map = (struct pypool_span){ params.p, params.len };
	ck_assert_int_eq(pypool_get_key(map, "args", &v), 0);
	ck_assert_uint_eq(v.size, 3);
	ck_assert_int_eq(pypool_get_key(map, "timeout_ms", &v), 0);
	ck_assert_int_eq(pypool_get_int(v, &n), 0);
	ck_assert_int_eq(n, 2000);
	ck_assert_int_eq(pypool_get_key(map, "lease", &v), 0);
	ck_assert_int_eq(pypool_get_key(map, "meta", &v), 0);
	ck_assert_int_eq(pypool_get_key(map, "traceparent", &v), -ENOENT);
	ck_assert_int_gt(pypool_timeout_ms(w.p), 2000); /* the daemon's own word comes first */
	world_free(&w);
}
END_TEST

START_TEST(arguments_that_would_cost_the_connection_are_refused_here)
{
	struct world w = world_greeted();
	struct pypool_reply *reply = NULL;
	char name[300];

	memset(name, 'a', sizeof(name));
	name[299] = '\0';
	ck_assert_int_eq(pypool_execute(w.p, "f", (struct pypool_span){ "\xc1", 1 }, NULL, &reply), -EINVAL);
	ck_assert_int_eq(pypool_execute(w.p, "f", (struct pypool_span){ "\x91", 1 }, NULL, &reply), -EINVAL);
	ck_assert_int_eq(pypool_execute(w.p, "f", (struct pypool_span){ "\x01", 1 }, NULL, &reply), -EINVAL);
	ck_assert_int_eq(pypool_execute(w.p, name, (struct pypool_span){ 0 }, NULL, &reply), -EINVAL);
	ck_assert_int_eq(pypool_execute(w.p, NULL, (struct pypool_span){ 0 }, NULL, &reply), -EINVAL);
	ck_assert_int_eq(pypool_call(w.p, "ping", (struct pypool_span){ "\x90", 1 }, 0, &reply), -EINVAL);
	ck_assert_int_eq(pypool_executef(w.p, "f", &reply, "q"), -EINVAL);
	ck_assert_str_eq(pypool_error_code(pypool_last_error(w.p)), "bad_argument");
	ck_assert_int_eq(pypool_error_executed(pypool_last_error(w.p)), PYPOOL_NEVER);
	ck_assert_ptr_null(reply);
	world_free(&w);
}
END_TEST

START_TEST(request_over_the_daemons_max_frame_is_refused_here)
{
	struct world w = world_new();
	struct pypool_reply *reply = NULL;
	uint8_t args[60] = { 0x91, 0xc4, 57 };

	daemon_expect(&w, "hello", NULL);
	daemon_answer_hello(&w, 64);
	ck_assert_int_eq(pypool_dispatch(w.p), 0);
	ck_assert_int_eq(pypool_execute(w.p, "f", (struct pypool_span){ args, sizeof(args) }, NULL, &reply), -EMSGSIZE);
	ck_assert_str_eq(pypool_error_code(pypool_last_error(w.p)), "too_large");
	ck_assert_uint_eq(pypool_in_flight(w.p), 0);
	world_free(&w);
}
END_TEST

START_TEST(checkout_reads_the_lease)
{
	struct world w = world_greeted();
	struct pypool_lease lease;
	msgpack_sbuffer b;
	msgpack_packer pk;

	msgpack_sbuffer_init(&b);
	msgpack_packer_init(&pk, &b, msgpack_sbuffer_write);
	msgpack_pack_array(&pk, 4);
	msgpack_pack_int(&pk, 1);
	msgpack_pack_int(&pk, 2);
	msgpack_pack_nil(&pk);
	msgpack_pack_map(&pk, 3);
	pack_kv_uint(&pk, "lease", 77);
	pack_kv_uint(&pk, "worker", 3);
	pack_kv_uint(&pk, "expires_ms", 60000);
	daemon_send_frame(&w, b.data, b.size);
	msgpack_sbuffer_destroy(&b);
	ck_assert_int_eq(pypool_checkout(w.p, NULL, &lease), 0);
	ck_assert_uint_eq(lease.lease, 77);
	ck_assert_uint_eq(lease.worker, 3);
	ck_assert_uint_eq(lease.pid, 0);
	ck_assert_uint_eq(lease.expires_ms, 60000);
	daemon_write(&w, "\0\0\0\x05\x94\x01\x03\xc0\xc3", 9);
	ck_assert_int_eq(pypool_checkin(w.p, 77, 1000), 0);
	world_free(&w);
}
END_TEST

static void busy_on_done(struct pypool *p, struct pypool_reply *reply, void *data)
{
	int *results = data;

	pypool_reply_free(reply);
	results[0] = pypool_ping(p, 10);
	results[1] = pypool_dispatch(p);
	results[2] = pypool_free(p) == p;
	pypool_disconnect(p);
	results[3]++;
}

START_TEST(callback_may_disconnect_and_may_not_block)
{
	struct world w = world_greeted();
	int results[4] = { 0 };
	struct outcome o;

	ck_assert_int_eq(pypool_submit(w.p, "ping", (struct pypool_span){ 0 }, 0, busy_on_done, results, NULL), 0);
	world_submit(&w, 0, &o);
	ck_assert_int_eq(pypool_dispatch(w.p), 0);
	daemon_answer_int(&w, 2, 1);
	ck_assert_int_eq(pypool_dispatch(w.p), -ENOTCONN);
	ck_assert_int_eq(results[0], -EBUSY);
	ck_assert_int_eq(results[1], -EBUSY);
	ck_assert_int_eq(results[2], 1);
	ck_assert_int_eq(results[3], 1);
	ck_assert_int_eq(o.n, 1);
	ck_assert_str_eq(o.code, "connection_lost");
	world_free(&w);
}
END_TEST

/* ---- connecting ---- */

struct place {
	char dir[64];
	char path[80];
	int fd;
};

static struct place place_new(int backlog)
{
	struct place l = { .dir = "/tmp/test_client.XXXXXX" };
	struct sockaddr_un address = { .sun_family = AF_UNIX };

	ck_assert_ptr_nonnull(mkdtemp(l.dir));
	snprintf(l.path, sizeof(l.path), "%s/s", l.dir);
	snprintf(address.sun_path, sizeof(address.sun_path), "%s", l.path);
	l.fd = socket(AF_UNIX, SOCK_STREAM, 0);
	ck_assert_int_ge(l.fd, 0);
	ck_assert_int_eq(bind(l.fd, (struct sockaddr *)&address, sizeof(address)), 0);
	if (backlog >= 0)
		ck_assert_int_eq(listen(l.fd, backlog), 0);
	return l;
}

static void place_free(struct place *l)
{
	close(l->fd);
	unlink(l->path);
	rmdir(l->dir);
}

START_TEST(fault_22_full_backlog_is_tried_again_until_the_deadline)
{
	struct place l = place_new(0);
	struct pypool *first, *p;
	struct outcome o = { 0 };
	struct world w = { .daemon = -1 };

	ck_assert_int_eq(pypool_new(&first), 0);
	ck_assert_int_eq(pypool_new(&p), 0);
	ck_assert_int_eq(pypool_connect(first, l.path, 0), 0); /* fills it */
	ck_assert_int_eq(pypool_connect(p, l.path, 30), -ETIMEDOUT);
	ck_assert_str_eq(pypool_error_code(pypool_last_error(p)), "cannot_connect");
	ck_assert_ptr_nonnull(strstr(pypool_error_message(pypool_last_error(p)), "backlog"));

	ck_assert_int_eq(pypool_connect_start(p, l.path, WAIT_MS), 0);
	ck_assert_int_eq(pypool_fd(p), -EAGAIN);
	ck_assert_int_eq(pypool_submit(p, "ping", (struct pypool_span){ 0 }, 0, outcome_on_done, &o, NULL), 0);
	close(accept(l.fd, NULL, NULL)); /* room */
	while (pypool_fd(p) == -EAGAIN) {
		(void)poll(NULL, 0, pypool_timeout_ms(p));
		ck_assert_int_eq(pypool_dispatch(p), 0);
	}
	w.p = p;
	w.daemon = accept(l.fd, NULL, NULL);
	daemon_expect(&w, "hello", NULL);
	daemon_expect(&w, "ping", NULL); /* submitted before there was a connection; ids go on from the first attempt */
	ck_assert_int_eq(o.n, 0);
	world_free(&w);
	ck_assert_int_eq(o.n, 1);
	ck_assert_ptr_null(pypool_free(first));
	place_free(&l);
}
END_TEST

START_TEST(nobody_listening_is_refused_after_the_timeout_and_no_socket_at_once)
{
	struct place l = place_new(-1);
	struct pypool *p;
	char path[200];

	ck_assert_int_eq(pypool_new(&p), 0);
	ck_assert_int_eq(pypool_ping(p, 10), -ENOTCONN);
	ck_assert_int_eq(pypool_connect(p, l.path, 20), -ECONNREFUSED);
	ck_assert_int_eq(pypool_connect(p, "/nonexistent/socket", 60000), -ENOENT);
	ck_assert_ptr_nonnull(strstr(pypool_error_message(pypool_last_error(p)), "/nonexistent/socket"));
	memset(path, 'x', sizeof(path));
	path[199] = '\0';
	ck_assert_int_eq(pypool_connect(p, path, 0), -ENAMETOOLONG);
	ck_assert_int_eq(listen(l.fd, 5), 0);
	ck_assert_int_eq(pypool_connect(p, l.path, 0), 0);
	ck_assert_int_eq(pypool_connect(p, l.path, 0), -EISCONN);
	pypool_disconnect(p);
	ck_assert_int_eq(pypool_connect(p, l.path, 0), 0); /* a handle can be used again */
	ck_assert_ptr_null(pypool_free(p));
	place_free(&l);
}
END_TEST

START_TEST(path_comes_from_the_environment)
{
	struct pypool *p;

	ck_assert_int_eq(pypool_new(&p), 0);
	ck_assert_int_eq(setenv("PYPOOL_SOCKET", "/nonexistent/from-env", 1), 0);
	ck_assert_int_eq(pypool_connect(p, NULL, 0), -ENOENT);
	ck_assert_str_eq(pypool_path(p), "/nonexistent/from-env");
	ck_assert_int_eq(unsetenv("PYPOOL_SOCKET"), 0);
	ck_assert_int_eq(setenv("XDG_RUNTIME_DIR", "/nonexistent/xdg", 1), 0);
	(void)pypool_connect(p, NULL, 0);
	ck_assert_str_eq(pypool_path(p), geteuid() == 0 ? "/run/pypoold/pypoold.sock" :
							  "/nonexistent/xdg/pypoold/pypoold.sock");
	ck_assert_ptr_null(pypool_free(p));
}
END_TEST

static void add_calls(Suite *s)
{
	TCase *t = tcase_create("calls");

	tcase_set_timeout(t, 20);
	tcase_add_test(t, hello_is_sent_first_and_without_waiting);
	tcase_add_test(t, name_and_hello_answer_are_passed);
	tcase_add_test(t, hello_that_is_not_answered_is_a_timeout);
	tcase_add_test(t, hello_that_is_refused_ends_the_connection_with_the_reason);
	tcase_add_test(t, replies_out_of_order_find_their_calls);
	tcase_add_test(t, fault_3_frames_that_come_byte_by_byte_are_put_together);
	tcase_add_test(t, large_value_arrives_whole_and_belongs_to_its_reply);
	tcase_add_test(t, timeout_cancels_at_the_daemon_and_the_late_answer_is_dropped);
	tcase_add_test(t, timeout_of_a_request_that_was_not_sent_is_never);
	tcase_add_test(t, answer_that_lies_ready_wins_over_its_deadline);
	tcase_add_test(t, cancel_asks_the_daemon_and_the_call_gets_its_own_answer);
	tcase_add_test(t, fault_26_forked_child_is_refused_and_harms_nobody);
	tcase_add_test(t, notifications_mean_nothing_and_do_no_harm);
	tcase_add_test(t, execute_sends_its_options_and_a_deadline);
	tcase_add_test(t, arguments_that_would_cost_the_connection_are_refused_here);
	tcase_add_test(t, request_over_the_daemons_max_frame_is_refused_here);
	tcase_add_test(t, checkout_reads_the_lease);
	tcase_add_test(t, callback_may_disconnect_and_may_not_block);
	suite_add_tcase(s, t);
}

static void add_errors(Suite *s)
{
	TCase *t = tcase_create("errors");

	tcase_set_timeout(t, 20);
	tcase_add_test(t, error_map_is_told_in_full);
	tcase_add_test(t, executed_that_is_not_known_is_maybe);
	tcase_add_loop_test(t, error_text_is_taken_apart, 0, sizeof(error_texts) / sizeof(error_texts[0]));
	tcase_add_test(t, error_about_the_connection_ends_all_calls_with_its_text);
	tcase_add_test(t, daemon_that_closes_in_a_message_loses_the_call_maybe_executed);
	tcase_add_test(t, call_that_never_left_was_never_executed);
	tcase_add_test(t, last_words_are_read_though_the_daemon_takes_no_more);
	tcase_add_loop_test(t, hostile_bytes_end_the_connection_and_every_call_is_answered_once, 0,
			    sizeof(hostile) / sizeof(hostile[0]));
	tcase_add_test(t, error_values_of_any_type_are_survived);
	suite_add_tcase(s, t);
}

static void add_connect(Suite *s)
{
	TCase *t = tcase_create("connect");

	tcase_set_timeout(t, 20);
	tcase_add_test(t, fault_22_full_backlog_is_tried_again_until_the_deadline);
	tcase_add_test(t, nobody_listening_is_refused_after_the_timeout_and_no_socket_at_once);
	tcase_add_test(t, path_comes_from_the_environment);
	suite_add_tcase(s, t);
}

int main(void)
{
	Suite *s = suite_create("client");
	SRunner *r = srunner_create(s);
	int failed;

	add_calls(s);
	add_errors(s);
	add_connect(s);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? 1 : 0;
}

/* Calls of libpypool against a daemon that the test plays itself. */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "client/pypool.h"
#include "tests/unit/client_world.h"
#include "proto/cursor.h"
#include "proto/pack.h"

START_TEST(hello_is_sent_first_and_without_waiting)
	{
		struct world w = world_new();
		struct span params;
		uint64_t v;
		struct pypool_span protocol;
		struct outcome o;

		world_submit(&w, 0, &o);
		ck_assert_int_eq(pypool_dispatch(w.p), 0);
		ck_assert_uint_eq(fake_expect(&w, "hello", &params), 1);
		ck_assert_int_eq(pypool_get_key((struct pypool_span){ params.p, params.len }, "protocol", &protocol),
				 0);
		params = (struct span){ .p = protocol.data, .len = protocol.size };
		ck_assert(mp_read_uint(&params, &v) && v == 1);
		ck_assert_uint_eq(fake_expect(&w, "ping", NULL), 2);
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
		fake_expect(&w, "hello", &params);
		ck_assert_int_eq(pypool_get_key((struct pypool_span){ params.p, params.len }, "client", &v), 0);
		ck_assert_int_eq(pypool_get_text(v, &v), 0);
		ck_assert_uint_eq(v.size, 6);
		ck_assert_mem_eq(v.data, "tester", 6);
		fake_answer_hello(&w, 12345);
		fake_answer_int(&w, 2, 0); /* the ping that pypool_hello waits for */
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

		fake_expect(&w, "hello", NULL);
		fake_answer_text(&w, 1, "bad_request: protocol 1 is not spoken here (executed: never)");
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
			ck_assert_uint_eq(fake_expect(&w, "ping", NULL), ids[i]);
		ck_assert_uint_eq(pypool_in_flight(w.p), 100);
		for (int i = 99; i >= 0; i--)
			fake_answer_int(&w, ids[i], i);
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
			fake_write(&w, &bytes[i], 1);
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
			fake_answer_int(&w, 2, 1);
			world_wait(&w, &o);
		}
		fake_send_frame(&w, b.data, b.size);
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
		ck_assert_uint_eq(fake_expect(&w, "ping", NULL), 2);
		ck_assert_uint_eq(fake_expect(&w, "cancel", &params), 3);
		ck_assert_int_eq(pypool_get_key((struct pypool_span){ params.p, params.len }, "id", &v), 0);
		ck_assert_int_eq(pypool_get_int(v, &id), 0);
		ck_assert_int_eq(id, 2);
		ck_assert_uint_eq(pypool_in_flight(w.p), 0);
		ck_assert_int_eq(pypool_cancel(w.p, 2), -ENOENT);

		fake_answer_int(&w, 2, 5); /* too late, and no reason to end the connection */
		fake_answer_int(&w, 3, 1);
		ck_assert_int_eq(pypool_dispatch(w.p), 0);
		ck_assert_int_eq(o.n, 1);
		world_submit(&w, 0, &next);
		ck_assert_int_eq(pypool_dispatch(w.p), 0);
		fake_answer_int(&w, 4, 6);
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
		ck_assert_int_eq(pypool_submit(w.p, "ping", (struct pypool_span){ big, 8 + 0x0f4238 }, 0,
					       outcome_on_done, &first, &id),
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

		world_submit(&w, 200, &o); /* enough to send it on a busy machine */
		ck_assert_int_eq(pypool_dispatch(w.p), 0);
		fake_answer_int(&w, 2, 9);
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
		fake_expect(&w, "ping", NULL);
		fake_expect(&w, "cancel", NULL);
		fake_answer_int(&w, 3, 1);
		ck_assert_int_eq(pypool_dispatch(w.p), 0);
		ck_assert_int_eq(o.n, 0);
		fake_answer_text(&w, 2, "cancelled: by its caller (executed: never)");
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
		ck_assert_uint_eq(fake_expect(&w, "ping", NULL), 2);
		fake_answer_int(&w, 2, 3); /* the parent's connection is as it was */
		world_wait(&w, &o);
		ck_assert_int_eq(o.value, 3);
		world_free(&w);
	}
END_TEST

START_TEST(notifications_mean_nothing_and_do_no_harm)
	{
		struct world w = world_greeted();
		struct outcome o;

		world_submit(&w, 0, &o);
		fake_send_frame(&w,
				"\x93\x02\xa5"
				"event\x91\x80",
				10);
		ck_assert_int_eq(pypool_dispatch(w.p), 0);
		fake_answer_int(&w, 2, 4);
		world_wait(&w, &o);
		ck_assert_int_eq(o.value, 4);
		world_free(&w);
	}
END_TEST

START_TEST(execute_sends_its_options_and_a_deadline)
	{
		struct world w = world_greeted();
		struct pypool_options options = {
			.pool = "big", .lease = 7, .timeout_ms = 2000, .queue_timeout_ms = 500, .meta = 1, .idempotent = 1
		};
		struct pypool_span map, v;
		struct outcome o = { 0 };
		struct span params;
		int64_t n;

		ck_assert_int_eq(pypool_submit_execute(w.p, "word_count", (struct pypool_span){ "\x91\xa1z", 3 },
						       &options, outcome_on_done, &o, NULL),
				 0);
		ck_assert_int_eq(pypool_dispatch(w.p), 0);
		fake_expect(&w, "execute", &params);
		map = (struct pypool_span){ params.p, params.len };
		ck_assert_int_eq(pypool_get_key(map, "args", &v), 0);
		ck_assert_uint_eq(v.size, 3);
		ck_assert_int_eq(pypool_get_key(map, "timeout_ms", &v), 0);
		ck_assert_int_eq(pypool_get_int(v, &n), 0);
		ck_assert_int_eq(n, 2000);
		ck_assert_int_eq(pypool_get_key(map, "lease", &v), 0);
		ck_assert_int_eq(pypool_get_key(map, "meta", &v), 0);
		ck_assert_int_eq(pypool_get_key(map, "idempotent", &v), 0);
		ck_assert(v.size == 1 && *(const uint8_t *)v.data == 0xc3);
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

		fake_expect(&w, "hello", NULL);
		fake_answer_hello(&w, 64);
		ck_assert_int_eq(pypool_dispatch(w.p), 0);
		ck_assert_int_eq(pypool_execute(w.p, "f", (struct pypool_span){ args, sizeof(args) }, NULL, &reply),
				 -EMSGSIZE);
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
		fake_send_frame(&w, b.data, b.size);
		msgpack_sbuffer_destroy(&b);
		ck_assert_int_eq(pypool_checkout(w.p, NULL, &lease), 0);
		ck_assert_uint_eq(lease.lease, 77);
		ck_assert_uint_eq(lease.worker, 3);
		ck_assert_uint_eq(lease.pid, 0);
		ck_assert_uint_eq(lease.expires_ms, 60000);
		fake_write(&w, "\0\0\0\x05\x94\x01\x03\xc0\xc3", 9);
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

		ck_assert_int_eq(pypool_submit(w.p, "ping", (struct pypool_span){ 0 }, 0, busy_on_done, results, NULL),
				 0);
		world_submit(&w, 0, &o);
		ck_assert_int_eq(pypool_dispatch(w.p), 0);
		fake_answer_int(&w, 2, 1);
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

int main(void)
{
	Suite *s = suite_create("client");
	SRunner *r = srunner_create(s);
	int failed;

	add_calls(s);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? 1 : 0;
}

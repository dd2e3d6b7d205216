/* Direct leases that end at the other side: what their calls are told. */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/support/suite.h"
#include "tests/unit/client_lease.h"

START_TEST(calls_are_told_why_their_lease_has_ended)
	{
		struct world w = world_greeted(), worker;
		uint64_t lease = world_lease(&w, 7, &worker);
		struct outcome o[2];

		for (int i = 0; i < 2; i++)
			world_execute(&w, lease, 0, &o[i]);
		ck_assert_int_eq(pypool_dispatch(w.p), 0);
		fake_answer_int(&worker, fake_expect(&worker, "execute", NULL), 1);
		close(worker.daemon); /* before the daemon says a word */
		world_wait(&w, &o[0]);
		ck_assert_int_eq(o[0].value, 1);
		ck_assert_int_eq(pypool_dispatch(w.p), 0); /* sees the end */
		ck_assert_int_eq(o[1].n, 0);
		ck_assert_int_gt(pypool_timeout_ms(w.p), 0);
		fake_send_lease_lost(&w, lease, "worker_died", "lease 7 has ended: worker 3 (pid 812) was killed");
		world_wait(&w, &o[1]);
		ck_assert_str_eq(o[1].code, "worker_died");
		ck_assert_str_eq(o[1].message, "lease 7 has ended: worker 3 (pid 812) was killed");
		ck_assert_int_eq(o[1].executed, PYPOOL_MAYBE);
		ck_assert_int_eq(o[1].number, -EREMOTEIO);
		world_free(&w);
	}
END_TEST

START_TEST(answers_that_came_before_the_end_count)
	{
		struct world w = world_greeted(), worker;
		uint64_t lease = world_lease(&w, 7, &worker);
		struct outcome o[2];
		uint64_t id;

		id = world_execute(&w, lease, 0, &o[0]);
		world_execute(&w, lease, 0, &o[1]);
		ck_assert_int_eq(pypool_dispatch(w.p), 0);
		fake_send_lease_lost(&w, lease, "ttl", "lease 7 has ended: its ttl was over");
		fake_answer_int(&worker, id, 1);
		world_wait(&w, &o[0]);
		world_wait(&w, &o[1]);
		ck_assert_int_eq(o[0].value, 1);
		ck_assert_str_eq(o[1].code, "lease_expired");
		ck_assert_str_eq(o[1].message, "lease 7 has ended: its ttl was over");
		ck_assert(fake_expect(&worker, "execute", NULL) && fake_expect(&worker, "execute", NULL));
		ck_assert(fake_sees_end(&worker));
		world_free_both(&w, &worker);
	}
END_TEST

START_TEST(without_a_word_of_the_daemon_a_lease_that_ended_has_expired)
	{
		struct world w = world_greeted(), worker;
		uint64_t lease = world_lease(&w, 7, &worker);
		struct outcome o;

		world_execute(&w, lease, 0, &o);
		ck_assert_int_eq(pypool_dispatch(w.p), 0);
		close(worker.daemon);
		world_wait(&w, &o);
		ck_assert_str_eq(o.code, "lease_expired");
		ck_assert_int_eq(o.executed, PYPOOL_MAYBE);
		world_free(&w);
	}
END_TEST

START_TEST(a_blocking_call_is_told_too)
	{
		struct world w = world_greeted(), worker;
		const struct pypool_options o = { .lease = world_lease(&w, 7, &worker) };
		struct pypool_reply *reply = NULL;
		const struct pypool_error *e;

		shutdown(worker.daemon, SHUT_WR);
		fake_send_lease_lost(&w, o.lease, "worker_died", "lease 7 has ended: worker 3 (pid 812) was killed");
		ck_assert_int_eq(pypool_execute(w.p, "work", (struct pypool_span){ 0 }, &o, &reply), -EREMOTEIO);
		e = pypool_last_error(w.p);
		ck_assert_str_eq(pypool_error_code(e), "worker_died");
		ck_assert_int_eq(pypool_error_executed(e), PYPOOL_MAYBE);
		ck_assert_uint_gt(pypool_error_cause(e).size, 0);
		ck_assert_ptr_null(reply);
		world_free_both(&w, &worker);
	}
END_TEST

START_TEST(a_call_that_no_worker_could_read_is_never)
	{
		struct world w = world_greeted(), worker;
		const struct pypool_options o = { .lease = world_lease(&w, 7, &worker) };
		struct pypool_reply *reply = NULL;

		close(worker.daemon);
		fake_send_lease_lost(&w, o.lease, "ttl", "lease 7 has ended: its ttl was over");
		ck_assert_int_eq(pypool_execute(w.p, "work", (struct pypool_span){ 0 }, &o, &reply), -EREMOTEIO);
		ck_assert_str_eq(pypool_error_code(pypool_last_error(w.p)), "lease_expired");
		ck_assert_int_eq(pypool_error_executed(pypool_last_error(w.p)), PYPOOL_NEVER);
		world_free(&w);
	}
END_TEST

START_TEST(what_is_no_protocol_ends_the_lease_alone)
	{
		struct world w = world_greeted(), worker;
		uint64_t lease = world_lease(&w, 7, &worker);
		struct outcome o, ping;

		world_execute(&w, lease, 0, &o);
		ck_assert_int_eq(pypool_dispatch(w.p), 0);
		fake_write(&worker, "\0\0\0\1\xc1", 5);
		world_wait(&w, &o);
		ck_assert_str_eq(o.code, "bad_reply");
		ck_assert_int_eq(o.number, -EPROTO);
		fake_answer_int(&w, world_submit(&w, 0, &ping), 1);
		world_wait(&w, &ping);
		ck_assert_int_eq(ping.value, 1);
		world_free_both(&w, &worker);
	}
END_TEST

START_TEST(a_second_answer_ends_the_lease_also_for_a_blocking_call)
	{
		struct world w = world_greeted(), worker;
		const struct pypool_options o = { .lease = world_lease(&w, 7, &worker) };
		struct pypool_reply *reply = NULL;
		int r;

		fake_answer_int(&worker, 3, 1);
		fake_answer_int(&worker, 3, 2);
		r = pypool_execute(w.p, "work", (struct pypool_span){ 0 }, &o, &reply);
		ck_assert_int_eq(r, 0); /* the first is one */
		pypool_reply_free(reply);
		fake_answer_int(&w, 4, 0); /* what follows is asked of the daemon: the lease is gone */
		ck_assert_int_eq(pypool_execute(w.p, "work", (struct pypool_span){ 0 }, &o, &reply), 0);
		pypool_reply_free(reply);
		ck_assert_uint_eq(fake_expect(&w, "execute", NULL), 4);
		world_free_both(&w, &worker);
	}
END_TEST

struct news {
	int n;
	uint64_t lease;
	char method[32];
};

static void on_notify(struct pypool *p, const char *method, struct pypool_span params, void *data)
{
	struct news *news = data;
	struct pypool_span value;
	int64_t lease = 0;

	(void)p;
	news->n++;
	snprintf(news->method, sizeof(news->method), "%s", method);
	if (pypool_get_key(params, "lease", &value) == 0)
		(void)pypool_get_int(value, &lease);
	news->lease = (uint64_t)lease;
}

START_TEST(lease_lost_is_passed_on_after_the_answers)
	{
		struct world w = world_greeted(), worker;
		uint64_t lease = world_lease(&w, 7, &worker);
		struct news news = { 0 };
		struct outcome o;

		pypool_set_notify(w.p, on_notify, &news);
		world_execute(&w, lease, 0, &o);
		ck_assert_int_eq(pypool_dispatch(w.p), 0);
		fake_send_lease_lost(&w, lease, "shutdown", "lease 7 has ended: the daemon is shutting down");
		fake_send_lease_lost(&w, 99, "ttl", "of a lease that is no direct one");
		ck_assert_uint_eq(pypool_in_flight(w.p), 1);
		world_wait(&w, &o);
		ck_assert_str_eq(o.code, "lease_expired");
		ck_assert_int_eq(news.n, 2);
		ck_assert_uint_eq(news.lease, 99);
		ck_assert_str_eq(news.method, "lease_lost");
		world_free_both(&w, &worker);
	}
END_TEST

RUN_SUITE("client_direct_lost", calls_are_told_why_their_lease_has_ended, answers_that_came_before_the_end_count,
	  without_a_word_of_the_daemon_a_lease_that_ended_has_expired, a_blocking_call_is_told_too,
	  a_call_that_no_worker_could_read_is_never, what_is_no_protocol_ends_the_lease_alone,
	  a_second_answer_ends_the_lease_also_for_a_blocking_call, lease_lost_is_passed_on_after_the_answers)

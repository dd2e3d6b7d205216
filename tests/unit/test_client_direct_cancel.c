/* Calls of a direct lease that are cancelled or late, and leases that are given back. */
#include <check.h>
#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/support/suite.h"
#include "tests/unit/client_lease.h"
#include "tests/unit/io_support.h"

START_TEST(cancelling_the_call_that_runs_gives_the_lease_up)
	{
		struct world w = world_greeted(), worker;
		uint64_t lease = world_lease(&w, 7, &worker), id;
		struct outcome o[2];
		struct span params;

		id = world_execute(&w, lease, 0, &o[0]);
		world_execute(&w, lease, 0, &o[1]);
		ck_assert_int_eq(pypool_dispatch(w.p), 0);
		ck_assert_int_eq(pypool_cancel(w.p, id), 0);
		world_wait(&w, &o[0]);
		world_wait(&w, &o[1]);
		ck_assert_str_eq(o[0].code, "cancelled");
		ck_assert_int_eq(o[0].executed, PYPOOL_MAYBE);
		ck_assert_str_eq(o[1].code, "lease_expired");
		ck_assert_int_eq(o[1].executed, PYPOOL_MAYBE);
		fake_expect(&w, "checkin", &params);
		ck_assert(fake_has_key(params, "lease"));
		ck_assert_int_eq(pypool_cancel(w.p, id), -ENOENT);
		world_free_both(&w, &worker);
	}
END_TEST

START_TEST(cancelling_a_call_that_waits_behind_it_leaves_the_lease_alone)
	{
		struct world w = world_greeted(), worker;
		uint64_t lease = world_lease(&w, 7, &worker), ids[2];
		struct outcome o[2], more;

		for (int i = 0; i < 2; i++)
			ids[i] = world_execute(&w, lease, 0, &o[i]);
		ck_assert_int_eq(pypool_dispatch(w.p), 0);
		ck_assert_int_eq(pypool_cancel(w.p, ids[1]), 0);
		world_wait(&w, &o[1]);
		ck_assert_str_eq(o[1].code, "cancelled");
		ck_assert_int_eq(o[1].executed, PYPOOL_MAYBE);
		for (int i = 0; i < 2; i++)
			fake_answer_int(&worker, ids[i], i);
		world_wait(&w, &o[0]);
		ck_assert_int_eq(o[1].n, 1);
		fake_answer_int(&worker, world_execute(&w, lease, 0, &more), 9);
		world_wait(&w, &more);
		ck_assert_int_eq(more.value, 9);
		world_free_both(&w, &worker);
	}
END_TEST

START_TEST(a_call_that_was_not_sent_is_cancelled_for_sure)
	{
		struct world w = world_greeted(), worker;
		uint64_t lease = world_lease(&w, 7, &worker);
		struct outcome o;

		ck_assert_int_eq(pypool_cancel(w.p, world_execute(&w, lease, 0, &o)), 0);
		world_wait(&w, &o);
		ck_assert_str_eq(o.code, "cancelled");
		ck_assert_int_eq(o.executed, PYPOOL_NEVER);
		ck_assert_int_eq(recv(worker.daemon, &(char){ 0 }, 1, MSG_DONTWAIT), -1);
		world_free_both(&w, &worker);
	}
END_TEST

START_TEST(a_worker_that_does_not_keep_a_timeout_loses_the_lease)
	{
		struct world w = world_greeted(), worker;
		const struct pypool_options o = { .lease = world_lease(&w, 7, &worker), .timeout_ms = 1 };
		struct pypool_reply *reply = NULL;

		ck_assert_int_eq(pypool_execute(w.p, "work", (struct pypool_span){ 0 }, &o, &reply), -ETIMEDOUT);
		ck_assert_str_eq(pypool_error_code(pypool_last_error(w.p)), "deadline_exceeded");
		ck_assert_int_eq(pypool_error_executed(pypool_last_error(w.p)), PYPOOL_MAYBE);
		ck_assert_int_eq(pypool_dispatch(w.p), 0);
		fake_expect(&w, "checkin", NULL);
		fake_expect(&worker, "execute", NULL);
		ck_assert(fake_sees_end(&worker));
		world_free_both(&w, &worker);
	}
END_TEST

START_TEST(checkin_cancels_what_is_in_flight)
	{
		struct world w = world_greeted(), worker;
		uint64_t lease = world_lease(&w, 7, &worker);
		const struct pypool_options options = { .lease = lease };
		struct pypool_reply *reply = NULL;
		unsigned before = io_count_fds();
		struct outcome o;

		world_execute(&w, lease, 0, &o);
		ck_assert_int_eq(pypool_dispatch(w.p), 0);
		fake_answer_int(&w, 4, 0);
		ck_assert_int_eq(pypool_checkin(w.p, lease, 1000), 0);
		ck_assert_int_eq(o.n, 1);
		ck_assert_str_eq(o.code, "cancelled");
		ck_assert_int_eq(o.executed, PYPOOL_MAYBE);
		ck_assert_uint_eq(io_count_fds(), before); /* one for the lease, the epoll in its place */
		fake_answer_error(&w, 5, true, "never");   /* from now on the daemon is asked, who knows it no more */
		ck_assert_int_eq(pypool_execute(w.p, "work", (struct pypool_span){ 0 }, &options, &reply), -EREMOTEIO);
		world_free_both(&w, &worker);
	}
END_TEST

START_TEST(a_lease_that_is_on_its_way_back_takes_no_calls)
	{
		static const uint8_t params[] = "\x81\xa5lease\x07";
		struct world w = world_greeted(), worker;
		const struct pypool_options options = { .lease = world_lease(&w, 7, &worker) };
		struct pypool_reply *reply = NULL;
		struct outcome o = { 0 };

		ck_assert_int_eq(pypool_submit(w.p, "checkin", (struct pypool_span){ params, sizeof(params) - 1 }, 0,
					       outcome_on_done, &o, NULL),
				 0);
		ck_assert_int_eq(pypool_execute(w.p, "work", (struct pypool_span){ 0 }, &options, &reply), -EREMOTEIO);
		ck_assert_str_eq(pypool_error_code(pypool_last_error(w.p)), "lease_expired");
		ck_assert_int_eq(pypool_error_executed(pypool_last_error(w.p)), PYPOOL_NEVER);
		world_free_both(&w, &worker);
	}
END_TEST

START_TEST(a_lease_that_comes_too_late_is_given_back)
	{
		struct world w = world_greeted();
		struct world_pair pair = world_socketpair();
		struct world worker = world_of(w.p, pair.worker);
		struct span params;
		struct outcome o;
		uint64_t id = world_checkout(&w, 1, &o);

		world_wait(&w, &o);
		ck_assert_str_eq(o.code, "deadline_exceeded");
		fake_expect(&w, "cancel", NULL);
		fake_answer_checkout(&w, id, 7, &pair.client, 1);
		close(pair.client);
		ck_assert_int_eq(pypool_dispatch(w.p), 0);
		ck_assert_uint_gt(fake_expect(&w, "checkin", &params), id);
		ck_assert(fake_has_key(params, "lease"));
		ck_assert(fake_sees_end(&worker));
		world_free_both(&w, &worker);
	}
END_TEST

RUN_SUITE("client_direct_cancel", cancelling_the_call_that_runs_gives_the_lease_up,
	  cancelling_a_call_that_waits_behind_it_leaves_the_lease_alone, a_call_that_was_not_sent_is_cancelled_for_sure,
	  a_worker_that_does_not_keep_a_timeout_loses_the_lease, checkin_cancels_what_is_in_flight,
	  a_lease_that_is_on_its_way_back_takes_no_calls, a_lease_that_comes_too_late_is_given_back)

#include "daemon/pool/session.h"

#include <signal.h>

#include "tests/unit/session_support.h"

START_TEST(fault_62_the_death_of_its_worker_loses_a_session)
	{
		struct scene sc;
		struct session *s;

		scene_begin(&sc, 2);
		call(&sc, &sc.one, 1, "chat");
		s = found(&sc, "chat");
		carrier(&sc, "chat")->script.call = SIM_CALL_HANG;
		sim_execute_in(&sc.one, 2, "chat");
		sim_execute_in(&sc.one, 3, "chat");
		scene_pass(&sc, 10 * MS);
		sim_child_die(carrier(&sc, "chat"), 0, SIGKILL);
		scene_pass(&sc, 10 * MS);
		ck_told(&sc.one, 2, ERROR_SESSION_LOST, EXECUTED_MAYBE);
		ck_assert_ptr_nonnull(strstr(told(&sc.one, 2)->message, "SIGKILL"));
		ck_told(&sc.one, 3, ERROR_SESSION_LOST, EXECUTED_NEVER);
		sim_execute_in(&sc.one, 4, "chat");
		ck_told(&sc.one, 4, ERROR_SESSION_LOST, EXECUTED_NEVER);
		ck_assert_ptr_nonnull(strstr(told(&sc.one, 4)->message, "SIGKILL"));
		ck_assert_uint_eq(sim_session_n(s), 1); /* its values are there */
		scene_end(&sc);
	}
END_TEST

START_TEST(a_lost_session_that_is_opened_again_has_its_values_unless_they_are_reset)
	{
		struct scene sc;
		struct session *s;
		struct outcome o;
		bool fresh;

		scene_begin(&sc, 2);
		for (unsigned reset = 0; reset < 2; reset++) {
			call(&sc, &sc.one, 1 + 10 * reset, "chat");
			s = found(&sc, "chat");
			sim_child_die(carrier(&sc, "chat"), 0, SIGKILL);
			scene_pass(&sc, S);
			ck_assert(s->lost);
			ck_assert_ptr_eq(
				session_open(sc.stage.pool, &sc.one.caller, span_str("chat"), 0, reset, &fresh, &o), s);
			ck_assert(fresh && !s->lost);
			call(&sc, &sc.one, 2 + 10 * reset, "chat");
			ck_assert_uint_eq(sim_session_n(s), reset ? 1 : 2);
		}
		scene_end(&sc);
	}
END_TEST

START_TEST(fault_28_calls_that_wait_for_the_worker_of_their_session_count_against_max_queue)
	{
		struct scene sc;
		struct pool_settings s = sim_settings();
		char name[] = "a";

		s.max_queue = 3;
		sessions_begin(&sc, &s, 1, false);
		scene_child(&sc)->script.call_after = 50 * MS;
		sim_execute_in(&sc.one, 1, "chat");
		scene_pass(&sc, 10 * MS);
		for (uint64_t id = 2; id <= 6; id++, name[0]++)
			sim_execute_in(&sc.one, id, name);
		ck_assert_uint_eq(pool_waiting(sc.stage.pool), 3);
		ck_told(&sc.one, 5, ERROR_OVERLOADED, EXECUTED_NEVER);
		ck_told(&sc.one, 6, ERROR_OVERLOADED, EXECUTED_NEVER);
		scene_pass(&sc, 300 * MS);
		for (uint64_t id = 1; id <= 4; id++)
			ck_told(&sc.one, id, ERROR_NONE, EXECUTED_YES);
		ck_assert_uint_eq(pool_waiting(sc.stage.pool), 0);
		scene_end(&sc);
	}
END_TEST

START_TEST(fault_65_another_user_has_sessions_of_its_own)
	{
		struct scene sc;
		struct sim_caller other;

		scene_begin(&sc, 1);
		sim_caller_init_as(&other, &sc.stage, 4711);
		call(&sc, &sc.one, 1, "chat");
		call(&sc, &other, 1, "chat");
		ck_assert_uint_eq(sim_session_n(found(&sc, "chat")), 1);
		ck_assert_uint_eq(sc.stage.pool->n_sessions, 2);
		caller_gone(&other.caller);
		scene_end(&sc);
	}
END_TEST

START_TEST(there_are_sessions_up_to_max_sessions)
	{
		struct pool_settings settings = sim_settings();
		struct scene sc;

		settings.max_sessions = 2;
		sessions_begin(&sc, &settings, 1, false);
		call(&sc, &sc.one, 1, "a");
		call(&sc, &sc.one, 2, "b");
		sim_execute_in(&sc.one, 3, "c");
		ck_told(&sc.one, 3, ERROR_QUOTA, EXECUTED_NEVER);
		session_close(found(&sc, "a"));
		scene_pass(&sc, 10 * MS);
		call(&sc, &sc.one, 4, "c");
		scene_end(&sc);
	}
END_TEST

START_TEST(a_session_lease_keeps_others_out)
	{
		struct scene sc;
		struct session *s;
		struct lease *l;

		scene_begin(&sc, 2);
		call(&sc, &sc.one, 1, "chat");
		s = found(&sc, "chat");
		l = lend(&sc, 2, false);
		ck_assert_ptr_eq(l->session, s);
		ck_assert_ptr_eq(l->worker, s->worker);
		sim_execute_in(&sc.two, 1, "chat");
		ck_told(&sc.two, 1, ERROR_SESSION_BUSY, EXECUTED_NEVER);
		call(&sc, &sc.one, 3, "chat"); /* the holder's own */
		ck_assert_uint_eq(sim_session_n(s), 2);
		lease_end(l, LEASE_END_CHECKIN);
		scene_pass(&sc, 10 * MS);
		call(&sc, &sc.two, 2, "chat");
		ck_assert_uint_eq(sim_session_n(s), 3);
		scene_end(&sc);
	}
END_TEST

START_TEST(calls_that_waited_before_a_session_lease_go_on_after_it)
	{
		struct scene sc;

		scene_begin(&sc, 1);
		sim_execute_in(&sc.one, 1, "chat");
		sim_submit_in(&sc.one, "chat", &(struct request_spec){ .kind = REQUEST_CHECKOUT, .id = 2, .ttl = S });
		sim_execute_in(&sc.two, 1, "chat");
		scene_pass(&sc, 500 * MS);
		ck_assert_uint_ne(told(&sc.one, 2)->lease, 0);
		ck_waits(&sc.two, 1);
		scene_pass(&sc, 600 * MS);
		ck_told(&sc.two, 1, ERROR_NONE, EXECUTED_YES);
		scene_end(&sc);
	}
END_TEST

START_TEST(waiting_calls_of_a_caller_that_is_gone_are_never_run)
	{
		struct scene sc;

		scene_begin(&sc, 1);
		scene_child(&sc)->script.call_after = 50 * MS;
		sim_execute_in(&sc.two, 1, "chat");
		for (uint64_t id = 1; id < 5; id++)
			sim_execute_in(&sc.one, id, "chat");
		sim_execute_in(&sc.two, 2, "chat");
		scene_pass(&sc, 10 * MS);
		caller_gone(&sc.one.caller);
		scene_pass(&sc, 100 * MS);
		ck_told(&sc.two, 2, ERROR_NONE, EXECUTED_YES);
		ck_assert_uint_eq(scene_child(&sc)->n_calls, 2);
		sim_caller_init(&sc.one, &sc.stage);
		scene_end(&sc);
	}
END_TEST

START_TEST(at_a_stop_waiting_calls_of_sessions_are_answered)
	{
		struct scene sc;

		scene_begin(&sc, 1);
		scene_child(&sc)->script.call_after = 50 * MS;
		sim_execute_in(&sc.one, 1, "chat");
		sim_execute_in(&sc.one, 2, "chat");
		sim_execute_in(&sc.one, 3, "other");
		scene_pass(&sc, 10 * MS);
		pool_drain(sc.stage.pool);
		scene_pass(&sc, 100 * MS);
		ck_told(&sc.one, 1, ERROR_NONE, EXECUTED_YES);
		ck_told(&sc.one, 2, ERROR_DRAINING, EXECUTED_NEVER);
		ck_told(&sc.one, 3, ERROR_DRAINING, EXECUTED_NEVER);
		scene_end(&sc);
	}
END_TEST

RUN_SUITE("session", fault_62_the_death_of_its_worker_loses_a_session,
	  a_lost_session_that_is_opened_again_has_its_values_unless_they_are_reset,
	  fault_28_calls_that_wait_for_the_worker_of_their_session_count_against_max_queue,
	  fault_65_another_user_has_sessions_of_its_own, there_are_sessions_up_to_max_sessions,
	  a_session_lease_keeps_others_out, calls_that_waited_before_a_session_lease_go_on_after_it,
	  waiting_calls_of_a_caller_that_is_gone_are_never_run, at_a_stop_waiting_calls_of_sessions_are_answered)

/* Sessions that end, by their ttl or because they are closed, and the hook that runs then. */
#include "daemon/pool/account.h"
#include "tests/unit/session_support.h"

START_TEST(fault_64_a_session_that_is_not_used_ends_with_its_ttl)
	{
		struct pool_settings settings = sim_settings();
		struct scene sc;

		settings.session_ttl = S;
		sessions_begin(&sc, &settings, 1, false);
		sim_execute_in(&sc.one, 1, "chat");
		scene_pass(&sc, 500 * MS);
		call(&sc, &sc.one, 2, "chat");
		scene_pass(&sc, 980 * MS);
		ck_assert_ptr_nonnull(found(&sc, "chat"));
		scene_pass(&sc, 30 * MS);
		ck_assert_ptr_null(found(&sc, "chat"));
		ck_assert_uint_eq(sc.stage.pool->n_sessions, 0);
		ck_assert_uint_eq(sc.one.caller.account->sessions, 0);
		ck_assert_ptr_null(scene_child(&sc)->copies.list);
		scene_end(&sc);
	}
END_TEST

START_TEST(a_session_does_not_end_while_a_call_runs_or_waits)
	{
		struct pool_settings settings = sim_settings();
		struct scene sc;

		settings.session_ttl = 100 * MS;
		sessions_begin(&sc, &settings, 1, false);
		scene_child(&sc)->script.call_after = 500 * MS;
		sim_execute_in(&sc.one, 1, "chat");
		sim_execute_in(&sc.one, 2, "chat");
		scene_pass(&sc, 1050 * MS);
		ck_told(&sc.one, 2, ERROR_NONE, EXECUTED_YES);
		ck_assert_uint_eq(sim_session_n(found(&sc, "chat")), 2);
		scene_pass(&sc, S);
		ck_assert_ptr_null(found(&sc, "chat"));
		scene_end(&sc);
	}
END_TEST

START_TEST(the_hook_runs_in_the_worker_of_the_session_after_its_waiting_calls)
	{
		struct scene sc;
		struct pool_settings s = sim_settings();

		sessions_begin(&sc, &s, 1, true);
		call(&sc, &sc.one, 1, "chat");
		scene_child(&sc)->script.call_after = 50 * MS;
		sim_execute_in(&sc.one, 2, "chat");
		sim_execute_in(&sc.one, 3, "chat");
		session_close(found(&sc, "chat"));
		ck_assert_ptr_null(found(&sc, "chat"));
		scene_pass(&sc, 110 * MS);
		ck_told(&sc.one, 3, ERROR_NONE, EXECUTED_YES);
		ck_assert_uint_eq(scene_child(&sc)->n_closed, 1);
		ck_assert_uint_eq(scene_child(&sc)->n_calls, 4);
		ck_assert_uint_eq(sc.stage.pool->n_sessions, 1);
		scene_pass(&sc, 100 * MS);
		ck_assert_uint_eq(sc.stage.pool->n_sessions, 0);
		scene_end(&sc);
	}
END_TEST

/* One session with a hook, of a worker that is busy with a call of it for 3 s. */
static void begin_busy(struct scene *sc, struct pool_settings *s)
{
	sessions_begin(sc, s, 1, true);
	call(sc, &sc->one, 1, "chat");
	scene_child(sc)->script.call_after = 3 * S;
	(void)sim_submit_in(&sc->one, "chat",
			    &(struct request_spec){ .kind = REQUEST_EXECUTE, .id = 2, .timeout = 4 * S });
	scene_pass(sc, 0);
}

START_TEST(the_hook_runs_also_when_a_call_before_it_takes_longer_than_stop_timeout)
	{
		struct scene sc;
		struct pool_settings s = sim_settings();

		s.queue_timeout = s.stop_timeout = 500 * MS;
		begin_busy(&sc, &s);
		session_close(found(&sc, "chat"));
		scene_pass(&sc, 3100 * MS);
		ck_told(&sc.one, 2, ERROR_NONE, EXECUTED_YES);
		ck_assert_uint_eq(scene_child(&sc)->n_closed, 1);
		scene_end(&sc);
	}
END_TEST

START_TEST(a_hook_that_takes_longer_than_stop_timeout_is_interrupted)
	{
		struct scene sc;
		struct pool_settings s = sim_settings();

		s.stop_timeout = 500 * MS;
		begin_busy(&sc, &s);
		session_close(found(&sc, "chat"));
		scene_pass(&sc, 3490 * MS);
		ck_assert_uint_eq(scene_child(&sc)->n_closed, 1);
		ck_assert_uint_eq(scene_child(&sc)->n_interrupts, 0);
		scene_pass(&sc, 100 * MS);
		ck_assert_uint_eq(scene_child(&sc)->n_interrupts, 1);
		ck_assert_uint_eq(sc.stage.pool->n_sessions, 0);
		scene_end(&sc);
	}
END_TEST

START_TEST(fault_99_hooks_are_charged_to_nobody)
	{
		struct scene sc;
		struct pool_settings s = sim_settings();

		sessions_begin(&sc, &s, 1, true);
		call(&sc, &sc.one, 1, "chat");
		session_close(found(&sc, "chat"));
		ck_assert_uint_eq(sc.stage.pool->n_requests, 1);
		ck_assert_uint_eq(sc.stage.pool->self.account->calls, 0);
		scene_pass(&sc, 100 * MS);
		ck_assert_uint_eq(scene_child(&sc)->n_closed, 1);
		scene_end(&sc);
	}
END_TEST

START_TEST(a_name_that_was_closed_is_free_at_once)
	{
		struct scene sc;
		struct session *old;

		scene_begin(&sc, 1);
		sim_execute_in(&sc.one, 1, "chat");
		sim_execute_in(&sc.one, 2, "chat");
		old = found(&sc, "chat");
		session_close(old);
		sim_execute_in(&sc.one, 3, "chat");
		ck_assert_ptr_ne(found(&sc, "chat"), old);
		scene_pass(&sc, 100 * MS);
		for (uint64_t id = 1; id <= 3; id++)
			ck_told(&sc.one, id, ERROR_NONE, EXECUTED_YES);
		ck_assert_uint_eq(sim_session_n(found(&sc, "chat")), 1);
		ck_assert_uint_eq(sc.stage.pool->n_sessions, 1);
		scene_end(&sc);
	}
END_TEST

START_TEST(a_new_session_of_a_name_waits_for_the_hook_of_the_one_before)
	{
		struct scene sc;
		struct pool_settings s = sim_settings();

		sessions_begin(&sc, &s, 3, true);
		scene_calls_take(&sc, 50 * MS);
		sim_execute_in(&sc.one, 1, "chat");
		scene_pass(&sc, 60 * MS);
		for (uint64_t id = 2; id <= 4; id++) { /* each in a session of its own, closed at once */
			sim_execute_in(&sc.one, id, "chat");
			session_close(found(&sc, "chat"));
		}
		sim_execute_in(&sc.one, 5, "chat");
		ck_assert_uint_eq(sc.stage.pool->n_sessions, 4);
		for (uint64_t id = 2; id <= 4; id++) {
			scene_pass(&sc, 50 * MS); /* the call, while later ones wait */
			ck_told(&sc.one, id, ERROR_NONE, EXECUTED_YES);
			ck_waits(&sc.one, id + 1);
			scene_pass(&sc, 50 * MS); /* the hook */
			ck_waits(&sc.one, id + 1);
		}
		scene_pass(&sc, 60 * MS);
		ck_told(&sc.one, 5, ERROR_NONE, EXECUTED_YES);
		ck_assert_uint_eq(sim_session_n(found(&sc, "chat")), 1);
		ck_assert_uint_eq(sc.stage.pool->n_sessions, 1);
		scene_end(&sc);
	}
END_TEST

/* Each of its hooks would else win a turn for its own calls. */
START_TEST(who_closes_sessions_as_the_user_of_the_daemon_keeps_no_other_user_out)
	{
		struct pool_settings s = sim_settings();
		struct sim_caller own, other;
		struct scene sc;
		char name[16];

		sessions_begin(&sc, &s, 1, true);
		sim_caller_init_as(&own, &sc.stage, sc.stage.pool->self.uid);
		sim_caller_init_as(&other, &sc.stage, sc.stage.pool->self.uid + 1);
		call(&sc, &sc.one, 1, "first"); /* all others are bound to its worker at once */
		scene_calls_take(&sc, 10 * MS);
		for (uint64_t id = 1; id <= 20; id++) {
			(void)snprintf(name, sizeof(name), "s%llu", (unsigned long long)id);
			sim_execute_in(&own, id, name);
			session_close(session_find(sc.stage.pool, own.caller.uid, span_str(name)));
		}
		sim_execute_in(&other, 1, "chat");
		scene_pass(&sc, 100 * MS);
		ck_told(&other, 1, ERROR_NONE, EXECUTED_YES);
		ck_waits(&own, 20);
		scene_pass(&sc, S);
		ck_told(&own, 20, ERROR_NONE, EXECUTED_YES);
		ck_assert_uint_eq(scene_child(&sc)->n_closed, 20);
		caller_gone(&own.caller);
		caller_gone(&other.caller);
		scene_end(&sc);
	}
END_TEST

START_TEST(a_hook_that_runs_makes_no_room_in_the_queue)
	{
		struct pool_settings s = sim_settings();
		struct scene sc;

		s.max_queue = 1;
		sessions_begin(&sc, &s, 1, true);
		call(&sc, &sc.one, 1, "chat");
		scene_calls_take(&sc, 100 * MS);
		session_close(found(&sc, "chat"));
		scene_pass(&sc, 10 * MS);
		ck_assert_uint_eq(scene_child(&sc)->n_closed, 1); /* it has begun */
		sim_execute(&sc.one, 2, 0, 0);
		sim_execute(&sc.one, 3, 0, 0);
		ck_told(&sc.one, 3, ERROR_OVERLOADED, EXECUTED_NEVER);
		scene_pass(&sc, S);
		ck_told(&sc.one, 2, ERROR_NONE, EXECUTED_YES);
		scene_end(&sc);
	}
END_TEST

RUN_SUITE("session close", fault_64_a_session_that_is_not_used_ends_with_its_ttl,
	  a_session_does_not_end_while_a_call_runs_or_waits,
	  the_hook_runs_in_the_worker_of_the_session_after_its_waiting_calls,
	  the_hook_runs_also_when_a_call_before_it_takes_longer_than_stop_timeout,
	  a_hook_that_takes_longer_than_stop_timeout_is_interrupted, fault_99_hooks_are_charged_to_nobody,
	  a_name_that_was_closed_is_free_at_once, a_new_session_of_a_name_waits_for_the_hook_of_the_one_before,
	  who_closes_sessions_as_the_user_of_the_daemon_keeps_no_other_user_out, a_hook_that_runs_makes_no_room_in_the_queue)

/* Which worker the calls of a session go to. */
#include "daemon/pool/affinity.h"

#include <signal.h>

#include "tests/unit/session_support.h"

START_TEST(calls_of_a_session_run_in_one_worker_in_order)
	{
		struct scene sc;
		struct session *s;
		struct sim_child *c;

		scene_begin(&sc, 3);
		for (uint64_t id = 1; id <= 6; id++)
			sim_execute_in(id % 2 ? &sc.one : &sc.two, id, "chat");
		scene_pass(&sc, 100 * MS);
		s = found(&sc, "chat");
		ck_assert_ptr_nonnull(s->worker);
		c = carrier(&sc, "chat");
		ck_assert_uint_eq(c->n_calls, 6);
		for (uint64_t id = 1; id <= 6; id++)
			ck_told(id % 2 ? &sc.one : &sc.two, id, ERROR_NONE, EXECUTED_YES);
		ck_assert_uint_eq(sim_session_n(s), 6);
		ck_assert_uint_eq(s->sends, 1); /* its copy was current all the time */
		scene_end(&sc);
	}
END_TEST

START_TEST(fault_63_two_first_calls_at_once_land_on_one_worker)
	{
		struct scene sc;

		scene_begin(&sc, 2);
		sim_execute_in(&sc.one, 1, "chat");
		sim_execute_in(&sc.two, 1, "chat");
		scene_pass(&sc, 50 * MS);
		ck_assert_uint_eq(sim_session_n(found(&sc, "chat")), 2);
		ck_assert_uint_eq(carrier(&sc, "chat")->n_calls, 2);
		scene_end(&sc);
	}
END_TEST

START_TEST(sessions_are_spread_over_workers_but_for_the_reserve)
	{
		struct pool_settings settings = sim_settings();
		unsigned carriers = 0;
		struct scene sc;
		char name[8];

		settings.session_reserve = 1;
		sessions_begin(&sc, &settings, 3, false);
		for (uint64_t id = 1; id <= 8; id++) {
			(void)snprintf(name, sizeof(name), "s%d", (int)id);
			call(&sc, &sc.one, id, name);
		}
		for (struct worker *w = sc.stage.pool->workers; w; w = w->next) {
			carriers += w->n_bound != 0;
			ck_assert(w->n_bound == 0 || w->n_bound == 4);
		}
		ck_assert_uint_eq(carriers, 2);
		scene_end(&sc);
	}
END_TEST

START_TEST(fault_67_the_reserve_serves_when_all_other_workers_are_held_by_sessions)
	{
		struct pool_settings settings = sim_settings();
		struct scene sc;

		settings.session_reserve = 1;
		sessions_begin(&sc, &settings, 2, false);
		call(&sc, &sc.one, 1, "a");
		carrier(&sc, "a")->script.call = SIM_CALL_HANG;
		sim_execute_in(&sc.one, 2, "a");
		scene_pass(&sc, 10 * MS);
		sim_submit_in(&sc.two, "b",
			      &(struct request_spec){ .kind = REQUEST_EXECUTE, .id = 2, .queue_timeout = S });
		sim_execute(&sc.two, 1, 0, 0);
		scene_pass(&sc, 100 * MS);
		ck_told(&sc.two, 1, ERROR_NONE, EXECUTED_YES);
		ck_waits(&sc.two, 2);
		scene_pass(&sc, S);
		ck_told(&sc.two, 2, ERROR_QUEUE_TIMEOUT, EXECUTED_NEVER);
		scene_end(&sc);
	}
END_TEST

START_TEST(a_pool_of_one_worker_serves_sessions_and_others_in_turn)
	{
		struct pool_settings settings = sim_settings();
		struct scene sc;

		settings.session_reserve = 1;
		sessions_begin(&sc, &settings, 1, false);
		call(&sc, &sc.one, 1, "a");
		scene_child(&sc)->script.call_after = 10 * MS;
		for (uint64_t id = 2; id < 12; id++) {
			sim_execute_in(&sc.one, id, "a");
			sim_execute(&sc.two, id, 0, 0);
		}
		scene_pass(&sc, 105 * MS);
		for (uint64_t id = 2; id < 6; id++) {
			ck_told(&sc.one, id, ERROR_NONE, EXECUTED_YES);
			ck_told(&sc.two, id, ERROR_NONE, EXECUTED_YES);
		}
		scene_pass(&sc, S);
		scene_end(&sc);
	}
END_TEST

/* A session that has had one call, and two workers. */
static struct session *begin_preferring(struct scene *sc)
{
	struct pool_settings settings = sim_settings();

	settings.affinity_prefer = true;
	sessions_begin(sc, &settings, 2, false);
	call(sc, &sc->one, 1, "chat");
	return found(sc, "chat");
}

START_TEST(a_session_that_prefers_its_worker_moves_when_that_is_busy_with_its_values)
	{
		struct worker *first;
		struct scene sc;
		struct session *s;

		s = begin_preferring(&sc);
		first = s->worker;
		call(&sc, &sc.one, 2, "chat");
		ck_assert_ptr_eq(s->worker, first);
		scene_child_of(&sc, first)->script.call = SIM_CALL_HANG;
		sim_execute(&sc.two, 1, 0, 0);
		if (first->state == WORKER_IDLE)
			sim_execute(&sc.two, 2, 0, 0);
		scene_pass(&sc, 10 * MS);
		call(&sc, &sc.one, 3, "chat");
		ck_assert_ptr_ne(s->worker, first);
		ck_assert_uint_eq(sim_session_n(s), 3);
		ck_assert_ptr_null(scene_child_of(&sc, first)->copies.list); /* it was told to forget it */
		scene_end(&sc);
	}
END_TEST

START_TEST(a_session_that_prefers_its_worker_survives_it)
	{
		struct scene sc;
		struct session *s;

		s = begin_preferring(&sc);
		carrier(&sc, "chat")->script.call = SIM_CALL_DIE;
		carrier(&sc, "chat")->script.signal = SIGKILL;
		sim_execute_in(&sc.one, 2, "chat");
		sim_execute_in(&sc.one, 3, "chat");
		scene_pass(&sc, S);
		ck_told(&sc.one, 2, ERROR_WORKER_DIED, EXECUTED_MAYBE);
		ck_told(&sc.one, 3, ERROR_NONE, EXECUTED_YES);
		ck_assert_uint_eq(sim_session_n(s), 2);
		scene_end(&sc);
	}
END_TEST

START_TEST(fault_69_a_worker_that_is_due_serves_its_sessions_until_they_are_closed)
	{
		struct pool_settings settings = sim_settings();
		struct worker *old;
		struct scene sc;
		struct session *s;

		settings.max_requests = 4;
		sessions_begin(&sc, &settings, 1, false);
		call(&sc, &sc.one, 1, "chat");
		s = found(&sc, "chat");
		old = s->worker;
		for (uint64_t id = 2; id <= 8; id++)
			call(&sc, &sc.one, id, "chat");
		scene_pass(&sc, S);
		ck_assert_int_eq(old->state, WORKER_DRAINING);
		ck_assert_uint_eq(sc.stage.pool->in_state[WORKER_IDLE], 1);
		call(&sc, &sc.one, 9, "chat");
		ck_assert_ptr_eq(s->worker, old);
		ck_assert_uint_eq(sim_session_n(s), 9);
		session_close(s);
		scene_pass(&sc, 10 * MS);
		ck_assert_int_eq(old->state, WORKER_DEAD);
		scene_end(&sc);
	}
END_TEST

START_TEST(fault_69_or_until_drain_timeout)
	{
		struct pool_settings settings = sim_settings();
		struct worker *old;
		struct scene sc;

		settings.max_requests = 2;
		settings.drain_timeout = 3 * S;
		sessions_begin(&sc, &settings, 1, false);
		for (uint64_t id = 1; id <= 4; id++)
			call(&sc, &sc.one, id, "chat");
		old = found(&sc, "chat")->worker;
		scene_pass(&sc, 2 * S);
		ck_assert_int_eq(old->state, WORKER_DRAINING);
		scene_pass(&sc, 1100 * MS);
		ck_assert_int_eq(old->state, WORKER_DEAD);
		ck_assert(found(&sc, "chat")->lost);
		ck_assert_ptr_nonnull(strstr(found(&sc, "chat")->how, "drain_timeout"));
		scene_end(&sc);
	}
END_TEST

RUN_SUITE("affinity", calls_of_a_session_run_in_one_worker_in_order,
	  fault_63_two_first_calls_at_once_land_on_one_worker, sessions_are_spread_over_workers_but_for_the_reserve,
	  fault_67_the_reserve_serves_when_all_other_workers_are_held_by_sessions,
	  a_pool_of_one_worker_serves_sessions_and_others_in_turn,
	  a_session_that_prefers_its_worker_moves_when_that_is_busy_with_its_values,
	  a_session_that_prefers_its_worker_survives_it,
	  fault_69_a_worker_that_is_due_serves_its_sessions_until_they_are_closed, fault_69_or_until_drain_timeout)

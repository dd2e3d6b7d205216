#include "daemon/pool/pool.h"

#include <errno.h>
#include <signal.h>

#include "daemon/pool/failure.h"
#include "tests/unit/pool_support.h"

static void scene_begin_failing(struct scene *sc, unsigned workers)
{
	struct pool_settings s = sim_settings();

	s.min_workers = s.max_workers = workers;
	scene_prepare(sc, &s);
	scene_start(sc, SIM_INIT_FAILED);
}

/* Time until the next start is tried. */
static uint64_t time_to_next_start(struct scene *sc)
{
	unsigned n = sc->stage.machine.n_attempts;
	uint64_t from = loop_now(sc->stage.loop);

	while (sc->stage.machine.n_attempts == n) {
		scene_pass(sc, MS);
		ck_assert_uint_lt(loop_now(sc->stage.loop) - from, 60 * S);
	}
	return loop_now(sc->stage.loop) - from;
}

START_TEST(a_pool_starts_its_minimum_and_settles_once)
	{
		struct scene sc;

		scene_begin(&sc, 3);
		ck_assert_uint_eq(sc.stage.n_settled, 1);
		ck_assert_uint_eq(sc.stage.machine.n_spawned, 3);
		ck_pool_is(&sc, "serving");
		scene_end(&sc);
	}
END_TEST

START_TEST(the_first_failure_settles_a_pool_too)
	{
		struct scene sc;

		scene_begin_failing(&sc, 2);
		ck_assert_uint_eq(sc.stage.n_settled, 0);
		scene_pass(&sc, 3 * MS);
		ck_assert_uint_eq(sc.stage.n_settled, 1);
		ck_pool_is(&sc, "down");
		scene_pass(&sc, 10 * S);
		ck_assert_uint_eq(sc.stage.n_settled, 1);
		scene_end(&sc);
	}
END_TEST

START_TEST(fault_52_the_first_replacement_comes_at_once_then_0_1_s_and_twice_that_with_25_percent_jitter)
	{
		struct scene sc;
		uint64_t wait = 100 * MS;

		scene_begin_failing(&sc, 1);
		scene_pass(&sc, 0);
		ck_assert_uint_eq(sc.stage.machine.n_attempts, 1);
		ck_assert_uint_le(time_to_next_start(&sc), 3 * MS);
		for (unsigned n = 0; n < 12; n++) {
			uint64_t took = time_to_next_start(&sc);

			ck_assert_uint_ge(took, wait - wait / 4);
			ck_assert_uint_le(took, wait + wait / 4 + 5 * MS); /* and the time that failing takes */
			wait = 2 * wait < 30 * S ? 2 * wait : 30 * S;
		}
		scene_end(&sc);
	}
END_TEST

START_TEST(the_jitter_is_not_the_same_for_all_pools)
	{
		uint64_t waits[2];

		for (unsigned i = 0; i < 2; i++) {
			struct pool_settings s = sim_settings();
			struct scene sc;

			scene_prepare(&sc, &s);
			sc.stage.pool->supply.seed = i;
			scene_start(&sc, SIM_INIT_FAILED);
			scene_pass(&sc, 0);
			(void)time_to_next_start(&sc);
			waits[i] = time_to_next_start(&sc);
			scene_end(&sc);
		}
		ck_assert_uint_ne(waits[0], waits[1]);
	}
END_TEST

START_TEST(fault_51_a_process_that_cannot_be_made_fails_callers_at_once_with_the_reason)
	{
		struct pool_settings s = sim_settings();
		struct scene sc;

		scene_prepare(&sc, &s);
		sc.stage.machine.spawn_error = -ENOENT;
		pool_start(sc.stage.pool);
		sim_execute(&sc.one, 1, 0, 0);
		scene_pass(&sc, 0);
		ck_told_why(&sc.one, 1, ERROR_INIT_FAILED, EXECUTED_NEVER, "No such file");
		sim_execute(&sc.one, 2, 0, 0);
		ck_told(&sc.one, 2, ERROR_INIT_FAILED, EXECUTED_NEVER); /* without even a turn of the loop */
		scene_end(&sc);
	}
END_TEST

START_TEST(fault_52_a_pool_that_is_down_fails_callers_at_once_with_the_last_failure)
	{
		struct scene sc;
		const struct sim_answer *a;

		scene_begin_failing(&sc, 1);
		sim_execute(&sc.one, 1, 0, 0);
		scene_pass(&sc, 10 * MS);
		ck_told_why(&sc.one, 1, ERROR_INIT_FAILED, EXECUTED_NEVER,
			    "RuntimeError: licence server refused, app.py line 5");
		a = told(&sc.one, 1);
		ck_assert(a->has_cause);
		ck_assert_uint_gt(a->retry_after_ms, 0);
		scene_end(&sc);
	}
END_TEST

START_TEST(a_pool_that_was_down_serves_when_a_probe_gets_ready)
	{
		struct scene sc;

		scene_begin_failing(&sc, 2);
		scene_pass(&sc, 10 * MS);
		ck_assert(pool_is_down(sc.stage.pool));
		scene_mend(&sc, S);
		ck_assert(!pool_is_down(sc.stage.pool));
		ck_assert_ptr_null(sc.stage.pool->supply.failure);
		ck_idle(&sc, 2);
		ck_serves(&sc, 1);
		scene_end(&sc);
	}
END_TEST

START_TEST(fault_54_starts_that_fail_do_not_disturb_workers_that_live)
	{
		struct scene sc;

		scene_begin(&sc, 2);
		sc.stage.machine.spawn_error = -EAGAIN;
		sim_child_die(scene_child(&sc), 0, SIGKILL);
		scene_pass(&sc, 10 * MS);
		ck_pool_is(&sc, "degraded");
		execute_many(&sc, 1, 19);
		scene_pass(&sc, 100 * MS);
		ck_told_all(&sc, 1, 19);
		scene_end(&sc);
	}
END_TEST

START_TEST(replies_of_old_workers_do_not_shorten_the_back_off_of_failing_starts)
	{
		struct scene sc;
		unsigned before;

		scene_begin(&sc, 2);
		sc.stage.machine.script.init = SIM_INIT_FAILED;
		sim_child_die(scene_child(&sc), 0, SIGKILL);
		scene_pass(&sc, S);
		before = sc.stage.machine.n_attempts;
		for (uint64_t id = 1; id < 50; id++) {
			sim_execute(&sc.one, id, 0, 0);
			scene_pass(&sc, 5 * MS);
		}
		ck_assert_uint_le(sc.stage.machine.n_attempts - before, 1);
		scene_end(&sc);
	}
END_TEST

/* The worker that is not leased dies, as soon as there is one. */
static void kill_other(struct scene *sc, const struct lease *l)
{
	const struct worker *w;

	for (unsigned ms = 0; sc->stage.pool->in_state[WORKER_IDLE] == 0; ms += 10) {
		ck_assert_uint_lt(ms, 10000);
		scene_pass(sc, 10 * MS);
	}
	for (w = scene_worker(sc); w == l->worker; w = w->next)
		;
	sim_child_die(scene_child_of(sc, w), 1, 0);
	scene_pass(sc, MS);
}

START_TEST(replies_of_old_workers_do_not_shorten_the_back_off_of_workers_that_die_when_ready)
	{
		struct scene sc;
		struct lease *l;

		scene_begin(&sc, 2);
		l = scene_lease(&sc, &sc.one, 1, 0);
		for (uint64_t id = 2; id < 8; id++) {
			kill_other(&sc, l);
			sim_execute_leased(&sc.one, id, l);
			scene_pass(&sc, 10 * MS);
			ck_told(&sc.one, id, ERROR_NONE, EXECUTED_YES);
		}
		ck_assert_uint_eq(sc.stage.pool->supply.deaths_in_row, 6);
		ck_assert_uint_ge(supply_wait(sc.stage.pool), S);
		scene_pass(&sc, 3 * S); /* the next one lives, and is called */
		ck_serves(&sc, 1);
		ck_assert_uint_eq(sc.stage.pool->supply.deaths_in_row, 0);
		scene_end(&sc);
	}
END_TEST

START_TEST(an_init_timeout_does_not_bypass_the_back_off)
	{
		struct pool_settings s = sim_settings();
		struct scene sc;

		s.min_workers = s.max_workers = 4;
		s.init_timeout = 100 * MS;
		scene_prepare(&sc, &s);
		sc.stage.machine.script.init = SIM_INIT_HANG_LATE;
		sc.stage.machine.script.ignores_term = true;
		pool_start(sc.stage.pool);
		scene_pass(&sc, 10 * S);
		ck_assert_uint_le(sc.stage.machine.n_attempts, 4 + 7);
		scene_end(&sc);
	}
END_TEST

START_TEST(workers_that_die_together_count_once)
	{
		struct scene sc;
		struct worker *w;

		scene_begin(&sc, 4);
		for (w = scene_worker(&sc); w; w = w->next)
			sim_child_die(scene_child_of(&sc, w), 0, SIGKILL);
		scene_pass(&sc, 10 * MS);
		ck_idle(&sc, 4); /* all replaced, without a wait */
		scene_end(&sc);
	}
END_TEST

START_TEST(over_max_queue_calls_are_overloaded_also_within_one_turn)
	{
		struct pool_settings s = sim_settings();
		struct scene sc;

		s.max_queue = 3;
		scene_prepare(&sc, &s);
		sim_stage_start(&sc.stage);
		execute_many(&sc, 1, 10);
		for (uint64_t id = 1; id <= 4; id++) /* one for the idle worker, three that wait */
			ck_waits(&sc.one, id);
		for (uint64_t id = 5; id <= 10; id++)
			ck_told(&sc.one, id, ERROR_OVERLOADED, EXECUTED_NEVER);
		scene_pass(&sc, 100 * MS);
		ck_told_all(&sc, 1, 4);
		scene_end(&sc);
	}
END_TEST

START_TEST(fault_29_a_caller_that_floods_does_not_make_another_wait_for_all_of_it)
	{
		struct scene sc;

		scene_begin(&sc, 1);
		execute_many(&sc, 1, 50);
		sim_execute(&sc.two, 1, 0, 0);
		scene_pass(&sc, 3 * MS);
		ck_told(&sc.two, 1, ERROR_NONE, EXECUTED_YES);
		ck_waits(&sc.one, 10);
		scene_end(&sc);
	}
END_TEST

START_TEST(fault_89_drain_finishes_what_runs_and_refuses_what_waits)
	{
		struct scene sc;

		scene_begin(&sc, 1);
		scene_child(&sc)->script.call = SIM_CALL_MANUAL;
		sim_execute(&sc.one, 1, 0, 0);
		sim_execute(&sc.one, 2, 0, 0);
		scene_pass(&sc, MS);
		pool_drain(sc.stage.pool);
		ck_told(&sc.one, 2, ERROR_DRAINING, EXECUTED_NEVER);
		sim_execute(&sc.one, 3, 0, 0);
		ck_told(&sc.one, 3, ERROR_DRAINING, EXECUTED_NEVER);
		scene_pass(&sc, 500 * MS);
		ck_assert_int_eq(sc.stage.pool->state, POOL_DRAINING);
		sim_child_reply(scene_child(&sc), scene_child(&sc)->call);
		scene_pass(&sc, MS);
		ck_told(&sc.one, 1, ERROR_NONE, EXECUTED_YES);
		scene_pass(&sc, 10 * MS);
		ck_assert_int_eq(sc.stage.pool->state, POOL_STOPPED);
		ck_assert_uint_eq(sc.stage.n_stopped, 1);
		ck_assert_int_eq(sc.stage.pool->dead->exit.exit_code, 0); /* it left as it was asked to */
		scene_end(&sc);
	}
END_TEST

START_TEST(stop_now_answers_what_runs_and_kills)
	{
		struct scene sc;

		scene_begin(&sc, 1);
		scene_child(&sc)->script.call = SIM_CALL_HANG;
		scene_child(&sc)->script.ignores_term = true;
		sim_execute(&sc.one, 1, 0, 0);
		scene_pass(&sc, MS);
		pool_stop_now(sc.stage.pool);
		ck_told(&sc.one, 1, ERROR_CANCELLED, EXECUTED_MAYBE);
		scene_pass(&sc, 0);
		ck_assert_int_eq(sc.stage.pool->state, POOL_STOPPED);
		ck_assert_int_eq(sc.stage.pool->dead->exit.signal, SIGKILL);
		scene_end(&sc);
	}
END_TEST

START_TEST(a_pool_can_be_drained_before_anything_is_ready)
	{
		struct pool_settings s = sim_settings();
		struct scene sc;

		scene_prepare(&sc, &s);
		pool_start(sc.stage.pool);
		pool_drain(sc.stage.pool); /* its worker is still at the gate */
		scene_pass(&sc, 0);
		ck_assert_int_eq(sc.stage.pool->state, POOL_STOPPED);
		ck_assert_uint_eq(sc.stage.machine.n_attempts, 0);
		scene_end(&sc);
	}
END_TEST

START_TEST(only_the_last_dead_workers_are_kept)
	{
		struct scene sc;

		scene_begin(&sc, 1);
		for (unsigned n = 0; n < POOL_DEAD_KEPT + 5; n++) {
			sim_child_die(scene_child(&sc), 0, SIGKILL);
			scene_pass(&sc, 60 * S);
		}
		ck_assert_uint_eq(sc.stage.pool->n_dead, POOL_DEAD_KEPT);
		ck_assert_uint_eq(sc.stage.pool->dead->id, 6); /* the eldest that is kept */
		scene_end(&sc);
	}
END_TEST

RUN_SUITE("pool", a_pool_starts_its_minimum_and_settles_once, the_first_failure_settles_a_pool_too,
	  fault_52_the_first_replacement_comes_at_once_then_0_1_s_and_twice_that_with_25_percent_jitter,
	  the_jitter_is_not_the_same_for_all_pools,
	  fault_51_a_process_that_cannot_be_made_fails_callers_at_once_with_the_reason,
	  fault_52_a_pool_that_is_down_fails_callers_at_once_with_the_last_failure,
	  a_pool_that_was_down_serves_when_a_probe_gets_ready,
	  fault_54_starts_that_fail_do_not_disturb_workers_that_live,
	  replies_of_old_workers_do_not_shorten_the_back_off_of_failing_starts,
	  replies_of_old_workers_do_not_shorten_the_back_off_of_workers_that_die_when_ready,
	  an_init_timeout_does_not_bypass_the_back_off, workers_that_die_together_count_once,
	  over_max_queue_calls_are_overloaded_also_within_one_turn,
	  fault_29_a_caller_that_floods_does_not_make_another_wait_for_all_of_it,
	  fault_89_drain_finishes_what_runs_and_refuses_what_waits, stop_now_answers_what_runs_and_kills,
	  a_pool_can_be_drained_before_anything_is_ready, only_the_last_dead_workers_are_kept)

#include "daemon/pool/breaker.h"

#include "tests/unit/pool_support.h"

/* A pool of one worker whose breaker opens at the third failure and tries again after 10 s. */
static void scene_begin_breaking(struct scene *sc, unsigned workers)
{
	struct pool_settings s = sim_settings();

	s.min_workers = s.max_workers = workers;
	s.breaker_failures = 3;
	s.breaker_reset = 10 * S;
	scene_prepare(sc, &s);
}

static const struct breaker *breaker_of(const struct scene *sc)
{
	return &sc->stage.pool->supply.breaker;
}

/* Calls that kill their workers, one after the other, until the breaker opens. */
static uint64_t crash_until_open(struct scene *sc)
{
	uint64_t id = 100;

	sc->stage.machine.script.call = SIM_CALL_DIE;
	sc->stage.machine.script.signal = 11;
	sim_stage_start(&sc->stage);
	while (!breaker_is_open(breaker_of(sc))) {
		ck_assert_uint_lt(id, 120);
		sim_execute(&sc->one, id++, 0, 0);
		scene_pass(sc, S);
	}
	return id - 100;
}

START_TEST(crashes_in_a_row_open_it_and_calls_fail_at_once_with_the_last_cause)
	{
		struct scene sc;
		const struct sim_answer *a;

		scene_begin_breaking(&sc, 1);
		ck_assert_uint_eq(crash_until_open(&sc), 3);
		ck_assert_str_eq(pool_state_name(sc.stage.pool), "open");
		sim_execute(&sc.one, 1, 0, 0);
		ck_told(&sc.one, 1, ERROR_CIRCUIT_OPEN, EXECUTED_NEVER); /* without even a turn of the loop */
		a = told(&sc.one, 1);
		ck_assert_msg(strstr(a->message, "3 workers failed in a row"), "%s", a->message);
		ck_assert_msg(strstr(a->message, "SIGSEGV"), "%s", a->message);
		ck_assert_msg(strstr(a->message, "next try in 9."), "%s", a->message);
		ck_assert(a->has_cause);
		ck_assert_uint_gt(a->retry_after_ms, 8000);
		ck_assert_uint_le(a->retry_after_ms, 10001);
		scene_end(&sc);
	}
END_TEST

START_TEST(calls_that_wait_when_it_opens_fail_at_once)
	{
		struct scene sc;

		scene_begin_breaking(&sc, 1);
		sc.stage.machine.script.call = SIM_CALL_DIE;
		sim_stage_start(&sc.stage);
		for (uint64_t id = 1; id <= 6; id++)
			sim_execute(&sc.one, id, 0, 0);
		scene_pass(&sc, 2 * S);
		for (uint64_t id = 1; id <= 3; id++)
			ck_told(&sc.one, id, ERROR_WORKER_DIED, EXECUTED_MAYBE);
		for (uint64_t id = 4; id <= 6; id++)
			ck_told(&sc.one, id, ERROR_CIRCUIT_OPEN, EXECUTED_NEVER);
		scene_end(&sc);
	}
END_TEST

START_TEST(an_answer_between_resets_the_count)
	{
		struct scene sc;

		scene_begin_breaking(&sc, 1);
		sim_stage_start(&sc.stage);
		for (uint64_t id = 1; id <= 12; id++) {
			sc.stage.machine.children->script.call = id % 3 ? SIM_CALL_DIE : SIM_CALL_ERROR; /* of a handler */
			sim_execute(&sc.one, id, 0, 0);
			scene_pass(&sc, 5 * S);
			ck_assert(!breaker_is_open(breaker_of(&sc)));
		}
		scene_end(&sc);
	}
END_TEST

START_TEST(exceptions_of_handlers_never_open_it)
	{
		struct scene sc;

		scene_begin_breaking(&sc, 1);
		sc.stage.machine.script.call = SIM_CALL_ERROR;
		sim_stage_start(&sc.stage);
		for (uint64_t id = 1; id <= 12; id++) {
			sim_execute(&sc.one, id, 0, 0);
			scene_pass(&sc, MS);
			ck_told(&sc.one, id, ERROR_APP_ERROR, EXECUTED_YES);
		}
		ck_assert_uint_eq(breaker_failures(breaker_of(&sc)), 0);
		scene_end(&sc);
	}
END_TEST

/* Calls that go on after their deadline, or after a cancel, until their worker is killed for it. */
static void run_until_killed(struct scene *sc, uint64_t id, bool cancel)
{
	sim_execute(&sc->one, id, S, 0);
	scene_pass(sc, MS);
	if (cancel)
		request_cancel(registry_find_by_id(&sc->stage.registry, sc->one.caller.id, id));
	scene_pass(sc, 20 * S);
	ck_told(&sc->one, id, cancel ? ERROR_CANCELLED : ERROR_DEADLINE_EXCEEDED, EXECUTED_MAYBE);
}

START_TEST(kills_at_the_deadline_open_it_and_those_after_a_cancel_do_not)
	{
		struct scene sc;

		scene_begin_breaking(&sc, 1);
		sc.stage.machine.script.call = SIM_CALL_HANG;
		sc.stage.machine.script.ignores_interrupt = true;
		sim_stage_start(&sc.stage);
		for (uint64_t id = 1; id <= 4; id++)
			run_until_killed(&sc, id, true);
		ck_assert_uint_eq(breaker_failures(breaker_of(&sc)), 0);
		for (uint64_t id = 5; id <= 7; id++) {
			ck_assert(!breaker_is_open(breaker_of(&sc)));
			run_until_killed(&sc, id, false);
		}
		ck_assert_uint_eq(breaker_of(&sc)->n_opened, 1);
		scene_end(&sc);
	}
END_TEST

START_TEST(failed_starts_open_it_and_nothing_is_started_until_its_time_is_over)
	{
		struct scene sc;
		unsigned n;

		scene_begin_breaking(&sc, 1);
		sc.stage.machine.script.init = SIM_INIT_FAILED;
		pool_start(sc.stage.pool);
		scene_pass(&sc, 2 * S);
		ck_assert(breaker_is_open(breaker_of(&sc)));
		n = sc.stage.machine.n_attempts;
		ck_assert_uint_eq(n, 3);
		scene_pass(&sc, 7 * S);
		ck_assert_uint_eq(sc.stage.machine.n_attempts, n);
		scene_pass(&sc, 3 * S);
		ck_assert_uint_eq(sc.stage.machine.n_attempts, n + 1);
		ck_assert_uint_eq(breaker_of(&sc)->n_opened, 2); /* one failure is enough for the try */
		scene_end(&sc);
	}
END_TEST

START_TEST(a_try_that_goes_well_closes_it_and_no_call_was_risked)
	{
		struct scene sc;

		scene_begin_breaking(&sc, 1);
		sc.stage.machine.script.init = SIM_INIT_FAILED;
		pool_start(sc.stage.pool);
		scene_pass(&sc, 2 * S);
		sc.stage.machine.script.init = SIM_INIT_READY;
		sim_execute(&sc.one, 1, 0, 0);
		ck_told(&sc.one, 1, ERROR_CIRCUIT_OPEN, EXECUTED_NEVER);
		scene_pass(&sc, 10 * S);
		ck_assert(!breaker_is_open(breaker_of(&sc)));
		ck_assert_str_eq(pool_state_name(sc.stage.pool), "serving");
		sim_execute(&sc.one, 2, 0, 0);
		scene_pass(&sc, S);
		ck_told(&sc.one, 2, ERROR_NONE, EXECUTED_YES);
		scene_end(&sc);
	}
END_TEST

START_TEST(a_pool_with_enough_workers_tries_by_replacing_an_idle_one)
	{
		struct scene sc;
		unsigned n;

		scene_begin_breaking(&sc, 2);
		crash_until_open(&sc);
		sc.stage.machine.script.call = SIM_CALL_REPLY;
		scene_pass(&sc, 5 * S);
		ck_assert_uint_eq(sc.stage.pool->in_state[WORKER_IDLE], 2); /* starts were never the problem */
		ck_assert(breaker_is_open(breaker_of(&sc)));
		n = sc.stage.machine.n_spawned;
		scene_pass(&sc, 7 * S);
		ck_assert_uint_eq(sc.stage.machine.n_spawned, n + 1);
		ck_assert(!breaker_is_open(breaker_of(&sc)));
		scene_end(&sc);
	}
END_TEST

START_TEST(calls_of_a_lease_go_on_while_it_is_open)
	{
		struct scene sc;
		struct lease *l;

		scene_begin_breaking(&sc, 2);
		sim_stage_start(&sc.stage);
		sim_checkout(&sc.two, 1, 60 * S);
		scene_pass(&sc, MS);
		l = registry_find_lease(&sc.stage.registry, told(&sc.two, 1)->lease);
		sc.stage.machine.script.call = SIM_CALL_DIE;
		sim_child_die(sim_machine_find(&sc.stage.machine, sc.stage.pool->idle->last_pid), 0, 9);
		for (uint64_t id = 1; id <= 3; id++) {
			scene_pass(&sc, S);
			sim_execute(&sc.one, id, 0, 0);
		}
		scene_pass(&sc, S);
		ck_assert(breaker_is_open(breaker_of(&sc)));
		sim_execute_leased(&sc.two, 2, l);
		scene_pass(&sc, S);
		ck_told(&sc.two, 2, ERROR_NONE, EXECUTED_YES);
		scene_end(&sc);
	}
END_TEST

START_TEST(an_answer_of_an_old_worker_does_not_end_the_try_of_a_start)
	{
		struct scene sc;
		struct lease *l;

		scene_begin_breaking(&sc, 2);
		sim_stage_start(&sc.stage);
		l = scene_lease(&sc, &sc.one, 1, 60 * S);
		sc.stage.machine.script.init = SIM_INIT_FAILED;
		sim_child_die(sim_machine_find(&sc.stage.machine, sc.stage.pool->idle->proc.pid), 1, 0);
		scene_pass(&sc, 5 * S);
		ck_assert_int_eq(breaker_of(&sc)->state, BREAKER_OPEN);
		sc.stage.machine.script.init = SIM_INIT_MANUAL;
		scene_pass(&sc, 8 * S);
		ck_assert_int_eq(breaker_of(&sc)->state, BREAKER_HALF_OPEN);
		sim_execute_leased(&sc.one, 2, l);
		scene_pass(&sc, 10 * MS);
		ck_told(&sc.one, 2, ERROR_NONE, EXECUTED_YES);
		ck_assert_int_eq(breaker_of(&sc)->state, BREAKER_HALF_OPEN);
		scene_end(&sc);
	}
END_TEST

START_TEST(workers_that_die_idle_and_together_count_once)
	{
		struct scene sc;

		scene_begin_breaking(&sc, 4);
		sim_stage_start(&sc.stage);
		while (sc.stage.pool->idle)
			sim_child_die(sim_machine_find(&sc.stage.machine, sc.stage.pool->idle->last_pid), 0, 9),
				scene_pass(&sc, 0);
		ck_assert(!breaker_is_open(breaker_of(&sc)));
		scene_end(&sc);
	}
END_TEST

RUN_SUITE("breaker", crashes_in_a_row_open_it_and_calls_fail_at_once_with_the_last_cause,
	  calls_that_wait_when_it_opens_fail_at_once, an_answer_between_resets_the_count,
	  exceptions_of_handlers_never_open_it, kills_at_the_deadline_open_it_and_those_after_a_cancel_do_not,
	  failed_starts_open_it_and_nothing_is_started_until_its_time_is_over,
	  a_try_that_goes_well_closes_it_and_no_call_was_risked,
	  a_pool_with_enough_workers_tries_by_replacing_an_idle_one, calls_of_a_lease_go_on_while_it_is_open,
	  an_answer_of_an_old_worker_does_not_end_the_try_of_a_start,
	  workers_that_die_idle_and_together_count_once)

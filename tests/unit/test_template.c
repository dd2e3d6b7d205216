#include "daemon/pool/template.h"

#include <errno.h>

#include "daemon/pool/failure.h"
#include "tests/unit/template_support.h"

START_TEST(the_first_start_is_that_of_the_template_and_then_workers_are_forked)
	{
		struct pool_settings s = forking(3, 3);
		struct scene sc;
		uint64_t id = 1;

		forking_start(&sc, &s, SIM_INIT_READY);
		sim_execute(&sc.one, 1, 0, 0);
		scene_pass(&sc, 15 * MS);
		ck_template_is(&sc, "starting");
		ck_processes(&sc, 1, 0);
		ck_assert_uint_eq(pool_living(sc.stage.pool), 0);
		ck_assert_uint_eq(sc.stage.n_settled, 0);
		ck_waits(&sc.one, 1);
		scene_pass(&sc, 85 * MS);
		ck_template_is(&sc, "warm");
		ck_processes(&sc, 1, 3);
		ck_assert_uint_eq(sc.stage.n_settled, 1);
		ck_told(&sc.one, 1, ERROR_NONE, EXECUTED_YES);
		ck_assert_uint_eq(sc.stage.pool->stats.spawned, 3); /* workers; it is none */
		ck_assert_uint_eq(the_template(&sc)->n_forks, 3);
		for (const struct worker *w = sc.stage.pool->workers; w; w = w->next)
			ck_assert_uint_eq(w->id, id++);
		ck_assert_uint_gt(the_template(&sc)->worker->id, REGISTRY_TEMPLATE);
		ck_assert_str_eq(handshake_last(&scene_worker(&sc)->hs)->name, "imports");
		ck_assert_str_eq(scene_worker(&sc)->hs.phases[0].name, "fork");
		scene_end(&sc);
	}
END_TEST

START_TEST(a_forked_worker_goes_on_at_once_and_the_hello_of_its_template_stands_for_its_own)
	{
		struct scene sc;
		const struct worker *w;

		forking_begin(&sc, 1, 1);
		w = scene_worker(&sc);
		ck_assert(scene_child_of(&sc, w)->goes);
		ck_assert(w->hs.hello);
		ck_assert_str_eq(w->hs.python, the_template(&sc)->worker->hs.python);
		ck_assert_str_eq(w->hs.codec, the_template(&sc)->worker->hs.codec);
		ck_assert_str_eq(w->hs.phases[0].name, "fork");
		ck_assert_str_eq(w->hs.phases[1].name, "imports"); /* which the simulated one tells */
		scene_end(&sc);
	}
END_TEST

/* A daemon that meets files of the version before it. */
START_TEST(one_that_does_not_know_how_to_go_on_at_once_gets_its_init)
	{
		struct pool_settings s = forking(2, 2);
		struct scene sc;

		forking_prepare(&sc, &s);
		sc.stage.machine.script.ignores_go = true;
		scene_start(&sc, SIM_INIT_READY);
		scene_pass(&sc, 100 * MS);
		ck_idle(&sc, 2);
		ck_assert(!scene_child_of(&sc, scene_worker(&sc))->goes);
		ck_assert(scene_child_of(&sc, scene_worker(&sc))->got_init);
		ck_assert_str_eq(scene_worker(&sc)->hs.phases[1].name, "library");
		scene_end(&sc);
	}
END_TEST

/* Until then its dump pipe may be the template's. */
START_TEST(nobody_asks_a_forked_worker_for_its_stack_before_its_first_word)
	{
		struct pool_settings s = forking(1, 1);
		struct scene sc;

		s.init_timeout = S;
		forking_begin_with(&sc, &s);
		sc.stage.machine.script.init = SIM_INIT_HANG_EARLY;
		sim_child_die(scene_child(&sc), 0, 0);
		scene_pass(&sc, 500 * MS);
		ck_assert_int_eq(scene_worker(&sc)->state, WORKER_STARTING);
		ck_assert(scene_child(&sc)->script.shows_stack);
		scene_pass(&sc, S);
		ck_assert_str_eq(sc.stage.pool->supply.failure->message, "init was not finished in 1.0 s, in phase fork, asleep in read");
		scene_end(&sc);
	}
END_TEST

START_TEST(a_pool_with_minimum_0_has_a_warm_template_for_its_first_call)
	{
		struct pool_settings s = forking(0, 2);
		struct scene sc;

		s.idle_timeout = S;
		forking_begin_with(&sc, &s);
		ck_assert_uint_eq(sc.stage.n_settled, 1);
		ck_processes(&sc, 1, 0);
		sim_execute(&sc.one, 1, 0, 0);
		scene_pass(&sc, 4 * MS);
		ck_told(&sc.one, 1, ERROR_NONE, EXECUTED_YES);
		scene_pass(&sc, 3 * S);
		ck_assert_uint_eq(pool_living(sc.stage.pool), 0);
		ck_template_is(&sc, "warm");
		scene_end(&sc);
	}
END_TEST

START_TEST(a_burst_is_forked_at_once_whatever_the_gate_lets_in)
	{
		struct scene sc; /* its gate has 4 places */

		forking_begin(&sc, 1, 64);
		scene_calls_take(&sc, 100 * MS);
		execute_many(&sc, 1, 64);
		scene_pass(&sc, 10 * MS); /* 5 until it grows, 2 to get ready */
		ck_assert_uint_eq(sc.stage.pool->in_state[WORKER_BUSY], 64);
		ck_processes(&sc, 1, 64);
		scene_pass(&sc, 200 * MS);
		ck_told_all(&sc, 1, 64);
		scene_end(&sc);
	}
END_TEST

START_TEST(forks_that_take_long_are_waited_for_as_long_as_one_after_the_other_comes)
	{
		struct pool_settings s = forking(8, 8);
		struct scene sc;

		forking_prepare(&sc, &s);
		sc.stage.machine.script.fork_after =
			S; /* the last one after 8 s, which is more than it may be silent for */
		pool_start(sc.stage.pool);
		scene_pass(&sc, 9 * S);
		ck_processes(&sc, 1, 8);
		ck_idle(&sc, 8);
		ck_assert_uint_eq(the_template(&sc)->n_lost, 0);
		scene_end(&sc);
	}
END_TEST

START_TEST(fault_81_a_template_that_must_not_be_forked_says_why_and_workers_are_started)
	{
		struct pool_settings s = forking(2, 2);
		struct scene sc;

		forking_prepare(&sc, &s);
		sc.stage.machine.script.unfit = "it has 2 threads: MainThread, poller";
		pool_start(sc.stage.pool);
		scene_pass(&sc, 200 * MS);
		ck_template_is(&sc, "unfit");
		ck_assert_str_eq(the_template(&sc)->unfit, "it has 2 threads: MainThread, poller");
		ck_processes(&sc, 3, 0);
		ck_assert_uint_eq(sc.stage.n_settled, 1);
		ck_assert_ptr_null(sc.stage.pool->templates); /* it has been told to leave */
		ck_serves(&sc, 1);
		lose_worker(&sc);
		scene_pass(&sc, S);
		ck_processes(&sc, 4, 0);
		scene_end(&sc);
	}
END_TEST

START_TEST(fault_81_one_that_finds_a_thread_when_it_is_to_fork_is_unfit_from_then_on)
	{
		struct scene sc;

		forking_begin(&sc, 2, 2);
		template_child(&sc)->script.fork_errno = EDEADLK;
		lose_worker_and(&sc, SIM_FORK_ERRNO);
		scene_pass(&sc, S);
		ck_template_is(&sc, "unfit");
		ck_assert_ptr_nonnull(strstr(the_template(&sc)->unfit, "thread"));
		ck_processes(&sc, 2, 2);
		ck_idle(&sc, 2);
		ck_assert_ptr_null(sc.stage.pool->supply.failure);
		ck_assert_uint_eq(sc.stage.pool->supply.failures_in_row, 0);
		scene_end(&sc);
	}
END_TEST

/* --- the application cannot be imported --- */

START_TEST(code_that_cannot_be_imported_fails_once_and_callers_are_told)
	{
		struct pool_settings s = forking(4, 4);
		struct scene sc;

		forking_start(&sc, &s, SIM_INIT_FAILED);
		sim_execute(&sc.one, 1, 0, 0);
		scene_pass(&sc, 30 * MS);
		ck_told_why(&sc.one, 1, ERROR_INIT_FAILED, EXECUTED_NEVER, "licence server refused");
		ck_assert(told(&sc.one, 1)->has_cause); /* with the traceback */
		ck_assert_str_eq(sc.stage.pool->supply.failure->message,
				 "RuntimeError: licence server refused, app.py line 5");
		ck_assert_uint_eq(sc.stage.n_settled, 1); /* the daemon's start does not wait for ever */
		ck_pool_is(&sc, "down");
		ck_refuses(&sc, 2, ERROR_INIT_FAILED);
		scene_pass(&sc, 20 * S); /* at once, 0.1 s, 0.2, ... 6.4 s, all ± 25 %, and 20 ms each */
		ck_assert_uint_ge(sc.stage.machine.n_spawned, 8);
		ck_assert_uint_le(sc.stage.machine.n_spawned, 10);
		ck_assert_uint_eq(sc.stage.pool->stats.spawned, 0);
		scene_end(&sc);
	}
END_TEST

/* It cannot be imported for so long. */
static void import_late(unsigned min, uint64_t ns)
{
	struct pool_settings s = forking(min, 2);
	struct scene sc;

	forking_start(&sc, &s, SIM_INIT_FAILED);
	scene_pass(&sc, ns);
	ck_assert(pool_is_down(sc.stage.pool));
	scene_mend(&sc, 4 * S);
	ck_assert(!pool_is_down(sc.stage.pool));
	ck_template_is(&sc, "warm");
	ck_idle(&sc, min ? min : 1); /* the probe */
	ck_assert_ptr_null(sc.stage.pool->supply.failure);
	ck_pool_is(&sc, "serving");
	ck_serves(&sc, 1);
	scene_end(&sc);
}

START_TEST(and_the_pool_serves_when_it_can_be_imported)
	{
		import_late(2, 2 * S);
	}
END_TEST

START_TEST(also_a_pool_with_minimum_0_finds_out_by_itself)
	{
		import_late(0, S);
	}
END_TEST

START_TEST(failed_templates_open_the_breaker_and_its_probe_is_one_template)
	{
		struct pool_settings s = forking(2, 2);
		struct scene sc;
		unsigned n;

		s.breaker_failures = 3;
		s.breaker_reset = 5 * S;
		forking_start(&sc, &s, SIM_INIT_EXIT_LATE);
		scene_pass(&sc, 2 * S);
		ck_pool_is(&sc, "open");
		n = sc.stage.machine.n_spawned;
		ck_assert_uint_eq(n, 3);
		ck_refuses(&sc, 1, ERROR_CIRCUIT_OPEN);
		scene_pass(&sc, 4 * S);
		ck_assert_uint_eq(sc.stage.machine.n_spawned, n + 1);
		ck_pool_is(&sc, "open");
		scene_mend(&sc, 6 * S);
		ck_pool_is(&sc, "serving");
		ck_serves(&sc, 2);
		scene_end(&sc);
	}
END_TEST

START_TEST(a_template_that_is_not_ready_in_time_shows_where_it_hangs)
	{
		struct pool_settings s = forking(1, 1);
		struct scene sc;

		s.init_timeout = S;
		forking_start(&sc, &s, SIM_INIT_HANG_LATE);
		sim_execute(&sc.one, 1, 0, 0);
		scene_pass(&sc, 2500 * MS);
		ck_told_why(&sc.one, 1, ERROR_INIT_FAILED, EXECUTED_NEVER,
			    "init was not finished in 1.0 s, in phase imports of app");
		ck_assert_ptr_nonnull(strstr(sc.stage.pool->supply.failure->message, "app.py line 5"));
		scene_mend(&sc, S);
		ck_serves(&sc, 2);
		scene_end(&sc);
	}
END_TEST

START_TEST(an_interpreter_that_cannot_be_started_is_told_as_of_a_worker)
	{
		struct pool_settings s = forking(1, 1);
		struct scene sc;

		forking_prepare(&sc, &s);
		sc.stage.machine.spawn_error = -ENOENT;
		pool_start(sc.stage.pool);
		sim_execute(&sc.one, 1, 0, 0);
		scene_pass(&sc, 0);
		ck_told_why(&sc.one, 1, ERROR_INIT_FAILED, EXECUTED_NEVER,
			    "cannot start /usr/bin/python3: No such file or directory");
		sc.stage.machine.spawn_error = 0;
		scene_pass(&sc, S);
		ck_serves(&sc, 2);
		scene_end(&sc);
	}
END_TEST

/* --- the end --- */

START_TEST(drain_ends_a_template_in_every_state)
	{
		static const enum sim_init inits[] = { SIM_INIT_HANG_EARLY, SIM_INIT_HANG_LATE, SIM_INIT_READY };

		for (unsigned i = 0; i < ARRAY_SIZE(inits); i++) {
			for (uint64_t ms = 0; ms < 40;
			     ms++) { /* at the gate, starting, initializing, warm, with forks */
				struct pool_settings s = forking(2, 2);
				struct scene sc;

				forking_prepare(&sc, &s);
				sc.stage.machine.script.init = inits[i];
				sc.stage.machine.script.fork_after = 3 * MS;
				pool_start(sc.stage.pool);
				if (ms)
					scene_pass(&sc, ms * MS);
				if (ms % 2)
					pool_drain(sc.stage.pool);
				else
					pool_stop_now(sc.stage.pool);
				ck_stops(&sc, 5 * S);
				scene_end(&sc);
			}
		}
	}
END_TEST

START_TEST(drain_lets_calls_end_when_the_template_is_gone)
	{
		struct scene sc;

		forking_begin(&sc, 1, 1);
		scene_child(&sc)->script.call_after = S;
		sim_execute(&sc.one, 1, 0, 0);
		scene_pass(&sc, 10 * MS);
		pool_drain(sc.stage.pool);
		scene_pass(&sc, 500 * MS);
		ck_assert_uint_eq(sim_machine_living(&sc.stage.machine), 1);
		scene_pass(&sc, S);
		ck_told(&sc.one, 1, ERROR_NONE, EXECUTED_YES);
		scene_end(&sc);
	}
END_TEST

RUN_SUITE("template", the_first_start_is_that_of_the_template_and_then_workers_are_forked,
	  a_forked_worker_goes_on_at_once_and_the_hello_of_its_template_stands_for_its_own,
	  one_that_does_not_know_how_to_go_on_at_once_gets_its_init,
	  nobody_asks_a_forked_worker_for_its_stack_before_its_first_word,
	  a_pool_with_minimum_0_has_a_warm_template_for_its_first_call,
	  a_burst_is_forked_at_once_whatever_the_gate_lets_in,
	  forks_that_take_long_are_waited_for_as_long_as_one_after_the_other_comes,
	  fault_81_a_template_that_must_not_be_forked_says_why_and_workers_are_started,
	  fault_81_one_that_finds_a_thread_when_it_is_to_fork_is_unfit_from_then_on,
	  code_that_cannot_be_imported_fails_once_and_callers_are_told, and_the_pool_serves_when_it_can_be_imported,
	  also_a_pool_with_minimum_0_finds_out_by_itself,
	  failed_templates_open_the_breaker_and_its_probe_is_one_template,
	  a_template_that_is_not_ready_in_time_shows_where_it_hangs,
	  an_interpreter_that_cannot_be_started_is_told_as_of_a_worker, drain_ends_a_template_in_every_state,
	  drain_lets_calls_end_when_the_template_is_gone)

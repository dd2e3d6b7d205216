/* The reload of a pool whose workers are forked. */
#include <signal.h>

#include "tests/unit/reload_support.h"
#include "tests/unit/template_support.h"

static void ck_generation(const struct scene *sc, uint64_t generation, unsigned workers)
{
	const struct worker *w;
	unsigned n = 0;

	ck_assert_uint_eq(sc->stage.pool->generation, generation);
	ck_assert_uint_eq(the_template(sc)->generation, generation);
	for (w = sc->stage.pool->workers; w; w = w->next)
		n += w->generation == generation && w->state == WORKER_IDLE;
	ck_assert_uint_eq(n, workers);
}

/* The process of the template that is being made. */
static struct sim_child *next_child(const struct scene *sc)
{
	return scene_child_of(sc, sc->stage.pool->reload.next->worker);
}

/* A reload that succeeds. */
static void reload(struct scene *sc, uint64_t generation, unsigned workers)
{
	struct seen seen;

	ask(sc, &seen);
	scene_pass(sc, S);
	ck_reloaded(&seen);
	ck_generation(sc, generation, workers);
}

START_TEST(a_new_template_imports_the_code_and_the_canary_and_all_others_are_forked_from_it)
	{
		struct scene sc;
		struct seen seen;
		pid_t pid;

		forking_begin(&sc, 4, 4);
		pid = template_child(&sc)->pid;
		ask(&sc, &seen);
		scene_pass(&sc, MS);
		ck_assert_ptr_nonnull(sc.stage.pool->reload.next);
		ck_assert_int_eq(template_child(&sc)->pid, pid); /* which goes on until the canary is ready */
		scene_pass(&sc, S);
		ck_reloaded(&seen);
		ck_generation(&sc, 2, 4);
		ck_processes(&sc, 2, 8);
		ck_assert_ptr_null(sim_machine_find(&sc.stage.machine, pid));
		ck_assert_ptr_null(sc.stage.pool->reload.next);
		ck_assert_ptr_null(sc.stage.pool->templates->next);
		scene_end(&sc);
	}
END_TEST

START_TEST(a_worker_that_is_lost_meanwhile_is_forked_from_the_old_template)
	{
		struct scene sc;
		struct seen seen;

		forking_begin(&sc, 2, 2);
		sc.stage.machine.script.ready_after = 100 * MS; /* of the new template */
		ask(&sc, &seen);
		scene_pass(&sc, MS);
		forking_be_quick(&sc);
		lose_worker(&sc);
		scene_pass(&sc, 20 * MS);
		ck_generation(&sc, 1, 2);
		ck_processes(&sc, 2, 3);
		scene_pass(&sc, S);
		ck_reloaded(&seen);
		ck_generation(&sc, 2, 2);
		scene_end(&sc);
	}
END_TEST

START_TEST(a_template_that_fails_fails_the_reload_and_the_old_one_goes_on)
	{
		struct scene sc;
		struct seen seen;
		pid_t pid;

		forking_begin(&sc, 2, 2);
		pid = template_child(&sc)->pid;
		sc.stage.machine.script.init = SIM_INIT_FAILED;
		ask(&sc, &seen);
		scene_pass(&sc, S);
		ck_failed(&seen, "licence server refused");
		ck_assert_str_eq(seen.message, "RuntimeError: licence server refused, app.py line 5");
		ck_generation(&sc, 1, 2);
		ck_assert_int_eq(template_child(&sc)->pid, pid);
		ck_assert_ptr_null(sc.stage.pool->supply.failure);
		ck_assert_uint_eq(sc.stage.pool->supply.deaths_in_row, 0);
		sc.stage.machine.script.init = SIM_INIT_READY;
		lose_worker(&sc);
		scene_pass(&sc, 50 * MS);
		ck_processes(&sc, 2, 3); /* from the old one */
		reload(&sc, 2, 2);
		scene_end(&sc);
	}
END_TEST

START_TEST(a_template_that_hangs_fails_the_reload_with_where_it_does)
	{
		struct pool_settings s = forking(1, 1);
		struct scene sc;
		struct seen seen;

		s.init_timeout = S;
		forking_begin_with(&sc, &s);
		sc.stage.machine.script.init = SIM_INIT_HANG_LATE;
		ask(&sc, &seen);
		scene_pass(&sc, 3 * S);
		ck_failed(&seen, "init was not finished in 1.0 s, in phase imports of app");
		ck_generation(&sc, 1, 1);
		ck_assert_uint_eq(sim_machine_living(&sc.stage.machine), 2);
		scene_end(&sc);
	}
END_TEST

START_TEST(a_canary_that_fails_takes_the_new_template_with_it)
	{
		struct scene sc;
		struct seen seen;

		forking_begin(&sc, 2, 2);
		ask(&sc, &seen);
		scene_pass(&sc, MS); /* the template has its script, the canary will have this one */
		sc.stage.machine.script.init = SIM_INIT_FAILED;
		scene_pass(&sc, S);
		ck_failed(&seen, "licence server refused");
		ck_generation(&sc, 1, 2);
		ck_processes(&sc, 2, 3);
		ck_assert_uint_eq(sim_machine_living(&sc.stage.machine), 3);
		scene_end(&sc);
	}
END_TEST

/* Its loss costs speed and nothing else: the canary is started in an interpreter of its own. */
static void lose_next(enum sim_fork fork)
{
	struct scene sc;
	struct seen seen;

	forking_begin(&sc, 2, 2);
	ask(&sc, &seen);
	scene_pass(&sc, MS);
	next_child(&sc)->script.fork = fork;
	scene_pass(&sc, 10 * S);
	ck_reloaded(&seen);
	ck_generation(&sc, 2, 2);
	ck_template_is(&sc, "warm");
	ck_assert_uint_eq(the_template(&sc)->n_lost, 1);
	scene_end(&sc);
}

START_TEST(a_new_template_that_dies_before_it_has_forked_the_canary)
	{
		lose_next(SIM_FORK_DIE_BEFORE);
		lose_next(SIM_FORK_DIE_UNTOLD);
		lose_next(SIM_FORK_DIE_AFTER);
	}
END_TEST

START_TEST(a_new_template_that_does_not_answer)
	{
		lose_next(SIM_FORK_IGNORE);
		lose_next(SIM_FORK_NOBODY);
		lose_next(SIM_FORK_GARBAGE);
		lose_next(SIM_FORK_NO_CHILD);
	}
END_TEST

START_TEST(a_new_template_that_dies_while_there_is_no_room_for_the_canary)
	{
		struct pool_settings s = forking(1, 1);
		struct scene sc;
		struct seen seen;

		s.replace_after = true;
		forking_begin_with(&sc, &s);
		scene_child(&sc)->script.call_after = S;
		sim_execute(&sc.one, 1, 0, 0); /* the canary waits for its end */
		scene_pass(&sc, MS);
		ask(&sc, &seen);
		scene_pass(&sc, 100 * MS);
		ck_assert(template_is_warm(sc.stage.pool->reload.next));
		sc.stage.machine.script.hello_after = 10 * S; /* it is away for long */
		sim_child_die(next_child(&sc), 0, SIGKILL);
		scene_pass(&sc, 100 * MS);
		forking_be_quick(&sc);
		scene_pass(&sc, 2 * S);
		ck_told(&sc.one, 1, ERROR_NONE, EXECUTED_YES);
		ck_reloaded(&seen);
		ck_processes(&sc, 4, 1); /* two templates, the second again, and the canary */
		ck_generation(&sc, 2, 1);
		scene_pass(&sc, 10 * S);
		ck_template_is(&sc, "warm");
		scene_end(&sc);
	}
END_TEST

START_TEST(an_unfit_template_is_replaced_by_one_that_is_fit_and_the_other_way_round)
	{
		struct scene sc;

		forking_begin(&sc, 2, 2);
		sc.stage.machine.script.unfit = "it has 2 threads";
		reload(&sc, 2, 2);
		ck_template_is(&sc, "unfit");
		ck_processes(&sc, 4, 2);
		sc.stage.machine.script.unfit = NULL;
		reload(&sc, 3, 2);
		ck_template_is(&sc, "warm");
		ck_processes(&sc, 5, 4);
		scene_end(&sc);
	}
END_TEST

START_TEST(a_fork_that_the_old_template_owes_is_given_up_with_it)
	{
		struct scene sc;
		struct seen seen;

		forking_begin(&sc, 2, 2);
		template_child(&sc)->script.fork_after = S;
		lose_worker(&sc);
		scene_pass(&sc, 10 * MS);
		ck_assert_uint_eq(sc.stage.pool->in_state[WORKER_STARTING], 1);
		ask(&sc, &seen);
		scene_pass(&sc, 500 * MS);
		ck_reloaded(&seen);
		ck_generation(&sc, 2, 2);
		scene_pass(&sc, 5 * S);
		ck_assert_uint_eq(sim_machine_living(&sc.stage.machine), 3);
		scene_end(&sc);
	}
END_TEST

START_TEST(drain_in_the_midst_of_a_reload_leaves_nothing)
	{
		for (uint64_t us = 0; us < 12000; us += 250) {
			struct scene sc;
			struct seen seen;

			forking_begin(&sc, 2, 2);
			sc.stage.machine.script.fork_after = MS;
			ask(&sc, &seen);
			scene_pass(&sc, us * NS_PER_MS / 1000);
			pool_drain(sc.stage.pool);
			ck_assert_uint_eq(seen.n, 1);
			ck_stops(&sc, 3 * S);
			scene_end(&sc);
		}
	}
END_TEST

RUN_SUITE("template_reload", a_new_template_imports_the_code_and_the_canary_and_all_others_are_forked_from_it,
	  a_worker_that_is_lost_meanwhile_is_forked_from_the_old_template,
	  a_template_that_fails_fails_the_reload_and_the_old_one_goes_on,
	  a_template_that_hangs_fails_the_reload_with_where_it_does, a_canary_that_fails_takes_the_new_template_with_it,
	  a_new_template_that_dies_before_it_has_forked_the_canary, a_new_template_that_does_not_answer,
	  a_new_template_that_dies_while_there_is_no_room_for_the_canary,
	  an_unfit_template_is_replaced_by_one_that_is_fit_and_the_other_way_round,
	  a_fork_that_the_old_template_owes_is_given_up_with_it, drain_in_the_midst_of_a_reload_leaves_nothing)

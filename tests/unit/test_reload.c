#include "daemon/pool/reload.h"

#include "daemon/pool/session.h"
#include "tests/unit/reload_support.h"

static unsigned of_generation(const struct scene *sc, uint64_t generation)
{
	const struct worker *w;
	unsigned n = 0;

	for (w = sc->stage.pool->workers; w; w = w->next)
		n += w->generation == generation && worker_is_serving(w);
	return n;
}

static void scene_with(struct scene *sc, struct pool_settings *s, unsigned workers)
{
	s->min_workers = s->max_workers = workers;
	scene_prepare(sc, s);
	sim_stage_start(&sc->stage);
}

START_TEST(all_workers_are_replaced_one_after_the_other)
	{
		struct scene sc;
		struct seen seen;
		unsigned least = 4;

		scene_begin(&sc, 4);
		sc.stage.machine.script.ready_after = 50 * MS;
		ask(&sc, &seen);
		for (unsigned i = 0; i < 100 && !seen.n; i++) {
			scene_pass(&sc, 10 * MS);
			least = sc.stage.pool->in_state[WORKER_IDLE] < least ? sc.stage.pool->in_state[WORKER_IDLE]
									     : least;
			ck_assert_uint_le(pool_living(sc.stage.pool), 6); /* with one that is just leaving */
		}
		ck_reloaded(&seen);
		ck_assert_uint_eq(seen.generation, 2);
		ck_assert_uint_eq(seen.replaced, 4);
		ck_assert_uint_eq(of_generation(&sc, 2), 4);
		ck_assert_uint_eq(least, 4); /* a replacement was ready before each left */
		scene_end(&sc);
	}
END_TEST

START_TEST(calls_go_on_meanwhile)
	{
		struct scene sc;
		struct seen seen;

		scene_begin(&sc, 2);
		for (struct worker *w = sc.stage.pool->workers; w; w = w->next)
			scene_child_of(&sc, w)->script.call_after = 300 * MS;
		execute_many(&sc, 1, 3);
		ask(&sc, &seen);
		scene_pass(&sc, S);
		ck_told_all(&sc, 1, 3);
		ck_assert_uint_eq(seen.replaced, 2);
		scene_end(&sc);
	}
END_TEST

START_TEST(a_canary_that_fails_changes_nothing)
	{
		struct scene sc;
		struct seen seen;

		scene_begin(&sc, 2);
		sc.stage.machine.script.init = SIM_INIT_FAILED;
		ask(&sc, &seen);
		scene_pass(&sc, S);
		ck_failed(&seen, "licence server refused");
		ck_assert_uint_eq(seen.generation, 1);
		ck_assert_uint_eq(of_generation(&sc, 1), 2);
		ck_assert_ptr_null(sc.stage.pool->supply.failure);
		ck_assert_uint_eq(sc.stage.pool->supply.deaths_in_row, 0);
		ck_pool_is(&sc, "serving");
		ck_serves(&sc, 1);
		scene_end(&sc);
	}
END_TEST

START_TEST(one_that_is_asked_for_later_follows)
	{
		struct scene sc;
		struct seen first, same, later;

		scene_begin(&sc, 1);
		ask(&sc, &first);
		ask(&sc, &same); /* the canary is not on its way: that reload will do */
		sc.stage.machine.script.ready_after = 50 * MS;
		scene_pass(&sc, 10 * MS);
		ask(&sc, &later);
		scene_pass(&sc, S);
		ck_assert_uint_eq(first.generation, 2);
		ck_assert_uint_eq(same.generation, 2);
		ck_assert_uint_eq(later.generation, 3);
		ck_assert_uint_eq(of_generation(&sc, 3), 1);
		scene_end(&sc);
	}
END_TEST

START_TEST(sessions_stay_with_their_worker_until_drain_timeout)
	{
		struct pool_settings settings = sim_settings();
		struct worker *old;
		struct scene sc;
		struct seen seen;

		settings.drain_timeout = 3 * S;
		scene_with(&sc, &settings, 1);
		sim_execute_in(&sc.one, 1, "chat");
		scene_pass(&sc, 10 * MS);
		old = scene_worker(&sc);
		ask(&sc, &seen);
		scene_pass(&sc, S);
		ck_assert_uint_eq(seen.n, 0);
		ck_assert_int_eq(old->state, WORKER_DRAINING);
		sim_execute_in(&sc.one, 2, "chat");
		sim_execute(&sc.one, 3, 0, 0);
		scene_pass(&sc, 10 * MS);
		ck_told(&sc.one, 2, ERROR_NONE, EXECUTED_YES);
		ck_told(&sc.one, 3, ERROR_NONE, EXECUTED_YES);
		scene_pass(&sc, 3 * S);
		ck_assert_uint_eq(seen.replaced, 1);
		sim_execute_in(&sc.one, 4, "chat");
		ck_told(&sc.one, 4, ERROR_SESSION_LOST, EXECUTED_NEVER);
		scene_end(&sc);
	}
END_TEST

START_TEST(a_new_session_goes_to_a_new_worker_though_an_old_one_is_free)
	{
		struct worker *canary;
		struct scene sc;
		struct seen seen;

		scene_begin(&sc, 3);
		sc.stage.machine.script.ready_after = 200 * MS;
		ask(&sc, &seen);
		scene_pass(&sc, 250 * MS);
		ck_assert_uint_eq(of_generation(&sc, 2), 1);
		ck_assert_uint_ge(of_generation(&sc, 1), 1);
		for (canary = scene_worker(&sc); canary->generation != 2; canary = canary->next)
			;
		scene_child_of(&sc, canary)->script.call_after = 100 * MS;
		sim_execute(&sc.one, 1, 0, 0);
		sim_execute_in(&sc.one, 2, "chat");
		scene_pass(&sc, 10 * MS);
		ck_assert_int_eq(canary->state, WORKER_BUSY);
		ck_assert_ptr_eq(session_find(sc.stage.pool, sc.one.caller.uid, SPAN_LIT("chat"))->worker, canary);
		scene_pass(&sc, 5 * S);
		ck_told(&sc.one, 2, ERROR_NONE, EXECUTED_YES);
		ck_assert_uint_eq(seen.replaced, 3);
		scene_end(&sc);
	}
END_TEST

START_TEST(with_replace_after_a_worker_leaves_before_the_canary_comes)
	{
		struct pool_settings settings = sim_settings();
		struct scene sc;
		struct seen seen;

		settings.replace_after = true;
		scene_with(&sc, &settings, 3);
		sc.stage.machine.script.ready_after = 50 * MS;
		ask(&sc, &seen);
		for (unsigned i = 0; i < 100 && !seen.n; i++) {
			scene_pass(&sc, 10 * MS);
			ck_assert_uint_le(sim_machine_living(&sc.stage.machine), 3);
			ck_assert_uint_ge(of_generation(&sc, 1) + of_generation(&sc, 2), 2);
		}
		ck_assert_uint_eq(seen.generation, 2);
		ck_assert_uint_eq(of_generation(&sc, 2), 3);
		scene_end(&sc);
	}
END_TEST

START_TEST(a_pool_that_is_down_comes_back_with_code_that_works)
	{
		struct pool_settings settings = sim_settings();
		struct scene sc;
		struct seen seen;

		settings.breaker_failures = 2;
		settings.breaker_reset = 3600 * S;
		settings.min_workers = settings.max_workers = 2;
		scene_prepare(&sc, &settings);
		sc.stage.machine.script.init = SIM_INIT_FAILED;
		sim_stage_start(&sc.stage);
		scene_pass(&sc, 10 * S);
		sim_execute(&sc.one, 1, 0, 0);
		ck_told(&sc.one, 1, ERROR_CIRCUIT_OPEN, EXECUTED_NEVER);
		sc.stage.machine.script.init = SIM_INIT_READY;
		ask(&sc, &seen);
		scene_pass(&sc, S);
		ck_reloaded(&seen);
		ck_serves(&sc, 2);
		scene_end(&sc);
	}
END_TEST

START_TEST(a_pool_that_leaves_gives_it_up)
	{
		struct scene sc;
		struct seen seen, later, forgotten;

		scene_begin(&sc, 1);
		ask(&sc, &seen);
		ask(&sc, &forgotten);
		scene_pass(&sc, MS);
		ask(&sc, &later);
		reload_forget(&forgotten.waiter);
		pool_drain(sc.stage.pool);
		ck_assert(seen.n == 1 && seen.cut && later.n == 1 && later.cut);
		ck_assert_uint_eq(forgotten.n, 0);
		scene_end(&sc);
	}
END_TEST

RUN_SUITE("reload", all_workers_are_replaced_one_after_the_other, calls_go_on_meanwhile,
	  a_canary_that_fails_changes_nothing, one_that_is_asked_for_later_follows,
	  sessions_stay_with_their_worker_until_drain_timeout,
	  a_new_session_goes_to_a_new_worker_though_an_old_one_is_free,
	  with_replace_after_a_worker_leaves_before_the_canary_comes,
	  a_pool_that_is_down_comes_back_with_code_that_works, a_pool_that_leaves_gives_it_up)

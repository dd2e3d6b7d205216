#include "daemon/pool/health.h"

#include "tests/sim/sim_child_parts.h"
#include "tests/unit/pool_support.h"

static void begin(struct scene *sc)
{
	struct pool_settings s = sim_settings();

	s.ping_interval = S;
	s.call_timeout = 0;
	scene_prepare(sc, &s);
	sim_stage_start(&sc->stage);
}

START_TEST(a_worker_that_answers_is_left_alone)
	{
		struct scene sc;

		begin(&sc);
		scene_pass(&sc, 60 * S);
		ck_assert_uint_eq(sc.stage.machine.n_spawned, 1);
		ck_assert_uint_eq(scene_worker(&sc)->misses, 0);
		ck_assert_uint_ge(scene_worker(&sc)->hs.pong, 50);
		scene_end(&sc);
	}
END_TEST

START_TEST(one_miss_is_shown_and_forgiven)
	{
		struct scene sc;

		begin(&sc);
		scene_child(&sc)->script.ignores_ping = true;
		scene_pass(&sc, 2500 * MS);
		ck_assert_uint_eq(scene_worker(&sc)->misses, 1);
		ck_assert_str_eq(pool_state_name(sc.stage.pool), "degraded");
		scene_worker(&sc)->hs.pong = scene_worker(&sc)->ping_seq; /* it comes late */
		scene_child(&sc)->script.ignores_ping = false;
		scene_pass(&sc, S);
		ck_assert_uint_eq(scene_worker(&sc)->misses, 0);
		ck_assert_str_eq(pool_state_name(sc.stage.pool), "serving");
		scene_pass(&sc, 10 * S);
		ck_assert_uint_eq(sc.stage.machine.n_spawned, 1);
		scene_end(&sc);
	}
END_TEST

/* Of a worker that was taken up, whose numbers begin anew: no ping of ours has so high a one for a long time. */
START_TEST(the_late_answer_to_a_ping_of_another_daemon_answers_none_of_ours)
	{
		struct scene sc;

		begin(&sc);
		sim_child_say_pong(scene_child(&sc), 57);
		scene_child(&sc)->script.ignores_ping = true;
		scene_pass(&sc, 6 * S);
		ck_assert_uint_eq(sc.stage.machine.n_spawned, 2);
		scene_end(&sc);
	}
END_TEST

START_TEST(fault_36_an_idle_worker_that_is_stopped_is_replaced_after_three_misses)
	{
		struct scene sc;

		begin(&sc);
		scene_child(&sc)->script.ignores_ping = true;
		scene_child(&sc)->script.ignores_term = true;
		scene_pass(&sc, 3500 * MS);
		ck_assert_uint_eq(sc.stage.machine.n_spawned, 1);
		scene_pass(&sc, 2 * S);
		ck_assert_uint_eq(sc.stage.machine.n_spawned, 2);
		ck_assert_uint_eq(sc.stage.pool->dead->why, WORKER_WHY_LOST);
		ck_assert_uint_eq(sc.stage.pool->in_state[WORKER_IDLE], 1);
		scene_end(&sc);
	}
END_TEST

START_TEST(a_busy_worker_that_is_silent_is_shown_and_not_replaced)
	{
		struct scene sc;

		begin(&sc);
		scene_child(&sc)->script.ignores_ping = true; /* the GIL is held */
		scene_child(&sc)->script.call_after = 20 * S;
		sim_execute(&sc.one, 1, 0, 0);
		scene_pass(&sc, 19 * S);
		ck_assert_uint_eq(scene_worker(&sc)->misses, 1);
		scene_pass(&sc, 2 * S);
		ck_told(&sc.one, 1, ERROR_NONE, EXECUTED_YES);
		ck_assert_uint_eq(sc.stage.machine.n_spawned, 1);
		scene_end(&sc);
	}
END_TEST

START_TEST(pings_do_not_delay_or_reorder_calls)
	{
		struct scene sc;

		begin(&sc);
		for (uint64_t id = 1; id <= 40; id++) {
			uint64_t at = loop_now(sc.stage.loop);

			sim_execute(&sc.one, id, 0, 0);
			scene_pass(&sc, 497 * MS);
			ck_told(&sc.one, id, ERROR_NONE, EXECUTED_YES);
			ck_assert_uint_le(told(&sc.one, id)->at - at, MS);
		}
		scene_end(&sc);
	}
END_TEST

RUN_SUITE("health", a_worker_that_answers_is_left_alone, the_late_answer_to_a_ping_of_another_daemon_answers_none_of_ours,
	  one_miss_is_shown_and_forgiven,
	  fault_36_an_idle_worker_that_is_stopped_is_replaced_after_three_misses,
	  a_busy_worker_that_is_silent_is_shown_and_not_replaced, pings_do_not_delay_or_reorder_calls)

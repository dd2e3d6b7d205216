#include "daemon/pool/caller.h"

#include "tests/unit/pool_support.h"

START_TEST(an_ended_lease_is_remembered_for_a_minute)
	{
		struct registry g = { 0 };
		struct caller c;

		caller_init(&c, NULL, &g, 0);
		ck_assert_ptr_null(caller_find_ended(&c, 1, 0));
		caller_note_ended(&c, 1, 100 * S, "its ttl was over");
		ck_assert_str_eq(caller_find_ended(&c, 1, 160 * S), "its ttl was over");
		ck_assert_ptr_null(caller_find_ended(&c, 1, 160 * S + 1));
		ck_assert_ptr_null(caller_find_ended(&c, 2, 100 * S));
		ck_assert_ptr_null(caller_find_ended(&c, 0, 0)); /* a place that was never used */
		caller_gone(&c);
		registry_deinit(&g);
		ck_assert_uint_eq(log_bugs(), 0);
	}
END_TEST

START_TEST(the_last_64_ended_leases_are_remembered)
	{
		struct registry g = { 0 };
		struct caller c;

		caller_init(&c, NULL, &g, 0);
		for (uint64_t id = 1; id <= CALLER_ENDED_LEASES + 1; id++)
			caller_note_ended(&c, id, S, "gone");
		ck_assert_ptr_null(caller_find_ended(&c, 1, S));
		for (uint64_t id = 2; id <= CALLER_ENDED_LEASES + 1; id++)
			ck_assert_ptr_nonnull(caller_find_ended(&c, id, S));
		caller_gone(&c);
		registry_deinit(&g);
		ck_assert_uint_eq(log_bugs(), 0);
	}
END_TEST

START_TEST(fault_66_nothing_points_to_a_caller_that_is_gone)
	{
		struct scene sc;

		scene_begin(&sc, 2);
		scene_child(&sc)->script.call = SIM_CALL_HANG;
		sim_machine_find(&sc.stage.machine, scene_worker(&sc)->next->proc.pid)->script.call = SIM_CALL_HANG;
		sim_execute_leased(&sc.one, 2, scene_lease(&sc, &sc.one, 1, 0));
		for (uint64_t id = 3; id < 9; id++)
			sim_execute(&sc.one, id, 0, 0);
		sim_checkout(&sc.one, 9, 0);
		scene_pass(&sc, MS);
		ck_assert_uint_eq(sc.one.n_answers, 1);
		caller_gone(&sc.one.caller);
		ck_assert_uint_eq(sc.one.n_answers, 9);
		for (unsigned i = 1; i < 9; i++)
			ck_assert(sc.one.answers[i].abandoned);
		ck_assert_uint_eq(sc.stage.pool->n_requests, 0);
		ck_assert_ptr_null(sc.stage.registry.leases);
		memset(&sc.one.caller, 0xee, sizeof(sc.one.caller)); /* whoever looks at it now will stumble */
		scene_pass(&sc, S);
		ck_assert_uint_eq(sc.stage.pool->in_state[WORKER_IDLE], 2);
		sim_caller_init(&sc.one, &sc.stage);
		scene_end(&sc);
	}
END_TEST

RUN_SUITE("caller", an_ended_lease_is_remembered_for_a_minute, the_last_64_ended_leases_are_remembered,
	  fault_66_nothing_points_to_a_caller_that_is_gone)

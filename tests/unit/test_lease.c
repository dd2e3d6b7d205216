#include "daemon/pool/lease.h"

#include <signal.h>

#include "tests/unit/pool_support.h"

START_TEST(a_lease_takes_a_worker_out_of_the_pool)
	{
		struct scene sc;
		struct lease *l;

		scene_begin(&sc, 1);
		l = scene_lease(&sc, &sc.one, 1, 0);
		ck_assert_ptr_eq(l->worker, scene_worker(&sc));
		ck_assert_int_eq(l->worker->state, WORKER_BUSY);
		sim_execute(&sc.two, 1, 0, 0);
		scene_pass(&sc, S);
		ck_waits(&sc.two, 1);
		lease_end(l, LEASE_END_CHECKIN);
		scene_pass(&sc, 10 * MS);
		ck_told(&sc.two, 1, ERROR_NONE, EXECUTED_YES);
		scene_end(&sc);
	}
END_TEST

START_TEST(calls_under_a_lease_run_on_its_worker_one_after_the_other)
	{
		struct scene sc;
		struct lease *l;
		struct sim_child *c;

		scene_begin(&sc, 2);
		l = scene_lease(&sc, &sc.one, 1, 0);
		c = sim_machine_find(&sc.stage.machine, l->worker->proc.pid);
		for (uint64_t id = 2; id < 6; id++)
			sim_execute_leased(&sc.one, id, l);
		scene_pass(&sc, 100 * MS);
		ck_assert_uint_eq(c->n_calls, 4);
		for (uint64_t id = 2; id < 6; id++) {
			ck_told(&sc.one, id, ERROR_NONE, EXECUTED_YES);
			ck_assert_uint_eq(sc.one.answers[id - 1].id, id); /* in order */
		}
		ck_assert_int_eq(l->worker->state, WORKER_BUSY);
		scene_end(&sc);
	}
END_TEST

START_TEST(fault_64_a_lease_ends_with_its_ttl_to_the_millisecond)
	{
		struct scene sc;
		struct lease *l;
		uint64_t id;

		scene_begin(&sc, 1);
		l = scene_lease(&sc, &sc.one, 1, 300 * MS);
		id = l->id;
		scene_pass(&sc, 299 * MS);
		ck_assert_ptr_eq(registry_find_lease(&sc.stage.registry, id), l);
		scene_pass(&sc, MS);
		ck_assert_ptr_null(registry_find_lease(&sc.stage.registry, id));
		ck_assert_int_eq(scene_worker(&sc)->state, WORKER_IDLE);
		ck_assert_ptr_nonnull(strstr(caller_find_ended(&sc.one.caller, id, loop_now(sc.stage.loop)), "ttl"));
		scene_end(&sc);
	}
END_TEST

START_TEST(a_ttl_of_0_is_no_limit)
	{
		struct pool_settings s = sim_settings();
		struct scene sc;
		struct lease *l;
		uint64_t id;

		s.lease_ttl = 0;
		scene_prepare(&sc, &s);
		sim_stage_start(&sc.stage);
		l = scene_lease(&sc, &sc.one, 1, 0);
		ck_assert_ptr_nonnull(l);
		id = l->id;
		scene_pass(&sc, 1000 * S);
		ck_assert_ptr_eq(registry_find_lease(&sc.stage.registry, id), l);
		scene_end(&sc);
	}
END_TEST

START_TEST(fault_27_a_call_that_runs_at_the_end_of_the_ttl_is_interrupted)
	{
		struct scene sc;
		struct lease *l;

		scene_begin(&sc, 1);
		scene_child(&sc)->script.call = SIM_CALL_MANUAL;
		l = scene_lease(&sc, &sc.one, 1, 300 * MS);
		sim_execute_leased(&sc.one, 2, l);
		sim_execute_leased(&sc.one, 3, l);
		scene_pass(&sc, 300 * MS);
		ck_told(&sc.one, 2, ERROR_LEASE_EXPIRED, EXECUTED_MAYBE);
		ck_told(&sc.one, 3, ERROR_LEASE_EXPIRED, EXECUTED_NEVER);
		ck_assert_uint_eq(scene_child(&sc)->n_interrupts, 1);
		ck_assert_uint_eq(scene_child(&sc)->n_calls, 1);
		ck_assert_int_eq(scene_worker(&sc)->state, WORKER_IDLE); /* clean, and so it is used again */
		scene_end(&sc);
	}
END_TEST

START_TEST(fault_27_a_worker_that_is_not_clean_after_the_ttl_is_replaced)
	{
		struct scene sc;
		struct lease *l;

		scene_begin(&sc, 1);
		scene_child(&sc)->script.call = SIM_CALL_MANUAL;
		scene_child(&sc)->script.ignores_interrupt = true;
		l = scene_lease(&sc, &sc.one, 1, 300 * MS);
		sim_execute_leased(&sc.one, 2, l);
		sim_execute(&sc.two, 1, 0, 0);
		scene_pass(&sc, 790 * MS);
		ck_waits(&sc.two, 1);
		scene_pass(&sc, 200 * MS);
		ck_told(&sc.two, 1, ERROR_NONE, EXECUTED_YES);
		ck_assert_int_eq(sc.stage.pool->dead->why, WORKER_WHY_CANCELLED);
		scene_end(&sc);
	}
END_TEST

START_TEST(fault_104_a_reply_that_lies_ready_wins_over_the_ttl)
	{
		struct scene sc;
		struct lease *l;

		scene_begin(&sc, 1);
		scene_child(&sc)->script.call = SIM_CALL_MANUAL;
		l = scene_lease(&sc, &sc.one, 1, 300 * MS);
		sim_execute_leased(&sc.one, 2, l);
		scene_pass(&sc, MS);
		sim_child_reply(scene_child(&sc), scene_child(&sc)->call);
		sim_freeze(sc.stage.loop, 10 * S);
		scene_pass(&sc, 0);
		ck_told(&sc.one, 2, ERROR_NONE, EXECUTED_YES);
		scene_end(&sc);
	}
END_TEST

START_TEST(fault_64_no_call_of_a_lease_is_begun_by_a_reply_that_is_found_at_its_ttl)
	{
		struct scene sc;
		struct sim_child *child;
		struct lease *l;

		scene_begin(&sc, 1);
		child = scene_child(&sc);
		child->script.call = SIM_CALL_MANUAL;
		l = scene_lease(&sc, &sc.one, 1, 60 * S);
		sim_execute_leased(&sc.one, 2, l);
		sim_execute_leased(&sc.one, 3, l);
		scene_pass(&sc, 10 * MS);
		sim_child_reply(child, child->call);
		loop_timer_stop(&l->ttl);
		l->ttl.fired(&l->ttl); /* in the turn in which the reply came, before it was read */
		ck_told(&sc.one, 2, ERROR_NONE, EXECUTED_YES);
		ck_told(&sc.one, 3, ERROR_LEASE_EXPIRED, EXECUTED_NEVER);
		scene_pass(&sc, S);
		ck_assert_uint_eq(child->n_calls, 1);
		ck_assert_int_eq(scene_worker(&sc)->state, WORKER_IDLE);
		scene_end(&sc);
	}
END_TEST

START_TEST(checkin_with_a_running_call_cancels_it_and_what_waits)
	{
		struct scene sc;
		struct lease *l;

		scene_begin(&sc, 1);
		scene_child(&sc)->script.call = SIM_CALL_MANUAL;
		l = scene_lease(&sc, &sc.one, 1, 0);
		sim_execute_leased(&sc.one, 2, l);
		sim_execute_leased(&sc.one, 3, l);
		scene_pass(&sc, MS);
		lease_end(l, LEASE_END_CHECKIN);
		ck_told(&sc.one, 2, ERROR_CANCELLED, EXECUTED_MAYBE);
		ck_told(&sc.one, 3, ERROR_CANCELLED, EXECUTED_NEVER);
		scene_pass(&sc, MS);
		ck_assert_uint_eq(scene_child(&sc)->n_interrupts, 1);
		ck_assert_int_eq(scene_worker(&sc)->state, WORKER_IDLE);
		scene_end(&sc);
	}
END_TEST

START_TEST(the_death_of_its_worker_ends_a_lease)
	{
		struct scene sc;
		struct lease *l;
		uint64_t id;

		scene_begin(&sc, 1);
		scene_child(&sc)->script.call = SIM_CALL_MANUAL;
		l = scene_lease(&sc, &sc.one, 1, 0);
		id = l->id;
		sim_execute_leased(&sc.one, 2, l);
		sim_execute_leased(&sc.one, 3, l);
		scene_pass(&sc, MS);
		sim_child_die(scene_child(&sc), 0, SIGKILL);
		scene_pass(&sc, 0);
		ck_told(&sc.one, 2, ERROR_WORKER_DIED, EXECUTED_MAYBE);
		ck_told(&sc.one, 3, ERROR_LEASE_EXPIRED, EXECUTED_NEVER);
		ck_assert_ptr_null(registry_find_lease(&sc.stage.registry, id));
		ck_assert_uint_eq(sc.one.caller.n_leases, 0);
		scene_end(&sc);
	}
END_TEST

START_TEST(a_worker_that_dies_with_its_reply_under_a_lease_is_sent_no_other_call)
	{
		struct scene sc;
		struct lease *l;

		scene_begin(&sc, 1);
		scene_child(&sc)->script.call = SIM_CALL_REPLY_AND_DIE;
		l = scene_lease(&sc, &sc.one, 1, 0);
		sim_execute_leased(&sc.one, 2, l);
		sim_execute_leased(&sc.one, 3, l);
		scene_pass(&sc, 10 * MS);
		ck_told(&sc.one, 2, ERROR_NONE, EXECUTED_YES);
		ck_assert_int_ne(told(&sc.one, 3)->code, ERROR_NONE);
		scene_end(&sc);
	}
END_TEST

START_TEST(fault_66_the_lease_of_a_caller_that_is_gone_is_reclaimed)
	{
		struct scene sc;

		scene_begin(&sc, 1);
		(void)scene_lease(&sc, &sc.one, 1, 0);
		sim_checkout(&sc.two, 1, 0);
		scene_pass(&sc, MS);
		ck_waits(&sc.two, 1);
		caller_gone(&sc.one.caller);
		scene_pass(&sc, 0);
		ck_told(&sc.two, 1, ERROR_NONE, EXECUTED_YES);
		scene_end(&sc);
	}
END_TEST

START_TEST(fault_25_a_forged_id_names_no_lease_and_a_reused_one_an_ended_one)
	{
		struct scene sc;
		struct lease *l;
		uint64_t id, now;

		scene_begin(&sc, 1);
		l = scene_lease(&sc, &sc.one, 1, 0);
		id = l->id;
		ck_assert_ptr_null(registry_find_lease(&sc.stage.registry, id + 1));
		ck_assert_ptr_eq(l->caller, &sc.one.caller); /* which is what tells the other caller's use of it */
		lease_end(l, LEASE_END_CHECKIN);
		scene_pass(&sc, 0);
		now = loop_now(sc.stage.loop);
		ck_assert_ptr_null(registry_find_lease(&sc.stage.registry, id));
		ck_assert_ptr_nonnull(caller_find_ended(&sc.one.caller, id, now + 60 * S));
		ck_assert_ptr_null(caller_find_ended(&sc.one.caller, id, now + 60 * S + 1));
		ck_assert_ptr_null(caller_find_ended(&sc.two.caller, id, now));
		ck_assert_ptr_null(caller_find_ended(&sc.one.caller, id + 1, now));
		scene_end(&sc);
	}
END_TEST

START_TEST(a_reply_under_a_lease_does_not_keep_a_dead_worker_from_being_replaced)
	{
		struct scene sc;
		struct lease *l;
		struct worker *other;

		scene_begin(&sc, 2);
		l = scene_lease(&sc, &sc.one, 1, 0);
		for (unsigned n = 0; n < 4; n++) { /* the other one dies until there is a back-off */
			for (other = scene_worker(&sc); other == l->worker; other = other->next)
				;
			sim_child_die(sim_machine_find(&sc.stage.machine, other->proc.pid), 1, 0);
			scene_pass(&sc, 10 * MS);
			if (sc.stage.pool->supply.respawn.at != LOOP_NEVER)
				break;
		}
		ck_assert_uint_ne(sc.stage.pool->supply.respawn.at, LOOP_NEVER);
		sim_execute_leased(&sc.one, 2, l);
		scene_pass(&sc, 10 * MS);
		ck_told(&sc.one, 2, ERROR_NONE, EXECUTED_YES);
		ck_assert_uint_eq(pool_living(sc.stage.pool), 1); /* it does not shorten the back-off either */
		scene_pass(&sc, 200 * MS);
		ck_assert_uint_eq(pool_living(sc.stage.pool), 2);
		scene_end(&sc);
	}
END_TEST

RUN_SUITE("lease", a_lease_takes_a_worker_out_of_the_pool, calls_under_a_lease_run_on_its_worker_one_after_the_other,
	  fault_64_a_lease_ends_with_its_ttl_to_the_millisecond, a_ttl_of_0_is_no_limit,
	  fault_27_a_call_that_runs_at_the_end_of_the_ttl_is_interrupted,
	  fault_27_a_worker_that_is_not_clean_after_the_ttl_is_replaced,
	  fault_104_a_reply_that_lies_ready_wins_over_the_ttl,
	  fault_64_no_call_of_a_lease_is_begun_by_a_reply_that_is_found_at_its_ttl, checkin_with_a_running_call_cancels_it_and_what_waits,
	  the_death_of_its_worker_ends_a_lease, a_worker_that_dies_with_its_reply_under_a_lease_is_sent_no_other_call,
	  fault_66_the_lease_of_a_caller_that_is_gone_is_reclaimed,
	  fault_25_a_forged_id_names_no_lease_and_a_reused_one_an_ended_one,
	  a_reply_under_a_lease_does_not_keep_a_dead_worker_from_being_replaced)

#include "daemon/pool/worker.h"

#include <signal.h>

#include "tests/unit/pool_support.h"

/* From each state (rows) to each (columns): the contract, written a second time. */
static const char *const moves[WORKER_N_STATES] = {
	/*                        SINBDXd: starting initializing idle busy draining stopping(X) dead */
	[WORKER_STARTING] = ".I...Xd", [WORKER_INITIALIZING] = "..N..Xd", [WORKER_IDLE] = "...BDXd",
	[WORKER_BUSY] = "..N.DXd",     [WORKER_DRAINING] = ".....Xd",     [WORKER_STOPPING] = "......d",
	[WORKER_DEAD] = ".......",
};

START_TEST(all_49_moves_are_as_the_table_says)
	{
		for (int from = 0; from < WORKER_N_STATES; from++) {
			for (int to = 0; to < WORKER_N_STATES; to++)
				ck_assert_msg(worker_may_become(from, to) == (moves[from][to] != '.'), "%s to %s",
					      worker_state_name(from), worker_state_name(to));
		}
	}
END_TEST

START_TEST(nothing_ever_starts_again_and_nothing_leaves_death)
	{
		for (int s = 0; s < WORKER_N_STATES; s++) {
			ck_assert(!worker_may_become(s, WORKER_STARTING));
			ck_assert(!worker_may_become(WORKER_DEAD, s));
			ck_assert(s == WORKER_DEAD || worker_may_become(s, WORKER_DEAD));
		}
	}
END_TEST

START_TEST(an_illegal_move_is_a_bug_line_and_changes_nothing)
	{
		struct scene sc;
		struct worker *w;
		uint64_t bugs = log_bugs();

		scene_begin(&sc, 1);
		w = scene_worker(&sc);
		worker_set_state(w, WORKER_INITIALIZING, WORKER_WHY_NONE);
		ck_assert_uint_eq(log_bugs(), bugs + 1);
		ck_assert_int_eq(w->state, WORKER_IDLE);
		ck_assert_uint_eq(sc.stage.pool->in_state[WORKER_IDLE], 1);
		ck_assert_ptr_eq(sc.stage.pool->idle, w);
		sc.bugs++;
		scene_end(&sc);
	}
END_TEST

static void ck_move(const struct worker *w, unsigned n, enum worker_state from, enum worker_state to,
		    enum worker_why why)
{
	const struct worker_move *m = worker_move(w, n);

	ck_assert_ptr_nonnull(m);
	ck_assert_str_eq(worker_state_name(m->from), worker_state_name(from));
	ck_assert_str_eq(worker_state_name(m->to), worker_state_name(to));
	ck_assert_str_eq(worker_why_name(m->why), worker_why_name(why));
	ck_assert(!n || m->at >= worker_move(w, n - 1)->at);
}

START_TEST(a_workers_whole_life_is_remembered_with_the_last_of_its_calls)
	{
		struct scene sc;
		struct worker *w;

		scene_begin(&sc, 1);
		w = scene_worker(&sc);
		for (unsigned i = 0; i < 20; i++) {
			worker_set_state(w, WORKER_BUSY, WORKER_WHY_NONE);
			worker_set_state(w, WORKER_IDLE, WORKER_WHY_NONE);
		}
		worker_set_state(w, WORKER_BUSY, WORKER_WHY_NONE);
		worker_set_state(w, WORKER_DRAINING, WORKER_WHY_MAX_AGE);
		ck_move(w, 0, WORKER_STARTING, WORKER_INITIALIZING, WORKER_WHY_NONE);
		ck_move(w, 1, WORKER_INITIALIZING, WORKER_IDLE, WORKER_WHY_NONE);
		ck_move(w, 2, WORKER_IDLE, WORKER_BUSY, WORKER_WHY_NONE);
		ck_move(w, 3, WORKER_BUSY, WORKER_DRAINING, WORKER_WHY_MAX_AGE);
		ck_assert_ptr_null(worker_move(w, 4));
		worker_stop(w, WORKER_WHY_MAX_AGE);
		ck_move(w, 4, WORKER_DRAINING, WORKER_STOPPING, WORKER_WHY_MAX_AGE);
		scene_end(&sc);
	}
END_TEST

START_TEST(each_state_and_reason_has_a_name)
	{
		for (int s = 0; s < WORKER_N_STATES; s++)
			ck_assert_ptr_nonnull(worker_state_name(s));
		for (int y = 0; y < WORKER_N_WHYS; y++)
			ck_assert_ptr_nonnull(worker_why_name(y));
	}
END_TEST

START_TEST(a_worker_goes_from_starting_to_idle_by_hello_and_ready)
	{
		struct pool_settings s = sim_settings();
		struct scene sc;
		struct worker *w;

		scene_prepare(&sc, &s);
		sc.stage.machine.script.init = SIM_INIT_MANUAL;
		sim_stage_start(&sc.stage);
		w = scene_worker(&sc);
		ck_assert_int_eq(w->state, WORKER_STARTING);
		ck_assert(scene_child(&sc)->got_init);
		sim_child_say_hello(scene_child(&sc));
		scene_pass(&sc, 0);
		ck_assert_int_eq(w->state, WORKER_INITIALIZING);
		sim_child_say_ready(scene_child(&sc));
		scene_pass(&sc, 0);
		ck_assert_int_eq(w->state, WORKER_IDLE);
		ck_assert_uint_eq(sim_timers_armed(sc.stage.loop), 0); /* the init timeout is off */
		scene_end(&sc);
	}
END_TEST

/* A worker that says things in the wrong order is killed; the pool tries again later. */
static void ck_init_breaks_protocol(enum sim_init init)
{
	struct pool_settings s = sim_settings();
	struct scene sc;

	scene_prepare(&sc, &s);
	sc.stage.machine.script.init = init;
	pool_start(sc.stage.pool);
	scene_pass(&sc, 3 * MS);
	ck_assert_uint_ge(sc.stage.pool->n_dead, 1);
	ck_assert_int_eq(sc.stage.pool->dead->why, WORKER_WHY_PROTOCOL);
	ck_assert_int_eq(sc.stage.pool->dead->exit.signal, SIGKILL);
	sc.stage.machine.script.init = SIM_INIT_READY;
	scene_pass(&sc, S);
	ck_assert_uint_eq(sc.stage.pool->in_state[WORKER_IDLE], 1);
	scene_end(&sc);
}

START_TEST(fault_55_ready_twice_or_before_hello_is_killed)
	{
		ck_init_breaks_protocol(SIM_INIT_READY_TWICE);
		ck_init_breaks_protocol(SIM_INIT_READY_FIRST);
	}
END_TEST

START_TEST(a_worker_of_another_build_or_that_talks_garbage_is_killed)
	{
		ck_init_breaks_protocol(SIM_INIT_WRONG_PROTOCOL);
		ck_init_breaks_protocol(SIM_INIT_GARBAGE);
	}
END_TEST

START_TEST(fault_55_a_reply_before_ready_is_killed)
	{
		ck_init_breaks_protocol(SIM_INIT_EARLY_REPLY);
	}
END_TEST

START_TEST(fault_53_init_that_hangs_is_ended_with_its_phase_and_its_stack)
	{
		struct pool_settings s = sim_settings();
		struct scene sc;
		const struct worker *dead;

		s.init_timeout = S;
		scene_prepare(&sc, &s);
		sc.stage.machine.script.init = SIM_INIT_HANG_LATE;
		sim_stage_start(&sc.stage);
		scene_pass(&sc, 800 * MS);
		ck_assert_int_eq(scene_worker(&sc)->state, WORKER_INITIALIZING);
		scene_pass(&sc, 200 * MS);
		dead = sc.stage.pool->dead;
		ck_assert(dead && dead->why == WORKER_WHY_INIT_TIMEOUT);
		ck_assert_str_eq(handshake_last(&dead->hs)->name, "imports");
		ck_assert_ptr_nonnull(strstr(dead->hs.stack, "in slow"));
		scene_end(&sc);
	}
END_TEST

START_TEST(fault_36_term_is_ignored_then_comes_kill)
	{
		struct pool_settings s = sim_settings();
		struct scene sc;
		struct sim_child *c;

		s.init_timeout = S;
		scene_prepare(&sc, &s);
		sc.stage.machine.script.init = SIM_INIT_HANG_LATE;
		sc.stage.machine.script.ignores_term = true;
		sim_stage_start(&sc.stage);
		scene_pass(&sc, 1300 * MS);
		c = scene_child(&sc);
		ck_assert_int_eq(scene_worker(&sc)->state, WORKER_STOPPING);
		ck_assert_uint_eq(c->n_terms, 1);
		scene_pass(&sc, 300 * MS);
		ck_assert_int_eq(sc.stage.pool->dead->exit.signal, SIGKILL);
		scene_end(&sc);
	}
END_TEST

START_TEST(shutdown_asks_first_then_terminates_then_kills)
	{
		struct scene sc;
		struct sim_child *c;

		scene_begin(&sc, 1);
		c = scene_child(&sc);
		c->script.ignores_stop = c->script.ignores_term = true;
		pool_drain(sc.stage.pool);
		scene_pass(&sc, 900 * MS);
		ck_assert_uint_eq(c->n_stops, 1);
		ck_assert_uint_eq(c->n_terms, 0);
		scene_pass(&sc, 200 * MS);
		ck_assert_uint_eq(c->n_terms, 1);
		scene_pass(&sc, 500 * MS);
		ck_assert_int_eq(sc.stage.pool->state, POOL_STOPPED);
		ck_assert_int_eq(sc.stage.pool->dead->exit.signal, SIGKILL);
		ck_assert_int_eq(sc.stage.pool->dead->why, WORKER_WHY_SHUTDOWN);
		scene_end(&sc);
	}
END_TEST

START_TEST(fault_30_killed_idle_is_replaced_and_nobody_notices)
	{
		struct scene sc;
		uint64_t id;

		scene_begin(&sc, 1);
		id = scene_worker(&sc)->id;
		sim_child_die(scene_child(&sc), 0, SIGKILL);
		sim_execute(&sc.one, 1, 0, 0);
		scene_pass(&sc, 100 * MS);
		ck_told(&sc.one, 1, ERROR_NONE, EXECUTED_YES);
		ck_assert_uint_gt(scene_worker(&sc)->id, id);
		ck_assert_int_eq(sc.stage.pool->dead->why, WORKER_WHY_CRASHED);
		scene_end(&sc);
	}
END_TEST

START_TEST(every_death_is_counted_with_its_reason)
	{
		struct pool *p;
		uint64_t sum = 0;
		struct scene sc;

		scene_begin(&sc, 1);
		p = sc.stage.pool;
		sim_child_die(scene_child(&sc), 0, SIGKILL);
		scene_pass(&sc, 100 * MS);
		worker_stop(scene_worker(&sc), WORKER_WHY_MAX_AGE);
		scene_pass(&sc, 100 * MS);
		pool_drain(p);
		scene_pass(&sc, 100 * MS);
		ck_assert_uint_eq(p->stats.deaths[WORKER_WHY_CRASHED], 1);
		ck_assert_uint_eq(p->stats.deaths[WORKER_WHY_MAX_AGE], 1);
		ck_assert_uint_eq(p->stats.deaths[WORKER_WHY_SHUTDOWN], 1);
		for (unsigned y = 0; y < WORKER_N_WHYS; y++)
			sum += p->stats.deaths[y];
		ck_assert_uint_eq(sum, p->stats.died);
		scene_end(&sc);
	}
END_TEST

START_TEST(fault_30_a_call_that_a_dying_worker_never_read_goes_to_another)
	{
		struct scene sc;
		uint64_t id;

		scene_begin(&sc, 1);
		id = scene_worker(&sc)->id;
		scene_child(&sc)->script.hears_after = S;
		sim_execute(&sc.one, 1, 0, 0);
		scene_pass(&sc, 0);
		ck_assert_int_eq(scene_worker(&sc)->state, WORKER_BUSY);
		sim_child_die(scene_child(&sc), 0, SIGKILL);
		scene_pass(&sc, 100 * MS);
		ck_told(&sc.one, 1, ERROR_NONE, EXECUTED_YES);
		ck_assert_uint_gt(scene_worker(&sc)->id, id);
		scene_end(&sc);
	}
END_TEST

START_TEST(fault_31_a_call_under_a_lease_that_was_never_read_is_told_never)
	{
		struct scene sc;
		struct lease *l;

		scene_begin(&sc, 1);
		l = scene_lease(&sc, &sc.one, 1, 10 * S);
		scene_child(&sc)->script.hears_after = S;
		sim_execute_leased(&sc.one, 2, l);
		scene_pass(&sc, 0);
		sim_child_die(scene_child(&sc), 0, SIGKILL);
		scene_pass(&sc, 0);
		ck_told(&sc.one, 2, ERROR_WORKER_DIED, EXECUTED_NEVER);
		scene_end(&sc);
	}
END_TEST

START_TEST(fault_42_an_idle_worker_that_closed_its_call_channel_is_given_nothing_and_killed)
	{
		struct scene sc;

		scene_begin(&sc, 1);
		sim_child_close_calls(scene_child(&sc));
		scene_pass(&sc, 10 * MS);
		sim_execute(&sc.one, 1, S, 0);
		scene_pass(&sc, 30 * MS);
		ck_waits(&sc.one, 1); /* it was not sent to the worker that does not hear */
		scene_pass(&sc, 100 * MS);
		ck_told(&sc.one, 1, ERROR_NONE, EXECUTED_YES);
		ck_assert_int_eq(sc.stage.pool->dead->why, WORKER_WHY_PROTOCOL);
		scene_end(&sc);
	}
END_TEST

START_TEST(a_call_channel_that_ends_before_ready_is_found_out_too)
	{
		struct pool_settings s = sim_settings();
		struct scene sc;

		scene_prepare(&sc, &s);
		sc.stage.machine.script.init = SIM_INIT_MANUAL;
		sim_stage_start(&sc.stage);
		sim_child_say_hello(scene_child(&sc));
		sim_child_close_calls(scene_child(&sc));
		scene_pass(&sc, MS);
		sim_child_say_ready(scene_child(&sc));
		sc.stage.machine.script.init = SIM_INIT_READY;
		sim_execute(&sc.one, 1, S, 0);
		scene_pass(&sc, 200 * MS);
		ck_told(&sc.one, 1, ERROR_NONE, EXECUTED_YES);
		scene_end(&sc);
	}
END_TEST

START_TEST(what_a_dead_worker_broke_is_read_without_a_bug)
	{
		static const enum sim_init inits[] = { SIM_INIT_EARLY_REPLY_AND_EXIT, SIM_INIT_EXIT_EARLY,
						       SIM_INIT_EXIT_LATE };

		for (size_t i = 0; i < ARRAY_SIZE(inits); i++) {
			struct pool_settings s = sim_settings();
			struct scene sc;

			scene_prepare(&sc, &s);
			sc.stage.machine.script.init = inits[i];
			pool_start(sc.stage.pool);
			scene_pass(&sc, 50 * MS);
			ck_assert_uint_ge(sc.stage.pool->n_dead, 1);
				scene_end(&sc);
		}
	}
END_TEST

RUN_SUITE("worker", all_49_moves_are_as_the_table_says, nothing_ever_starts_again_and_nothing_leaves_death,
	  an_illegal_move_is_a_bug_line_and_changes_nothing, a_workers_whole_life_is_remembered_with_the_last_of_its_calls,
	  each_state_and_reason_has_a_name,
	  a_worker_goes_from_starting_to_idle_by_hello_and_ready, fault_55_ready_twice_or_before_hello_is_killed,
	  a_worker_of_another_build_or_that_talks_garbage_is_killed, fault_55_a_reply_before_ready_is_killed,
	  fault_53_init_that_hangs_is_ended_with_its_phase_and_its_stack, fault_36_term_is_ignored_then_comes_kill,
	  shutdown_asks_first_then_terminates_then_kills, fault_30_killed_idle_is_replaced_and_nobody_notices,
	  every_death_is_counted_with_its_reason, fault_30_a_call_that_a_dying_worker_never_read_goes_to_another,
	  fault_31_a_call_under_a_lease_that_was_never_read_is_told_never,
	  fault_42_an_idle_worker_that_closed_its_call_channel_is_given_nothing_and_killed,
	  a_call_channel_that_ends_before_ready_is_found_out_too, what_a_dead_worker_broke_is_read_without_a_bug)

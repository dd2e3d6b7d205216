#include "daemon/pool/supply.h"

#include "tests/unit/pool_support.h"

static struct pool_settings elastic(unsigned min, unsigned max)
{
	struct pool_settings s = sim_settings();

	s.min_workers = min;
	s.max_workers = max;
	s.max_queue = 0;
	return s;
}

static void begin(struct scene *sc, const struct pool_settings *s)
{
	scene_prepare(sc, s);
	sc->stage.machine.script.hello_after = 10 * MS;
	sc->stage.machine.script.ready_after = 10 * MS;
	pool_start(sc->stage.pool);
	scene_pass(sc, 200 * MS);
}

static unsigned serving(const struct scene *sc)
{
	return sc->stage.pool->in_state[WORKER_IDLE] + sc->stage.pool->in_state[WORKER_BUSY];
}

START_TEST(a_pool_grows_while_calls_wait_and_shrinks_to_its_minimum)
	{
		struct pool_settings s = elastic(1, 8);
		struct scene sc;

		s.idle_timeout = 2 * S;
		begin(&sc, &s);
		ck_assert_uint_eq(pool_living(sc.stage.pool), 1);
		scene_calls_take(&sc, 500 * MS);
		execute_many(&sc, 1, 20);
		scene_pass(&sc, 200 * MS);
		ck_assert_uint_eq(sc.stage.pool->in_state[WORKER_BUSY], 8);
		scene_pass(&sc, 1500 * MS);
		ck_told_all(&sc, 1, 20);
		ck_assert_uint_eq(serving(&sc), 8); /* idle, and not for long enough */
		scene_pass(&sc, 5 * S);
		ck_assert_uint_eq(pool_living(sc.stage.pool), 1);
		ck_assert_uint_eq(sc.stage.machine.n_spawned, 8);
		scene_end(&sc);
	}
END_TEST

START_TEST(calls_that_wait_for_a_moment_only_start_nothing)
	{
		struct pool_settings s = elastic(1, 8);
		struct scene sc;

		begin(&sc, &s);
		sc.stage.machine.children->script.call_after = MS;
		execute_many(&sc, 1, 4); /* the last waits for 3 ms */
		scene_pass(&sc, S);
		ck_told_all(&sc, 1, 4);
		ck_assert_uint_eq(sc.stage.machine.n_spawned, 1);
		scene_end(&sc);
	}
END_TEST

START_TEST(a_pool_with_minimum_0_is_settled_and_starts_a_worker_for_its_first_call)
	{
		struct pool_settings s = elastic(0, 2);
		struct scene sc;

		s.idle_timeout = S;
		begin(&sc, &s);
		ck_assert_uint_eq(sc.stage.n_settled, 1);
		ck_assert_uint_eq(pool_living(sc.stage.pool), 0);
		execute_many(&sc, 1, 1);
		scene_pass(&sc, 50 * MS);
		ck_told_all(&sc, 1, 1);
		scene_pass(&sc, 3 * S);
		ck_assert_uint_eq(pool_living(sc.stage.pool), 0);
		scene_end(&sc);
	}
END_TEST

START_TEST(a_pool_with_minimum_0_whose_start_failed_finds_out_by_itself_when_it_works_again)
	{
		struct pool_settings s = elastic(0, 2);
		struct scene sc;

		scene_prepare(&sc, &s);
		scene_start(&sc, SIM_INIT_FAILED);
		sim_execute(&sc.one, 1, 0, 0);
		scene_pass(&sc, S);
		ck_told(&sc.one, 1, ERROR_INIT_FAILED, EXECUTED_NEVER);
		scene_mend(&sc, 60 * S);
		ck_assert(!pool_is_down(sc.stage.pool));
		ck_serves(&sc, 2);
		scene_end(&sc);
	}
END_TEST

START_TEST(spare_workers_are_kept_idle_beside_those_that_are_busy)
	{
		struct pool_settings s = elastic(1, 6);
		struct scene sc;

		s.spare_workers = 2;
		begin(&sc, &s);
		ck_assert_uint_eq(pool_living(sc.stage.pool), 2);
		scene_calls_take(&sc, S);
		execute_many(&sc, 1, 2);
		scene_pass(&sc, 100 * MS);
		ck_assert_uint_eq(sc.stage.pool->in_state[WORKER_BUSY], 2);
		ck_idle(&sc, 2);
		scene_end(&sc);
	}
END_TEST

START_TEST(fault_47_a_worker_that_is_used_up_leaves_when_its_replacement_is_ready)
	{
		struct pool_settings s = elastic(2, 2);
		struct scene sc;
		unsigned least = 2;

		s.max_requests = 5;
		begin(&sc, &s);
		for (uint64_t id = 1; id <= 60; id++) {
			sim_execute(&sc.one, id, 0, 0);
			for (unsigned i = 0; i < 10; i++) {
				scene_pass(&sc, MS);
				least = serving(&sc) < least ? serving(&sc) : least;
				ck_assert_uint_le(pool_living(sc.stage.pool), 3);
			}
		}
		scene_pass(&sc, S);
		ck_told_all(&sc, 1, 60);
		ck_assert_uint_eq(least, 2); /* never one less */
		ck_assert_uint_gt(sc.stage.machine.n_spawned, 6);
		ck_assert_uint_eq(sc.stage.pool->dead->why, WORKER_WHY_MAX_REQUESTS);
		ck_assert_uint_eq(sc.stage.pool->supply.deaths_in_row, 0);
		scene_end(&sc);
	}
END_TEST

START_TEST(fault_47_with_replace_after_there_is_never_one_more_than_the_maximum)
	{
		struct pool_settings s = elastic(2, 2);
		struct scene sc;

		s.max_requests = 5;
		s.replace_after = true;
		begin(&sc, &s);
		for (uint64_t id = 1; id <= 60; id++) {
			sim_execute(&sc.one, id, 0, 0);
			for (unsigned i = 0; i < 10; i++) {
				scene_pass(&sc, MS);
				ck_assert_uint_le(pool_living(sc.stage.pool), 2);
				ck_assert_uint_ge(serving(&sc), 1); /* one at a time */
			}
		}
		scene_pass(&sc, S);
		ck_told_all(&sc, 1, 60);
		ck_assert_uint_gt(sc.stage.machine.n_spawned, 6);
		scene_end(&sc);
	}
END_TEST

START_TEST(fault_47_workers_of_the_same_age_do_not_leave_at_the_same_time)
	{
		struct pool_settings s = elastic(20, 20);
		struct scene sc;
		uint64_t first = LOOP_NEVER, last = 0;
		const struct worker *w;

		s.max_age = 100 * S;
		begin(&sc, &s);
		for (w = sc.stage.pool->workers; w; w = w->next) {
			first = w->old_at < first ? w->old_at : first;
			last = w->old_at > last ? w->old_at : last;
		}
		ck_assert_uint_gt(last - first, 10 * S);
		for (unsigned i = 0; i < 300; i++) {
			scene_pass(&sc, 100 * MS * 4);
			ck_assert_uint_le(pool_living(sc.stage.pool), 22); /* a tenth more */
			ck_assert_uint_ge(serving(&sc), 20);
		}
		ck_assert_uint_ge(sc.stage.machine.n_spawned, 40);
		scene_end(&sc);
	}
END_TEST

START_TEST(when_no_replacement_can_be_started_the_old_one_goes_on)
	{
		struct pool_settings s = elastic(1, 1);
		struct scene sc;

		s.max_age = 10 * S;
		begin(&sc, &s);
		sc.stage.machine.script.init = SIM_INIT_FAILED;
		scene_pass(&sc, 60 * S);
		ck_assert_uint_eq(serving(&sc), 1);
		ck_serves(&sc, 1);
		scene_end(&sc);
	}
END_TEST

START_TEST(fault_46_a_worker_over_max_rss_is_replaced_after_its_call)
	{
		struct pool_settings s = elastic(1, 1);
		struct scene sc;
		pid_t pid;

		s.max_rss = 2 << 20; /* a simulated child grows by 1 MiB with each call */
		begin(&sc, &s);
		pid = scene_worker(&sc)->last_pid;
		execute_many(&sc, 1, 2);
		scene_pass(&sc, S);
		ck_assert_int_eq(scene_worker(&sc)->last_pid, pid);
		execute_many(&sc, 3, 1);
		scene_pass(&sc, S);
		ck_told_all(&sc, 1, 3);
		ck_assert_int_ne(scene_worker(&sc)->last_pid, pid);
		ck_assert_uint_eq(sc.stage.pool->dead->why, WORKER_WHY_RSS_LIMIT);
		scene_end(&sc);
	}
END_TEST

START_TEST(fault_69_a_leased_worker_that_is_due_leaves_after_the_lease)
	{
		struct pool_settings s = elastic(1, 1);
		struct scene sc;
		struct lease *l;

		s.max_requests = 2;
		begin(&sc, &s);
		l = scene_lease(&sc, &sc.two, 1, 60 * S);
		for (uint64_t id = 2; id <= 10; id++) {
			sim_execute_leased(&sc.two, id, l);
			scene_pass(&sc, 100 * MS);
			ck_told(&sc.two, id, ERROR_NONE, EXECUTED_YES);
		}
		ck_assert_uint_eq(l->worker->state, WORKER_DRAINING);
		ck_assert_uint_eq(serving(&sc), 1);
		lease_end(l, LEASE_END_CHECKIN);
		scene_pass(&sc, S);
		ck_assert_uint_eq(pool_living(sc.stage.pool), 1);
		ck_assert_uint_eq(sc.stage.pool->dead->why, WORKER_WHY_MAX_REQUESTS);
		scene_end(&sc);
	}
END_TEST

START_TEST(a_call_that_is_past_its_deadline_in_a_worker_that_is_due_is_killed_all_the_same)
	{
		struct pool_settings s = elastic(1, 1);
		struct scene sc;

		s.max_age = 2 * S;
		s.call_timeout = 5 * S;
		begin(&sc, &s);
		scene_child(&sc)->script.call = SIM_CALL_HANG;
		scene_child(&sc)->script.ignores_interrupt = true;
		sim_execute(&sc.one, 1, 0, 0);
		scene_pass(&sc, 8 * S);
		ck_told(&sc.one, 1, ERROR_DEADLINE_EXCEEDED, EXECUTED_MAYBE);
		ck_assert_uint_eq(sc.stage.pool->dead->why, WORKER_WHY_DEADLINE);
		scene_end(&sc);
	}
END_TEST

RUN_SUITE("supply", a_pool_grows_while_calls_wait_and_shrinks_to_its_minimum,
	  calls_that_wait_for_a_moment_only_start_nothing,
	  a_pool_with_minimum_0_is_settled_and_starts_a_worker_for_its_first_call,
	  a_pool_with_minimum_0_whose_start_failed_finds_out_by_itself_when_it_works_again,
	  spare_workers_are_kept_idle_beside_those_that_are_busy,
	  fault_47_a_worker_that_is_used_up_leaves_when_its_replacement_is_ready,
	  fault_47_with_replace_after_there_is_never_one_more_than_the_maximum,
	  fault_47_workers_of_the_same_age_do_not_leave_at_the_same_time,
	  when_no_replacement_can_be_started_the_old_one_goes_on,
	  fault_46_a_worker_over_max_rss_is_replaced_after_its_call,
	  fault_69_a_leased_worker_that_is_due_leaves_after_the_lease,
	  a_call_that_is_past_its_deadline_in_a_worker_that_is_due_is_killed_all_the_same)

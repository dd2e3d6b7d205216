/* Templates that die, hang or answer what they must not, and workers whose fork nobody wants any more. */
#include <errno.h>
#include <signal.h>

#include "daemon/pool/failure.h"
#include "tests/unit/template_support.h"

START_TEST(fault_80_workers_live_on_and_new_ones_are_started_until_the_template_is_back)
	{
		struct scene sc;
		pid_t pid;

		forking_begin(&sc, 2, 3);
		scene_calls_take(&sc, S);
		sim_execute(&sc.one, 1, 0, 0);
		scene_pass(&sc, MS);
		pid = template_child(&sc)->pid;
		sc.stage.machine.script.hello_after = 200 * MS; /* of the next template, and of workers without it */
		sim_child_die(template_child(&sc), 0, SIGKILL);
		scene_pass(&sc, 0);
		ck_template_is(&sc, "starting"); /* the next one, at once */
		ck_assert_ptr_nonnull(strstr(the_template(&sc)->lost, "SIGKILL"));
		ck_assert_uint_eq(pool_living(sc.stage.pool), 2);
		lose_worker(&sc);
		scene_pass(&sc, 100 * MS);
		ck_processes(&sc, 3, 2); /* beside a new template a worker in an interpreter of its own */
		scene_pass(&sc, 300 * MS);
		ck_template_is(&sc, "warm");
		ck_assert_int_ne(template_child(&sc)->pid, pid);
		ck_assert_ptr_null(the_template(&sc)->lost);
		ck_assert_uint_eq(the_template(&sc)->n_lost, 1);
		forking_be_quick(&sc);
		lose_worker(&sc);
		scene_pass(&sc, 300 * MS);
		ck_processes(&sc, 3, 3);
		scene_pass(&sc, S);
		ck_told(&sc.one, 1, ERROR_NONE, EXECUTED_YES);
		ck_assert_ptr_null(sc.stage.pool->supply.failure);
		scene_end(&sc);
	}
END_TEST

/* What a template that is lost with forks pending costs is time. */
static void lose_with_forks(enum sim_fork fork)
{
	struct pool_settings s = forking(1, 8);
	struct scene sc;

	s.call_timeout = 30 * S;
	forking_begin_with(&sc, &s);
	scene_calls_take(&sc, 100 * MS);
	template_child(&sc)->script.fork = fork;
	execute_many(&sc, 1, 8);
	for (unsigned i = 0; i < 1000; i++) {
		scene_pass(&sc, 10 * MS);
		ck_assert_ptr_null(sc.stage.pool->supply.failure);
	}
	ck_told_all(&sc, 1, 8);
	ck_template_is(&sc, "warm");
	ck_assert_uint_eq(the_template(&sc)->n_lost, 1);
	ck_assert_uint_eq(sc.stage.pool->supply.deaths_in_row, 0);
	scene_end(&sc);
}

START_TEST(fault_80_one_that_dies_with_forks_pending)
	{
		lose_with_forks(SIM_FORK_DIE_BEFORE);
	}
END_TEST

START_TEST(fault_80_one_that_dies_when_it_has_forked_and_not_told)
	{
		lose_with_forks(SIM_FORK_DIE_UNTOLD);
	}
END_TEST

START_TEST(fault_80_one_that_dies_when_it_has_told)
	{
		lose_with_forks(SIM_FORK_DIE_AFTER); /* that worker lives */
	}
END_TEST

START_TEST(one_that_answers_with_neither_a_pid_nor_an_error_is_killed)
	{
		lose_with_forks(SIM_FORK_GARBAGE);
	}
END_TEST

START_TEST(one_that_answers_with_a_pid_that_is_no_child_is_killed)
	{
		lose_with_forks(SIM_FORK_NO_CHILD);
	}
END_TEST

START_TEST(fault_86_one_that_takes_a_fork_and_does_not_answer_is_replaced)
	{
		lose_with_forks(SIM_FORK_IGNORE); /* meanwhile the one that there is has done the work */
	}
END_TEST

START_TEST(fault_86_one_that_is_stopped_is_killed_after_3_s_and_callers_notice_only_the_time)
	{
		struct pool_settings s = forking(0, 4);
		struct scene sc;

		s.call_timeout = 30 * S;
		s.init_timeout = S; /* says nothing about forks */
		forking_begin_with(&sc, &s);
		template_child(&sc)->script.stopped = true;
		execute_many(&sc, 1, 4);
		scene_pass(&sc, 2900 * MS);
		ck_waits(&sc.one, 1);
		ck_assert_uint_eq(sc.stage.pool->in_state[WORKER_STARTING], 4);
		scene_pass(&sc, 200 * MS);
		ck_told_all(&sc, 1, 4);
		ck_processes(&sc, 6, 0);
		ck_template_is(&sc, "warm");                                 /* the next one */
		ck_assert_uint_eq(sim_machine_living(&sc.stage.machine), 6); /* it does not hear TERM ... */
		scene_pass(&sc, 500 * MS);
		ck_assert_uint_eq(sim_machine_living(&sc.stage.machine), 5);
		ck_assert_int_eq(sc.stage.pool->dead->exit.signal == SIGKILL || sc.stage.pool->n_dead > 1, 1);
		ck_assert_ptr_null(sc.stage.pool->supply.failure);
		scene_end(&sc);
	}
END_TEST

START_TEST(an_idle_template_is_asked_whether_it_lives_and_one_that_hangs_is_replaced)
	{
		struct pool_settings s = forking(1, 1);
		struct scene sc;
		pid_t pid;

		s.ping_interval = S;
		forking_begin_with(&sc, &s);
		pid = template_child(&sc)->pid;
		scene_pass(&sc, 20 * S);
		ck_assert_uint_ge(the_template(&sc)->worker->hs.pong, 15);
		ck_assert_int_eq(template_child(&sc)->pid, pid);
		template_child(&sc)->script.stopped = true;
		scene_pass(&sc, 5 * S);
		ck_template_is(&sc, "warm");
		ck_assert_int_ne(template_child(&sc)->pid, pid);
		ck_assert_uint_eq(the_template(&sc)->n_lost, 1);
		ck_assert_ptr_null(sim_machine_find(&sc.stage.machine, pid));
		ck_processes(&sc, 2, 1); /* the worker did not notice */
		scene_end(&sc);
	}
END_TEST

START_TEST(one_that_dies_again_and_again_is_started_less_and_less_often)
	{
		struct scene sc;
		unsigned n;

		forking_begin(&sc, 1, 1);
		for (unsigned i = 0; i < 400; i++) { /* for 20 s, as soon as it is seen */
			if (template_is_warm(the_template(&sc)))
				lose_template(&sc);
			scene_pass(&sc, 50 * MS);
		}
		n = sc.stage.machine.n_spawned; /* at once, after 0.1 s, 0.2 ... 6.4 s */
		ck_assert_uint_ge(n, 8);
		ck_assert_uint_le(n, 10);
		ck_processes(&sc, n, 1);
		scene_pass(&sc, 60 * S);
		ck_template_is(&sc, "warm");
		lose_template(&sc); /* it has lived for more than 10 s: that is forgiven */
		scene_pass(&sc, 50 * MS);
		ck_template_is(&sc, "warm");
		ck_serves(&sc, 1);
		scene_end(&sc);
	}
END_TEST

START_TEST(one_that_cannot_be_started_again_costs_speed_and_nothing_else)
	{
		struct scene sc;

		forking_begin(&sc, 1, 1);
		lose_template(&sc);
		sc.stage.machine.script.init = SIM_INIT_FAILED; /* twice; the worker comes later */
		scene_pass(&sc, 50 * MS);
		sc.stage.machine.script.init = SIM_INIT_READY;
		ck_template_is(&sc, "lost");
		ck_assert_ptr_nonnull(strstr(the_template(&sc)->lost, "licence server refused"));
		ck_pool_is(&sc, "serving");
		lose_worker(&sc);
		scene_pass(&sc, 5 * MS);
		ck_serves(&sc, 1);
		scene_pass(&sc, 40 * MS);
		ck_processes(&sc, 4, 1);
		scene_end(&sc);
	}
END_TEST

START_TEST(a_fork_that_fails_is_a_start_that_fails_and_live_workers_serve)
	{
		struct scene sc;

		forking_begin(&sc, 2, 2);
		template_child(&sc)->script.fork_errno = EAGAIN;
		lose_worker_and(&sc, SIM_FORK_ERRNO);
		scene_pass(&sc, 50 * MS);
		ck_assert_ptr_nonnull(sc.stage.pool->supply.failure);
		ck_assert_str_eq(sc.stage.pool->supply.failure->message,
				 "cannot fork the template of app: Resource temporarily unavailable, there are too "
				 "many processes (TasksMax "
				 "of the service, limits of the user)");
		ck_assert_int_eq(sc.stage.pool->dead->next->why, WORKER_WHY_SPAWN_FAILED);
		ck_pool_is(&sc, "degraded");
		ck_assert_uint_gt(supply_wait(sc.stage.pool), 0);
		ck_serves(&sc, 1);
		ck_template_is(&sc, "warm");
		template_child(&sc)->script.fork = SIM_FORK_ANSWER;
		scene_pass(&sc, S);
		ck_idle(&sc, 2);
		ck_processes(&sc, 1, 3);
		scene_end(&sc);
	}
END_TEST

START_TEST(a_fork_that_cannot_be_asked_for_is_a_new_interpreter)
	{
		struct scene sc;

		forking_begin(&sc, 1, 1);
		sc.stage.machine.fd_error = -ETOOMANYREFS;
		lose_worker(&sc);
		scene_pass(&sc, 50 * MS);
		ck_processes(&sc, 2, 1);
		ck_serves(&sc, 1);
		scene_end(&sc);
	}
END_TEST

START_TEST(fault_60_which_passes_the_gate_as_others_do)
	{
		struct scene sc; /* its gate has 4 places */

		forking_begin(&sc, 0, 20);
		sc.stage.machine.fd_error = -ETOOMANYREFS;
		sc.stage.machine.script.ready_after = 20 * MS;
		execute_many(&sc, 1, 20);
		scene_pass(&sc, 10 * MS);
		ck_processes(&sc, 5, 0);
		ck_assert_uint_eq(pool_living(sc.stage.pool), 20);
		scene_pass(&sc, 100 * MS);
		ck_told(&sc.one, 20, ERROR_NONE, EXECUTED_YES);
		scene_end(&sc);
	}
END_TEST

START_TEST(an_answer_for_a_worker_that_there_is_not_is_no_answer)
	{
		struct scene sc;

		forking_begin(&sc, 1, 1);
		lose_worker_and(&sc, SIM_FORK_NOBODY);
		scene_pass(&sc, 2 * S);
		ck_assert_uint_eq(sc.stage.pool->in_state[WORKER_STARTING], 1);
		scene_pass(&sc, 2 * S);
		ck_processes(&sc, 3, 1);
		ck_serves(&sc, 1);
		scene_end(&sc);
	}
END_TEST

START_TEST(a_second_answer_changes_nothing)
	{
		struct scene sc;

		forking_begin(&sc, 2, 2);
		lose_worker_and(&sc, SIM_FORK_TWICE);
		scene_pass(&sc, S);
		ck_template_is(&sc, "warm");
		ck_processes(&sc, 1, 3);
		ck_assert_uint_eq(the_template(&sc)->n_forks, 3);
		ck_idle(&sc, 2);
		scene_end(&sc);
	}
END_TEST

START_TEST(a_child_that_is_born_to_nobody_ends)
	{
		for (unsigned ms = 0; ms < 60; ms++) { /* a drain at each moment of a fork that takes 50 ms */
			struct scene sc;

			forking_begin(&sc, 1, 1);
			template_child(&sc)->script.fork_after = 50 * MS;
			template_child(&sc)->script.ignores_stop = template_child(&sc)->script.ignores_term = true;
			lose_worker(&sc);
			scene_pass(&sc, ms * MS);
			pool_drain(sc.stage.pool);
			scene_pass(&sc, 300 * MS);
			ck_assert_uint_eq(sim_machine_living(&sc.stage.machine),
					  1);                            /* the template, which takes its time */
			ck_assert_uint_eq(sc.stage.machine.n_forked, 2); /* it did what it had been asked for */
			scene_pass(&sc, 5 * S);
			scene_end(&sc);
		}
	}
END_TEST

START_TEST(one_that_speaks_on_its_call_channel_is_killed)
	{
		struct scene sc;

		forking_begin(&sc, 1, 1);
		sim_child_reply(template_child(&sc), 1);
		scene_pass(&sc, S);
		ck_assert_uint_eq(the_template(&sc)->n_lost, 1);
		ck_template_is(&sc, "warm");
		ck_processes(&sc, 2, 1);
		scene_end(&sc);
	}
END_TEST

START_TEST(fault_104_answers_that_lie_ready_win_over_the_time_of_a_template)
	{
		struct pool_settings s = forking(40, 40);
		struct scene sc;

		s.ping_interval = S;
		forking_prepare(&sc, &s);
		sc.stage.machine.script.fork_after = MS;
		scene_start(&sc, SIM_INIT_READY);
		scene_pass(&sc, 20 * MS); /* warm, and asked for 40 */
		ck_assert_uint_eq(sc.stage.pool->in_state[WORKER_STARTING], 40);
		sim_freeze(sc.stage.loop, 10 * S);
		scene_pass(&sc, 100 * MS);
		ck_assert_uint_eq(the_template(&sc)->n_lost, 0);
		ck_processes(&sc, 1, 40);
		ck_idle(&sc, 40);
		sim_freeze(sc.stage.loop, 10 * S); /* with a ping due, or its answer */
		scene_pass(&sc, 4 * S);
		sim_freeze(sc.stage.loop, 10 * S);
		scene_pass(&sc, 4 * S);
		ck_assert_uint_eq(the_template(&sc)->n_lost, 0);
		scene_end(&sc);
	}
END_TEST

RUN_SUITE("template_lost", fault_80_workers_live_on_and_new_ones_are_started_until_the_template_is_back,
	  fault_80_one_that_dies_with_forks_pending, fault_80_one_that_dies_when_it_has_forked_and_not_told,
	  fault_80_one_that_dies_when_it_has_told, one_that_answers_with_neither_a_pid_nor_an_error_is_killed,
	  one_that_answers_with_a_pid_that_is_no_child_is_killed,
	  fault_86_one_that_takes_a_fork_and_does_not_answer_is_replaced,
	  fault_86_one_that_is_stopped_is_killed_after_3_s_and_callers_notice_only_the_time,
	  an_idle_template_is_asked_whether_it_lives_and_one_that_hangs_is_replaced,
	  one_that_dies_again_and_again_is_started_less_and_less_often,
	  one_that_cannot_be_started_again_costs_speed_and_nothing_else,
	  a_fork_that_fails_is_a_start_that_fails_and_live_workers_serve,
	  a_fork_that_cannot_be_asked_for_is_a_new_interpreter, fault_60_which_passes_the_gate_as_others_do,
	  an_answer_for_a_worker_that_there_is_not_is_no_answer, a_second_answer_changes_nothing,
	  a_child_that_is_born_to_nobody_ends, one_that_speaks_on_its_call_channel_is_killed,
	  fault_104_answers_that_lie_ready_win_over_the_time_of_a_template)

#include "daemon/pool/request.h"

#include <signal.h>

#include "tests/unit/pool_support.h"

/* The worker is busy with request 1, which it does not answer by itself. */
static void scene_begin_busy(struct scene *sc, uint64_t timeout)
{
	scene_begin(sc, 1);
	scene_child(sc)->script.call = SIM_CALL_MANUAL;
	sim_execute(&sc->one, 1, timeout, 0);
	scene_pass(sc, 0);
	ck_assert_uint_ne(scene_child(sc)->call, 0);
}

static struct request *find(struct scene *sc, uint64_t id)
{
	return registry_find_by_id(&sc->stage.registry, sc->one.caller.id, id);
}

START_TEST(a_call_is_run_once_and_answered_once_with_its_value)
	{
		struct scene sc;

		scene_begin(&sc, 1);
		sim_execute(&sc.one, 7, 0, 0);
		ck_assert_uint_eq(sc.one.caller.n_requests, 1);
		ck_assert_uint_eq(sc.one.caller.body_bytes, 2);
		scene_pass(&sc, 2 * MS);
		ck_told(&sc.one, 7, ERROR_NONE, EXECUTED_YES);
		ck_assert_uint_eq(told(&sc.one, 7)->value, 1);
		ck_assert_uint_eq(sc.one.n_answers, 1);
		ck_assert_uint_eq(scene_child(&sc)->n_calls, 1);
		ck_assert_uint_eq(sc.one.caller.n_requests, 0);
		ck_assert_uint_eq(sc.one.caller.body_bytes, 0);
		scene_end(&sc);
	}
END_TEST

START_TEST(a_deadline_counts_from_the_moment_of_reading_and_waiting_counts)
	{
		struct scene sc;

		scene_begin_busy(&sc, S);
		sim_execute(&sc.one, 2, 300 * MS, 0);
		scene_pass(&sc, 299 * MS);
		ck_waits(&sc.one, 2);
		scene_pass(&sc, MS);
		ck_told(&sc.one, 2, ERROR_DEADLINE_EXCEEDED, EXECUTED_NEVER);
		ck_assert_ptr_nonnull(strstr(told(&sc.one, 2)->message, "busy"));
		ck_assert_uint_eq(scene_child(&sc)->n_calls, 1); /* nor is it sent later */
		scene_pass(&sc, 3 * S);
		ck_assert_uint_eq(sc.one.n_answers, 2);
		scene_end(&sc);
	}
END_TEST

START_TEST(a_deadline_is_not_moved_by_the_start_of_the_call)
	{
		struct scene sc;
		uint64_t received;

		scene_begin_busy(&sc, S);
		received = loop_now(sc.stage.loop);
		sim_execute(&sc.one, 2, 300 * MS, 0);
		scene_pass(&sc, 200 * MS);
		sim_child_reply(scene_child(&sc), scene_child(&sc)->call);
		scene_pass(&sc, 0);
		ck_assert_int_eq(find(&sc, 2)->state, REQUEST_RUNNING);
		ck_assert_uint_eq(find(&sc, 2)->deadline, received + 300 * MS);
		scene_pass(&sc, 100 * MS);
		ck_told(&sc.one, 2, ERROR_DEADLINE_EXCEEDED, EXECUTED_MAYBE);
		ck_assert_uint_eq(told(&sc.one, 2)->at, received + 300 * MS);
		scene_end(&sc);
	}
END_TEST

START_TEST(a_queue_timeout_that_comes_first_is_told_as_such)
	{
		struct scene sc;

		scene_begin_busy(&sc, S);
		sim_execute(&sc.one, 2, 500 * MS, 100 * MS);
		scene_pass(&sc, 100 * MS);
		ck_told(&sc.one, 2, ERROR_QUEUE_TIMEOUT, EXECUTED_NEVER);
		ck_assert(told(&sc.one, 2)->has_cause);
		scene_end(&sc);
	}
END_TEST

START_TEST(fault_35_at_the_deadline_it_is_answered_with_the_stack_then_interrupted)
	{
		struct scene sc;
		struct sim_child *c;

		scene_begin_busy(&sc, 200 * MS);
		c = scene_child(&sc);
		scene_pass(&sc, 199 * MS);
		ck_waits(&sc.one, 1);
		scene_pass(&sc, MS);
		ck_told(&sc.one, 1, ERROR_DEADLINE_EXCEEDED, EXECUTED_MAYBE);
		ck_assert_ptr_nonnull(strstr(told(&sc.one, 1)->message, "app.py line 5 in slow"));
		ck_assert_uint_eq(c->n_dumps, 1);
		ck_assert_uint_eq(c->n_interrupts, 1);
		ck_assert_uint_eq(c->reason, SLOT_DEADLINE);
		ck_assert_int_eq(scene_worker(&sc)->state, WORKER_IDLE); /* it obeyed: nobody was killed */
		scene_end(&sc);
	}
END_TEST

START_TEST(a_worker_that_shows_no_stack_delays_the_answer_by_40_ms_at_most)
	{
		struct scene sc;

		scene_begin_busy(&sc, 200 * MS);
		scene_child(&sc)->script.shows_stack = false;
		scene_pass(&sc, 239 * MS);
		ck_waits(&sc.one, 1);
		scene_pass(&sc, MS);
		ck_told(&sc.one, 1, ERROR_DEADLINE_EXCEEDED, EXECUTED_MAYBE);
		scene_end(&sc);
	}
END_TEST

START_TEST(fault_35_a_call_that_goes_on_over_its_grace_costs_the_worker_its_life)
	{
		struct scene sc;
		struct sim_child *c;

		scene_begin_busy(&sc, 200 * MS);
		c = scene_child(&sc);
		c->script.ignores_interrupt = c->script.ignores_term = true;
		sim_execute(&sc.one, 2, 0, 0);
		scene_pass(&sc, 690 * MS);
		ck_assert_uint_eq(c->n_terms, 0);
		ck_waits(&sc.one, 2); /* the slot is not used again before the reap */
		scene_pass(&sc, 20 * MS);
		ck_assert_uint_eq(c->n_terms, 1);
		scene_pass(&sc, 600 * MS);
		ck_assert_int_eq(sc.stage.pool->dead->why, WORKER_WHY_DEADLINE);
		ck_assert_int_eq(sc.stage.pool->dead->exit.signal, SIGKILL);
		ck_told(&sc.one, 2, ERROR_NONE, EXECUTED_YES);
		scene_end(&sc);
	}
END_TEST

START_TEST(fault_104_a_reply_that_lies_ready_wins_over_an_expired_deadline)
	{
		struct scene sc;

		for (unsigned turn = 0; turn < 6; turn++) {
			scene_begin_busy(&sc, 200 * MS);
			for (unsigned n = 0; n < turn; n++) { /* whatever the loop gets to see first */
				sim_child_print(scene_child(&sc), "x\n");
				scene_pass(&sc, 0);
			}
			sim_child_reply(scene_child(&sc), scene_child(&sc)->call);
			sim_freeze(sc.stage.loop, 10 * S);
			scene_pass(&sc, 0);
			ck_told(&sc.one, 1, ERROR_NONE, EXECUTED_YES);
			ck_assert_int_eq(scene_worker(&sc)->state, WORKER_IDLE);
			scene_end(&sc);
		}
	}
END_TEST

struct late_reply {
	struct sim_event event;
	struct sim_child *child;
};

static void answer_in_the_tick_of_the_deadline(struct sim_event *e)
{
	struct sim_child *c = container_of(e, struct late_reply, event)->child;

	sim_child_reply(c, c->call);
}

START_TEST(fault_105_completion_and_deadline_in_one_tick_have_one_outcome)
	{
		struct late_reply late;
		struct scene sc;

		scene_begin_busy(&sc, 200 * MS);
		late.child = scene_child(&sc);
		sim_event_init(&late.event, answer_in_the_tick_of_the_deadline);
		sim_event_set(sc.stage.loop, &late.event, loop_now(sc.stage.loop) + 200 * MS);
		scene_pass(&sc, S);
		ck_assert_uint_eq(sc.one.n_answers, 1);
		ck_told(&sc.one, 1, ERROR_NONE, EXECUTED_YES);
		scene_end(&sc);
	}
END_TEST

START_TEST(fault_39_a_reply_after_the_deadline_is_dropped_and_the_worker_is_idle_again)
	{
		struct scene sc;
		struct sim_child *c;
		uint64_t call;

		scene_begin_busy(&sc, 200 * MS);
		c = scene_child(&sc);
		c->script.ignores_interrupt = true;
		call = c->call;
		scene_pass(&sc, 300 * MS);
		ck_told(&sc.one, 1, ERROR_DEADLINE_EXCEEDED, EXECUTED_MAYBE);
		ck_assert_int_eq(scene_worker(&sc)->state, WORKER_BUSY);
		sim_child_reply(c, call);
		scene_pass(&sc, 0);
		ck_assert_uint_eq(sc.one.n_answers, 1);
		ck_assert_int_eq(scene_worker(&sc)->state, WORKER_IDLE);
		scene_pass(&sc, 5 * S);
		ck_assert_int_eq(scene_worker(&sc)->state, WORKER_IDLE); /* the grace was ended */
		scene_end(&sc);
	}
END_TEST

START_TEST(fault_24_cancel_before_it_runs_it_is_never_run)
	{
		struct scene sc;

		scene_begin_busy(&sc, S);
		sim_execute(&sc.one, 2, 0, 0);
		scene_pass(&sc, 0);
		request_cancel(find(&sc, 2));
		ck_told(&sc.one, 2, ERROR_CANCELLED, EXECUTED_NEVER);
		ck_waits(&sc.one, 1); /* only its own call */
		sim_child_reply(scene_child(&sc), scene_child(&sc)->call);
		scene_pass(&sc, S);
		ck_assert_uint_eq(scene_child(&sc)->n_calls, 1);
		ck_told(&sc.one, 1, ERROR_NONE, EXECUTED_YES);
		scene_end(&sc);
	}
END_TEST

START_TEST(fault_24_cancel_while_it_runs_it_is_interrupted)
	{
		struct scene sc;

		scene_begin_busy(&sc, S);
		sim_execute(&sc.one, 2, 0, 0);
		scene_pass(&sc, 0);
		request_cancel(find(&sc, 1));
		ck_told(&sc.one, 1, ERROR_CANCELLED, EXECUTED_MAYBE);
		scene_child(&sc)->script.call = SIM_CALL_REPLY;
		scene_pass(&sc, 10 * MS);
		ck_assert_uint_eq(scene_child(&sc)->n_interrupts, 1);
		ck_assert_uint_eq(scene_child(&sc)->reason, SLOT_CANCELLED);
		ck_told(&sc.one, 2, ERROR_NONE, EXECUTED_YES);
		ck_assert_uint_eq(sc.one.n_answers, 2);
		scene_end(&sc);
	}
END_TEST

START_TEST(fault_24_after_its_end_a_call_is_not_found)
	{
		struct scene sc;

		scene_begin_busy(&sc, S);
		sim_child_reply(scene_child(&sc), scene_child(&sc)->call);
		scene_pass(&sc, 0);
		ck_assert_ptr_null(find(&sc, 1));
		ck_assert_ptr_null(registry_find_call(&sc.stage.registry, 1));
		scene_end(&sc);
	}
END_TEST

START_TEST(fault_16_a_caller_gone_while_queued_is_never_run)
	{
		struct scene sc;

		scene_begin_busy(&sc, S);
		sim_execute(&sc.two, 1, 0, 0);
		scene_pass(&sc, 0);
		caller_gone(&sc.two.caller);
		ck_assert(told(&sc.two, 1)->abandoned);
		ck_assert_uint_eq(sc.stage.pool->queue.count, 0);
		sim_child_reply(scene_child(&sc), scene_child(&sc)->call);
		scene_pass(&sc, S);
		ck_assert_uint_eq(scene_child(&sc)->n_calls, 1);
		ck_assert_uint_eq(sc.stage.pool->stats.abandoned, 1);
		scene_end(&sc);
	}
END_TEST

START_TEST(fault_17_a_caller_gone_while_running_frees_the_worker_when_it_is_clean)
	{
		struct scene sc;
		struct worker *w;

		scene_begin_busy(&sc, S);
		w = scene_worker(&sc);
		scene_child(&sc)->script.hears_after = 5 * MS;
		caller_gone(&sc.one.caller);
		scene_pass(&sc, 4 * MS);
		ck_assert_int_eq(w->state, WORKER_BUSY); /* not clean yet: nobody else gets it */
		scene_pass(&sc, 2 * MS);
		ck_assert_int_eq(w->state, WORKER_IDLE);
		scene_end(&sc);
	}
END_TEST

RUN_SUITE("request", a_call_is_run_once_and_answered_once_with_its_value,
	  a_deadline_counts_from_the_moment_of_reading_and_waiting_counts,
	  a_deadline_is_not_moved_by_the_start_of_the_call,
	  a_queue_timeout_that_comes_first_is_told_as_such,
	  fault_35_at_the_deadline_it_is_answered_with_the_stack_then_interrupted,
	  a_worker_that_shows_no_stack_delays_the_answer_by_40_ms_at_most,
	  fault_35_a_call_that_goes_on_over_its_grace_costs_the_worker_its_life,
	  fault_104_a_reply_that_lies_ready_wins_over_an_expired_deadline,
	  fault_105_completion_and_deadline_in_one_tick_have_one_outcome,
	  fault_39_a_reply_after_the_deadline_is_dropped_and_the_worker_is_idle_again,
	  fault_24_cancel_before_it_runs_it_is_never_run, fault_24_cancel_while_it_runs_it_is_interrupted,
	  fault_24_after_its_end_a_call_is_not_found, fault_16_a_caller_gone_while_queued_is_never_run,
	  fault_17_a_caller_gone_while_running_frees_the_worker_when_it_is_clean)

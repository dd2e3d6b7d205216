#include "daemon/pool/slot.h"

#include <signal.h>

#include "tests/unit/pool_support.h"

static void scene_begin_busy(struct scene *sc)
{
	scene_begin(sc, 1);
	scene_child(sc)->script.call = SIM_CALL_MANUAL;
	sim_execute(&sc->one, 1, 0, 0);
	scene_pass(sc, 0);
	ck_assert(!slot_is_free(scene_worker(sc)));
}

/* Whoever breaks the protocol is killed; its call is told so, and the next one is run by a new worker. */
static void ck_breaks(enum sim_call how)
{
	struct scene sc;

	scene_begin(&sc, 1);
	scene_child(&sc)->script.call = how;
	sim_execute(&sc.one, 1, 0, 0);
	scene_pass(&sc, 10 * MS);
	ck_told(&sc.one, 1, ERROR_WORKER_PROTOCOL, EXECUTED_MAYBE);
	ck_assert_int_eq(sc.stage.pool->dead->why, WORKER_WHY_PROTOCOL);
	ck_assert_int_eq(sc.stage.pool->dead->exit.signal, SIGKILL);
	sim_execute(&sc.one, 2, 0, 0);
	scene_pass(&sc, 10 * MS);
	ck_told(&sc.one, 2, ERROR_NONE, EXECUTED_YES);
	scene_end(&sc);
}

START_TEST(fault_37_a_reply_with_a_wrong_id_is_never_forwarded)
	{
		ck_breaks(SIM_CALL_WRONG_ID);
	}
END_TEST

START_TEST(fault_38_a_garbage_reply_is_never_forwarded)
	{
		ck_breaks(SIM_CALL_GARBAGE);
	}
END_TEST

START_TEST(fault_37_of_a_double_reply_the_first_counts_and_the_worker_is_killed)
	{
		struct scene sc;

		scene_begin(&sc, 1);
		scene_child(&sc)->script.call = SIM_CALL_DOUBLE;
		sim_execute(&sc.one, 1, 0, 0);
		scene_pass(&sc, 10 * MS);
		ck_told(&sc.one, 1, ERROR_NONE, EXECUTED_YES);
		ck_assert_uint_eq(sc.one.n_answers, 1);
		ck_assert_int_eq(sc.stage.pool->dead->why, WORKER_WHY_PROTOCOL);
		scene_end(&sc);
	}
END_TEST

START_TEST(fault_37_a_reply_that_nobody_asked_for_kills_its_worker)
	{
		struct scene sc;

		scene_begin(&sc, 1);
		sim_child_reply(scene_child(&sc), 77);
		scene_pass(&sc, 10 * MS);
		ck_assert_int_eq(sc.stage.pool->dead->why, WORKER_WHY_PROTOCOL);
		scene_end(&sc);
	}
END_TEST

/* What the worker says to call 1, byte for byte. */
static void ck_reply_is_refused(const void *bytes, size_t len)
{
	struct scene sc;

	scene_begin_busy(&sc);
	sim_child_write_calls(scene_child(&sc), bytes, len);
	scene_pass(&sc, 10 * MS);
	ck_told(&sc.one, 1, ERROR_WORKER_PROTOCOL, EXECUTED_MAYBE);
	scene_end(&sc);
}

#define REFUSED(text) ck_reply_is_refused(text, sizeof(text) - 1)

START_TEST(fault_38_replies_of_another_shape_are_refused)
	{
		REFUSED("\x94\x00\x01\xa4ping\x90"); /* a request */
		REFUSED("\x93\x02\xa1x\x90");        /* a notification */
		REFUSED("\x93\x01\x01\xc0");         /* three elements */
		REFUSED("\x94\x01\xc0\xc0\x05");     /* no id */
		REFUSED("\x94\x01\x01\xa4oops\xc0"); /* an error that is no map */
		REFUSED("\x94\x01\x01\x80\xc0");     /* without a code */
		REFUSED("\x94\x01\x01\x81\xa4"
			"code\xa8overload\xc0"); /* an unknown code */
		REFUSED("\x94\x01\x01\x81\xa4"
			"code\xa8"
			"draining\xc0"); /* the daemon's, not a worker's */
		REFUSED("\x05");
	}
END_TEST

START_TEST(an_error_reply_is_passed_on_with_its_code_message_and_execution)
	{
		static const struct {
			const char *code;
			enum error_code is;
			enum executed executed;
		} replies[] = {
			{ "app_error", ERROR_APP_ERROR, EXECUTED_YES },
			{ "unserializable", ERROR_UNSERIALIZABLE, EXECUTED_YES },
			{ "unknown_target", ERROR_UNKNOWN_TARGET, EXECUTED_NEVER },
			{ "too_large", ERROR_TOO_LARGE, EXECUTED_YES },
			{ "cancelled", ERROR_CANCELLED, EXECUTED_YES },
			{ "deadline_exceeded", ERROR_DEADLINE_EXCEEDED, EXECUTED_YES },
		};

		for (size_t i = 0; i < ARRAY_SIZE(replies); i++) {
			struct scene sc;

			scene_begin_busy(&sc);
			sim_child_reply_error(scene_child(&sc), scene_child(&sc)->call, replies[i].code,
					      "because of \xff");
			scene_pass(&sc, 0);
			ck_told(&sc.one, 1, replies[i].is, replies[i].executed);
			ck_assert_str_eq(told(&sc.one, 1)->message, "because of ?");
			ck_assert_int_eq(scene_worker(&sc)->state, WORKER_IDLE);
			scene_end(&sc);
		}
	}
END_TEST

START_TEST(fault_31_killed_while_it_runs_a_call_is_told_with_the_signal_and_not_run_again)
	{
		struct scene sc;

		scene_begin_busy(&sc);
		sim_child_die(scene_child(&sc), 0, SIGSEGV);
		scene_pass(&sc, 49 * MS);
		ck_told(&sc.one, 1, ERROR_WORKER_DIED, EXECUTED_MAYBE);
		ck_assert_ptr_nonnull(strstr(told(&sc.one, 1)->message, "SIGSEGV"));
		scene_pass(&sc, S);
		ck_assert_uint_eq(scene_child(&sc)->n_calls, 0);
		scene_end(&sc);
	}
END_TEST

START_TEST(fault_32_a_full_reply_then_instant_death_is_delivered)
	{
		struct scene sc;

		scene_begin(&sc, 2);
		sc.stage.machine.script.call = SIM_CALL_REPLY_AND_DIE;
		for (struct worker *w = scene_worker(&sc); w; w = w->next)
			sim_machine_find(&sc.stage.machine, w->proc.pid)->script.call = SIM_CALL_REPLY_AND_DIE;
		for (unsigned n = 0; n < 1000; n++) {
			sc.one.n_answers = 0;
			sim_execute(&sc.one, n, 10 * S, 0);
			scene_pass(&sc, 500 * MS);
			ck_told(&sc.one, n, ERROR_NONE, EXECUTED_YES);
		}
		scene_end(&sc);
	}
END_TEST

START_TEST(a_worker_that_closes_its_channel_and_lives_is_killed_and_its_call_told)
	{
		struct scene sc;

		scene_begin(&sc, 1);
		scene_child(&sc)->script.call = SIM_CALL_CLOSE;
		sim_execute(&sc.one, 1, 0, 0);
		scene_pass(&sc, 100 * MS);
		ck_told(&sc.one, 1, ERROR_WORKER_DIED, EXECUTED_MAYBE);
		ck_assert_int_eq(sc.stage.pool->dead->why, WORKER_WHY_PROTOCOL);
		scene_end(&sc);
	}
END_TEST

START_TEST(fault_104_an_abandoned_call_that_has_answered_does_not_cost_its_worker)
	{
		struct scene sc;
		uint64_t worker;

		scene_begin_busy(&sc);
		worker = scene_worker(&sc)->id;
		scene_child(&sc)->script.ignores_interrupt = true;
		request_cancel(registry_find_by_id(&sc.stage.registry, sc.one.caller.id, 1));
		scene_pass(&sc, MS);
		sim_child_reply(scene_child(&sc), scene_child(&sc)->call);
		sim_freeze(sc.stage.loop, 10 * S); /* over the grace */
		scene_pass(&sc, S);
		ck_assert_uint_eq(scene_worker(&sc)->id, worker);
		ck_assert_int_eq(scene_worker(&sc)->state, WORKER_IDLE);
		ck_assert_uint_eq(scene_child(&sc)->n_terms, 0);
		scene_end(&sc);
	}
END_TEST

/* A worker that replies when the loop has already seen what is ready, and its timers come next. */
struct late_reply {
	struct loop_timer timer;
	struct sim_child *child;
};

static void on_late_reply(struct loop_timer *t)
{
	struct sim_child *c = container_of(t, struct late_reply, timer)->child;

	sim_child_reply(c, c->call);
}

/* Just before whatever timer is armed for that moment from now on. */
static void reply_late(struct late_reply *late, struct scene *sc, uint64_t after)
{
	late->child = scene_child(sc);
	loop_timer_init(&late->timer, sc->stage.loop, on_late_reply);
	loop_timer_set(&late->timer, loop_now(sc->stage.loop) + after);
}

/* The first call is answered while its stack is on the way, and the deadline of the second comes before that has come. */
static void scene_begin_overlap(struct scene *sc)
{
	struct sim_child *c;

	scene_begin(sc, 1);
	c = scene_child(sc);
	c->script.call = SIM_CALL_MANUAL;
	c->script.shows_stack = false; /* by itself */
	sim_execute(&sc->one, 1, 100 * MS, 0);
	scene_pass(sc, 100 * MS);
	ck_assert_uint_eq(c->n_dumps, 1);
	sim_child_reply(c, c->call);
	scene_pass(sc, 0);
	ck_told(&sc->one, 1, ERROR_NONE, EXECUTED_YES);
	sim_execute(&sc->one, 2, 10 * MS, 0);
	scene_pass(sc, 10 * MS);
	ck_waits(&sc->one, 2);
}

START_TEST(a_stack_is_told_with_the_call_that_it_was_taken_for_only)
	{
		struct sim_child *c;
		struct scene sc;

		scene_begin_overlap(&sc);
		c = scene_child(&sc);
		sim_child_show_stack(c, "first");
		scene_pass(&sc, 0);
		ck_waits(&sc.one, 2);
		ck_assert_uint_eq(c->n_dumps, 2);
		sim_child_show_stack(c, "second");
		scene_pass(&sc, 0);
		ck_told(&sc.one, 2, ERROR_DEADLINE_EXCEEDED, EXECUTED_MAYBE);
		ck_assert_ptr_nonnull(strstr(told(&sc.one, 2)->message, "in second"));
		scene_end(&sc);
	}
END_TEST

START_TEST(a_stack_for_the_call_before_that_does_not_come_takes_no_time_from_the_answer)
	{
		struct scene sc;

		scene_begin_overlap(&sc);
		scene_pass(&sc, 39 * MS);
		ck_waits(&sc.one, 2);
		scene_pass(&sc, MS);
		ck_told(&sc.one, 2, ERROR_DEADLINE_EXCEEDED, EXECUTED_MAYBE);
		ck_assert_uint_eq(scene_child(&sc)->n_dumps, 2);
		scene_end(&sc);
	}
END_TEST

START_TEST(a_worker_that_dies_while_a_second_stack_is_wanted_leaves_nothing)
	{
		struct scene sc;

		scene_begin_overlap(&sc);
		sim_child_die(scene_child(&sc), 3, 0);
		scene_pass(&sc, 0);
		ck_told(&sc.one, 2, ERROR_WORKER_DIED, EXECUTED_MAYBE);
		scene_pass(&sc, S);
		scene_end(&sc);
	}
END_TEST

START_TEST(fault_104_a_reply_that_comes_with_the_deadline_wins_and_its_worker_is_left_alone)
	{
		struct scene sc;
		struct late_reply late;

		scene_begin(&sc, 1);
		scene_child(&sc)->script.call = SIM_CALL_MANUAL;
		reply_late(&late, &sc, 100 * MS);
		sim_execute(&sc.one, 1, 100 * MS, 0);
		scene_pass(&sc, 100 * MS);
		ck_told(&sc.one, 1, ERROR_NONE, EXECUTED_YES);
		ck_assert_int_eq(scene_worker(&sc)->state, WORKER_IDLE);
		ck_assert_uint_eq(scene_child(&sc)->n_dumps, 0);
		ck_assert_uint_eq(scene_child(&sc)->n_interrupts, 0);
		scene_end(&sc);
	}
END_TEST

START_TEST(fault_104_an_abandoned_call_that_answers_with_the_end_of_the_grace_does_not_cost_its_worker)
	{
		struct scene sc;
		struct late_reply late;
		uint64_t worker;

		scene_begin_busy(&sc);
		worker = scene_worker(&sc)->id;
		scene_child(&sc)->script.ignores_interrupt = true;
		reply_late(&late, &sc, sc.stage.settings.cancel_grace);
		request_cancel(registry_find_by_id(&sc.stage.registry, sc.one.caller.id, 1));
		scene_pass(&sc, S);
		ck_assert_uint_eq(scene_worker(&sc)->id, worker);
		ck_assert_int_eq(scene_worker(&sc)->state, WORKER_IDLE);
		scene_end(&sc);
	}
END_TEST

START_TEST(a_worker_that_has_missed_its_interrupt_is_interrupted_again)
	{
		struct scene sc;
		uint64_t worker;

		scene_begin_busy(&sc);
		worker = scene_worker(&sc)->id;
		scene_child(&sc)->script.misses_interrupts = 3;
		request_cancel(registry_find_by_id(&sc.stage.registry, sc.one.caller.id, 1));
		scene_pass(&sc, 100 * MS);
		ck_assert_uint_eq(scene_child(&sc)->n_interrupts, 4);
		ck_assert_uint_eq(scene_worker(&sc)->id, worker);
		ck_assert_int_eq(scene_worker(&sc)->state, WORKER_IDLE);
		scene_pass(&sc, S);
		ck_assert_uint_eq(scene_child(&sc)->n_interrupts, 4);
		scene_end(&sc);
	}
END_TEST

START_TEST(a_reply_ends_the_grace_also_under_a_lease)
	{
		struct scene sc;
		struct lease *l;

		scene_begin(&sc, 1);
		l = scene_lease(&sc, &sc.one, 1, 10 * S);
		scene_child(&sc)->script.call = SIM_CALL_MANUAL;
		sim_execute_leased(&sc.one, 2, l);
		scene_pass(&sc, 0);
		scene_child(&sc)->script.ignores_interrupt = true;
		request_cancel(registry_find_by_id(&sc.stage.registry, sc.one.caller.id, 2));
		ck_assert_uint_ne(scene_worker(&sc)->timer.at, LOOP_NEVER);
		sim_child_reply(scene_child(&sc), scene_child(&sc)->call);
		scene_pass(&sc, 0);
		ck_assert_int_eq(scene_worker(&sc)->state, WORKER_BUSY); /* with its lease, and no call */
		ck_assert_uint_eq(scene_worker(&sc)->timer.at, LOOP_NEVER);
		scene_end(&sc);
	}
END_TEST

START_TEST(fault_98_a_worker_that_memory_is_missing_for_ends_and_its_call_is_told_overloaded)
	{
		struct scene sc;

		scene_begin_busy(&sc);
		slot_starve(scene_worker(&sc));
		scene_pass(&sc, 10 * MS);
		ck_told(&sc.one, 1, ERROR_OVERLOADED, EXECUTED_MAYBE);
		ck_assert_int_eq(sc.stage.pool->dead->why, WORKER_WHY_NO_MEMORY);
		ck_assert_int_eq(sc.stage.pool->dead->exit.signal, SIGKILL);
		sim_execute(&sc.one, 2, 0, 0);
		scene_pass(&sc, 10 * MS);
		ck_told(&sc.one, 2, ERROR_NONE, EXECUTED_YES);
		scene_end(&sc);
	}
END_TEST

RUN_SUITE("slot", fault_37_a_reply_with_a_wrong_id_is_never_forwarded, fault_38_a_garbage_reply_is_never_forwarded,
	  fault_37_of_a_double_reply_the_first_counts_and_the_worker_is_killed,
	  fault_37_a_reply_that_nobody_asked_for_kills_its_worker, fault_38_replies_of_another_shape_are_refused,
	  an_error_reply_is_passed_on_with_its_code_message_and_execution,
	  fault_31_killed_while_it_runs_a_call_is_told_with_the_signal_and_not_run_again,
	  fault_32_a_full_reply_then_instant_death_is_delivered,
	  a_worker_that_closes_its_channel_and_lives_is_killed_and_its_call_told,
	  fault_104_an_abandoned_call_that_has_answered_does_not_cost_its_worker,
	  fault_104_a_reply_that_comes_with_the_deadline_wins_and_its_worker_is_left_alone,
	  fault_104_an_abandoned_call_that_answers_with_the_end_of_the_grace_does_not_cost_its_worker,
	  a_worker_that_has_missed_its_interrupt_is_interrupted_again,
	  a_reply_ends_the_grace_also_under_a_lease, a_stack_is_told_with_the_call_that_it_was_taken_for_only,
	  a_stack_for_the_call_before_that_does_not_come_takes_no_time_from_the_answer,
	  a_worker_that_dies_while_a_second_stack_is_wanted_leaves_nothing,
	  fault_98_a_worker_that_memory_is_missing_for_ends_and_its_call_is_told_overloaded)

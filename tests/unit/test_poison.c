#include "daemon/pool/poison.h"

#include <signal.h>
#include <stdlib.h>

#include "daemon/pool/request.h"
#include "tests/unit/pool_support.h"

#define SMALL 6
#define LARGE (100 * 1024) /* not kept once it is sent */

static void begin(struct scene *sc, unsigned workers, unsigned kills)
{
	struct pool_settings s = sim_settings();

	s.min_workers = s.max_workers = workers;
	s.poison_kills = kills;
	s.queue_timeout = 100 * S;
	scene_prepare(sc, &s);
	sc->stage.machine.script = (struct sim_script){ .call = SIM_CALL_MANUAL };
	sim_stage_start(&sc->stage);
}

static void execute(struct scene *sc, uint64_t id, uint8_t flavour, size_t size)
{
	sim_execute_as(&sc->one, &(struct request_spec){ .kind = REQUEST_EXECUTE, .id = id }, flavour, size, NULL);
	scene_pass(sc, 0);
}

/* The child that has the call which the caller asked for as id. */
static struct sim_child *child_of(struct scene *sc, uint64_t id)
{
	struct request *r = registry_find_by_id(&sc->stage.registry, sc->one.caller.id, id);
	struct sim_child *c;

	ck_assert_msg(r && r->worker, "request %llu does not run", (unsigned long long)id);
	c = sim_machine_find(&sc->stage.machine, r->worker->proc.pid);
	ck_assert_ptr_nonnull(c);
	return c;
}

static bool runs(struct scene *sc, uint64_t id)
{
	const struct request *r = registry_find_by_id(&sc->stage.registry, sc->one.caller.id, id);

	return r && r->state == REQUEST_RUNNING;
}

static void crash(struct scene *sc, uint64_t id)
{
	sim_child_die(child_of(sc, id), 0, SIGSEGV);
	scene_pass(sc, 200 * MS); /* its replacement is there */
}

static void answer(struct scene *sc, uint64_t id)
{
	struct sim_child *c = child_of(sc, id);

	sim_child_reply(c, c->call);
	scene_pass(sc, 0);
}

/* Two deaths of the call with flavour 1, answered as 1 and 2. */
static void poison(struct scene *sc, size_t size)
{
	execute(sc, 1, 1, size);
	crash(sc, 1);
	execute(sc, 2, 1, size);
	crash(sc, 2);
	ck_told(&sc->one, 1, ERROR_WORKER_DIED, EXECUTED_MAYBE);
	ck_told(&sc->one, 2, ERROR_WORKER_DIED, EXECUTED_MAYBE);
}

START_TEST(fault_48_after_k_kills_the_call_is_refused_at_once)
{
	struct scene sc;
	const struct sim_answer *a;

	begin(&sc, 1, 2);
	poison(&sc, SMALL);
	execute(&sc, 3, 1, SMALL);
	ck_told(&sc.one, 3, ERROR_POISONED, EXECUTED_NEVER);
	a = told(&sc.one, 3);
	ck_assert_uint_gt(a->retry_after_ms, 599 * 1000);
	ck_assert(a->has_cause);
	ck_assert_ptr_nonnull(strstr(a->message, "app.work with these arguments has killed 2 workers, last: worker "));
	ck_assert_ptr_nonnull(strstr(a->message, " was killed by signal 11 (SIGSEGV) at "));
	ck_assert_ptr_nonnull(strstr(a->message, "; refused for 9 min 59 s"));
	scene_end(&sc);
}
END_TEST

START_TEST(fault_48_other_arguments_keep_their_capacity)
{
	struct scene sc;

	begin(&sc, 1, 2);
	poison(&sc, SMALL);
	execute(&sc, 3, 2, SMALL);
	answer(&sc, 3);
	ck_told(&sc.one, 3, ERROR_NONE, EXECUTED_YES);
	scene_end(&sc);
}
END_TEST

START_TEST(fault_48_calls_that_wait_are_refused_with_the_last_kill)
{
	struct scene sc;

	begin(&sc, 1, 1);
	for (uint64_t id = 1; id <= 4; id++)
		execute(&sc, id, id == 3 ? 2 : 1, SMALL);
	sim_child_die(child_of(&sc, 1), 0, SIGSEGV);
	scene_pass(&sc, 0);
	ck_told(&sc.one, 2, ERROR_POISONED, EXECUTED_NEVER);
	ck_told(&sc.one, 4, ERROR_POISONED, EXECUTED_NEVER);
	ck_waits(&sc.one, 3);
	scene_end(&sc);
}
END_TEST

START_TEST(fault_48_arguments_that_were_not_kept_are_known_again)
{
	struct scene sc;

	begin(&sc, 1, 2);
	poison(&sc, LARGE);
	execute(&sc, 3, 1, LARGE);
	ck_told(&sc.one, 3, ERROR_POISONED, EXECUTED_NEVER);
	execute(&sc, 4, 2, LARGE);
	ck_assert(runs(&sc, 4));
	scene_end(&sc);
}
END_TEST

START_TEST(fault_48_a_kill_at_the_deadline_counts_when_the_call_was_answered_before)
{
	struct scene sc;

	begin(&sc, 1, 1);
	sc.stage.machine.children->script.ignores_interrupt = true;
	execute(&sc, 1, 1, SMALL);
	scene_pass(&sc, 2 * S + 100 * MS);
	ck_told(&sc.one, 1, ERROR_DEADLINE_EXCEEDED, EXECUTED_MAYBE);
	scene_pass(&sc, 2 * S); /* grace, TERM */
	execute(&sc, 2, 1, SMALL);
	ck_told(&sc.one, 2, ERROR_POISONED, EXECUTED_NEVER);
	ck_assert_ptr_nonnull(strstr(told(&sc.one, 2)->message, "was killed by pypoold (deadline, SIG"));
	scene_end(&sc);
}
END_TEST

START_TEST(a_cancelled_call_that_is_killed_does_not_count)
{
	struct scene sc;

	begin(&sc, 1, 1);
	sc.stage.machine.children->script.ignores_interrupt = true;
	execute(&sc, 1, 1, SMALL);
	request_cancel(registry_find_by_id(&sc.stage.registry, sc.one.caller.id, 1));
	scene_pass(&sc, 3 * S);
	ck_assert(poison_is_empty(&sc.stage.pool->poison));
	execute(&sc, 2, 1, SMALL);
	ck_assert(runs(&sc, 2));
	scene_end(&sc);
}
END_TEST

START_TEST(a_cancelled_call_that_crashes_counts)
{
	struct scene sc;
	struct sim_child *c;

	begin(&sc, 1, 1);
	execute(&sc, 1, 1, SMALL);
	c = child_of(&sc, 1);
	request_cancel(registry_find_by_id(&sc.stage.registry, sc.one.caller.id, 1));
	sim_child_die(c, 0, SIGSEGV);
	scene_pass(&sc, 200 * MS);
	execute(&sc, 2, 1, SMALL);
	ck_told(&sc.one, 2, ERROR_POISONED, EXECUTED_NEVER);
	scene_end(&sc);
}
END_TEST

START_TEST(a_worker_that_dies_idle_poisons_nothing)
{
	struct scene sc;

	begin(&sc, 1, 1);
	execute(&sc, 1, 1, SMALL);
	answer(&sc, 1);
	sim_child_die(scene_child(&sc), 0, SIGSEGV);
	scene_pass(&sc, 200 * MS);
	ck_assert(poison_is_empty(&sc.stage.pool->poison));
	scene_end(&sc);
}
END_TEST

/* Whose bytes it has mixed up is not known: they may be those of a call before. */
START_TEST(a_worker_that_broke_the_protocol_poisons_nothing_even_when_it_crashes_then)
{
	struct scene sc;
	struct sim_child *c;

	begin(&sc, 1, 1);
	execute(&sc, 1, 1, SMALL);
	c = child_of(&sc, 1);
	sim_child_reply(c, c->call + 1);
	sim_child_die(c, 0, SIGSEGV);
	scene_pass(&sc, 200 * MS);
	ck_told(&sc.one, 1, ERROR_WORKER_PROTOCOL, EXECUTED_MAYBE);
	execute(&sc, 2, 1, SMALL);
	ck_assert(runs(&sc, 2));
	scene_end(&sc);
}
END_TEST

START_TEST(a_success_wipes_out_what_was_before)
{
	struct scene sc;

	begin(&sc, 1, 2);
	execute(&sc, 1, 1, SMALL);
	crash(&sc, 1);
	execute(&sc, 2, 1, SMALL);
	answer(&sc, 2);
	ck_assert(poison_is_empty(&sc.stage.pool->poison));
	execute(&sc, 3, 1, SMALL);
	crash(&sc, 3);
	execute(&sc, 4, 1, SMALL);
	ck_assert(runs(&sc, 4));
	scene_end(&sc);
}
END_TEST

START_TEST(it_is_forgotten_after_ten_minutes_without_a_death)
{
	struct scene sc;

	begin(&sc, 1, 2);
	poison(&sc, SMALL);
	scene_pass(&sc, 599 * S);
	execute(&sc, 3, 1, SMALL);
	ck_told(&sc.one, 3, ERROR_POISONED, EXECUTED_NEVER);
	ck_assert_uint_le(told(&sc.one, 3)->retry_after_ms, 1000);
	scene_pass(&sc, S);
	execute(&sc, 4, 1, SMALL);
	ck_assert(runs(&sc, 4));
	ck_assert(poison_is_empty(&sc.stage.pool->poison));
	scene_end(&sc);
}
END_TEST

START_TEST(after_a_kill_no_more_run_at_once_than_may_still_die)
{
	struct scene sc;

	begin(&sc, 4, 3);
	execute(&sc, 1, 1, SMALL);
	crash(&sc, 1);
	for (uint64_t id = 2; id <= 5; id++)
		execute(&sc, id, 1, SMALL);
	ck_assert(runs(&sc, 2) && runs(&sc, 3));
	ck_assert(!runs(&sc, 4) && !runs(&sc, 5));
	ck_assert_uint_eq(sc.stage.pool->poison.n_held, 2);
	execute(&sc, 6, 2, SMALL); /* behind them, and not held up by them */
	ck_assert(runs(&sc, 6));
	scene_end(&sc);
}
END_TEST

START_TEST(those_that_were_held_run_when_one_succeeds)
{
	struct scene sc;

	begin(&sc, 4, 2);
	execute(&sc, 1, 1, SMALL);
	crash(&sc, 1);
	for (uint64_t id = 2; id <= 4; id++)
		execute(&sc, id, 1, SMALL);
	ck_assert(runs(&sc, 2) && !runs(&sc, 3) && !runs(&sc, 4));
	answer(&sc, 2);
	ck_assert(runs(&sc, 3) && runs(&sc, 4));
	ck_assert_uint_eq(sc.stage.pool->poison.n_held, 0);
	scene_end(&sc);
}
END_TEST

START_TEST(the_next_that_was_held_runs_when_one_fails_without_a_death)
{
	struct scene sc;
	struct sim_child *c;

	begin(&sc, 4, 2);
	execute(&sc, 1, 1, SMALL);
	crash(&sc, 1);
	for (uint64_t id = 2; id <= 4; id++)
		execute(&sc, id, 1, SMALL);
	c = child_of(&sc, 2);
	sim_child_reply_error(c, c->call, "app_error", "ValueError: no");
	scene_pass(&sc, 0);
	ck_assert(runs(&sc, 3) && !runs(&sc, 4));
	scene_end(&sc);
}
END_TEST

START_TEST(those_that_were_held_are_refused_with_the_last_kill)
{
	struct scene sc;

	begin(&sc, 4, 2);
	execute(&sc, 1, 1, SMALL);
	crash(&sc, 1);
	for (uint64_t id = 2; id <= 4; id++)
		execute(&sc, id, 1, SMALL);
	crash(&sc, 2);
	ck_told(&sc.one, 3, ERROR_POISONED, EXECUTED_NEVER);
	ck_told(&sc.one, 4, ERROR_POISONED, EXECUTED_NEVER);
	scene_end(&sc);
}
END_TEST

START_TEST(one_that_is_held_can_be_cancelled_and_times_out)
{
	struct scene sc;

	begin(&sc, 2, 2);
	execute(&sc, 1, 1, SMALL);
	crash(&sc, 1);
	execute(&sc, 2, 1, SMALL);
	execute(&sc, 3, 1, SMALL);
	sim_execute_as(&sc.one,
		       &(struct request_spec){ .kind = REQUEST_EXECUTE, .id = 4, .queue_timeout = 100 * MS }, 1, SMALL, NULL);
	scene_pass(&sc, 0);
	request_cancel(registry_find_by_id(&sc.stage.registry, sc.one.caller.id, 3));
	ck_told(&sc.one, 3, ERROR_CANCELLED, EXECUTED_NEVER);
	scene_pass(&sc, 200 * MS);
	ck_told(&sc.one, 4, ERROR_QUEUE_TIMEOUT, EXECUTED_NEVER);
	ck_assert_uint_eq(sc.stage.pool->poison.n_held, 0);
	scene_end(&sc);
}
END_TEST

START_TEST(those_that_ran_with_the_first_are_counted)
{
	struct scene sc;

	begin(&sc, 3, 2);
	for (uint64_t id = 1; id <= 3; id++)
		execute(&sc, id, 1, SMALL);
	crash(&sc, 1);
	execute(&sc, 4, 1, SMALL);
	ck_assert(!runs(&sc, 4)); /* two of them run still */
	crash(&sc, 2);
	ck_told(&sc.one, 4, ERROR_POISONED, EXECUTED_NEVER);
	scene_end(&sc);
}
END_TEST

START_TEST(a_call_under_a_lease_counts_and_is_refused)
{
	struct scene sc;
	struct lease *l;

	begin(&sc, 2, 1);
	l = scene_lease(&sc, &sc.two, 1, 0);
	sim_execute_as(&sc.two, &(struct request_spec){ .kind = REQUEST_EXECUTE, .id = 2 }, 1, SMALL, l);
	sim_execute_as(&sc.two, &(struct request_spec){ .kind = REQUEST_EXECUTE, .id = 3 }, 1, SMALL, l);
	scene_pass(&sc, 0);
	execute(&sc, 1, 1, SMALL);
	crash(&sc, 1);
	ck_told(&sc.two, 3, ERROR_POISONED, EXECUTED_NEVER);
	ck_waits(&sc.two, 2);
	sim_execute_as(&sc.two, &(struct request_spec){ .kind = REQUEST_EXECUTE, .id = 4 }, 1, SMALL, l);
	ck_told(&sc.two, 4, ERROR_POISONED, EXECUTED_NEVER);
	scene_end(&sc);
}
END_TEST

START_TEST(a_call_under_a_lease_waits_for_its_like_elsewhere)
{
	struct scene sc;
	struct lease *l;

	begin(&sc, 3, 2);
	l = scene_lease(&sc, &sc.two, 1, 0);
	execute(&sc, 1, 1, SMALL);
	crash(&sc, 1);
	execute(&sc, 2, 1, SMALL);
	sim_execute_as(&sc.two, &(struct request_spec){ .kind = REQUEST_EXECUTE, .id = 3 }, 1, SMALL, l);
	scene_pass(&sc, 0);
	ck_assert_uint_eq(l->n_waiting, 1);
	answer(&sc, 2);
	ck_assert_uint_eq(l->n_waiting, 0);
	scene_end(&sc);
}
END_TEST

START_TEST(the_one_that_killed_longest_ago_is_forgotten_for_a_new_one)
{
	struct scene sc;

	begin(&sc, 1, 1);
	for (uint64_t i = 0; i <= POISON_MAX; i++) {
		execute(&sc, 2 * i, (uint8_t)(i % 128), SMALL + i / 128);
		sim_child_die(child_of(&sc, 2 * i), 0, SIGSEGV);
		scene_pass(&sc, 150 * MS);
		execute(&sc, 2 * i + 1, 1, 100); /* or starts would be slowed down */
		answer(&sc, 2 * i + 1);
	}
	ck_assert_uint_eq(HASH_COUNT(sc.stage.pool->poison.entries), POISON_MAX);
	execute(&sc, 10000, 1, SMALL);
	ck_told(&sc.one, 10000, ERROR_POISONED, EXECUTED_NEVER);
	execute(&sc, 10001, 0, SMALL);
	ck_assert(runs(&sc, 10001));
	scene_end(&sc);
}
END_TEST

START_TEST(a_limit_of_0_remembers_nothing)
{
	struct scene sc;

	begin(&sc, 1, 0);
	for (uint64_t id = 1; id <= 5; id++) {
		execute(&sc, id, 1, SMALL);
		sim_child_die(child_of(&sc, id), 0, SIGSEGV);
		scene_pass(&sc, 10 * S);
	}
	ck_assert(poison_is_empty(&sc.stage.pool->poison));
	scene_end(&sc);
}
END_TEST

START_TEST(a_call_that_was_held_until_its_queue_timeout_is_told_by_what)
{
	struct scene sc;
	const struct sim_answer *a;

	begin(&sc, 2, 2);
	execute(&sc, 1, 1, SMALL);
	crash(&sc, 1);
	execute(&sc, 2, 1, SMALL); /* may be the second that kills */
	sim_execute_as(&sc.one, &(struct request_spec){ .kind = REQUEST_EXECUTE, .id = 3, .queue_timeout = 500 * MS }, 1,
		       SMALL, NULL);
	scene_pass(&sc, S);
	a = told(&sc.one, 3);
	ck_told(&sc.one, 3, ERROR_QUEUE_TIMEOUT, EXECUTED_NEVER);
	ck_assert_msg(strstr(a->message, "app.work was held back for 500 ms: with these arguments it has killed 1 worker, last: "
					 "worker "),
		      "%s", a->message);
	ck_assert_msg(strstr(a->message, "; no more of them run at once than may still do so"), "%s", a->message);
	answer(&sc, 2);
	scene_end(&sc);
}
END_TEST

static struct request *request_of(struct scene *sc, uint64_t id)
{
	return registry_find_by_id(&sc->stage.registry, sc->two.caller.id, id);
}

START_TEST(a_call_under_a_lease_that_was_held_is_told_by_what)
{
	struct request_spec spec = { .kind = REQUEST_EXECUTE, .id = 3, .queue_timeout = 500 * MS };
	const struct sim_answer *a;
	struct lease *l;
	struct scene sc;

	begin(&sc, 3, 2);
	l = scene_lease(&sc, &sc.two, 1, 0);
	execute(&sc, 1, 1, SMALL);
	crash(&sc, 1);
	execute(&sc, 2, 1, SMALL);
	sim_execute_as(&sc.two, &spec, 1, SMALL, l);
	spec.id = 4; /* behind it: only the order of the lease keeps this one */
	spec.queue_timeout = 0;
	sim_execute_as(&sc.two, &spec, 2, SMALL, l);
	scene_pass(&sc, 100 * MS);
	ck_assert(poison_keeper(request_of(&sc, 3)) && !poison_keeper(request_of(&sc, 4)));
	scene_pass(&sc, 400 * MS);
	ck_told(&sc.two, 3, ERROR_QUEUE_TIMEOUT, EXECUTED_NEVER);
	a = told(&sc.two, 3);
	ck_assert_msg(strstr(a->message, "app.work was held back for 500 ms: with these arguments it has killed 1 worker, last: "
					 "worker "),
		      "%s", a->message);
	ck_assert_uint_eq(l->n_waiting, 0);
	ck_waits(&sc.two, 4);
	ck_assert_ptr_eq(l->worker->slot.request, request_of(&sc, 4));
	scene_end(&sc);
}
END_TEST

START_TEST(draining_answers_those_that_are_held)
{
	struct scene sc;

	begin(&sc, 2, 2);
	execute(&sc, 1, 1, SMALL);
	crash(&sc, 1);
	execute(&sc, 2, 1, SMALL);
	execute(&sc, 3, 1, SMALL);
	pool_drain(sc.stage.pool);
	ck_told(&sc.one, 3, ERROR_DRAINING, EXECUTED_NEVER);
	scene_end(&sc);
}
END_TEST

/* With the arguments of sim_execute_in(). */
static void execute_alike(struct scene *sc, uint64_t id)
{
	sim_execute(&sc->one, id, 0, 0);
	scene_pass(sc, 0);
}

START_TEST(a_call_of_a_session_is_held_on_while_the_breaker_is_open)
{
	struct pool_settings s = sim_settings();
	struct scene sc;

	s.min_workers = s.max_workers = 4;
	s.poison_kills = 2;
	s.breaker_failures = 2;
	s.breaker_reset = 60 * S;
	scene_prepare(&sc, &s);
	sc.stage.machine.script = (struct sim_script){ .call = SIM_CALL_MANUAL };
	sim_stage_start(&sc.stage);
	sim_execute_in(&sc.one, 1, "chat");
	scene_pass(&sc, 0);
	answer(&sc, 1);
	execute(&sc, 2, 9, SMALL); /* in the worker of the session, so that the others run elsewhere */
	execute_alike(&sc, 3);
	crash(&sc, 3);
	execute_alike(&sc, 4);
	execute(&sc, 5, 3, SMALL);
	execute(&sc, 6, 4, SMALL);
	answer(&sc, 2);
	sim_execute_in(&sc.one, 7, "chat");
	scene_pass(&sc, 0);
	ck_assert_uint_eq(sc.stage.pool->poison.n_held, 1);
	crash(&sc, 5);
	crash(&sc, 6);
	ck_assert(breaker_is_open(&sc.stage.pool->supply.breaker));
	ck_waits(&sc.one, 7); /* its worker is there */
	answer(&sc, 4);
	ck_assert(runs(&sc, 7));
	answer(&sc, 7);
	ck_told(&sc.one, 7, ERROR_NONE, EXECUTED_YES);
	scene_end(&sc);
}
END_TEST

RUN_SUITE("poison", fault_48_after_k_kills_the_call_is_refused_at_once, fault_48_other_arguments_keep_their_capacity,
	  fault_48_calls_that_wait_are_refused_with_the_last_kill,
	  fault_48_arguments_that_were_not_kept_are_known_again,
	  fault_48_a_kill_at_the_deadline_counts_when_the_call_was_answered_before,
	  a_cancelled_call_that_is_killed_does_not_count, a_cancelled_call_that_crashes_counts,
	  a_worker_that_dies_idle_poisons_nothing,
	  a_worker_that_broke_the_protocol_poisons_nothing_even_when_it_crashes_then, a_success_wipes_out_what_was_before,
	  it_is_forgotten_after_ten_minutes_without_a_death, after_a_kill_no_more_run_at_once_than_may_still_die,
	  those_that_were_held_run_when_one_succeeds, the_next_that_was_held_runs_when_one_fails_without_a_death,
	  those_that_were_held_are_refused_with_the_last_kill, one_that_is_held_can_be_cancelled_and_times_out,
	  those_that_ran_with_the_first_are_counted, a_call_under_a_lease_counts_and_is_refused,
	  a_call_under_a_lease_waits_for_its_like_elsewhere, the_one_that_killed_longest_ago_is_forgotten_for_a_new_one,
	  a_limit_of_0_remembers_nothing,
	  a_call_that_was_held_until_its_queue_timeout_is_told_by_what,
	  a_call_under_a_lease_that_was_held_is_told_by_what, draining_answers_those_that_are_held,
	  a_call_of_a_session_is_held_on_while_the_breaker_is_open)

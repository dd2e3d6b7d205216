/* Another daemon goes on where one has died: workers, sessions, and records that are not what they should be. */
#include "daemon/pool/takeup.h"

#include <signal.h>
#include <stdio.h>

#include "daemon/base/mem.h"
#include "tests/unit/session_support.h"

static void keeping_begin(struct scene *sc, const struct pool_settings *s)
{
	scene_prepare(sc, s);
	sim_stage_keep(&sc->stage);
	sim_stage_start(&sc->stage);
}

static void keeping_begin_with(struct scene *sc, unsigned workers, bool prefer)
{
	struct pool_settings s = sim_settings();

	s.min_workers = s.max_workers = workers;
	s.affinity_prefer = prefer;
	keeping_begin(sc, &s);
}

/* The daemon dies; before the next one begins, the test may change what it finds. */
static void die(struct scene *sc)
{
	sim_stage_cut(&sc->stage);
	caller_gone(&sc->one.caller);
	caller_gone(&sc->two.caller);
	sim_stage_bury(&sc->stage);
}

/* Its pool is not started, so that a test can look. */
static void come_back(struct scene *sc)
{
	sim_stage_come_back(&sc->stage);
	sim_caller_init(&sc->one, &sc->stage);
	sim_caller_init(&sc->two, &sc->stage);
}

static void crash(struct scene *sc)
{
	die(sc);
	come_back(sc);
	pool_start(sc->stage.pool);
}

START_TEST(a_worker_goes_on_with_its_sessions_in_the_same_process)
	{
		struct scene sc;
		uint64_t id;
		pid_t pid;

		keeping_begin_with(&sc, 2, false);
		call(&sc, &sc.one, 1, "chat");
		call(&sc, &sc.one, 2, "chat");
		pid = carrier(&sc, "chat")->pid;
		id = found(&sc, "chat")->id;
		crash(&sc);
		scene_pass(&sc, 100 * MS);
		ck_assert_uint_eq(sim_machine_living(&sc.stage.machine), 2);
		ck_assert_uint_eq(sc.stage.machine.n_spawned, 2);
		ck_assert_uint_eq(found(&sc, "chat")->id, id);
		call(&sc, &sc.one, 3, "chat");
		ck_assert_int_eq(carrier(&sc, "chat")->pid, pid);
		ck_assert_uint_eq(sim_session_n(found(&sc, "chat")), 3);
		ck_assert_uint_eq(scene_child(&sc)->adopted, 2);
		scene_end(&sc);
	}
END_TEST

START_TEST(a_call_of_before_runs_on_and_is_never_answered)
	{
		struct scene sc;

		keeping_begin_with(&sc, 1, false);
		call(&sc, &sc.one, 1, "chat");
		scene_calls_take(&sc, 500 * MS);
		sim_execute_in(&sc.one, 2, "chat");
		scene_pass(&sc, 100 * MS);
		crash(&sc);
		scene_calls_take(&sc, MS);
		sim_execute_in(&sc.one, 3, "chat");
		scene_pass(&sc, 300 * MS);
		ck_waits(&sc.one, 3); /* for the one that runs */
		scene_pass(&sc, 200 * MS);
		ck_told(&sc.one, 3, ERROR_NONE, EXECUTED_YES);
		ck_waits(&sc.one, 2);
		ck_assert_uint_eq(sim_session_n(found(&sc, "chat")), 2); /* what the second wrote is lost with its answer */
		ck_assert_uint_eq(scene_child(&sc)->n_interrupts, 0);
		scene_end(&sc);
	}
END_TEST

START_TEST(a_call_of_before_ends_at_its_deadline)
	{
		struct pool_settings s = sim_settings();
		struct scene sc;
		pid_t pid;

		s.call_timeout = S;
		keeping_begin(&sc, &s);
		call(&sc, &sc.one, 1, "chat");
		scene_child(&sc)->script.call = SIM_CALL_HANG;
		sim_execute_in(&sc.one, 2, "chat");
		scene_pass(&sc, 100 * MS);
		pid = scene_child(&sc)->pid;
		crash(&sc);
		scene_pass(&sc, 800 * MS);
		ck_assert_uint_eq(scene_child(&sc)->n_interrupts, 0);
		scene_pass(&sc, 200 * MS);
		ck_assert_uint_eq(scene_child(&sc)->n_interrupts, 1);
		ck_assert_int_eq(scene_child(&sc)->pid, pid);
		scene_child(&sc)->script.call = SIM_CALL_REPLY;
		call(&sc, &sc.one, 3, "chat");
		scene_end(&sc);
	}
END_TEST

START_TEST(a_worker_that_does_not_end_it_is_killed_and_its_sessions_are_lost)
	{
		struct pool_settings s = sim_settings();
		struct scene sc;

		s.call_timeout = S;
		keeping_begin(&sc, &s);
		hold_calls(scene_child(&sc));
		sim_execute_in(&sc.one, 1, "chat");
		scene_pass(&sc, 100 * MS);
		crash(&sc);
		scene_pass(&sc, S + s.cancel_grace + 600 * MS);
		ck_assert(found(&sc, "chat")->lost);
		ck_assert_uint_eq(sc.stage.pool->in_state[WORKER_IDLE], 1);
		ck_assert_uint_eq(sc.stage.pool->stats.deaths[WORKER_WHY_LOST], 1);
		scene_end(&sc);
	}
END_TEST

START_TEST(an_idle_worker_that_does_not_answer_is_replaced)
	{
		struct scene sc;

		keeping_begin_with(&sc, 1, false);
		scene_child(&sc)->script.hears_after = 60 * S;
		crash(&sc);
		scene_pass(&sc, 4 * S);
		ck_assert_uint_eq(sc.stage.pool->in_state[WORKER_STARTING], 1);
		scene_pass(&sc, 2 * S);
		ck_assert_uint_eq(sc.stage.pool->stats.deaths[WORKER_WHY_LOST], 1);
		ck_assert_uint_eq(sc.stage.pool->in_state[WORKER_IDLE], 1);
		scene_end(&sc);
	}
END_TEST

START_TEST(a_worker_may_hear_nothing_of_many_daemons)
	{
		struct scene sc;
		pid_t pid;

		keeping_begin_with(&sc, 1, false);
		call(&sc, &sc.one, 1, "chat");
		scene_child(&sc)->script.hears_after = 2 * S;
		pid = scene_child(&sc)->pid;
		for (unsigned i = 1; i < PROCESS_OLD_CALLS; i++)
			crash(&sc);
		scene_pass(&sc, 3 * S);
		ck_assert_int_eq(scene_child(&sc)->pid, pid);
		scene_child(&sc)->script.hears_after = 0;
		call(&sc, &sc.one, 2, "chat");
		ck_assert_uint_eq(sim_session_n(found(&sc, "chat")), 2);
		scene_end(&sc);
	}
END_TEST

/* With affinity = prefer any worker may have the next call, but not at the same time. */
START_TEST(a_session_waits_for_what_the_daemon_of_before_has_begun)
	{
		struct scene sc;

		keeping_begin_with(&sc, 2, true);
		hold_calls(scene_child(&sc));
		hold_calls(scene_child_of(&sc, scene_worker(&sc)->next));
		sim_execute_in(&sc.one, 1, "chat");
		scene_pass(&sc, 10 * MS);
		crash(&sc);
		(void)sim_submit_in(&sc.one, "chat",
				    &(struct request_spec){ .kind = REQUEST_EXECUTE, .id = 2, .queue_timeout = 500 * MS });
		scene_pass(&sc, S);
		ck_told(&sc.one, 2, ERROR_QUEUE_TIMEOUT, EXECUTED_NEVER);
		ck_assert_ptr_nonnull(strstr(told(&sc.one, 2)->message, "that it had when the daemon came back"));
		scene_pass(&sc, 3 * S); /* beyond its deadline it is killed */
		scene_child(&sc)->script.call = SIM_CALL_REPLY;
		sim_execute_in(&sc.one, 3, "chat");
		scene_pass(&sc, 2 * S);
		ck_told(&sc.one, 3, ERROR_NONE, EXECUTED_YES);
		scene_end(&sc);
	}
END_TEST

START_TEST(who_waits_is_told_what_its_worker_is_busy_with)
	{
		struct scene sc;

		keeping_begin_with(&sc, 1, false);
		hold_calls(scene_child(&sc));
		sim_execute_in(&sc.one, 1, "chat");
		scene_pass(&sc, 10 * MS);
		crash(&sc);
		(void)sim_submit_in(&sc.one, "chat",
				    &(struct request_spec){ .kind = REQUEST_EXECUTE, .id = 2, .queue_timeout = 500 * MS });
		scene_pass(&sc, S);
		ck_told(&sc.one, 2, ERROR_QUEUE_TIMEOUT, EXECUTED_NEVER);
		ck_assert_ptr_nonnull(strstr(told(&sc.one, 2)->message, "busy with what it had when the daemon came back"));
		scene_child(&sc)->script.call = SIM_CALL_REPLY;
		scene_end(&sc);
	}
END_TEST

START_TEST(how_many_calls_it_has_done_is_not_forgotten)
	{
		struct scene sc;

		keeping_begin_with(&sc, 1, false);
		for (uint64_t id = 1; id <= 3; id++)
			call(&sc, &sc.one, id, "chat");
		crash(&sc);
		scene_pass(&sc, 100 * MS);
		ck_assert_uint_eq(scene_worker(&sc)->calls_done, 3);
		scene_end(&sc);
	}
END_TEST

START_TEST(numbers_are_not_given_again)
	{
		struct registry before;
		struct scene sc;

		keeping_begin_with(&sc, 1, false);
		call(&sc, &sc.one, 1, "chat");
		before = sc.stage.registry;
		crash(&sc);
		ck_assert_uint_gt(sc.stage.registry.last_call, before.last_call);
		ck_assert_uint_gt(sc.stage.registry.last_worker, before.last_worker);
		ck_assert_uint_gt(sc.stage.registry.last_session, before.last_session);
		ck_assert_uint_gt(sc.stage.registry.last_lease, before.last_lease);
		ck_assert_uint_gt(sc.stage.registry.last_caller, before.last_caller);
		scene_end(&sc);
	}
END_TEST

START_TEST(what_a_pool_has_that_is_not_configured_any_more_ends)
	{
		struct scene sc;

		keeping_begin_with(&sc, 1, false);
		call(&sc, &sc.one, 1, "chat");
		die(&sc);
		sc.stage.settings.name = (char *)"another";
		come_back(&sc);
		ck_assert_uint_eq(sim_machine_living(&sc.stage.machine), 0);
		ck_assert_ptr_null(sc.stage.keeper.held);
		ck_assert_ptr_null(found(&sc, "chat"));
		pool_start(sc.stage.pool);
		scene_pass(&sc, 100 * MS);
		ck_assert_uint_eq(sc.stage.pool->in_state[WORKER_IDLE], 1);
		scene_end(&sc);
	}
END_TEST

START_TEST(the_first_worker_of_a_reload_that_did_not_end_is_not_wanted)
	{
		struct pool_settings s = sim_settings();
		struct scene sc;

		keeping_begin(&sc, &s);
		sc.stage.machine.script.ready_after = 0;
		reload_start(sc.stage.pool, &sc.stage.settings, NULL);
		scene_worker(&sc)->generation = 7; /* as if it were that one, and ready */
		keep_heard(scene_worker(&sc));
		die(&sc);
		come_back(&sc);
		ck_assert_ptr_null(sc.stage.pool->workers);
		ck_assert_uint_eq(sim_machine_living(&sc.stage.machine), 0);
		ck_assert_ptr_null(sc.stage.keeper.held);
		pool_start(sc.stage.pool);
		scene_pass(&sc, 100 * MS);
		scene_end(&sc);
	}
END_TEST

static struct span span_of(const struct sim_kept *r)
{
	return (struct span){ .p = r->bytes, .len = r->len };
}

/* Each record in turn, cut short everywhere and with each of its bytes changed: a daemon that serves comes of it. */
static void damage(enum keep_kind kind, bool cut)
{
	size_t at = 0, len = 1;

	for (; at < len; at++) {
		_cleanup_free_ uint8_t *bytes = NULL;
		const struct sim_kept *r;
		struct scene sc;
		struct keeper *k = &sc.stage.keeper.keeper;

		keeping_begin_with(&sc, 1, false);
		call(&sc, &sc.one, 1, "chat");
		die(&sc);
		for (r = sc.stage.keeper.kept; r->kind != kind; r = r->next)
			;
		len = r->len;
		bytes = (uint8_t *)mem_strndup(span_of(r).p, len);
		bytes[at] ^= 0xff;
		k->put(k, kind, r->id, (struct span){ .p = bytes, .len = cut ? at : len });
		come_back(&sc);
		pool_start(sc.stage.pool);
		scene_pass(&sc, 10 * S);
		ck_assert_uint_eq(sc.stage.pool->in_state[WORKER_IDLE], 1);
		sim_execute(&sc.one, 2, 0, 0);
		scene_pass(&sc, 100 * MS);
		ck_told(&sc.one, 2, ERROR_NONE, EXECUTED_YES);
		scene_end(&sc);
	}
}

START_TEST(no_record_of_a_worker_does_harm)
	{
		damage(KEEP_WORKER, true);
		damage(KEEP_WORKER, false);
	}
END_TEST

START_TEST(no_record_of_a_session_does_harm)
	{
		damage(KEEP_SESSION, true);
		damage(KEEP_SESSION, false);
	}
END_TEST

START_TEST(no_record_of_a_pool_or_of_the_numbers_does_harm)
	{
		damage(KEEP_POOL, true);
		damage(KEEP_POOL, false);
		damage(KEEP_DAEMON, true);
		damage(KEEP_DAEMON, false);
	}
END_TEST

RUN_SUITE("takeup", a_worker_goes_on_with_its_sessions_in_the_same_process,
	  a_call_of_before_runs_on_and_is_never_answered,
	  a_call_of_before_ends_at_its_deadline,
	  a_worker_that_does_not_end_it_is_killed_and_its_sessions_are_lost,
	  an_idle_worker_that_does_not_answer_is_replaced,
	  a_worker_may_hear_nothing_of_many_daemons,
	  a_session_waits_for_what_the_daemon_of_before_has_begun,
	  who_waits_is_told_what_its_worker_is_busy_with,
	  how_many_calls_it_has_done_is_not_forgotten,
	  numbers_are_not_given_again,
	  what_a_pool_has_that_is_not_configured_any_more_ends,
	  the_first_worker_of_a_reload_that_did_not_end_is_not_wanted,
	  no_record_of_a_worker_does_harm,
	  no_record_of_a_session_does_harm,
	  no_record_of_a_pool_or_of_the_numbers_does_harm)

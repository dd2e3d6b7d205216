/* Calls that may be run again when their worker is lost. */
#include <signal.h>

#include "daemon/pool/poison.h"
#include "daemon/pool/request.h"
#include "tests/unit/pool_support.h"

#define SMALL 6
#define LARGE (100 * 1024)

static void begin(struct scene *sc, bool marked, unsigned kills)
{
	struct pool_settings s = sim_settings();

	s.poison_kills = kills;
	s.call_timeout = 10 * S;
	scene_prepare(sc, &s);
	sc->stage.machine.script = (struct sim_script){ .call = SIM_CALL_MANUAL, .idempotent = marked };
	sim_stage_start(&sc->stage);
}

static void execute(struct scene *sc, size_t size, bool idempotent)
{
	sim_execute_as(&sc->one,
		       &(struct request_spec){ .kind = REQUEST_EXECUTE, .id = 1, .idempotent = idempotent, .queue_timeout = S },
		       1, size, NULL);
	scene_pass(sc, 0);
}

static struct request *call(struct scene *sc)
{
	return registry_find_by_id(&sc->stage.registry, sc->one.caller.id, 1);
}

static void crash(struct scene *sc)
{
	sim_child_die(scene_child(sc), 0, SIGSEGV);
	scene_pass(sc, 150 * MS);
}

START_TEST(a_lost_call_is_run_again_when_both_sides_say_so)
{
	struct scene sc;
	struct sim_child *c;

	begin(&sc, true, 0);
	execute(&sc, SMALL, true);
	crash(&sc);
	ck_waits(&sc.one, 1);
	ck_assert_uint_eq(call(&sc)->attempts, 2);
	c = scene_child(&sc);
	sim_child_reply(c, c->call);
	scene_pass(&sc, 0);
	ck_told(&sc.one, 1, ERROR_NONE, EXECUTED_YES);
	scene_end(&sc);
}
END_TEST

START_TEST(it_is_run_again_once)
{
	struct scene sc;

	begin(&sc, true, 0);
	execute(&sc, SMALL, true);
	crash(&sc);
	crash(&sc);
	ck_told(&sc.one, 1, ERROR_WORKER_DIED, EXECUTED_MAYBE);
	ck_assert_ptr_nonnull(strstr(told(&sc.one, 1)->message, "; it was the second try"));
	scene_end(&sc);
}
END_TEST

START_TEST(a_large_body_is_kept_for_it)
{
	struct scene sc;

	begin(&sc, true, 0);
	execute(&sc, LARGE, true);
	crash(&sc);
	ck_assert_uint_eq(call(&sc)->attempts, 2);
	scene_end(&sc);
}
END_TEST

START_TEST(not_when_the_caller_did_not_ask)
{
	struct scene sc;

	begin(&sc, true, 0);
	execute(&sc, SMALL, false);
	crash(&sc);
	ck_told(&sc.one, 1, ERROR_WORKER_DIED, EXECUTED_MAYBE);
	ck_assert_ptr_null(strstr(told(&sc.one, 1)->message, "again"));
	scene_end(&sc);
}
END_TEST

START_TEST(not_when_the_handler_is_not_marked_and_the_message_says_so)
{
	struct scene sc;

	begin(&sc, false, 0);
	execute(&sc, SMALL, true);
	crash(&sc);
	ck_told(&sc.one, 1, ERROR_WORKER_DIED, EXECUTED_MAYBE);
	ck_assert_ptr_nonnull(strstr(told(&sc.one, 1)->message, "not marked with @expose(idempotent=True)"));
	scene_end(&sc);
}
END_TEST

START_TEST(not_when_it_is_poisoned)
{
	struct scene sc;

	begin(&sc, true, 1);
	execute(&sc, SMALL, true);
	crash(&sc);
	ck_told(&sc.one, 1, ERROR_WORKER_DIED, EXECUTED_MAYBE);
	scene_end(&sc);
}
END_TEST

START_TEST(never_under_a_lease)
{
	struct scene sc;
	struct lease *l;

	begin(&sc, true, 0);
	l = scene_lease(&sc, &sc.one, 9, 0);
	sim_execute_as(&sc.one, &(struct request_spec){ .kind = REQUEST_EXECUTE, .id = 1, .idempotent = true }, 1, SMALL, l);
	scene_pass(&sc, 0);
	crash(&sc);
	ck_told(&sc.one, 1, ERROR_WORKER_DIED, EXECUTED_MAYBE);
	scene_end(&sc);
}
END_TEST

START_TEST(a_worker_that_broke_the_protocol_is_dead_before_the_call_is_run_again)
{
	struct scene sc;
	uint64_t first;

	begin(&sc, true, 0);
	execute(&sc, SMALL, true);
	first = scene_worker(&sc)->id;
	sim_child_write_calls(scene_child(&sc), "\x01", 1);
	scene_pass(&sc, 200 * MS);
	ck_waits(&sc.one, 1);
	ck_assert(call(&sc)->worker && call(&sc)->worker->id != first);
	scene_end(&sc);
}
END_TEST

START_TEST(one_that_waits_for_its_second_try_until_the_deadline_may_have_run)
{
	struct scene sc;

	begin(&sc, true, 0);
	execute(&sc, SMALL, true);
	sc.stage.machine.script.init = SIM_INIT_MANUAL; /* no worker for it */
	sim_child_die(scene_child(&sc), 0, SIGSEGV);
	scene_pass(&sc, 3 * S);
	ck_waits(&sc.one, 1); /* its time in the queue was over long ago */
	scene_pass(&sc, 8 * S);
	ck_told(&sc.one, 1, ERROR_DEADLINE_EXCEEDED, EXECUTED_MAYBE);
	scene_end(&sc);
}
END_TEST

RUN_SUITE("retry", a_lost_call_is_run_again_when_both_sides_say_so, it_is_run_again_once, a_large_body_is_kept_for_it,
	  not_when_the_caller_did_not_ask, not_when_the_handler_is_not_marked_and_the_message_says_so,
	  not_when_it_is_poisoned, never_under_a_lease,
	  a_worker_that_broke_the_protocol_is_dead_before_the_call_is_run_again,
	  one_that_waits_for_its_second_try_until_the_deadline_may_have_run)

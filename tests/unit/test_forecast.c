#include "daemon/pool/forecast.h"

#include "tests/unit/pool_support.h"

/* A pool whose calls are answered by hand. */
static void forecast_begin(struct scene *sc, unsigned workers)
{
	struct pool_settings s = sim_settings();

	s.min_workers = s.max_workers = workers;
	s.call_timeout = 60 * S;
	s.queue_timeout = 60 * S;
	scene_prepare(sc, &s);
	sc->stage.machine.script.call = SIM_CALL_MANUAL;
	sim_stage_start(&sc->stage);
}

/* Ends the call that the first worker runs. */
static void answer(struct scene *sc)
{
	struct sim_child *c = scene_child(sc);

	sim_child_reply(c, c->call);
	scene_pass(sc, 0);
}

static struct request *waiting(struct scene *sc, uint64_t id)
{
	struct request *r = registry_find_by_id(&sc->stage.registry, sc->one.caller.id, id);

	ck_assert_ptr_nonnull(r);
	ck_assert_int_eq(r->state, REQUEST_QUEUED);
	return r;
}

/* A first call has taken that long, then call 2 runs and call 3 waits. */
static struct request *forecast_scene(struct scene *sc, uint64_t usual)
{
	forecast_begin(sc, 1);
	sim_execute(&sc->one, 1, 0, 0);
	scene_pass(sc, usual);
	answer(sc);
	sim_execute(&sc->one, 2, 0, 0);
	scene_pass(sc, 0);
	sim_execute(&sc->one, 3, 0, 0);
	scene_pass(sc, 0);
	return waiting(sc, 3);
}

static void forecast_end(struct scene *sc)
{
	caller_gone(&sc->one.caller);
	scene_pass(sc, S);
	scene_end(sc);
}

START_TEST(nothing_is_guessed_before_a_call_has_ended)
	{
		struct scene sc;
		uint64_t in;

		forecast_begin(&sc, 1);
		sim_execute(&sc.one, 1, 0, 0);
		sim_execute(&sc.one, 2, 0, 0);
		scene_pass(&sc, 0);
		ck_assert(!forecast_start(waiting(&sc, 2), 0, &in));
		forecast_end(&sc);
	}
END_TEST

START_TEST(the_next_call_starts_when_the_one_that_runs_has_taken_as_long_as_others)
	{
		struct scene sc;
		struct request *r = forecast_scene(&sc, 100 * MS);
		uint64_t in;

		ck_assert(forecast_start(r, 0, &in));
		ck_assert_uint_ge(in, 99 * MS);
		ck_assert_uint_le(in, 101 * MS);
		scene_pass(&sc, 60 * MS);
		ck_assert(forecast_start(r, 0, &in));
		ck_assert_uint_ge(in, 39 * MS);
		ck_assert_uint_le(in, 41 * MS);
		forecast_end(&sc);
	}
END_TEST

START_TEST(each_call_that_comes_first_takes_its_share_of_the_workers)
	{
		struct scene sc;
		struct request *r = forecast_scene(&sc, 100 * MS);
		uint64_t in;

		ck_assert(forecast_start(r, 3, &in));
		ck_assert_uint_ge(in, 398 * MS);
		ck_assert_uint_le(in, 402 * MS);
		forecast_end(&sc);
	}
END_TEST

START_TEST(a_call_that_runs_for_longer_than_others_ends_at_its_deadline)
	{
		struct scene sc;
		struct request *r = forecast_scene(&sc, 100 * MS);
		uint64_t in;

		scene_pass(&sc, 10 * S);
		ck_assert(forecast_start(r, 0, &in));
		ck_assert_uint_ge(in, 49 * S);
		ck_assert_uint_le(in, 50 * S);
		forecast_end(&sc);
	}
END_TEST

START_TEST(workers_that_are_leased_to_others_are_of_no_use)
	{
		struct scene sc;
		struct request *r;
		uint64_t in;

		forecast_begin(&sc, 1);
		sim_execute(&sc.one, 1, 0, 0);
		scene_pass(&sc, 100 * MS);
		answer(&sc);
		(void)scene_lease(&sc, &sc.two, 1, 30 * S);
		sim_execute(&sc.one, 2, 0, 0);
		scene_pass(&sc, 0);
		r = waiting(&sc, 2);
		ck_assert(!forecast_start(r, 0, &in));
		forecast_end(&sc);
	}
END_TEST

RUN_SUITE("forecast", nothing_is_guessed_before_a_call_has_ended,
	  the_next_call_starts_when_the_one_that_runs_has_taken_as_long_as_others,
	  each_call_that_comes_first_takes_its_share_of_the_workers,
	  a_call_that_runs_for_longer_than_others_ends_at_its_deadline,
	  workers_that_are_leased_to_others_are_of_no_use)

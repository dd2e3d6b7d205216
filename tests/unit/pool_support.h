/* What the tests of daemon/pool/ share: a stage with one caller. They run in the simulated world. */
#pragma once

#include <check.h>

#include "daemon/base/cleanup.h"
#include "daemon/base/log.h"
#include "daemon/pool/lease.h"
#include "tests/sim/sim_stage.h"
#include "tests/support/suite.h"

#define MS NS_PER_MS
#define S NS_PER_S

/* A pool of some workers that are ready, and a caller. */
struct scene {
	struct sim_stage stage;
	struct sim_caller one, two;
	uint64_t bugs; /* BUG lines before it began: tests may share a process */
};

static inline void scene_prepare(struct scene *sc, const struct pool_settings *settings)
{
	sc->bugs = log_bugs();
	sim_stage_init(&sc->stage, settings, 4, 1, NULL);
	sim_caller_init(&sc->one, &sc->stage);
	sim_caller_init(&sc->two, &sc->stage);
}

static inline void scene_begin(struct scene *sc, unsigned workers)
{
	struct pool_settings s = sim_settings();

	s.min_workers = s.max_workers = workers;
	scene_prepare(sc, &s);
	sim_stage_start(&sc->stage);
	ck_assert_uint_eq(sc->stage.pool->in_state[WORKER_IDLE], workers);
}

/* Nothing may be left over, and the daemon may not have found a bug in itself. */
static inline void scene_end(struct scene *sc)
{
	caller_gone(&sc->one.caller);
	caller_gone(&sc->two.caller);
	ck_assert_uint_eq(sim_stage_end(&sc->stage, true), 0);
	ck_assert_uint_eq(log_bugs(), sc->bugs);
}

static inline void scene_pass(struct scene *sc, uint64_t ns)
{
	ck_assert(sim_pass(sc->stage.loop, ns));
}

static inline struct worker *scene_worker(struct scene *sc)
{
	return sc->stage.pool->workers;
}

/* The process of a worker. */
static inline struct sim_child *scene_child_of(const struct scene *sc, const struct worker *w)
{
	struct sim_child *c = sim_machine_find(&sc->stage.machine, w->proc.pid);

	ck_assert_ptr_nonnull(c);
	return c;
}

static inline struct sim_child *scene_child(struct scene *sc)
{
	return scene_child_of(sc, scene_worker(sc));
}

/* The pool is started; its processes will do `init`. */
static inline void scene_start(struct scene *sc, enum sim_init init)
{
	sc->stage.machine.script.init = init;
	pool_start(sc->stage.pool);
}

/* What is started from now on gets ready; so long. */
static inline void scene_mend(struct scene *sc, uint64_t ns)
{
	sc->stage.machine.script.init = SIM_INIT_READY;
	scene_pass(sc, ns);
}

/* Calls that begin from now on take so long, also in workers that come later. */
static inline void scene_calls_take(struct scene *sc, uint64_t ns)
{
	sc->stage.machine.script.call_after = ns;
	for (struct sim_child *c = sc->stage.machine.children; c; c = c->next)
		c->script.call_after = ns;
}

/* The lease that `caller` gets for its request `id`. */
static inline struct lease *scene_lease(struct scene *sc, struct sim_caller *caller, uint64_t id, uint64_t ttl)
{
	const struct sim_answer *a;

	sim_checkout(caller, id, ttl);
	scene_pass(sc, 0);
	a = sim_caller_answer(caller, id);
	ck_assert(a && a->code == ERROR_NONE);
	return registry_find_lease(&sc->stage.registry, a->lease);
}

/* The answer to a request, which must have come. */
static inline const struct sim_answer *told(const struct sim_caller *c, uint64_t id)
{
	const struct sim_answer *a = sim_caller_answer(c, id);

	ck_assert_msg(a != NULL, "request %llu has no answer", (unsigned long long)id);
	return a;
}

static inline void ck_told(const struct sim_caller *c, uint64_t id, enum error_code code, enum executed executed)
{
	const struct sim_answer *a = told(c, id);

	ck_assert_msg(a->code == code && a->executed == executed, "request %llu: %s/%s: %s", (unsigned long long)id,
		      error_name(a->code), executed_name(a->executed), a->message);
}

static inline void ck_waits(const struct sim_caller *c, uint64_t id)
{
	ck_assert_ptr_null(sim_caller_answer(c, id));
}

/* The same, for a reason. */
static inline void ck_told_why(const struct sim_caller *c, uint64_t id, enum error_code code, enum executed executed,
			       const char *why)
{
	ck_told(c, id, code, executed);
	ck_assert_msg(strstr(told(c, id)->message, why), "request %llu: %s", (unsigned long long)id,
		      told(c, id)->message);
}

/* Calls first ... first + n - 1 of the first caller. */
static inline void execute_many(struct scene *sc, uint64_t first, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		sim_execute(&sc->one, first + i, 0, 0);
}

/* They have succeeded. */
static inline void ck_told_all(const struct scene *sc, uint64_t first, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		ck_told(&sc->one, first + i, ERROR_NONE, EXECUTED_YES);
}

/* A call is answered now. */
static inline void ck_serves(struct scene *sc, uint64_t id)
{
	sim_execute(&sc->two, id, 0, 0);
	scene_pass(sc, 10 * MS);
	ck_told(&sc->two, id, ERROR_NONE, EXECUTED_YES);
}

/* A call is refused now. */
static inline void ck_refuses(struct scene *sc, uint64_t id, enum error_code code)
{
	sim_execute(&sc->two, id, 0, 0);
	scene_pass(sc, 0);
	ck_told(&sc->two, id, code, EXECUTED_NEVER);
}

static inline void ck_pool_is(const struct scene *sc, const char *state)
{
	ck_assert_str_eq(pool_state_name(sc->stage.pool), state);
}

static inline void ck_idle(const struct scene *sc, unsigned n)
{
	ck_assert_uint_eq(sc->stage.pool->in_state[WORKER_IDLE], n);
}

/* In so long it has stopped, and none of its processes lives. */
static inline void ck_stops(struct scene *sc, uint64_t ns)
{
	scene_pass(sc, ns);
	ck_assert_int_eq(sc->stage.pool->state, POOL_STOPPED);
	ck_assert_uint_eq(sim_machine_living(&sc->stage.machine), 0);
}

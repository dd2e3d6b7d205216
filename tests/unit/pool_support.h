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

/* What the tests of templates share: pools with start = fork, whose templates take 20 ms and whose workers 2. */
#pragma once

#include "daemon/pool/template.h"
#include "tests/unit/pool_support.h"

static inline struct pool_settings forking(unsigned min, unsigned max)
{
	struct pool_settings s = sim_settings();

	s.start_fork = true;
	s.min_workers = min;
	s.max_workers = max;
	s.max_queue = 0;
	return s;
}

/* Nothing has happened yet. */
static inline void forking_prepare(struct scene *sc, const struct pool_settings *s)
{
	scene_prepare(sc, s);
	sc->stage.machine.script.hello_after = 10 * MS;
	sc->stage.machine.script.ready_after = 10 * MS;
}

/* The workers that come from now on are quick, as forked ones are. */
static inline void forking_be_quick(struct scene *sc)
{
	sc->stage.machine.script.hello_after = MS;
	sc->stage.machine.script.ready_after = MS;
}

/* All of its workers are ready. */
static inline void forking_begin(struct scene *sc, const struct pool_settings *s)
{
	forking_prepare(sc, s);
	pool_start(sc->stage.pool);
	scene_pass(sc, 15 * MS);
	forking_be_quick(sc);
	scene_pass(sc, 85 * MS);
	ck_assert(template_is_warm(sc->stage.pool->template));
	ck_assert_uint_eq(sc->stage.pool->in_state[WORKER_IDLE], s->min_workers);
}

static inline struct template *the_template(const struct scene *sc)
{
	return sc->stage.pool->template;
}

/* Its process. */
static inline struct sim_child *template_child(const struct scene *sc)
{
	struct sim_child *c = sim_machine_find(&sc->stage.machine, the_template(sc)->worker->proc.pid);

	ck_assert_ptr_nonnull(c);
	return c;
}

static inline void ck_processes(const struct scene *sc, unsigned execs, unsigned forks)
{
	ck_assert_msg(sc->stage.machine.n_spawned == execs && sc->stage.machine.n_forked == forks,
		      "%u were started and %u forked, not %u and %u", sc->stage.machine.n_spawned,
		      sc->stage.machine.n_forked, execs, forks);
}

/* Kills a worker that is idle, so that another is needed. */
static inline void lose_worker(struct scene *sc)
{
	struct sim_child *c = sim_machine_find(&sc->stage.machine, sc->stage.pool->idle->proc.pid);

	ck_assert_ptr_nonnull(c);
	sim_child_die(c, 1, 0);
}

/* A call is answered now. */
static inline void ck_serves(struct scene *sc, uint64_t id)
{
	sim_execute(&sc->two, id, 0, 0);
	scene_pass(sc, 50 * MS);
	ck_told(&sc->two, id, ERROR_NONE, EXECUTED_YES);
}

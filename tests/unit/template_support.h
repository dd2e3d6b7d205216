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

/* The pool is started; its template will do `init`. */
static inline void forking_start(struct scene *sc, const struct pool_settings *s, enum sim_init init)
{
	forking_prepare(sc, s);
	scene_start(sc, init);
}

/* The workers that come from now on are quick, as forked ones are. */
static inline void forking_be_quick(struct scene *sc)
{
	sc->stage.machine.script.hello_after = MS;
	sc->stage.machine.script.ready_after = MS;
}

static inline struct template *the_template(const struct scene *sc)
{
	return sc->stage.pool->template;
}

/* Its process. */
static inline struct sim_child *template_child(const struct scene *sc)
{
	return scene_child_of(sc, the_template(sc)->worker);
}

static inline void ck_template_is(const struct scene *sc, const char *state)
{
	ck_assert_str_eq(template_state_name(the_template(sc)), state);
}

static inline void ck_processes(const struct scene *sc, unsigned execs, unsigned forks)
{
	ck_assert_msg(sc->stage.machine.n_spawned == execs && sc->stage.machine.n_forked == forks,
		      "%u were started and %u forked, not %u and %u", sc->stage.machine.n_spawned,
		      sc->stage.machine.n_forked, execs, forks);
}

/* Its template is warm, and all of its workers are ready. */
static inline void forking_begin_with(struct scene *sc, const struct pool_settings *s)
{
	forking_start(sc, s, SIM_INIT_READY);
	scene_pass(sc, 15 * MS);
	forking_be_quick(sc);
	scene_pass(sc, 85 * MS);
	ck_template_is(sc, "warm");
	ck_idle(sc, s->min_workers);
}

static inline void forking_begin(struct scene *sc, unsigned min, unsigned max)
{
	struct pool_settings s = forking(min, max);

	forking_begin_with(sc, &s);
}

/* Kills a worker that is idle, so that another is needed. */
static inline void lose_worker(struct scene *sc)
{
	sim_child_die(scene_child_of(sc, sc->stage.pool->idle), 1, 0);
}

/* The same; asked for another one, the template does `fork`. */
static inline void lose_worker_and(struct scene *sc, enum sim_fork fork)
{
	template_child(sc)->script.fork = fork;
	lose_worker(sc);
}

static inline void lose_template(struct scene *sc)
{
	sim_child_die(template_child(sc), 1, 0);
}

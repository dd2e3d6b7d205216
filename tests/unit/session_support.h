/* What the tests of sessions share. The session "chat" is that of the user of both callers. */
#pragma once

#include "daemon/pool/session.h"
#include "tests/unit/pool_support.h"

/* hooks: its workers want to know of the ends of sessions. */
static inline void sessions_begin(struct scene *sc, struct pool_settings *s, unsigned workers, bool hooks)
{
	s->min_workers = s->max_workers = workers;
	scene_prepare(sc, s);
	sc->stage.machine.script.session_close = hooks;
	sim_stage_start(&sc->stage);
}

static inline struct session *found(const struct scene *sc, const char *name)
{
	return session_find(sc->stage.pool, sc->one.caller.uid, span_str(name));
}

/* The process of the worker that carries it. */
static inline struct sim_child *carrier(struct scene *sc, const char *name)
{
	ck_assert_ptr_nonnull(found(sc, name)->worker);
	return scene_child_of(sc, found(sc, name)->worker);
}

/* One call, to its end. */
static inline void call(struct scene *sc, struct sim_caller *c, uint64_t id, const char *name)
{
	sim_execute_in(c, id, name);
	scene_pass(sc, 10 * MS);
	ck_told(c, id, ERROR_NONE, EXECUTED_YES);
}

/* The lease of "chat" that the first caller gets for its request `id`. */
static inline struct lease *lend(struct scene *sc, uint64_t id, bool direct)
{
	struct request_spec spec = { .kind = REQUEST_CHECKOUT, .id = id, .direct = direct };
	struct lease *l;

	ck_assert(sim_submit_in(&sc->one, "chat", &spec));
	scene_pass(sc, 10 * MS);
	ck_told(&sc->one, id, ERROR_NONE, EXECUTED_YES);
	l = registry_find_lease(&sc->stage.registry, told(&sc->one, id)->lease);
	ck_assert_ptr_nonnull(l);
	return l;
}

/* Its next call ends when the test says so, whatever it is told before. */
static inline void hold_calls(struct sim_child *c)
{
	c->script.call = SIM_CALL_MANUAL;
	c->script.ignores_interrupt = true;
}

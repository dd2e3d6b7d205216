#include "tests/sim/small_world.h"

#include <utlist.h>

#include "daemon/base/cleanup.h"
#include "daemon/pool/session.h"
#include "tests/sim/invariants.h"
#include "tests/sim/portrait.h"
#include "tests/sim/sim_timers.h"

#define FAR (UINT64_C(1000000000) * NS_PER_S) /* an event that only a move makes happen */
#define LONG (30 * NS_PER_S)
#define THE_SESSION 0

static const struct sim_script slow = {
	.ready_after = FAR, .hears_after = FAR, .call_after = FAR, .shows_stack = true
};
static const struct sim_script quick = {
	.hello_after = NS_PER_MS, .ready_after = NS_PER_MS, .call_after = NS_PER_MS, .shows_stack = true
};

static struct loop *loop_of(const struct small_world *s)
{
	return s->world->stage.loop;
}

static void set_pace(struct small_world *s, const struct sim_script *script)
{
	struct sim_child *c;

	s->pace = *script;
	s->pace.session_close = s->size->hooks;
	s->pace.idempotent = s->size->idempotent;
	s->world->temper.fixed = &s->pace;
	DL_FOREACH (s->world->stage.machine.children, c)
		c->script = s->pace;
}

/* Callers in every second place have the same uid. */
static unsigned place_of(const struct small_size *size, unsigned client)
{
	return size->sessions ? 2 * client : client;
}

/* NULL when it has gone. */
static struct world_caller *client_of(const struct small_world *s, unsigned client)
{
	return s->world->callers[place_of(s->size, client)];
}

void small_world_init(struct small_world *s, const struct small_size *size)
{
	struct pool_settings settings = sim_settings();

	*s = (struct small_world){ .size = size, .world = world_new(1), .checks = true };
	s->world->deaf = true;
	settings.min_workers = settings.max_workers = size->workers;
	settings.start_fork = size->forks;
	settings.affinity_prefer = size->prefer;
	settings.max_requests = size->recycled;
	settings.drain_timeout = size->recycled ? NS_PER_S : 0;
	s->world->keeps = size->deaths;
	set_pace(s, &quick);
	world_begin(s->world, &settings, 8);
	(void)sim_pass(loop_of(s), 100 * NS_PER_MS);
	for (unsigned i = 0; i < size->clients; i++)
		world_come(s->world, place_of(size, i));
	set_pace(s, &slow);
	s->world->trace.n = 0;
}

/* --- what can be done --- */

static unsigned count_events(const struct small_world *s)
{
	unsigned n = 0;

	for (const struct sim_event *e = sim_events_first(loop_of(s)); e; e = e->next)
		n += e->at > loop_now(loop_of(s));
	return n;
}

static bool has_work(const struct small_world *s)
{
	return sim_has_work(loop_of(s)) || count_events(s) < sim_events_pending(loop_of(s));
}

static bool holds_lease(const struct small_world *s, unsigned client)
{
	return client < s->size->leases && client_of(s, client) && client_of(s, client)->caller.leases;
}

static bool waits(const struct small_world *s, unsigned client)
{
	return client_of(s, client) && client_of(s, client)->caller.n_requests;
}

/* Some client that may use the session now; NULL when there is none. */
static struct world_caller *session_user(const struct small_world *s, const struct session *session)
{
	for (unsigned i = 0; i < s->size->sessions; i++) {
		struct world_caller *c = client_of(s, i);

		if (c && (!session->lease || session->lease->caller == &c->caller))
			return c;
	}
	return NULL;
}

static struct session *the_session(const struct small_world *s)
{
	for (unsigned i = 0; i < s->size->sessions; i++) {
		if (client_of(s, i))
			return world_session(s->world, client_of(s, i), THE_SESSION);
	}
	return NULL;
}

/* Another that asks for the same has to ask before it. */
static bool has_elder(const struct small_world *s, unsigned client)
{
	const struct small_size *z = s->size;

	for (unsigned i = 0; i < client; i++) {
		bool same = (i < z->leases) == (client < z->leases) && (i < z->sessions) == (client < z->sessions);

		if ((same || !z->sessions) && !(s->asked & 1U << i))
			return true;
	}
	return false;
}

/* One asks after the other; where there is a session, in any order that tells them apart. A call in it that is refused at
 * once changes nothing. */
static bool can_ask(const struct small_world *s, unsigned client)
{
	const struct world_caller *c = client_of(s, client);
	const struct session *session = c && client < s->size->sessions ? the_session(s) : NULL;

	if (s->asked & 1U << client || has_elder(s, client))
		return false;
	return !session || (!session->lost && (!session->lease || session->lease->caller == &c->caller));
}

static bool can_close(const struct small_world *s)
{
	const struct session *session = the_session(s);

	return session && session_user(s, session);
}

static bool can_open(const struct small_world *s)
{
	const struct session *session = the_session(s);

	return session && session->lost && session_user(s, session);
}

/* A reply, or a part of it, lies on a call channel. */
static bool reply_lies_ready(const struct small_world *s)
{
	const struct sim_child *c;

	DL_FOREACH (s->world->stage.machine.children, c) {
		if (c->calls->fd >= 0 && c->calls->messages)
			return true;
	}
	return false;
}

static bool look_is_another(const struct small_world *s, enum sim_gait gait)
{
	const struct loop *l = loop_of(s);

	if (gait == SIM_GAIT_FORWARD)
		return true;
	if (gait == SIM_GAIT_SLOW)
		return reply_lies_ready(s);
	return sim_fds_ready(l, LOOP_PRIO_WORKER) > 1 || sim_fds_ready(l, LOOP_PRIO_NORMAL) > 1;
}

static uint64_t next_timer(const struct small_world *s)
{
	return sim_timers_next(loop_timers(loop_of(s)));
}

static unsigned clients_requests(const struct small_world *s)
{
	const struct pool *p = s->world->stage.pool;

	return p->n_requests - p->self.n_requests;
}

/* How many moves of a kind there are; not every one of them need be possible. */
static unsigned count_moves(const struct small_world *s, enum move_kind kind)
{
	const struct small_size *z = s->size;

	switch (kind) {
	case MOVE_ASK:
		return z->clients;
	case MOVE_LEASED:
	case MOVE_CHECKIN:
		return z->leases;
	case MOVE_OPEN:
		return z->sessions ? 2 : 0;
	case MOVE_CLOSE:
		return s->closes < z->closes;
	case MOVE_EVENT:
		return count_events(s);
	case MOVE_CRASH:
		return s->crashes < z->crashes ? sim_machine_living(&s->world->stage.machine) : 0;
	case MOVE_CANCEL:
		return s->cancels < z->cancels ? clients_requests(s) : 0;
	case MOVE_GO:
		return s->gone < z->gone ? z->clients : 0;
	case MOVE_TICK:
		return s->ticks < z->ticks && next_timer(s) != LOOP_NEVER;
	case MOVE_DIE:
		return s->deaths < z->deaths;
	case MOVE_LOOK:
		return has_work(s) ? 1 + SIM_GAIT_SLOW : 0;
	case MOVE_N:
		break;
	}
	return 0;
}

static bool can_move(const struct small_world *s, struct move m)
{
	if (m.kind >= MOVE_N || m.n >= count_moves(s, m.kind))
		return false;
	switch ((enum move_kind)m.kind) {
	case MOVE_ASK:
		return can_ask(s, m.n);
	case MOVE_OPEN:
		return can_open(s);
	case MOVE_CLOSE:
		return can_close(s);
	case MOVE_LEASED:
		return holds_lease(s, m.n) && !(s->called & 1U << m.n);
	case MOVE_CHECKIN:
		return holds_lease(s, m.n);
	case MOVE_GO:
		return waits(s, m.n) || holds_lease(s, m.n);
	case MOVE_TICK:
		return next_timer(s) > loop_now(loop_of(s));
	case MOVE_LOOK:
		return m.n != SIM_GAIT_DRAWN && look_is_another(s, m.n);
	default:
		return true;
	}
}

unsigned small_world_moves(const struct small_world *s, struct move moves[MOVES_MAX])
{
	unsigned n = 0;

	for (uint8_t kind = 0; kind < MOVE_N; kind++) {
		for (uint8_t i = 0; i < count_moves(s, kind) && n < MOVES_MAX; i++) {
			moves[n] = (struct move){ .kind = kind, .n = i };
			n += can_move(s, moves[n]);
		}
	}
	return n;
}

/* --- doing it --- */

static void ask(struct small_world *s, unsigned client)
{
	struct request_spec spec = { .kind = client < s->size->leases ? REQUEST_CHECKOUT : REQUEST_EXECUTE,
				     .id = 1,
				     .idempotent = s->size->idempotent };
	struct world_caller *c = client_of(s, client);

	s->asked |= 1U << client;
	if (c && client < s->size->sessions)
		world_submit_in(s->world, c, &spec, THE_SESSION);
	else if (c)
		world_submit(s->world, c, &spec, NULL);
}

static void call_leased(struct small_world *s, unsigned client)
{
	struct world_caller *c = client_of(s, client);

	s->called |= 1U << client;
	world_submit(s->world, c, &(struct request_spec){ .kind = REQUEST_EXECUTE, .id = 2 }, c->caller.leases);
}

static void close_session(struct small_world *s)
{
	s->closes++;
	world_close(s->world, session_user(s, the_session(s)), THE_SESSION);
}

static void happen(struct small_world *s, unsigned n)
{
	struct sim_event *e = sim_events_first(loop_of(s));

	while (e->at <= loop_now(loop_of(s)) || n--)
		e = e->next;
	sim_event_happen(loop_of(s), e);
}

static void crash(struct small_world *s, unsigned n)
{
	struct sim_child *c = s->world->stage.machine.children;

	s->crashes++;
	while (c->dead || c->unborn || n--)
		c = c->next;
	world_kill(s->world, c);
}

static void cancel(struct small_world *s, unsigned n)
{
	struct pool *p = s->world->stage.pool;
	struct request *r = p->requests;

	s->cancels++;
	while (r->caller == &p->self || n--)
		r = r->pool_next;
	world_cancel(s->world, r);
}

static void look(struct small_world *s, enum sim_gait gait)
{
	static const char *const names[] = { [SIM_GAIT_FORWARD] = "the daemon looks",
					     [SIM_GAIT_BACKWARD] = "the daemon looks, backward",
					     [SIM_GAIT_SLOW] = "the daemon looks, replies slow" };

	world_trace(s->world, names[gait], 0, 0);
	if (!sim_look(loop_of(s), gait))
		world_violate(s->world, "the loop spins", 0);
	if (s->checks)
		invariants_check(s->world);
}

static void tick(struct small_world *s)
{
	s->ticks++;
	world_freeze(s->world, next_timer(s) - loop_now(loop_of(s)));
}

static void die(struct small_world *s)
{
	s->deaths++;
	world_crash(s->world, false);
	for (unsigned i = 0; i < s->size->clients; i++) {
		if (!(s->asked & 1U << i))
			world_come(s->world, place_of(s->size, i));
	}
}

bool small_world_move(struct small_world *s, struct move m)
{
	if (!can_move(s, m))
		return false;
	switch ((enum move_kind)m.kind) {
	case MOVE_ASK:
		ask(s, m.n);
		break;
	case MOVE_LEASED:
		call_leased(s, m.n);
		break;
	case MOVE_CHECKIN:
		world_checkin(s->world, client_of(s, m.n)->caller.leases);
		break;
	case MOVE_OPEN:
		world_open(s->world, session_user(s, the_session(s)), THE_SESSION, m.n);
		break;
	case MOVE_CLOSE:
		close_session(s);
		break;
	case MOVE_EVENT:
		happen(s, m.n);
		break;
	case MOVE_CRASH:
		crash(s, m.n);
		break;
	case MOVE_CANCEL:
		cancel(s, m.n);
		break;
	case MOVE_GO:
		s->gone++;
		world_leave(s->world, place_of(s->size, m.n));
		break;
	case MOVE_TICK:
		tick(s);
		break;
	case MOVE_DIE:
		die(s);
		break;
	case MOVE_LOOK:
		look(s, m.n);
		break;
	case MOVE_N:
		return false;
	}
	return true;
}

uint64_t small_world_portrait(const struct small_world *s)
{
	struct sim_random used = { .state = s->asked | (uint64_t)s->called << 8 | (uint64_t)s->crashes << 16 |
					    (uint64_t)s->cancels << 24 | (uint64_t)s->gone << 32 |
					    (uint64_t)s->ticks << 40 | (uint64_t)s->closes << 48 | (uint64_t)s->deaths << 56 };

	return portrait(s->world) ^ sim_random_next(&used);
}

bool small_world_is_calm(const struct small_world *s)
{
	return !sim_has_work(loop_of(s)) && !sim_events_pending(loop_of(s));
}

/* --- the end --- */

static void let_all_happen(struct small_world *s)
{
	uint64_t soon = loop_now(loop_of(s)) + NS_PER_MS;
	struct sim_event *next;

	set_pace(s, &quick);
	for (struct sim_event *e = sim_events_first(loop_of(s)); e; e = next) {
		next = e->next;
		if (e->at > soon) /* so it moves forward in the list */
			sim_event_set(loop_of(s), e, soon);
	}
}

void small_world_finish(struct small_world *s)
{
	struct world *w = s->world;
	bool undisturbed = !s->crashes && !s->cancels && !s->gone && !s->ticks && !s->deaths;

	world_trace(w, "everything works from here", 0, 0);
	let_all_happen(s);
	if (!sim_pass(loop_of(s), LONG))
		world_violate(w, "the loop spins", 0);
	if (w->ledger.n_open)
		world_violate(w, "invariant 1: requests without an answer", w->ledger.n_open);
	if (undisturbed && !s->size->leases && w->n_good != w->n_answers)
		world_violate(w, "a call fails in a world without a fault", w->n_answers - w->n_good);
	invariants_check(w);
	if (!w->violation[0])
		world_rest(w);
	if (!w->violation[0])
		world_end(w, true);
}

void small_world_stop(struct small_world *s)
{
	struct world *w = s->world;

	world_trace(w, "stop now", 0, 0);
	let_all_happen(s);
	pool_stop_now(w->stage.pool);
	if (w->ledger.n_open)
		world_violate(w, "invariant 1: requests without an answer", w->ledger.n_open);
	for (unsigned i = 0; i < WORLD_CALLERS; i++)
		world_leave(w, i);
	if (sim_stage_end(&w->stage, false))
		world_violate(w, "invariant 10, 12, 18: something is left over", 0);
	invariants_check_log(w);
}

void small_world_free(struct small_world *s)
{
	s->world = world_free(s->world);
}

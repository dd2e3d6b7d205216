#include "tests/sim/walk.h"

#include "daemon/base/cleanup.h"
#include "daemon/pool/lease.h"
#include "daemon/pool/operate.h"
#include "tests/sim/invariants.h"

#define CALLER_IDS 1000 /* ids that a caller may use: some come again */

static uint64_t below(struct world *w, uint64_t n)
{
	return sim_random_below(&w->random, n);
}

/* --- who asks --- */

static struct world_caller *some_caller(struct world *w)
{
	return w->callers[below(w, WORLD_CALLERS)];
}

static void step_come(struct world *w)
{
	world_come(w, (unsigned)below(w, WORLD_CALLERS));
}

static void step_go(struct world *w)
{
	world_leave(w, (unsigned)below(w, WORLD_CALLERS));
}

static struct lease *some_lease(struct world *w, const struct world_caller *c)
{
	struct lease *l = c->caller.leases;

	for (uint64_t n = below(w, c->caller.n_leases); l && n; n--)
		l = l->next;
	return l;
}

static uint64_t some_time(struct world *w)
{
	return below(w, 2) ? 0 : (1 + below(w, 400)) * NS_PER_MS;
}

static void submit(struct world *w, struct world_caller *c, enum request_kind kind, struct lease *l)
{
	static const uint8_t flavours[WORLD_FLAVOURS];
	struct request_spec spec = {
		.kind = kind,
		.id = below(w, CALLER_IDS),
		.timeout = some_time(w),
		.queue_timeout = some_time(w),
		.ttl = some_time(w),
		.idempotent = below(w, 2),
		.direct = kind == REQUEST_CHECKOUT && below(w, 2),
	};

	if (below(w, 4))
		spec.args = (struct span){ .p = flavours, .len = 1 + below(w, below(w, 2) ? 2 : WORLD_FLAVOURS) };
	world_submit(w, c, &spec, l);
}

static void step_execute(struct world *w)
{
	struct world_caller *c = some_caller(w);

	for (uint64_t n = 1 + below(w, below(w, 8) ? 2 : 30); c && n; n--)
		submit(w, c, REQUEST_EXECUTE, NULL);
}

static void step_checkout(struct world *w)
{
	struct world_caller *c = some_caller(w);

	if (c)
		submit(w, c, REQUEST_CHECKOUT, NULL);
}

static void step_execute_leased(struct world *w)
{
	struct world_caller *c = some_caller(w);

	for (uint64_t n = 1 + below(w, 3); c && c->caller.leases && n; n--) {
		struct lease *l = some_lease(w, c);

		if (!l->direct) /* the daemon's front refuses it */
			submit(w, c, REQUEST_EXECUTE, l);
	}
}

static void submit_in(struct world *w, struct world_caller *c, enum request_kind kind)
{
	static const uint8_t flavours[WORLD_FLAVOURS], map[] = { 0x81, 0xa1, 'm', 1 }, keys[] = { 0x91, 0xa1, 'm' };
	struct request_spec spec = {
		.kind = kind,
		.id = below(w, CALLER_IDS),
		.timeout = some_time(w),
		.queue_timeout = some_time(w),
		.ttl = some_time(w),
		.idempotent = below(w, 2),
	};

	if (kind == REQUEST_PUT)
		spec.args = (struct span){ .p = map, .len = sizeof(map) };
	else if (kind == REQUEST_DELETE)
		spec.args = (struct span){ .p = keys, .len = sizeof(keys) };
	else if (below(w, 4))
		spec.args = (struct span){ .p = flavours, .len = 1 + below(w, WORLD_FLAVOURS) };
	world_submit_in(w, c, &spec, (unsigned)below(w, WORLD_SESSIONS));
}

static void step_execute_in(struct world *w)
{
	struct world_caller *c = some_caller(w);

	for (uint64_t n = 1 + below(w, below(w, 4) ? 2 : 10); c && n; n--)
		submit_in(w, c, REQUEST_EXECUTE);
}

static void step_session(struct world *w)
{
	struct world_caller *c = some_caller(w);
	unsigned session = (unsigned)below(w, WORLD_SESSIONS);

	if (!c)
		return;
	switch (below(w, 6)) {
	case 0:
		submit_in(w, c, REQUEST_CHECKOUT);
		break;
	case 1:
		submit_in(w, c, REQUEST_PUT);
		break;
	case 2:
		submit_in(w, c, REQUEST_DELETE);
		break;
	case 3:
		world_close(w, c, session);
		break;
	default:
		world_open(w, c, session, below(w, 2));
	}
}

static void step_checkin(struct world *w)
{
	struct world_caller *c = some_caller(w);

	if (c && c->caller.leases)
		world_checkin(w, some_lease(w, c));
}

static void step_hang_up(struct world *w)
{
	struct world_caller *c = some_caller(w);
	struct world_socket *s = c ? &c->sockets[below(w, WORLD_SOCKETS)] : NULL;

	if (s && s->lease)
		world_hang_up(w, s);
}

static void step_cancel(struct world *w)
{
	struct world_caller *c = some_caller(w);
	struct request *r = c ? c->caller.requests : NULL;

	for (uint64_t n = below(w, c ? c->caller.n_requests : 0); r && n; n--)
		r = r->caller_next;
	if (r)
		world_cancel(w, r);
}

/* --- what else happens --- */

static struct sim_child *some_child(struct world *w)
{
	struct sim_child *c = w->stage.machine.children;

	for (uint64_t n = below(w, 8); c && n; n--)
		c = c->next;
	return c;
}

static void step_kill(struct world *w)
{
	struct sim_child *c = some_child(w);

	if (!c || c->unborn)
		return;
	if (c->is_template && below(w, 2))
		world_halt(w, c);
	else
		world_kill(w, c);
}

static void step_noise(struct world *w)
{
	struct sim_child *c = some_child(w);

	if (!c || c->unborn || !w->temper.bad_manners)
		return;
	world_trace(w, "noise of a worker", (uint64_t)c->pid, 0);
	if (below(w, 2))
		sim_child_reply(c, c->call ? c->call + 1 : UINT64_C(1) << 40); /* of a call that is not on its way to it */
	else
		sim_child_print(c, "hello from the handler\nand half a line");
}

static void step_temper(struct world *w)
{
	world_trace(w, "the workers' temper turns", 0, 0);
	temper_init(&w->temper, &w->random);
}

static void step_reload(struct world *w)
{
	world_trace(w, "reload", w->stage.pool->generation, 0);
	w->streak.wanted++;
	w->templates.wanted++;
	reload_start(w->stage.pool, w->stage.pool->given, NULL); /* as the file says: a resize is over */
}

/* What an operator does: pauses a pool for a while, recycles its workers, changes how many there are, kills one. */
static void step_operate(struct world *w)
{
	struct pool *p = w->stage.pool;
	unsigned max = 1 + (unsigned)below(w, 4);

	switch (below(w, 5)) {
	case 0:
	case 1:
		world_trace(w, p->paused ? "resume" : "pause", 0, 0);
		operate_pause(p, !p->paused);
		break;
	case 2:
		world_trace(w, "recycle", 0, 0);
		w->streak.wanted += operate_recycle(p, NULL);
		break;
	case 3:
		world_trace(w, "resize", max, 0);
		w->streak.wanted += max;
		if (w->max_workers < max)
			w->max_workers = max; /* it may be made smaller before anybody looks */
		w->squeezed = true;
		operate_resize(p, p->settings->min_workers < max ? p->settings->min_workers : max, max);
		break;
	default:
		world_trace(w, "operator kills", p->workers ? p->workers->id : 0, 0);
		w->streak.wanted += p->workers != NULL;
		if (p->workers)
			operate_kill(p->workers);
	}
}

/* Also at once again, or before all that was taken up has answered. */
static void step_crash(struct world *w)
{
	do {
		w->next_fuse = below(w, 4) ? 0 : 1 + below(w, 20);
		world_crash(w, sim_random_once_in(&w->random, 30));
		if (below(w, 2))
			(void)sim_pass(w->stage.loop, below(w, 10 * NS_PER_MS));
	} while (sim_random_once_in(&w->random, 3));
}

static void step_nothing(struct world *w)
{
	(void)w;
}

static const struct {
	unsigned weight;
	void (*run)(struct world *w);
} steps[] = {
	{ 30, step_execute },       { 8, step_come },    { 4, step_go },       { 6, step_checkout },
	{ 8, step_execute_leased }, { 3, step_checkin }, { 6, step_cancel },   { 2, step_kill },
	{ 1, step_noise },          { 1, step_temper },  { 4, step_hang_up },  { 8, step_execute_in },
	{ 5, step_session },        { 1, step_reload },  { 2, step_operate }, { 11, step_nothing },
};

static void run_step(struct world *w)
{
	uint64_t n = below(w, 100);

	if (sim_random_once_in(&w->random, 400)) {
		world_freeze(w, 10 * NS_PER_S);
		return;
	}
	if (w->keeps && sim_random_once_in(&w->random, 60)) {
		step_crash(w);
		return;
	}
	if (w->keeps && sim_random_once_in(&w->random, 60)) {
		sim_set_fuse(w->stage.loop, 1 + below(w, below(w, 2) ? 10 : 200));
		return;
	}
	for (size_t i = 0; i < ARRAY_SIZE(steps); i++) {
		if (n < steps[i].weight) {
			steps[i].run(w);
			return;
		}
		n -= steps[i].weight;
	}
}

static uint64_t draw_pause(struct world *w)
{
	switch (below(w, 8)) {
	case 0:
	case 1:
	case 2:
		return 0;
	case 3:
		return below(w, 500 * NS_PER_MS);
	default:
		return below(w, 20 * NS_PER_MS);
	}
}

/* Each step draws from a stream of its own, so that it does much the same when others are left out. */
static void draw_anew(struct world *w, uint64_t step)
{
	w->random = sim_random_of(w->seed, step);
}

/* Sometimes more than one thing happens before the daemon looks. */
void walk_step(struct world *w)
{
	draw_anew(w, ++w->step);
	do {
		run_step(w);
		while (sim_is_dead(w->stage.loop))
			step_crash(w);
	} while (sim_random_once_in(&w->random, 6));
	if (!sim_pass(w->stage.loop, draw_pause(w)))
		world_violate(w, "the loop spins", 0);
	while (sim_is_dead(w->stage.loop)) {
		step_crash(w);
		(void)sim_pass(w->stage.loop, 0);
	}
	invariants_check(w);
}

void walk_skip(struct world *w)
{
	w->step++;
}

static struct pool_settings draw_settings(struct world *w)
{
	static const unsigned queues[] = { 0, 1, 3, 20 };
	struct pool_settings s = sim_settings();

	s.min_workers = s.max_workers = 1 + (unsigned)below(w, 4);
	if (!below(w, 3)) { /* elastic */
		s.min_workers = (unsigned)below(w, s.max_workers + 1);
		s.spare_workers = (unsigned)below(w, 3);
	}
	s.idle_timeout = below(w, 2) ? (20 + below(w, 2000)) * NS_PER_MS : 0;
	s.max_requests = below(w, 2) ? 1 + below(w, 10) : 0;
	s.max_age = below(w, 3) ? 0 : (100 + below(w, 5000)) * NS_PER_MS;
	s.max_rss = below(w, 3) ? 0 : (1 + below(w, 10)) << 20;
	s.replace_after = below(w, 2);
	s.ping_interval = below(w, 2) ? (20 + below(w, 500)) * NS_PER_MS : 0;
	s.breaker_failures = below(w, 2) ? 1 + (unsigned)below(w, 5) : 0;
	s.breaker_reset = (50 + below(w, 2000)) * NS_PER_MS;
	s.poison_kills = below(w, 3) ? 1 + (unsigned)below(w, 3) : 0;
	s.call_timeout = below(w, 4) ? (50 + below(w, 2000)) * NS_PER_MS : 0;
	s.queue_timeout = below(w, 4) ? (20 + below(w, 2000)) * NS_PER_MS : 0;
	s.max_timeout = below(w, 2) ? 3 * NS_PER_S : 0;
	s.init_timeout = (200 + below(w, 1500)) * NS_PER_MS;
	s.cancel_grace = (10 + below(w, 500)) * NS_PER_MS;
	s.stop_timeout = (50 + below(w, 500)) * NS_PER_MS;
	s.lease_ttl = below(w, 4) ? (50 + below(w, 2000)) * NS_PER_MS : 0;
	s.affinity_prefer = !below(w, 4);
	s.session_ttl = below(w, 4) ? (20 + below(w, 2000)) * NS_PER_MS : 0;
	s.max_sessions = below(w, 4) ? 0 : 1 + (unsigned)below(w, 6);
	s.session_reserve = (unsigned)below(w, 3);
	s.drain_timeout = below(w, 3) ? (20 + below(w, 1000)) * NS_PER_MS : 0;
	s.max_queue = queues[below(w, ARRAY_SIZE(queues))];
	s.start_fork = w->seed % 2; /* of two seeds that follow each other one has templates */
	return s;
}

struct world *walk_new(uint64_t seed)
{
	struct world *w = world_new(seed);
	struct pool_settings settings = draw_settings(w);

	w->temper.forks = settings.start_fork;
	w->keeps = seed / 2 % 2;
	temper_init(&w->temper, &w->random);
	world_begin(w, &settings, 1 + (unsigned)below(w, 3));
	return w;
}

void walk_end(struct world *w)
{
	bool busy, politely;

	draw_anew(w, UINT64_MAX);
	busy = sim_random_once_in(&w->random, 2); /* it is ended in the midst of work */
	politely = sim_random_once_in(&w->random, 2);
	temper_calm(&w->temper);
	sim_set_fuse(w->stage.loop, 0);
	operate_pause(w->stage.pool, false);
	world_trace(w, "everything works from here", 0, 0);
	if (!busy)
		world_rest(w);
	if (!w->violation[0])
		world_end(w, politely);
}

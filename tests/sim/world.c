#include "tests/sim/world.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <utlist.h>

#include "daemon/base/cleanup.h"
#include "daemon/base/mem.h"
#include "daemon/pool/lease.h"
#include "tests/sim/invariants.h"

#define QUIET (200 * NS_PER_S) /* longer than back-off, init timeout and all graces together */

static uint64_t now(const struct world *w)
{
	return loop_now(w->stage.loop);
}

static uint64_t below(struct world *w, uint64_t n)
{
	return sim_random_below(&w->random, n);
}

static void trace(struct world *w, const char *what, uint64_t a, uint64_t b)
{
	trace_add(&w->trace, now(w), what, a, b);
}

void world_violate(struct world *w, const char *what, uint64_t number)
{
	if (w->violation[0])
		return;
	(void)snprintf(w->violation, sizeof(w->violation), "%s (%llu)", what, (unsigned long long)number);
	trace(w, "VIOLATION", number, 0);
}

/* --- what the workers tell --- */

static struct world *world_of(struct sim_machine *m)
{
	return container_of(container_of(m, struct sim_stage, machine), struct world, stage);
}

/* A worker has got hold of a call, or a caller of an answer. */
static struct record *find_record(struct world *w, uint64_t call)
{
	struct record *r = ledger_find(&w->ledger, call);

	if (!r)
		world_violate(w, "a call that nobody asked for", call);
	return r ? r : &w->nobody;
}

static void check_record(struct world *w, const struct record *r, uint64_t call)
{
	const char *complaint = record_complaint(r);

	if (complaint)
		world_violate(w, complaint, call);
}

static void on_attempted(struct sim_machine *m)
{
	struct world *w = world_of(m);

	m->spawn_error = temper_draw_child(&w->temper, &m->script);
	trace(w, m->spawn_error ? "start fails" : "start", m->n_attempts, m->script.init);
	if (!w->streak.n++)
		w->streak.began = now(w);
	invariants_check_streak(w);
}

static void on_called(struct sim_machine *m, struct sim_child *c)
{
	temper_draw_call(&world_of(m)->temper, &c->script);
}

static void on_saw(struct sim_machine *m, struct sim_child *c, uint64_t call)
{
	struct world *w = world_of(m);
	struct record *r = find_record(w, call);

	trace(w, "worker sees call", (uint64_t)c->pid, call);
	r->saw++;
	check_record(w, r, call);
}

static void on_began(struct sim_machine *m, struct sim_child *c, uint64_t call)
{
	struct world *w = world_of(m);
	struct record *r = find_record(w, call);

	trace(w, "worker begins call", (uint64_t)c->pid, c->script.call);
	r->began++;
	check_record(w, r, call);
}

static void on_ended(struct sim_machine *m, struct sim_child *c, uint64_t call)
{
	struct world *w = world_of(m);
	struct record *r = find_record(w, call);

	trace(w, "worker ends call", (uint64_t)c->pid, call);
	r->ended++;
	check_record(w, r, call);
}

static void on_replied(struct sim_machine *m, struct sim_child *c, uint64_t call)
{
	struct record *r = find_record(world_of(m), call);

	trace(world_of(m), "worker replies", (uint64_t)c->pid, call);
	r->replied |= !r->answered;
}

static void on_ready(struct sim_machine *m, struct sim_child *c)
{
	trace(world_of(m), "worker ready", (uint64_t)c->pid, 0);
	world_of(m)->streak.n = 0;
}

/* Killed with a cancelled call, or of old age: its replacement is nobody's fault. */
static void on_died(struct sim_machine *m, struct sim_child *c)
{
	trace(world_of(m), "worker dies", (uint64_t)c->pid, c->said_ready);
	if (c->said_ready)
		world_of(m)->streak.n = 0;
}

static void on_wronged(struct sim_machine *m, struct sim_child *c, const char *what)
{
	world_violate(world_of(m), what, (uint64_t)c->pid);
}

static const struct sim_machine_ops machine_ops = {
	.attempted = on_attempted,
	.called = on_called,
	.saw = on_saw,
	.began = on_began,
	.ended = on_ended,
	.replied = on_replied,
	.ready = on_ready,
	.died = on_died,
	.wronged = on_wronged,
};

/* --- what the callers are told --- */

static void on_finished(struct caller *caller, const struct request *r, const struct outcome *o)
{
	struct world_caller *c = container_of(caller, struct world_caller, caller);
	struct world *w = c->world;
	struct record *rec = find_record(w, r->call);
	struct span value = o->value.span;
	uint64_t number;

	trace(w, o->abandoned ? "abandoned" : error_name(o->code), r->call, o->executed);
	rec->answered++;
	rec->code = o->code;
	rec->executed = o->executed;
	rec->abandoned = o->abandoned;
	w->ledger.n_open--;
	w->n_answers++;
	w->n_good += o->code == ERROR_NONE;
	check_record(w, rec, r->call);
	if (rec->caller != caller->id || rec->id != r->key.id)
		world_violate(w, "invariant 2: another caller's answer", r->call);
	if (o->code == ERROR_NONE && r->kind == REQUEST_EXECUTE &&
	    (!mp_read_uint(&value, &number) || number != r->call))
		world_violate(w, "invariant 2: the answer to another call", r->call);
	if (o->code != ERROR_NONE && !o->abandoned && !o->message[0])
		world_violate(w, "an error without a message", r->call);
	invariants_check_times(w, r, o);
}

static const struct caller_ops caller_ops = { .finished = on_finished };

/* --- who asks --- */

static struct world_caller *some_caller(struct world *w)
{
	return w->callers[below(w, WORLD_CALLERS)];
}

static void step_come(struct world *w)
{
	struct world_caller **place = &w->callers[below(w, WORLD_CALLERS)];

	if (*place)
		return;
	*place = MEM_NEW(struct world_caller);
	(*place)->world = w;
	caller_init(&(*place)->caller, &caller_ops, ++w->stage.registry.last_caller, 1000);
	trace(w, "caller comes", (*place)->caller.id, 0);
}

static void caller_leave(struct world *w, struct world_caller **place)
{
	struct world_caller *c = *place;

	if (!c)
		return;
	trace(w, "caller goes", c->caller.id, 0);
	caller_gone(&c->caller);
	*place = NULL;
	free(c); /* whoever still points to it is found out by ASan */
}

static void step_go(struct world *w)
{
	caller_leave(w, &w->callers[below(w, WORLD_CALLERS)]);
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
	static const uint8_t args[4096] = { 0xdc, 0x0f, 0xfd }; /* an array of 4093 zeros */
	struct blob *b = blob_copy(&w->stage.blobs, (struct span){ .p = args, .len = sizeof(args) });
	struct request_spec spec = {
		.kind = kind,
		.id = below(w, WORLD_IDS),
		.received = now(w),
		.body = { .blob = b, .span = { .p = b ? b->data : NULL, .len = sizeof(args) } },
		.target = SPAN_LIT("app.work"),
		.timeout = some_time(w),
		.queue_timeout = some_time(w),
		.ttl = some_time(w),
	};

	if (below(w, 4))
		spec.args = spec.body.span;
	/* without a blob the daemon has no message to read it from */
	if (b && !registry_find_by_id(&w->stage.registry, c->caller.id, spec.id)) {
		uint64_t call = w->stage.registry.last_call + 1;

		ledger_open(&w->ledger, call, c->caller.id, spec.id, kind == REQUEST_CHECKOUT);
		trace(w,
		      l                          ? "execute under a lease"
		      : kind == REQUEST_CHECKOUT ? "checkout"
						 : "execute",
		      call, c->caller.id);
		pool_submit(w->stage.pool, &c->caller, &spec, l);
	}
	blob_unref(b);
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

	for (uint64_t n = 1 + below(w, 3); c && c->caller.leases && n; n--)
		submit(w, c, REQUEST_EXECUTE, some_lease(w, c));
}

static void step_checkin(struct world *w)
{
	struct world_caller *c = some_caller(w);

	if (!c || !c->caller.leases)
		return;
	trace(w, "checkin", c->caller.id, 0);
	lease_end(some_lease(w, c), LEASE_END_CHECKIN);
}

static void step_cancel(struct world *w)
{
	struct world_caller *c = some_caller(w);
	struct request *r = c ? c->caller.requests : NULL;

	for (uint64_t n = below(w, c ? c->caller.n_requests : 0); r && n; n--)
		r = r->caller_next;
	if (!r)
		return;
	trace(w, "cancel", r->call, c->caller.id);
	request_cancel(r);
}

/* --- what else happens --- */

static void step_kill(struct world *w)
{
	struct sim_child *c = w->stage.machine.children;

	for (uint64_t n = below(w, 8); c && n; n--)
		c = c->next;
	if (!c)
		return;
	trace(w, "killed from outside", (uint64_t)c->pid, 0);
	sim_child_die(c, 0, SIGKILL);
}

static void step_noise(struct world *w)
{
	struct sim_child *c = w->stage.machine.children;

	for (uint64_t n = below(w, 8); c && n; n--)
		c = c->next;
	if (!c || !w->temper.bad_manners)
		return;
	trace(w, "noise of a worker", (uint64_t)c->pid, 0);
	if (below(w, 2))
		sim_child_reply(c, c->call ? c->call + 1 : 1);
	else
		sim_child_print(c, "hello from the handler\nand half a line");
}

static void step_freeze(struct world *w)
{
	trace(w, "the daemon is stopped", 0, 0);
	sim_freeze(w->stage.loop, 10 * NS_PER_S);
	w->resumed = now(w);
	trace(w, "the daemon goes on", 0, 0);
}

static void step_temper(struct world *w)
{
	trace(w, "the workers' temper turns", 0, 0);
	temper_init(&w->temper, &w->random);
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
	{ 1, step_noise },          { 1, step_temper },  { 31, step_nothing },
};

static void run_step(struct world *w)
{
	uint64_t n = below(w, 100);

	if (sim_random_once_in(&w->random, 400)) {
		step_freeze(w);
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

/* Sometimes more than one thing happens before the daemon looks. */
void world_step(struct world *w)
{
	w->step++;
	do {
		run_step(w);
	} while (sim_random_once_in(&w->random, 6));
	if (!sim_pass(w->stage.loop, draw_pause(w)))
		world_violate(w, "the loop spins", 0);
	invariants_check(w);
}

/* --- life --- */

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
	s.call_timeout = below(w, 4) ? (50 + below(w, 2000)) * NS_PER_MS : 0;
	s.queue_timeout = below(w, 4) ? (20 + below(w, 2000)) * NS_PER_MS : 0;
	s.max_timeout = below(w, 2) ? 3 * NS_PER_S : 0;
	s.init_timeout = (200 + below(w, 1500)) * NS_PER_MS;
	s.cancel_grace = (10 + below(w, 500)) * NS_PER_MS;
	s.stop_timeout = (50 + below(w, 500)) * NS_PER_MS;
	s.lease_ttl = below(w, 4) ? (50 + below(w, 2000)) * NS_PER_MS : 0;
	s.max_queue = queues[below(w, ARRAY_SIZE(queues))];
	return s;
}

struct world *world_new(uint64_t seed)
{
	struct world *w = MEM_NEW(struct world);
	struct pool_settings settings;

	w->seed = seed;
	w->random.state = seed;
	settings = draw_settings(w);
	temper_init(&w->temper, &w->random);
	ledger_init(&w->ledger);
	sim_stage_init(&w->stage, &settings, 1 + (unsigned)below(w, 3), seed, &machine_ops);
	pool_start(w->stage.pool);
	return w;
}

static void check_quiet(struct world *w)
{
	const struct pool *p = w->stage.pool;

	if (w->ledger.n_open || p->n_requests)
		world_violate(w, "invariant 1: requests without an answer", w->ledger.n_open);
	/* where workers become old, one may be on its way just now */
	if (p->in_state[WORKER_IDLE] + (p->settings->max_age ? 1 : 0) < p->settings->min_workers)
		world_violate(w, "invariant 13: less than the minimum after quiet", p->in_state[WORKER_IDLE]);
	if ((pool_is_down(p) && !p->settings->max_age) || p->n_running || p->queue.count)
		world_violate(w, "invariant 8: not at rest after quiet", p->queue.count);
}

void world_end(struct world *w)
{
	bool busy = sim_random_once_in(&w->random, 2); /* it is ended in the midst of work */
	bool politely = sim_random_once_in(&w->random, 2);

	temper_calm(&w->temper);
	trace(w, "everything works from here", 0, 0);
	if (!busy) {
		for (unsigned i = 0; i < WORLD_CALLERS; i++)
			caller_leave(w, &w->callers[i]);
		if (!sim_pass(w->stage.loop, QUIET))
			world_violate(w, "the loop spins", 0);
		invariants_check(w);
		check_quiet(w);
	}
	if (w->violation[0])
		return;
	trace(w, politely ? "drain" : "stop now", 0, 0);
	pool_drain(w->stage.pool);
	for (unsigned i = 0; i < 20; i++) {
		(void)sim_pass(w->stage.loop, 20 * NS_PER_MS);
		invariants_check(w);
	}
	for (unsigned i = 0; i < WORLD_CALLERS; i++)
		caller_leave(w, &w->callers[i]);
	if (w->violation[0])
		return;
	if (sim_stage_end(&w->stage, politely))
		world_violate(w, "invariant 10, 12, 18: something is left over", 0);
	if (w->ledger.n_open)
		world_violate(w, "invariant 1: requests without an answer", w->ledger.n_open);
	invariants_check_log(w);
}

struct world *world_free(struct world *w)
{
	ledger_deinit(&w->ledger);
	free(w);
	return NULL;
}

#include "tests/sim/world.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <utlist.h>

#include "daemon/base/cleanup.h"
#include "daemon/base/mem.h"
#include "daemon/pool/session.h"
#include "daemon/pool/template.h"
#include "tests/sim/invariants.h"
#include "tests/sim/sim_pair.h"

#define QUIET (200 * NS_PER_S) /* longer than back-off, init timeout and all graces together */

static uint64_t now(const struct world *w)
{
	return loop_now(w->stage.loop);
}

void world_trace(struct world *w, const char *what, uint64_t a, uint64_t b)
{
	trace_add(&w->trace, now(w), what, a, b);
}

void world_violate(struct world *w, const char *what, uint64_t number)
{
	if (w->violation[0])
		return;
	(void)snprintf(w->violation, sizeof(w->violation), "%s (%llu)", what, (unsigned long long)number);
	world_trace(w, "VIOLATION", number, 0);
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

	if (!r && call > w->stage.registry.last_call) /* below that: one of the pool's own */
		world_violate(w, "a call that nobody asked for", call);
	return r ? r : &w->nobody;
}

static void check_record(struct world *w, const struct record *r, uint64_t call)
{
	const char *complaint = r == &w->nobody ? NULL : record_complaint(r);

	if (complaint)
		world_violate(w, complaint, call);
}

/* What a template that died or hung leaves behind is its pool's business again after a life of this length. */
#define HEALTHY_LIFE (10 * NS_PER_S)

/* Each has a back-off of its own before it was warm, and one after; in a reload there are two. */
static void note_template(struct world *w)
{
	struct streak half;

	if (w->templates_ready && now(w) >= w->templates_ready + HEALTHY_LIFE)
		w->templates = (struct streak){ 0 };
	w->templates_ready = 0;
	if (!w->templates.n++)
		w->templates.began = now(w);
	half = w->templates;
	half.n /= 2;
	invariants_check_streak(w, &half, 6 + 3 * half.wanted);
}

static void on_attempted(struct sim_machine *m, enum sim_attempt what)
{
	static const char *const names[] = { "start", "start of a template", "fork" };
	struct world *w = world_of(m);

	m->spawn_error = temper_draw_child(&w->temper, &m->script);
	world_trace(w, names[what], m->n_attempts, m->spawn_error ? UINT64_MAX : m->script.init);
	if (what == SIM_ATTEMPT_TEMPLATE)
		note_template(w);
	else if (what == SIM_ATTEMPT_EXEC || !m->spawn_error) { /* else an interpreter is started at once */
		if (!w->streak.n++)
			w->streak.began = now(w);
		/* the first ones, and the first replacement */
		invariants_check_streak(w, &w->streak, supply_ceiling(w->stage.pool) + 3 + w->streak.wanted);
	}
}

static void on_forks(struct sim_machine *m, struct sim_child *t, struct sim_child *c)
{
	struct world *w = world_of(m);

	temper_draw_fork(&w->temper, &t->script);
	world_trace(w, "template forks", (uint64_t)c->pid, t->script.fork);
}

/* Another start comes in the place of this one at once. */
static void on_miscarried(struct sim_machine *m, struct sim_child *c)
{
	struct world *w = world_of(m);

	world_trace(w, "fork comes to nothing", (uint64_t)c->pid, 0);
	w->streak.n -= w->streak.n > 0;
}

/* 0: it is of no session, or of one that is not known any more. */
static uint64_t session_of(const struct world *w, const struct record *r, uint64_t call)
{
	const struct request *hook = r == &w->nobody ? registry_find_call(&w->stage.registry, call) : NULL;

	return hook && hook->session ? hook->session->id : r->session;
}

/* A worker serves the socket of the session's direct lease. */
static bool is_served_directly(const struct world *w, const struct story *s)
{
	const struct sim_child *c;

	DL_FOREACH (w->stage.machine.children, c) {
		if (s->direct && !c->dead && c->direct && c->call == s->direct)
			return true;
	}
	return false;
}

/* Invariant 6: one after the other, whoever was answered meanwhile. */
static void note_running(struct world *w, uint64_t session, uint64_t call)
{
	struct story *s = ledger_story(&w->ledger, session);

	if (!session)
		return;
	if (s->running || is_served_directly(w, s))
		world_violate(w, "invariant 6: two calls of a session at once", session);
	s->running = call;
}

static void on_called(struct sim_machine *m, struct sim_child *c)
{
	struct world *w = world_of(m);

	temper_draw_call(&w->temper, &c->script);
	if (c->direct) {
		world_trace(w, "worker begins a direct lease", (uint64_t)c->pid, c->script.call);
		if (ledger_runs_beside(&w->ledger, c->call))
			world_violate(w, "invariant 6: a direct lease and a call of a session at once", c->call);
	} else if (w->stage.settings.poison_kills && w->temper.bad_call && find_record(w, c->call)->flavour == 0 &&
	    sim_random_once_in(&w->random, 2)) {
		c->script.call = SIM_CALL_DIE; /* this one kills */
	}
}

static void on_saw(struct sim_machine *m, struct sim_child *c, uint64_t call)
{
	struct world *w = world_of(m);
	struct record *r = find_record(w, call);

	world_trace(w, "worker sees call", (uint64_t)c->pid, call);
	r->saw++;
	check_record(w, r, call);
}

static void on_missed(struct sim_machine *m, struct sim_child *c, uint64_t call)
{
	struct world *w = world_of(m);

	world_trace(w, "worker misses the values of call", (uint64_t)c->pid, call);
	world_violate(w, "a call of a session without the values that it needs", call);
}

/* Invariant 6: one worker, in order. One that was answered before may be read by a worker that the session has lost. */
static void note_begun(struct world *w, const struct record *r, const struct sim_child *c, uint64_t call)
{
	struct story *s = ledger_story(&w->ledger, r->session);
	bool strict = !w->stage.settings.affinity_prefer;

	if (!r->session || r->answered)
		return;
	if (strict && s->pid && s->pid != c->pid)
		world_violate(w, "invariant 6: a session in two workers", r->session);
	if (strict && !r->leased && call < s->last_begun)
		world_violate(w, "invariant 6: a session out of order", r->session);
	s->pid = c->pid;
	if (!r->leased)
		s->last_begun = call;
}

static void on_began(struct sim_machine *m, struct sim_child *c, uint64_t call)
{
	struct world *w = world_of(m);
	struct record *r = find_record(w, call);

	world_trace(w, "worker begins call", (uint64_t)c->pid, c->script.call);
	r->began++;
	if (world_of(m)->kills[r->flavour].n && world_of(m)->kills[r->flavour].last == now(world_of(m)))
		world_of(m)->kills[r->flavour].with_first++; /* the daemon cannot have seen that death when it gave the call away */
	note_running(w, session_of(w, r, call), call);
	note_begun(w, r, c, call);
	check_record(w, r, call);
}

static void on_ended(struct sim_machine *m, struct sim_child *c, uint64_t call)
{
	struct world *w = world_of(m);
	struct record *r = find_record(w, call);

	world_trace(w, "worker ends call", (uint64_t)c->pid, call);
	r->ended++;
	ledger_note_ended(&w->ledger, call);
	check_record(w, r, call);
}

static void on_replied(struct sim_machine *m, struct sim_child *c, uint64_t call)
{
	struct record *r = find_record(world_of(m), call);

	world_trace(world_of(m), "worker replies", (uint64_t)c->pid, call);
	world_of(m)->kills[r->flavour] = (struct kills){ 0 };
	r->replied |= !r->answered;
}

static void on_ready(struct sim_machine *m, struct sim_child *c)
{
	world_trace(world_of(m), c->is_template ? "template ready" : "worker ready", (uint64_t)c->pid, 0);
	if (c->is_template)
		world_of(m)->templates_ready = now(world_of(m));
	else
		world_of(m)->streak = (struct streak){ 0 };
}

/* Calls of a flavour that workers have now, but the one in c. */
static unsigned running_like(struct world *w, const struct sim_child *c, unsigned flavour)
{
	const struct worker *k;
	unsigned n = 0;

	DL_FOREACH(w->stage.pool->workers, k) {
		const struct record *r = k->slot.call ? ledger_find(&w->ledger, k->slot.call) : NULL;

		n += r && r->flavour == flavour && k->proc.pid != c->pid;
	}
	return n;
}

/* It has closed its call channel; what lies unread there is no reply to the call in its hand; it was ready twice. */
static bool has_broken_protocol(const struct sim_child *c)
{
	return c->calls->over || c->calls->messages ||
	       (c->control.messages && c->script.init == SIM_INIT_READY_TWICE);
}

/* It counts when the worker crashed, or was killed for its deadline. When it has broken the protocol before, the daemon finds
 * that first, and ends it for that whatever it died of. */
static void note_kill(struct world *w, const struct sim_child *c)
{
	unsigned limit = w->stage.settings.poison_kills, flavour = find_record(w, c->call)->flavour;
	struct kills *k = &w->kills[flavour];
	const struct worker *dead;

	DL_FOREACH(w->stage.pool->workers, dead) {
		if (dead->proc.pid == c->pid)
			break;
	}
	if (!limit || !dead || dead->slot.call != c->call || has_broken_protocol(c) ||
	    (dead->state == WORKER_STOPPING && dead->why != WORKER_WHY_DEADLINE))
		return;
	if (!k->n || now(w) >= k->last + POISON_MEMORY)
		*k = (struct kills){ .with_first = running_like(w, c, flavour) };
	k->n++;
	k->last = now(w);
	if (k->n > limit && k->n > 1 + k->with_first)
		world_violate(w, "invariant 15: a call has killed too many workers", k->n);
}

/* Killed with a cancelled call, or of old age: its replacement is nobody's fault. */
static void on_died(struct sim_machine *m, struct sim_child *c)
{
	world_trace(world_of(m), c->is_template ? "template dies" : "worker dies", (uint64_t)c->pid, c->said_ready);
	ledger_note_ended(&world_of(m)->ledger, c->call);
	if (c->call && !c->direct && !world_of(m)->crashing && find_record(world_of(m), c->call) != &world_of(m)->nobody)
		note_kill(world_of(m), c);
	if (c->said_ready && !c->is_template)
		world_of(m)->streak = (struct streak){ 0 };
}

static void on_wronged(struct sim_machine *m, struct sim_child *c, const char *what)
{
	world_violate(world_of(m), what, (uint64_t)c->pid);
}

static const struct sim_machine_ops machine_ops = {
	.attempted = on_attempted,
	.forks = on_forks,
	.miscarried = on_miscarried,
	.called = on_called,
	.saw = on_saw,
	.began = on_began,
	.ended = on_ended,
	.replied = on_replied,
	.missed = on_missed,
	.ready = on_ready,
	.died = on_died,
	.wronged = on_wronged,
};

/* --- sockets --- */

void world_hang_up(struct world *w, struct world_socket *s)
{
	world_trace(w, "socket closed", s->lease, 0);
	sim_pair_client_close(w->stage.loop, s->fd);
	s->lease = 0;
}

/* The socket comes with the answer. Without a place for it, it is dropped there. */
static void keep_socket(struct world_caller *c, int fd)
{
	struct world_socket s = { .lease = c->world->stage.registry.last_lease, .fd = fd };

	for (unsigned i = 0; i < WORLD_SOCKETS; i++) {
		if (c->sockets[i].lease)
			continue;
		c->sockets[i] = s;
		return;
	}
	world_hang_up(c->world, &s);
}

/* --- what the callers are told --- */

static void on_finished(struct caller *caller, const struct request *r, const struct outcome *o)
{
	struct world_caller *c = container_of(caller, struct world_caller, caller);
	struct world *w = c->world;
	struct record *rec = find_record(w, r->call);
	struct span value = o->value.span;
	uint64_t number;

	if (!sim_takes_effect(w->stage.loop))
		return; /* the daemon is dead: nobody is told */
	world_trace(w, o->abandoned ? "abandoned" : error_name(o->code), r->call, o->executed);
	rec->answered++;
	rec->retried = r->retried;
	rec->code = o->code;
	rec->executed = o->executed;
	rec->abandoned = o->abandoned;
	w->ledger.n_open--;
	w->n_answers++;
	w->n_good += o->code == ERROR_NONE;
	if (o->code == ERROR_NONE && r->kind == REQUEST_EXECUTE)
		w->kills[rec->flavour] = (struct kills){ 0 }; /* also when its worker replied before another died of such a call */
	check_record(w, rec, r->call);
	if (rec->caller != caller->id || rec->id != r->key.id)
		world_violate(w, "invariant 2: another caller's answer", r->call);
	if (o->code == ERROR_NONE && r->kind == REQUEST_EXECUTE && r->session)
		ledger_story(&w->ledger, r->session->id)->good++;
	if (o->code == ERROR_NONE && r->kind == REQUEST_EXECUTE &&
	    (!mp_read_uint(&value, &number) || number != r->call))
		world_violate(w, "invariant 2: the answer to another call", r->call);
	if (o->code != ERROR_NONE && !o->abandoned && !o->message[0])
		world_violate(w, "an error without a message", r->call);
	invariants_check_times(w, r, o);
	if (o->fd && r->session)
		ledger_story(&w->ledger, r->session->id)->direct = r->worker->slot.call;
	if (o->fd)
		keep_socket(c, TAKE_FD(*o->fd));
}

/* It is told of each lease that it did not end itself, after the fact that its socket is at its end. */
static void on_news(struct caller *caller, const char *name, struct span params)
{
	const struct world_caller *c = container_of(caller, struct world_caller, caller);

	(void)params;
	if (sim_takes_effect(c->world->stage.loop))
		world_trace(c->world, name, caller->id, 0);
}

static const struct caller_ops caller_ops = { .finished = on_finished, .news = on_news };

/* --- what happens --- */

void world_come(struct world *w, unsigned place)
{
	struct world_caller *c;

	if (w->callers[place])
		return;
	c = w->callers[place] = MEM_NEW(struct world_caller);
	c->world = w;
	caller_init(&c->caller, &caller_ops, &w->stage.registry, 1000 + place % 2);
	world_trace(w, "caller comes", c->caller.id, 0);
}

void world_leave(struct world *w, unsigned place)
{
	struct world_caller *c = w->callers[place];

	if (!c)
		return;
	world_trace(w, "caller goes", c->caller.id, 0);
	caller_gone(&c->caller);
	for (unsigned i = 0; i < WORLD_SOCKETS; i++) {
		if (c->sockets[i].lease)
			world_hang_up(w, &c->sockets[i]);
	}
	w->callers[place] = NULL;
	free(c); /* whoever still points to it is found out by ASan */
}

static const char *kind_name(enum request_kind kind)
{
	static const char *const names[] = { "execute", "checkout", "put", "delete", "close" };

	return names[kind];
}

void world_submit(struct world *w, struct world_caller *c, const struct request_spec *asked, struct lease *l)
{
	uint8_t args[4096] = { 0xdc, 0x0f, 0xfd }; /* an array of 4093 integers, all but the first 0 */
	bool edit = asked->kind == REQUEST_PUT || asked->kind == REQUEST_DELETE;
	unsigned flavour = asked->args.len && !edit ? (unsigned)asked->args.len - 1 : WORLD_FLAVOURS;
	struct blob *b = blob_copy(&w->stage.blobs, (struct span){ .p = args, .len = sizeof(args) });
	struct request_spec spec = *asked;

	if (l)
		spec.session = l->session;
	spec.received = now(w);
	spec.target = SPAN_LIT("app.work");
	spec.body = (struct slice){ .blob = b, .span = { .p = b ? b->data : NULL, .len = sizeof(args) } };
	if (b)
		b->data[3] = (uint8_t)flavour;
	if (asked->kind == REQUEST_PUT || asked->kind == REQUEST_DELETE)
		spec.args = asked->args;
	else if (asked->args.len)
		spec.args = spec.body.span;
	/* without a blob the daemon has no message to read it from */
	if (b && !registry_find_by_id(&w->stage.registry, c->caller.id, spec.id)) {
		uint64_t call = w->stage.registry.last_call + 1;

		if (!ledger_open(&w->ledger, call, c->caller.id, spec.id, spec.kind != REQUEST_EXECUTE))
			world_violate(w, "the number of a call is used again", call);
		ledger_find(&w->ledger, call)->leased = l != NULL;
		ledger_find(&w->ledger, call)->session = spec.session ? spec.session->id : 0;
		ledger_find(&w->ledger, call)->idempotent = spec.idempotent;
		ledger_find(&w->ledger, call)->flavour = flavour;
		world_trace(w, l ? "execute under a lease" : kind_name(spec.kind), call, c->caller.id);
		pool_submit(w->stage.pool, &c->caller, &spec, l);
	}
	blob_unref(b);
}

static struct span session_name(unsigned session)
{
	static const char *const names[WORLD_SESSIONS] = { "a", "b", "c", "d" };

	return span_str(names[session]);
}

struct session *world_session(const struct world *w, const struct world_caller *c, unsigned session)
{
	return session_find(w->stage.pool, c->caller.uid, session_name(session));
}

void world_submit_in(struct world *w, struct world_caller *c, const struct request_spec *asked, unsigned session)
{
	struct request_spec spec = *asked;
	struct outcome o;

	spec.session = session_for(w->stage.pool, &c->caller, session_name(session), true, &o);
	if (spec.session)
		world_submit(w, c, &spec, spec.session->lease);
	else
		world_trace(w, error_name(o.code), session, c->caller.id);
}

void world_open(struct world *w, struct world_caller *c, unsigned session, bool reset)
{
	struct session *s;
	struct outcome o;
	bool fresh;

	s = session_open(w->stage.pool, &c->caller, session_name(session), 0, reset, &fresh, &o);
	world_trace(w, s ? "session.open" : "session.open refused", session, c->caller.id);
	if (sim_is_dead(w->stage.loop))
		return; /* it was told to nobody */
	if (s && fresh)
		ledger_story(&w->ledger, s->id)->pid = 0;
	if (s && reset)
		ledger_story(&w->ledger, s->id)->good = 0;
}

void world_close(struct world *w, struct world_caller *c, unsigned session)
{
	struct session *s = world_session(w, c, session);

	if (!s || (s->lease && s->lease->caller != &c->caller))
		return;
	world_trace(w, "session.close", session, c->caller.id);
	session_close(s);
}

void world_checkin(struct world *w, struct lease *l)
{
	world_trace(w, "checkin", l->caller->id, 0);
	lease_end(l, LEASE_END_CHECKIN);
}

void world_cancel(struct world *w, struct request *r)
{
	world_trace(w, "cancel", r->call, r->caller->id);
	request_cancel(r);
}

void world_kill(struct world *w, struct sim_child *c)
{
	world_trace(w, "killed from outside", (uint64_t)c->pid, 0);
	sim_child_die(c, 0, SIGKILL);
}

void world_halt(struct world *w, struct sim_child *c)
{
	world_trace(w, "template stopped from outside", (uint64_t)c->pid, 0);
	c->script.stopped = true;
}

void world_freeze(struct world *w, uint64_t ns)
{
	world_trace(w, "the daemon is stopped", 0, 0);
	sim_freeze(w->stage.loop, ns);
	w->resumed = now(w);
	world_trace(w, "the daemon goes on", 0, 0);
}

/* --- life --- */

struct world *world_new(uint64_t seed)
{
	struct world *w = MEM_NEW(struct world);

	w->seed = seed;
	w->random.state = seed;
	w->nobody.flavour = WORLD_FLAVOURS;
	ledger_init(&w->ledger);
	return w;
}

void world_begin(struct world *w, const struct pool_settings *settings, unsigned gate)
{
	sim_stage_init(&w->stage, settings, gate, w->seed, &machine_ops);
	if (!w->deaf)
		listener_init(&w->listener, &w->stage.registry);
	w->max_workers = settings->max_workers;
	if (w->keeps)
		sim_stage_keep(&w->stage);
	pool_start(w->stage.pool);
}

static void check_quiet(struct world *w)
{
	const struct pool *p = w->stage.pool;
	unsigned drains;

	if (w->ledger.n_open || p->n_requests)
		world_violate(w, "invariant 1: requests without an answer", w->ledger.n_open);
	/* where workers become old, one may be on its way just now */
	drains = p->settings->replace_after || !p->settings->drain_timeout ? p->in_state[WORKER_DRAINING] : 0;
	if (p->in_state[WORKER_IDLE] + drains + (p->settings->max_age ? 1 : 0) < p->settings->min_workers)
		world_violate(w, "invariant 13: less than the minimum after quiet", p->in_state[WORKER_IDLE]);
	if ((pool_is_down(p) && !p->settings->max_age) || p->n_running || p->queue.count || p->n_in_sessions)
		world_violate(w, "invariant 8: not at rest after quiet", p->queue.count);
	if (p->template && p->template->state != TEMPLATE_WARM && p->template->state != TEMPLATE_UNFIT)
		world_violate(w, "fault 80: a template that has not come back after quiet", p->template->state);
}

void world_rest(struct world *w)
{
	world_drop_orphans(w);
	for (unsigned i = 0; i < WORLD_CALLERS; i++)
		world_leave(w, i);
	if (!sim_pass(w->stage.loop, QUIET))
		world_violate(w, "the loop spins", 0);
	invariants_check(w);
	check_quiet(w);
}

void world_end(struct world *w, bool politely)
{
	world_trace(w, politely ? "drain" : "stop now", 0, 0);
	world_drop_orphans(w);
	pool_drain(w->stage.pool);
	for (unsigned i = 0; i < 20; i++) {
		(void)sim_pass(w->stage.loop, 20 * NS_PER_MS);
		invariants_check(w);
	}
	for (unsigned i = 0; i < WORLD_CALLERS; i++)
		world_leave(w, i);
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
	listener_deinit(&w->listener);
	free(w);
	return NULL;
}

#include "tests/sim/invariants.h"

#include <utlist.h>

#include "daemon/base/log.h"
#include "daemon/pool/lease.h"
#include "tests/sim/sim_pair.h"
#include "daemon/pool/session.h"
#include "daemon/pool/template.h"
#include "tests/sim/invariants_kept.h"
#include "tests/sim/invariants_template.h"
#include "tests/sim/world.h"

#define SLACK NS_PER_MS
#define STACK_TIME (40 * NS_PER_MS)
#define ADOPT_TIME (5 * NS_PER_S) /* as worker.c has them */
#define ADOPT_GRACE NS_PER_S
#define BACKOFF_FIRST (100 * NS_PER_MS)
#define BACKOFF_MAX (30 * NS_PER_S)

#define CHECK(w, ok, what, number)                                                                                     \
	do {                                                                                                           \
		if (!(ok))                                                                                             \
			world_violate(w, what, number);                                                                \
	} while (0)

void invariants_check_log(struct world *w)
{
	CHECK(w, log_bugs() == 0, "a BUG line in the log", log_bugs());
}

void invariants_check_times(struct world *w, const struct request *r, const struct outcome *o)
{
	uint64_t now = loop_now(w->stage.loop);

	if (o->abandoned)
		return;
	if (o->code == ERROR_QUEUE_TIMEOUT)
		CHECK(w, now >= r->queue_deadline, "invariant 16: queue timeout too early", r->call);
	if (o->code == ERROR_DEADLINE_EXCEEDED)
		CHECK(w, now >= r->deadline, "invariant 16: deadline too early", r->call);
}

void invariants_check_streak(struct world *w, const struct streak *s, unsigned free_starts)
{
	uint64_t elapsed = loop_now(w->stage.loop) - s->began;
	uint64_t least = 0, wait = BACKOFF_FIRST;

	for (unsigned n = free_starts; n < s->n && least <= elapsed; n++) {
		least += wait / 4 * 3;
		wait = 2 * wait < BACKOFF_MAX ? 2 * wait : BACKOFF_MAX;
	}
	CHECK(w, least <= elapsed, "invariant 15: starts faster than the back-off", s->n);
}

/* --- workers --- */

static bool state_has_process(enum worker_state s)
{
	return s != WORKER_STARTING && s != WORKER_DEAD;
}

static void check_slot(struct world *w, const struct worker *k)
{
	const struct request *r = k->slot.request;

	if (r) {
		CHECK(w, r->worker == k && r->state == REQUEST_RUNNING, "a slot and its request disagree", k->id);
		CHECK(w, r->call == k->slot.call, "invariant 2: the slot has another call", k->id);
	}
	if (k->slot.call) {
		CHECK(w, k->state == WORKER_BUSY || k->state == WORKER_DRAINING || k->state == WORKER_STOPPING,
		      "invariant 14: a call outside of BUSY", k->id);
		CHECK(w, !slot_is_abandoned(k) || k->state == WORKER_STOPPING || k->timer.at != LOOP_NEVER,
		      "an abandoned call has no grace that ends", k->id);
	}
	if (k->slot.session)
		CHECK(w, (slot_is_abandoned(k) || k->adopted) && k->slot.session->lingering == k, "a session lingers at a call that is over",
		      k->id);
	if (slot_is_abandoned(k) && ledger_find(&w->ledger, k->slot.call))
		CHECK(w, ledger_find(&w->ledger, k->slot.call)->session == (k->slot.session ? k->slot.session->id : 0),
		      "a session does not know that a call of it goes on", k->slot.call);
	if (k->lease && k->lease->direct)
		CHECK(w, k->slot.call && k->slot.direct && !r, "a direct lease without its call", k->id);
}

/* For as long as the gate holds one, also against a daemon that was stopped. */
static void check_place(struct world *w, const struct worker *k)
{
	bool starts = k->state == WORKER_STARTING || k->state == WORKER_INITIALIZING;
	uint64_t now = loop_now(w->stage.loop);

	if (starts && process_is_running(&k->proc) && strcmp(k->hs.phases[0].name, "exec") == 0)
		CHECK(w, k->ticket.state == GATE_INSIDE || now >= k->proc.spawned_ns + GATE_SLICE,
		      "fault 60: a worker that has not passed the gate", k->id);
}

static uint64_t later(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

/* Nobody waits for a worker that was taken up for longer than for what it had to do, and a grace. */
static void check_adopted(struct world *w, const struct worker *k)
{
	uint64_t grace = later(w->stage.pool->settings->cancel_grace, ADOPT_GRACE), until = k->born + ADOPT_TIME;

	if (!k->adopted || k->state > WORKER_INITIALIZING)
		return;
	CHECK(w, k->timer.at != LOOP_NEVER, "a worker that was taken up need not answer", k->id);
	if (process_noted_call(&k->proc))
		until = process_noted_deadline(&k->proc) == LOOP_NEVER ? k->born : later(k->born, process_noted_deadline(&k->proc));
	CHECK(w, loop_now(w->stage.loop) < later(until, w->resumed) + grace + SLACK, "a worker that was taken up does not answer",
	      k->id);
}

static void check_worker(struct world *w, const struct worker *k)
{
	bool serving = worker_is_serving(k);

	check_slot(w, k);
	check_place(w, k);
	check_adopted(w, k);
	CHECK(w, k->state != WORKER_DEAD, "a dead worker among the living", k->id);
	if (state_has_process(k->state))
		CHECK(w, process_is_running(&k->proc), "invariant 12: a worker without a process", k->id);
	if (k->state == WORKER_IDLE)
		CHECK(w, !k->slot.call && !k->lease, "an idle worker has work", k->id);
	if (k->state == WORKER_BUSY && !k->calls.ended)
		CHECK(w, k->slot.call || k->lease, "a busy worker has no work", k->id);
	if (k->lease)
		CHECK(w, k->lease->worker == k && (k->state == WORKER_BUSY || k->state == WORKER_DRAINING),
		      "invariant 7: a lease on a worker that is not busy", k->id);
	if (serving && !k->calls.ended && k->timer.at != LOOP_NEVER)
		CHECK(w, slot_is_abandoned(k), "a grace without an abandoned call", k->id);
	if (serving && k->calls.ended)
		CHECK(w, k->timer.at != LOOP_NEVER, "a worker that cannot be spoken to is kept", k->id);
	if (k->state == WORKER_STOPPING)
		CHECK(w, k->timer.at != LOOP_NEVER || k->stage == WORKER_STOP_KILL, "a worker that need not leave",
		      k->id);
}

static void check_workers(struct world *w)
{
	const struct pool *p = w->stage.pool;
	unsigned in_state[WORKER_N_STATES] = { 0 };
	unsigned idle = 0, dead = 0;
	const struct worker *k;

	DL_FOREACH(p->workers, k) {
		check_worker(w, k);
		in_state[k->state]++;
	}
	DL_FOREACH2(p->idle, k, idle_next)
	{
		CHECK(w, k->state == WORKER_IDLE, "a worker in the idle list is not idle", k->id);
		idle++;
	}
	DL_FOREACH(p->dead, k) {
		CHECK(w, k->state == WORKER_DEAD && !k->slot.request && !k->lease && !process_is_running(&k->proc),
		      "invariant 14: a dead worker has work", k->id);
		dead++;
	}
	for (unsigned s = 0; s < WORKER_DEAD; s++)
		CHECK(w, in_state[s] == p->in_state[s], "the count of workers in a state is wrong", s);
	CHECK(w, p->gate->inside <= p->gate->limit, "fault 60: more are starting than may", p->gate->inside);
	CHECK(w, idle == in_state[WORKER_IDLE], "the idle list is wrong", idle);
	CHECK(w, dead == p->n_dead && dead <= POOL_DEAD_KEPT, "the list of the dead is wrong", dead);
	/* a pool that leaves has given up its reload, which was allowed some more */
	w->shrinking = (w->shrinking || p->settings->max_workers < w->max_workers) && pool_living(p) > supply_ceiling(p);
	w->max_workers = p->settings->max_workers;
	CHECK(w, p->state != POOL_RUNNING || w->shrinking || pool_living(p) <= supply_ceiling(p), "invariant 13: more than the maximum",
	      pool_living(p));
}

/* It runs, or is on its way and not known to. */
static bool is_process_of(const struct sim_child *c, const struct worker *list)
{
	const struct worker *k;

	DL_FOREACH(list, k) {
		if (process_is_running(&k->proc) ? k->proc.pid == c->pid : k->fork && k->proc.control.fd == c->control.fd)
			return true;
	}
	return false;
}

static void check_children(struct world *w)
{
	const struct sim_child *c;

	DL_FOREACH(w->stage.machine.children, c)
		CHECK(w, c->dead || c->unborn || is_process_of(c, w->stage.pool->workers) ||
		      is_process_of(c, w->stage.pool->templates), "invariant 12: a stray process", (uint64_t)c->pid);
}

/* --- requests --- */

static void check_request(struct world *w, const struct request *r)
{
	uint64_t now = loop_now(w->stage.loop);
	uint64_t late = r->deadline > w->resumed ? r->deadline : w->resumed;

	CHECK(w, r->caller != NULL, "a request without a caller", r->call);
	if (r->state == REQUEST_QUEUED) {
		CHECK(w, r->queue_deadline == LOOP_NEVER || now < r->queue_deadline + SLACK,
		      "invariant 16: waits beyond its deadline", r->call);
		CHECK(w, (r->lane != NULL) + (r->lease != NULL) + (r->held != NULL) + r->in_session == 1,
		      "a request waits nowhere, or twice", r->call);
	} else {
		CHECK(w, r->state == REQUEST_RUNNING && r->worker && r->worker->slot.request == r,
		      "a request runs nowhere", r->call);
		CHECK(w, r->deadline == LOOP_NEVER || now < late + STACK_TIME + SLACK,
		      "invariant 16: runs beyond its deadline", r->call);
	}
}

static unsigned in_own_queues(const struct pool *p)
{
	const struct worker *k;
	unsigned n = 0;

	DL_FOREACH(p->workers, k)
		n += k->own.count;
	return n;
}

static void check_requests(struct world *w)
{
	const struct pool *p = w->stage.pool;
	const struct stats *st = &p->stats;
	unsigned n = 0, running = 0, queued = 0, hooks = 0;
	const struct request *r;

	DL_FOREACH2(p->requests, r, pool_next)
	{
		check_request(w, r);
		n++;
		running += r->state == REQUEST_RUNNING;
		hooks += r->state == REQUEST_RUNNING && request_is_hook(r);
		queued += r->state == REQUEST_QUEUED && !r->lease;
	}
	CHECK(w, n == p->n_requests && n == w->ledger.n_open + p->self.n_requests, "invariant 1: the count of open requests is wrong", n);
	CHECK(w, running == p->n_running, "the count of running requests is wrong", running);
	CHECK(w, hooks == p->n_hooks_running, "the count of running hooks is wrong", hooks);
	CHECK(w, queued == p->queue.count + p->poison.n_held + p->n_in_sessions + in_own_queues(p), "the count of queued requests is wrong", queued);
	CHECK(w, st->accepted == st->completed + st->failed + st->cancelled + st->abandoned + n,
	      "invariant 8: the counters do not add up", st->accepted);
	w->squeezed = w->squeezed && queued > p->settings->max_queue + supply_ceiling(p) + p->n_sessions;
	CHECK(w, !p->settings->max_queue || w->squeezed || queued <= p->settings->max_queue + supply_ceiling(p) + p->n_sessions,
	      "more waits than max_queue", queued);
	CHECK(w, HASH_CNT(hh_call, p->registry->by_call) == n && HASH_CNT(hh_id, p->registry->by_caller_id) == n,
	      "the registry has other requests than the pool", n);
}

/* --- queues --- */

static unsigned check_lane(struct world *w, const struct share *s, const struct lane *lane)
{
	const struct account *a = lane->caller == &w->stage.pool->self ? NULL : lane->caller->account;
	const struct request *r;
	unsigned n = 0;

	CHECK(w, lane->share == s && s->account == a, "a lane in another uid's share", lane->caller->id);
	DL_FOREACH2(lane->first, r, lane_next)
	{
		CHECK(w, r->lane == lane && r->caller == lane->caller, "a request in another caller's lane", r->call);
		CHECK(w, request_is_hook(r) == !a, "a hook among calls, or a call among hooks", r->call);
		n++;
	}
	CHECK(w, n && n == lane->count, "a lane's requests are miscounted", lane->caller->id);
	return n;
}

static void check_queue(struct world *w, const struct queue *q)
{
	const struct share *s;
	const struct lane *lane;
	unsigned all = 0, lanes = 0;

	DL_FOREACH(q->ring, s) {
		unsigned n = 0;

		DL_FOREACH(s->ring, lane) {
			n += check_lane(w, s, lane);
			lanes++;
		}
		CHECK(w, n && n == s->count, "a share's requests are miscounted", s->account->uid);
		all += n;
	}
	CHECK(w, all == q->count, "the queue's requests are miscounted", all);
	CHECK(w, !q->transient || lanes == HASH_COUNT(q->lanes), "a transient queue keeps an empty lane", lanes);
}

static void check_queues(struct world *w)
{
	const struct worker *k;

	check_queue(w, &w->stage.pool->queue);
	DL_FOREACH(w->stage.pool->workers, k)
		check_queue(w, &k->own);
}

/* --- callers and leases --- */

/* No byte goes through a socket whose lease has ended. */
static void check_socket(struct world *w, const struct caller *c, const struct world_socket *s)
{
	const struct lease *l = registry_find_lease(&w->stage.registry, s->lease);
	bool over = sim_pair_client_is_over(w->stage.loop, s->fd);

	CHECK(w, !l || l->caller == c, "invariant 7: a socket of another caller's lease", s->lease);
	CHECK(w, (l != NULL) == !over, "invariant 7: a lease and its socket do not end together", s->lease);
}

static void check_sockets(struct world *w, const struct world_caller *c)
{
	for (unsigned i = 0; i < WORLD_SOCKETS; i++) {
		if (c->sockets[i].lease)
			check_socket(w, &c->caller, &c->sockets[i]);
	}
}

static unsigned check_caller(struct world *w, const struct caller *c)
{
	unsigned requests = 0, leases = 0;
	size_t bytes = 0;
	const struct request *r;
	const struct lease *l;

	DL_FOREACH2(c->requests, r, caller_next)
	{
		CHECK(w, r->caller == c, "invariant 2: a request of another caller", r->call);
		requests++;
		bytes += r->body_bytes;
	}
	DL_FOREACH(c->leases, l) {
		CHECK(w, l->caller == c && l->worker->lease == l, "invariant 7: a lease has two holders", l->id);
		CHECK(w, loop_now(w->stage.loop) < l->expires + SLACK || l->expires == LOOP_NEVER,
		      "invariant 16: a lease beyond its ttl", l->id);
		leases++;
	}
	CHECK(w, requests == c->n_requests && bytes == c->body_bytes, "invariant 9: a caller's requests are miscounted",
	      c->id);
	CHECK(w, leases == c->n_leases, "invariant 9: a caller's leases are miscounted", c->id);
	return leases;
}

/* What callers have of each kind, added up. */
static void check_account(struct world *w, const struct account *a)
{
	const struct caller *self = &w->stage.pool->self;
	struct account sum = { 0 };

	if (self->account == a)
		sum.callers = 1; /* what it asks for itself, the hooks of sessions, is charged to nobody */

	for (unsigned i = 0; i < WORLD_CALLERS; i++) {
		const struct caller *c = w->callers[i] ? &w->callers[i]->caller : NULL;
		const struct request *r;

		if (!c || c->account != a)
			continue;
		sum.callers++;
		sum.calls += c->n_requests;
		sum.bytes += c->body_bytes;
		sum.leases += c->n_leases;
		DL_FOREACH2(c->requests, r, caller_next)
		sum.leases += r->kind == REQUEST_CHECKOUT;
	}
	for (const struct session *s = w->stage.pool->sessions; s; s = s->hh.next)
		sum.sessions += s->account == a;
	CHECK(w, sum.sessions <= a->sessions, "invariant 9: an account is not charged its sessions", a->uid);
	CHECK(w, sum.callers == a->callers && sum.calls == a->calls && sum.bytes == a->bytes && sum.leases == a->leases,
	      "invariant 9: an account is charged other things than its callers have", a->uid);
	CHECK(w, a->callers || a->calls || a->leases || a->sessions, "invariant 9: an account that nobody uses", a->uid);
}

static void check_callers(struct world *w)
{
	unsigned leases = 0, sessions = 0;

	for (unsigned i = 0; i < WORLD_CALLERS; i++) {
		if (!w->callers[i])
			continue;
		leases += check_caller(w, &w->callers[i]->caller);
		check_sockets(w, w->callers[i]);
	}
	CHECK(w, leases == HASH_COUNT(w->stage.registry.leases), "a lease without an owner", leases);
	for (const struct account *a = w->stage.registry.accounts; a; a = a->hh.next) {
		check_account(w, a);
		sessions += a->sessions;
	}
	CHECK(w, sessions == w->stage.pool->n_sessions, "invariant 9: sessions are miscounted", sessions);
}

/* --- sessions --- */

static void check_session(struct world *w, const struct session *s)
{
	const struct request *r = s->head;

	CHECK(w, !s->lost || (!s->worker && !s->n_waiting && (!r || r->state == REQUEST_RUNNING)),
	      "invariant 6: something waits for a session that is lost", s->id);
	CHECK(w, !r || (r->session == s && (r->lane || r->held || r->state == REQUEST_RUNNING)),
	      "the head of a session is nowhere", s->id);
	CHECK(w, r || !s->waiting || s->lease || s->before || s->lingering, "a session waits without a head", s->id);
	CHECK(w, !s->before || (s->before->after == s && !r), "a session does not wait for the one before it", s->id);
	CHECK(w, !s->lingering || s->lingering->slot.session == s, "a session and where it lingers disagree", s->id);
	CHECK(w, !s->lingering || !r || (r->lane && r->lane->queue == &s->lingering->own),
	      "invariant 6: a session does not wait for its answered call", s->id);
	CHECK(w, !s->lease || s->lease->session == s, "a session and its lease disagree", s->id);
	CHECK(w, s->worker == NULL || worker_is_serving(s->worker) || (s->worker->adopted && s->worker->state < WORKER_STOPPING),
	      "a session keeps a worker that is gone", s->id);
	CHECK(w, !session_is_strict(s) || !r || r->state != REQUEST_RUNNING || !s->worker || r->worker == s->worker,
	      "invariant 6: a session runs in another worker", s->id);
	CHECK(w, sim_session_n(s) == ledger_story(&w->ledger, s->id)->good,
	      "a session has lost a committed write, or has one that was not", s->id);
	CHECK(w, !s->ttl || s->n_requests || s->lease ||
	      loop_now(w->stage.loop) < (session_expires(s) > s->timer.at ? session_expires(s) : s->timer.at) + SLACK,
	      "invariant 16: a session beyond its ttl", s->id);
}

static void check_own_queue(struct world *w, const struct worker *k)
{
	unsigned bound = 0;
	const struct session *s;

	DL_FOREACH2(k->sessions, s, worker_next)
	{
		CHECK(w, s->worker == k, "a worker has the session of another", s->id);
		bound += session_is_strict(s);
	}
	CHECK(w, bound == k->n_bound, "the count of bound sessions is wrong", k->id);
	CHECK(w, !k->own.count || w->stage.pool->state != POOL_RUNNING || w->stage.pool->paused || k->lease ||
	      !worker_is_serving(k) || !worker_can_be_sent(k),
	      "a call of a session waits while its worker is idle", k->id);
	CHECK(w, k->state != WORKER_DRAINING || k->n_bound || k->slot.call || k->lease || k->calls.ended,
	      "a worker that need not stay", k->id);
}

static void check_sessions(struct world *w)
{
	const struct pool *p = w->stage.pool;
	const struct session *s;
	const struct worker *k;
	unsigned waiting = 0;

	for (s = p->sessions; s; s = s->hh.next)
		check_session(w, s);
	DL_FOREACH(p->workers, k)
		check_own_queue(w, k);
	for (const struct request *r = p->requests; r; r = r->pool_next)
		waiting += r->in_session;
	CHECK(w, waiting == p->n_in_sessions, "the count of calls that wait in sessions is wrong", waiting);
	CHECK(w, !p->sessions_due, "a session is due after its turn", 0);
}

/* --- watchers --- */

static unsigned armed(const struct loop_timer *t)
{
	return t->loop && t->at != LOOP_NEVER;
}

static unsigned worker_timers(const struct worker *k)
{
	return armed(&k->timer) + armed(&k->ticket.slice) + armed(&k->proc.dump_timer) + armed(&k->glance.timer) +
	       armed(&k->slot.slow_timer);
}

static unsigned template_timers(const struct pool *p)
{
	const struct worker *k;
	unsigned n = 0;

	DL_FOREACH(p->templates, k)
		n += worker_timers(k);
	return n + (p->template ? armed(&p->template->timer) : 0) + (p->reload.next ? armed(&p->reload.next->timer) : 0);
}

/* Every timer that is armed belongs to something that lives. */
static void check_timers(struct world *w)
{
	const struct pool *p = w->stage.pool;
	unsigned n = template_timers(p) + armed(&p->supply.respawn) + armed(&p->supply.growth) + armed(&p->supply.review) +
		     armed(&p->supply.breaker.timer) + armed(&p->health.timer);
	const struct request *r;
	const struct worker *k;
	const struct lease *l;

	DL_FOREACH2(p->requests, r, pool_next)
	n += armed(&r->timer);
	DL_FOREACH(p->workers, k)
		n += worker_timers(k);
	for (l = p->registry->leases; l; l = l->hh.next)
		n += armed(&l->ttl);
	for (const struct session *s = p->sessions; s; s = s->hh.next)
		n += armed(&s->timer);
	CHECK(w, n == sim_timers_armed(w->stage.loop), "invariant 18: a timer without a living object", n);
}

/* --- progress --- */

static bool has_usable_idle(const struct pool *p)
{
	const struct worker *k;

	DL_FOREACH2(p->idle, k, idle_next)
	{
		if (!k->calls.ended)
			return true;
	}
	return false;
}

static void check_progress(struct world *w)
{
	const struct pool *p = w->stage.pool;
	bool starting = false; /* one that never was ready is alive: the others wait for what becomes of it */
	const struct worker *k;

	if (p->state != POOL_RUNNING)
		return;
	DL_FOREACH(p->workers, k)
		starting |= !k->ready_at;
	if (invariants_template_starts(p))
		return; /* all wait for it */
	CHECK(w, !p->queue.count || p->paused || !has_usable_idle(p), "requests wait while a worker is idle", p->queue.count);
	CHECK(w, !p->queue.count || !pool_is_down(p), "requests wait for a pool that is down", p->queue.count);
	CHECK(w, !p->queue.count || !breaker_is_open(&p->supply.breaker), "requests wait for an open breaker", p->queue.count);
	CHECK(w, pool_living(p) >= p->settings->min_workers || p->supply.respawn.at != LOOP_NEVER ||
	      p->supply.breaker.state == BREAKER_OPEN || (p->supply.failure && starting),
	      "invariant 13: nobody replaces a worker", pool_living(p));
	CHECK(w, !p->queue.count || p->paused || pool_living(p) || p->supply.respawn.at != LOOP_NEVER,
	      "requests wait and no worker is on its way", p->queue.count);
}

static void check_events(struct world *w)
{
	const char *complaint = w->deaf ? NULL : listener_complaint(&w->listener, w->stage.pool);

	if (complaint)
		world_violate(w, complaint, 0);
}

void invariants_check(struct world *w)
{
	check_events(w);
	check_workers(w);
	check_children(w);
	invariants_check_templates(w);
	check_requests(w);
	check_queues(w);
	check_callers(w);
	check_sessions(w);
	check_timers(w);
	check_progress(w);
	invariants_check_kept(w);
	invariants_check_log(w);
}

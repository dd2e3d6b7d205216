#include "tests/sim/portrait.h"

#include <utlist.h>

#include "daemon/pool/session.h"
#include "daemon/pool/template.h"

#define FAR_OFF (UINT64_C(1000000) * NS_PER_S) /* no timer goes off there */

struct hasher {
	uint64_t sum, now;
};

static void put(struct hasher *h, uint64_t v)
{
	struct sim_random r = { .state = h->sum ^ v };

	h->sum = sim_random_next(&r);
}

static void put_bytes(struct hasher *h, const uint8_t *bytes, size_t len)
{
	put(h, len);
	for (size_t i = 0; i < len; i++)
		put(h, bytes[i]);
}

static void put_time(struct hasher *h, uint64_t at)
{
	put(h, at == LOOP_NEVER ? LOOP_NEVER : at - h->now);
}

/* --- what the daemon holds --- */

static void put_calls(struct hasher *h, const struct stream *s)
{
	put(h, stream_is_open(s));
	put(h, s->ended | s->paused << 1 | s->mute << 2 | s->unread << 3);
	put(h, sim_stream_sum(s));
	put(h, s->flush.marked);
}

static void put_process(struct hasher *h, const struct process *p)
{
	put(h, (uint64_t)p->pid);
	put(h, p->dumping);
	put_time(h, p->dump_timer.at);
	put(h, (uint64_t)p->dump.events);
}

static void put_slot(struct hasher *h, const struct slot *s)
{
	put(h, s->call);
	put(h, s->request ? s->request->call : 0);
	put(h, s->overdue.on != NULL);
	put(h, s->slow.on != NULL);
	put_time(h, s->slow_timer.at);
	put(h, s->slow_call);
	put(h, s->broken | s->direct << 1);
}

static void put_glance(struct hasher *h, const struct glance *g, uint64_t pong)
{
	put(h, g->on | g->pinged << 1 | g->ponged << 2 | g->stacked << 3 | g->complete << 4 | g->stale << 5);
	put(h, g->call);
	put(h, pong - g->pong); /* whether the next one counts */
	put_time(h, g->on ? g->asked : LOOP_NEVER);
	put(h, g->stack != NULL);
	put_time(h, g->taken ? g->taken : LOOP_NEVER);
	put_time(h, g->timer.at);
}

static void put_queue(struct hasher *h, const struct queue *q)
{
	const struct share *s;
	const struct lane *lane;
	const struct request *r;

	put(h, q->count);
	DL_FOREACH (q->ring, s) {
		put(h, s->count);
		DL_FOREACH (s->ring, lane) {
			DL_FOREACH2 (lane->first, r, lane_next)
				put(h, r->call);
		}
	}
}

/* Also of one that has no name any more, as long as something needs it. */
static void put_session(struct hasher *h, const struct session *s)
{
	const struct request *r;

	put(h, s->id);
	put(h, s->listed | s->closed << 1 | s->lost << 2 | s->due << 3);
	put(h, s->worker ? s->worker->id : 0);
	put(h, s->lingering ? s->lingering->id : 0);
	put(h, s->generation);
	put(h, s->holder);
	put(h, s->sends);
	put_bytes(h, s->values.pairs.span.p, s->values.pairs.span.len);
	put(h, s->head ? s->head->call : 0);
	DL_FOREACH2 (s->waiting, r, session_next)
		put(h, r->call);
	put(h, s->lease ? s->lease->id : 0);
	put(h, s->before ? s->before->id : 0);
	put_time(h, s->used);
	put(h, s->ttl);
	put_time(h, s->timer.at);
}

static void put_own(struct hasher *h, const struct worker *k)
{
	const struct session *s;

	DL_FOREACH2 (k->sessions, s, worker_next)
		put(h, s->id);
	put(h, k->n_bound);
	put_queue(h, &k->own);
	put(h, k->own_last | k->called << 1 | k->hs.session_close << 2);
}

static void put_template(struct hasher *h, const struct template *t)
{
	const struct worker *k;

	put(h, t != NULL);
	if (!t)
		return;
	put(h, t->generation);
	put(h, (uint64_t)t->state << 8 | t->proven);
	put(h, t->worker ? t->worker->id : 0);
	DL_FOREACH2 (t->waiting, k, fork_next) {
		put(h, k->id);
		put_time(h, k->proc.spawned_ns);
	}
	put(h, 0);
	put_time(h, t->heard);
	put(h, t->deaths_in_row);
	put_time(h, t->timer.at);
}

static void put_worker(struct hasher *h, const struct worker *k)
{
	put(h, k->id);
	put(h, (uint64_t)k->state << 16 | (uint64_t)k->why << 8 | (uint64_t)k->stage);
	put(h, k->adopted | k->kept_life << 8 | k->heard_life << 16 | k->hs.adopt << 24);
	put(h, k->probe | (uint64_t)k->due << 8 | (uint64_t)k->abandoned << 16);
	put(h, k->hs.hello | k->hs.ready << 1 | k->hs.failed << 2 | k->hs.introduced << 3);
	put_time(h, k->born);
	put_time(h, k->since);
	put_time(h, k->ready_at ? k->ready_at : LOOP_NEVER);
	put_time(h, k->timer.at);
	put(h, (uint64_t)k->ticket.state << 1 | k->ticket.light);
	put(h, k->is_template | (k->template != NULL) << 1 | (k->fork != NULL) << 2);
	put_time(h, k->ticket.state == GATE_INSIDE ? k->ticket.slice.at : LOOP_NEVER);
	put(h, k->lease ? k->lease->id : 0);
	put(h, k->ping_seq - k->hs.pong);
	put(h, k->init_glance.on != NULL);
	put_slot(h, &k->slot);
	put_glance(h, &k->glance, k->hs.pong);
	put_process(h, &k->proc);
	put_own(h, k);
	if (k->last_pid || k->fork)
		put_calls(h, &k->calls);
}

static void put_request(struct hasher *h, const struct request *r)
{
	put(h, r->call);
	put(h, (uint64_t)r->kind << 8 | (uint64_t)r->state);
	put(h, r->worker ? r->worker->id : 0);
	put(h, r->lease ? r->lease->id : 0);
	put(h, r->direct | r->in_session << 1);
	if (r->session)
		put_session(h, r->session);
	put(h, r->body.span.len);
	put(h, r->idempotent | r->retried << 1 | (r->held != NULL) << 2 | (uint64_t)r->attempts << 8);
	put_time(h, r->deadline);
	put_time(h, r->queue_deadline);
	put_time(h, r->timer.at);
}

static void put_supply(struct hasher *h, const struct supply *s)
{
	put(h, s->failure != NULL);
	put(h, s->deaths_in_row);
	put_time(h, s->last_death);
	put(h, s->seed);
	put(h, s->n_due);
	put(h, s->pressed);
	put(h, (uint64_t)s->breaker.state);
	put(h, s->breaker.starts);
	put(h, s->breaker.crashes);
	put_time(h, s->breaker.timer.at);
	put_time(h, s->respawn.at);
	put_time(h, s->growth.at);
	put_time(h, s->review.at);
}

static void put_leases(struct hasher *h, const struct registry *reg)
{
	const struct request *r;

	for (const struct lease *l = reg->leases; l; l = l->hh.next) {
		put(h, l->id);
		put(h, l->caller->id);
		put(h, l->direct);
		if (l->session)
			put_session(h, l->session);
		put_time(h, l->ttl.at);
		DL_FOREACH2 (l->waiting, r, lease_next)
			put(h, r->call);
	}
}

static void put_sessions(struct hasher *h, const struct pool *p)
{
	const struct worker *k;
	const struct session *s;

	for (s = p->sessions; s; s = s->hh.next)
		put_session(h, s);
	put(h, 0);
	DL_FOREACH2 (p->sessions_due, s, due_next)
		put(h, s->id);
	put(h, 0);
	DL_FOREACH2 (p->called, k, called_next)
		put(h, k->id);
	put(h, p->n_sessions);
	put(h, p->last_own);
	put(h, p->registry->last_session);
}

static void put_pool(struct hasher *h, const struct pool *p)
{
	const struct request *r;
	const struct worker *k;

	put(h, (uint64_t)p->state << 8 | p->settled | p->dispatch.marked << 1);
	put(h, p->n_dead);
	DL_FOREACH (p->workers, k)
		put_worker(h, k);
	put(h, 0);
	DL_FOREACH (p->templates, k)
		put_worker(h, k);
	put_template(h, p->template);
	put_template(h, p->reload.next);
	put(h, p->registry->last_template);
	DL_FOREACH2 (p->idle, k, idle_next)
		put(h, k->id);
	put(h, 0);
	DL_FOREACH2 (p->requests, r, pool_next)
		put_request(h, r);
	put(h, 0);
	put_queue(h, &p->queue);
	put_supply(h, &p->supply);
	put(h, p->registry->last_call);
	put(h, p->registry->last_worker);
	put(h, p->registry->last_caller);
	put_leases(h, p->registry);
	put_sessions(h, p);
	put(h, p->gate->inside);
}

/* --- what the workers hold --- */

static void put_messages(struct hasher *h, const struct sim_message *list)
{
	const struct sim_message *m;

	DL_FOREACH (list, m) {
		put(h, m->control);
		put(h, m->channel ? m->channel->n_fds | m->channel->over << 8 | (m->channel == m->channel->child->calls) << 9 : 0);
		put(h, m->unborn ? (uint64_t)m->unborn->pid : 0);
		put_bytes(h, m->data, m->len);
	}
	put(h, LOOP_NEVER);
}

static void put_pipe(struct hasher *h, const struct sim_pipe *p)
{
	put(h, (uint64_t)(int64_t)p->fd);
	put(h, p->over);
	put_messages(h, p->messages);
}

/* When far events happen is somebody's choice, so it is not told; the clock brings about the others. */
static void put_event(struct hasher *h, const struct sim_event *e)
{
	bool far = e->pending && e->at > h->now + FAR_OFF;

	put(h, e->pending | far << 1);
	put_time(h, e->pending && !far ? e->at : LOOP_NEVER);
}

static void put_copies(struct hasher *h, const struct sim_copies *c)
{
	const struct sim_copy *copy;

	put(h, c->session);
	put(h, c->n);
	DL_FOREACH (c->list, copy) {
		put(h, copy->session);
		put(h, copy->send);
		put(h, copy->n);
	}
	put(h, 0);
}

/* What nobody holds and nothing comes from any more is none. */
static void put_channels(struct hasher *h, const struct sim_child *c)
{
	const struct sim_pipe *p;

	put(h, c->adopted);
	DL_FOREACH (c->channels, p) {
		if (!p->n_fds && p != c->calls && p != c->new_calls)
			continue;
		put(h, p->n_fds | (p == c->calls) << 8 | (p == c->new_calls) << 9);
		put_pipe(h, p);
	}
	put(h, LOOP_NEVER);
	for (unsigned i = 2; i < PROCESS_PAGE_WORDS; i++)
		put(h, c->page[i]);
}

static void put_child(struct hasher *h, const struct sim_child *c)
{
	put(h, (uint64_t)c->pid);
	put(h, (uint64_t)(int64_t)c->pidfd);
	put(h, c->got_init | c->said_hello << 1 | c->said_ready << 2 | c->dead << 3 | c->stopping << 4 | c->running << 5);
	put(h, c->is_template | c->unborn << 1 | c->asked_for << 2 | c->refused << 3 | c->forking << 4 | c->goes << 5);
	put(h, c->generation);
	put(h, c->call);
	put(h, c->direct | c->busy << 1 | (c->channel != NULL) << 2);
	put(h, c->wanted);
	put(h, c->reason);
	put_copies(h, &c->copies);
	put_channels(h, c);
	put_pipe(h, &c->control);
	put_pipe(h, &c->output);
	put_pipe(h, &c->dump);
	put_messages(h, c->inbox);
	put_event(h, &c->init);
	put_event(h, &c->hear);
	put_event(h, &c->work);
	put_event(h, &c->interrupt);
	put_event(h, &c->leave);
	put_event(h, &c->close);
	put(h, (uint64_t)c->leave_signal);
}

/* --- what was told --- */

static void put_record(struct hasher *h, const struct record *r)
{
	put(h, r->call);
	put(h, r->caller);
	put(h, r->answered | r->saw << 8 | r->began << 16 | r->ended << 24);
	put(h, r->replied | r->abandoned << 1 | r->checkout << 2 | (uint64_t)r->code << 8 | (uint64_t)r->executed << 16);
}

static void put_story(struct hasher *h, const struct story *s)
{
	if (!s->good && !s->pid && !s->last_begun && !s->running && !s->direct)
		return;
	put(h, s->session);
	put(h, s->good);
	put(h, (uint64_t)s->pid);
	put(h, s->last_begun);
	put(h, s->running);
	put(h, s->direct);
}

/* In which order they were looked for is no matter. */
static void put_stories(struct hasher *h, const struct world *w)
{
	uint64_t sum = 0;

	for (const struct story *s = w->ledger.stories; s; s = s->hh.next) {
		struct hasher alone = { 0 };

		put_story(&alone, s);
		sum += alone.sum;
	}
	put(h, sum);
}

uint64_t portrait(const struct world *w)
{
	struct hasher h = { .now = loop_now(w->stage.loop) };
	const struct sim_child *c;

	put(&h, h.now); /* messages tell times as they are */
	put_pool(&h, w->stage.pool);
	put(&h, sim_tasks_marked(w->stage.loop));
	DL_FOREACH (w->stage.machine.children, c)
		put_child(&h, c);
	for (const struct record *r = w->ledger.records; r; r = r->hh.next)
		put_record(&h, r);
	put_stories(&h, w);
	for (unsigned i = 0; i < WORLD_CALLERS; i++)
		put(&h, w->callers[i] ? w->callers[i]->caller.id : 0);
	put_time(&h, w->resumed);
	put(&h, w->taken_up);
	put(&h, w->keeps ? (uint64_t)w->stage.machine.last_pid : 0); /* else there is a trace of each number that was given */
	put(&h, w->streak.n);
	return h.sum;
}

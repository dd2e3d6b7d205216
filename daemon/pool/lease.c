#include "daemon/pool/lease.h"

#include <utlist.h>

#include "daemon/base/cleanup.h"
#include "daemon/base/log.h"
#include "daemon/base/mem.h"
#include "daemon/pool/account.h"
#include "daemon/pool/caller.h"
#include "daemon/pool/direct.h"
#include "daemon/pool/event.h"
#include "daemon/pool/news.h"
#include "daemon/pool/pool.h"
#include "daemon/pool/request.h"
#include "daemon/pool/session.h"
#include "daemon/pool/session_values.h"
#include "daemon/pool/worker.h"

/* lost: how its caller is told of an end that it did not ask for. One whose socket was closed knows that from there. */
static const struct {
	const char *text, *lost;
} ends[] = {
	[LEASE_END_CHECKIN] = { "it was checked in", NULL },
	[LEASE_END_TTL] = { "its ttl was over", "ttl" },
	[LEASE_END_OWNER_GONE] = { "its connection was closed", NULL },
	[LEASE_END_WORKER_DIED] = { "its worker ended", "worker_died" },
	[LEASE_END_DRAINED] = { "its worker is being replaced, and drain_timeout is over", "drained" },
	[LEASE_END_SHUTDOWN] = { "the daemon is shutting down", "shutdown" },
	[LEASE_END_CLOSED] = { "its socket was closed", NULL },
	[LEASE_END_NO_SOCKET] = { "its socket could not be made", NULL },
};

const char *lease_end_text(struct span text)
{
	for (size_t i = 0; i < ARRAY_SIZE(ends); i++) {
		if (span_equals(text, ends[i].text))
			return ends[i].text;
	}
	return NULL;
}

void lease_push(struct lease *l, struct request *r)
{
	DL_APPEND2(l->waiting, r, lease_prev, lease_next);
	l->n_waiting++;
}

void lease_remove(struct lease *l, struct request *r)
{
	DL_DELETE2(l->waiting, r, lease_prev, lease_next);
	l->n_waiting--;
}

void lease_advance(struct lease *l)
{
	enum poison_verdict verdict = POISON_REFUSE; /* or anything else after which the next may have its turn */

	while (l->waiting && l->direct) /* calls over its socket do not see the values */
		session_edit(l->waiting);
	while (verdict == POISON_REFUSE && l->waiting && worker_can_be_sent(l->worker)) {
		if (request_is_edit(l->waiting)) {
			session_edit(l->waiting);
			continue;
		}
		verdict = poison_judge(l->waiting);
		if (verdict == POISON_REFUSE)
			poison_refuse(l->waiting);
		else if (verdict == POISON_PASS) /* else it goes on when another call ends: see poison_advance() */
			slot_start(l->worker, l->waiting);
	}
}

static void lease_finish_call(struct request *r, enum lease_end_how how)
{
	struct outcome o;

	outcome_error(&o, ERROR_LEASE_EXPIRED, "the lease of the call has ended: %s", ends[how].text);
	if (how == LEASE_END_CHECKIN)
		o.code = ERROR_CANCELLED;
	o.executed = r->state == REQUEST_RUNNING ? EXECUTED_MAYBE : EXECUTED_NEVER;
	o.abandoned = how == LEASE_END_OWNER_GONE;
	request_finish(r, &o);
}

static void lease_drop_waiting(struct lease *l, enum lease_end_how how)
{
	while (l->waiting)
		lease_finish_call(l->waiting, how);
}

static void lease_on_ttl(struct loop_timer *t)
{
	struct lease *l = container_of(t, struct lease, ttl);
	struct worker *w = l->worker;

	lease_drop_waiting(l, LEASE_END_TTL); /* first: the reply would start the next of them */
	stream_drain_input(&w->calls);        /* a reply that lies ready wins */
	if (w->lease == l)
		lease_end(l, LEASE_END_TTL);
}

/* expires: ns, or LOOP_NEVER. */
static struct lease *lease_make(struct worker *w, struct caller *c, struct session *s, uint64_t id, uint64_t expires)
{
	struct pool *p = w->pool;
	struct lease *l = MEM_NEW(struct lease);

	l->id = id;
	l->caller = c;
	l->worker = w;
	l->begun = loop_now(p->loop);
	l->tail_mark = tail_mark(w->proc.tail);
	l->expires = expires;
	loop_timer_init(&l->ttl, p->loop, lease_on_ttl);
	loop_timer_set(&l->ttl, l->expires);
	w->lease = l;
	l->session = s;
	if (s)
		s->lease = l;
	DL_APPEND(c->leases, l);
	c->n_leases++;
	account_charge_lease(c->account);
	registry_add_lease(p->registry, l);
	return l;
}

struct lease *lease_new(struct worker *w, struct caller *c, struct session *s, uint64_t ttl)
{
	struct pool *p = w->pool;
	struct lease *l;

	tail_finish(w->proc.tail, 0); /* what was printed up to here belongs to others, also a line without its end */
	l = lease_make(w, c, s, registry_next(p->registry, &p->registry->last_lease),
		       ttl ? loop_now(p->loop) + ttl : LOOP_NEVER);
	p->stats.leases++;
	LOG(DEBUG, "lease.begin", KV("pool", p->settings->name), KV("lease", l->id), KV("worker", w->id),
	    KV("client", c->id));
	event_lease(l, NULL);
	return l;
}

void lease_take_over(struct worker *w, struct caller *c, struct session *s, struct lease_left *left)
{
	struct lease *l = lease_make(w, c, s, left->id, left->expires);

	l->begun = left->begun;
	if (left->socket >= 0)
		direct_take_over(l, TAKE_FD(left->socket));
}

static void lease_release(struct loop_grave *g)
{
	free(container_of(g, struct lease, grave));
}

void lease_end(struct lease *l, enum lease_end_how how)
{
	struct worker *w = l->worker;
	struct caller *c = l->caller;
	struct pool *p = w->pool;
	struct request *running = w->slot.request;

	loop_timer_stop(&l->ttl);
	if (l->direct)
		direct_close(l);
	lease_drop_waiting(l, how);
	if (running)
		lease_finish_call(running, how);
	if (ends[how].lost)
		news_lease_lost(l, ends[how].lost, how == LEASE_END_WORKER_DIED ? NULL : ends[how].text);
	w->lease = NULL;
	if (l->session)
		session_note_lease_ended(l->session, w);
	DL_DELETE(c->leases, l);
	c->n_leases--;
	account_release_lease(c->account);
	caller_note_ended(c, l->id, loop_now(p->loop), ends[how].text);
	registry_remove_lease(p->registry, l);
	LOG(DEBUG, "lease.end", KV("pool", p->settings->name), KV("lease", l->id), KV("worker", w->id),
	    KV("reason", ends[how].text));
	event_lease(l, ends[how].text);
	loop_bury(p->loop, &l->grave, lease_release);
	if (running || l->direct)
		slot_abandon(w, SLOT_CANCELLED);
	worker_settle(w);
}

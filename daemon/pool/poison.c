#include "daemon/pool/poison.h"

#include <utlist.h>

#include "daemon/base/cleanup.h"
#include "daemon/base/log.h"
#include "daemon/base/mem.h"
#include "daemon/pool/affinity.h"
#include "daemon/pool/lease.h"
#include "daemon/pool/pool.h"
#include "daemon/pool/postmortem.h"
#include "daemon/pool/request.h"
#include "daemon/pool/session.h"

static struct poison *poison_of(const struct request *r)
{
	return &r->pool->poison;
}

/* --- digests --- */

static const struct digest *request_digest(struct request *r)
{
	if (!r->digested)
		r->digest = digest_of(&poison_of(r)->key, r->target, r->args);
	r->digested = true;
	return &r->digest;
}

static void slot_digest(struct worker *w)
{
	struct slot *s = &w->slot;

	if (s->digested || !s->call || !s->request || (!s->request->digested && request_is_spent(s->request)))
		return;
	s->digest = *request_digest(s->request);
	s->digested = true;
}

void poison_note_kept(struct worker *w)
{
	if (w->pool->poison.limit)
		slot_digest(w);
}

/* Calls with this digest that workers have now. */
static unsigned poison_running(const struct pool *p, const struct digest *d)
{
	const struct worker *w;
	unsigned n = 0;

	for (w = p->workers; w; w = w->next)
		n += w->slot.call && w->slot.digested && digest_equals(&w->slot.digest, d);
	return n;
}

/* --- those that wait here --- */

void poison_drop(struct request *r)
{
	/* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): one alone in its list is its own lane_prev */
	DL_DELETE2(r->held->held, r, lane_prev, lane_next);
	r->held = NULL;
	poison_of(r)->n_held--;
}

/* The first n; the last of them first, so that the order stays. */
static void poison_release(struct pool *p, struct poison_entry *e, unsigned n)
{
	struct request *r = e->held, *before;

	while (n > 1 && r && r->lane_next) {
		r = r->lane_next;
		n--;
	}
	for (; r; r = before) {
		before = r == e->held ? NULL : r->lane_prev;
		poison_drop(r);
		queue_push_front(affinity_queue_of(r), r);
		if (r->session && r->session->worker)
			affinity_call(r->session->worker);
		pool_mark(p);
	}
}

void poison_release_shared(struct pool *p)
{
	struct poison_entry *e;
	struct request *r, *next;

	for (e = p->poison.n_held ? p->poison.entries : NULL; e; e = e->hh.next) {
		DL_FOREACH_SAFE2 (e->held, r, next, lane_next) {
			if (affinity_queue_of(r) != &p->queue)
				continue;
			poison_drop(r);
			queue_push(&p->queue, r);
		}
	}
}

void poison_release_all(struct pool *p)
{
	struct poison_entry *e;

	for (e = p->poison.n_held ? p->poison.entries : NULL; e; e = e->hh.next)
		poison_release(p, e, p->poison.n_held);
}

/* --- memory --- */

static void poison_forget(struct pool *p, struct poison_entry *e)
{
	poison_release(p, e, p->poison.n_held);
	HASH_DEL(p->poison.entries, e);
	deaths_deinit(&e->deaths);
	free(e);
	p->poison.due = true; /* a call under a lease may have waited for it */
	pool_mark(p);
}

/* Those that killed longest ago are first. */
static void poison_forget_old(struct pool *p)
{
	struct poison *po = &p->poison;
	uint64_t now = loop_now(p->loop);

	while (po->entries && po->entries->last + POISON_MEMORY <= now)
		poison_forget(p, po->entries);
}

static struct poison_entry *poison_look_up(struct pool *p, const struct digest *d)
{
	struct poison_entry *e;

	poison_forget_old(p);
	HASH_FIND(hh, p->poison.entries, d, sizeof(*d), e);
	return e;
}

const struct poison_entry *poison_find(struct request *r)
{
	if (poison_is_empty(poison_of(r)) || r->kind != REQUEST_EXECUTE)
		return NULL;
	return poison_look_up(r->pool, request_digest(r));
}

void poison_hold(struct request *r)
{
	struct poison_entry *e = poison_look_up(r->pool, request_digest(r));

	r->held = e;
	DL_APPEND2(e->held, r, lane_prev, lane_next);
	poison_of(r)->n_held++;
}

uint64_t poison_wait(const struct pool *p, const struct poison_entry *e)
{
	uint64_t now = loop_now(p->loop), end = e->last + POISON_MEMORY;

	return end > now ? end - now : 0;
}

/* --- verdicts --- */

enum poison_verdict poison_judge(struct request *r)
{
	const struct poison_entry *e = poison_find(r);
	unsigned limit = poison_of(r)->limit;

	if (!e)
		return POISON_PASS;
	if (e->kills >= limit)
		return POISON_REFUSE;
	return e->kills + poison_running(r->pool, &e->digest) >= limit ? POISON_HOLD : POISON_PASS;
}

const struct poison_entry *poison_keeper(struct request *r)
{
	const struct lease *l = r->lease;

	if (r->held)
		return r->held;
	if (l && l->waiting == r && worker_can_be_sent(l->worker) && poison_judge(r) == POISON_HOLD)
		return poison_find(r);
	return NULL;
}

void poison_refuse(struct request *r)
{
	struct postmortem pm;

	postmortem_poisoned(&pm, r, poison_find(r));
	request_finish(r, &pm.outcome);
	postmortem_deinit(&pm);
}

/* Those that wait, in whatever queue, and are of its like. */
static void poison_refuse_waiting(struct pool *p, const struct poison_entry *e)
{
	struct request *r = p->requests, *next;

	for (; r; r = next) {
		next = r->pool_next;
		if (r->state == REQUEST_QUEUED && r->kind == REQUEST_EXECUTE &&
		    strncmp(r->target, e->target, sizeof(e->target) - 1) == 0 && /* cheaper than a digest of each */
		    digest_equals(request_digest(r), &e->digest))
			poison_refuse(r);
	}
}

/* --- news --- */

static bool poison_counts(enum worker_why why)
{
	return why == WORKER_WHY_CRASHED || why == WORKER_WHY_OOM || why == WORKER_WHY_DEADLINE;
}

/* Its like that run already are recognised from now on. */
static struct poison_entry *poison_remember(struct worker *w)
{
	struct pool *p = w->pool;
	struct poison_entry *e = MEM_NEW(struct poison_entry);
	struct worker *other;

	if (HASH_COUNT(p->poison.entries) >= POISON_MAX)
		poison_forget(p, p->poison.entries);
	e->digest = w->slot.digest;
	memcpy(e->target, w->slot.target, sizeof(e->target));
	DL_FOREACH(p->workers, other)
		slot_digest(other);
	return e;
}

static void poison_count(struct poison_entry *e, const struct worker *w)
{
	_cleanup_free_ char *text = NULL;
	char how[POSTMORTEM_TEXT];

	text = mem_printf("worker %llu (pid %d) %s", (unsigned long long)w->id, (int)w->last_pid,
			  postmortem_exit_text(w, how));
	deaths_add(&e->deaths, w, text);
	e->kills++;
}

void poison_note_death(struct worker *w, enum worker_why why)
{
	struct pool *p = w->pool;
	struct poison *po = &p->poison;
	struct poison_entry *e;

	if (!po->limit || slot_is_free(w) || w->calls.unread || !poison_counts(why))
		return;
	slot_digest(w);
	if (!w->slot.digested)
		return;
	e = poison_look_up(p, &w->slot.digest);
	if (e)
		HASH_DEL(po->entries, e); /* it becomes the youngest */
	else
		e = poison_remember(w);
	HASH_ADD(hh, po->entries, digest, sizeof(e->digest), e);
	e->last = loop_now(p->loop);
	e->due = po->due = true;
	poison_count(e, w);
	LOG(WARN, "call.killed", KV("pool", p->settings->name), KV("worker", w->id), KV("call", w->slot.call),
	    KV("target", w->slot.target), KV("kills", e->kills), KV("refused", e->kills >= po->limit),
	    KV_IF_ANY("traceparent", w->slot.traceparent));
	pool_mark(p);
}

void poison_note_ended(struct worker *w, bool good)
{
	struct pool *p = w->pool;
	struct poison_entry *e;

	if (!w->slot.digested || poison_is_empty(&p->poison))
		return;
	e = poison_look_up(p, &w->slot.digest);
	if (e && good) {
		poison_forget(p, e);
	} else if (e) {
		e->due = p->poison.due = true;
		pool_mark(p);
	}
}

void poison_note_gone(const struct request *r)
{
	struct pool *p = r->pool;

	if (!r->lease || !r->lease->waiting || poison_is_empty(&p->poison))
		return;
	p->poison.due = true;
	pool_mark(p);
}

static void poison_look_after(struct pool *p, struct poison_entry *e)
{
	unsigned limit = p->poison.limit, bound = e->kills + poison_running(p, &e->digest);

	e->due = false;
	if (e->kills >= limit)
		poison_refuse_waiting(p, e);
	else if (e->held && bound < limit)
		poison_release(p, e, limit - bound);
}

void poison_advance(struct pool *p)
{
	struct poison_entry *e, *next;
	struct worker *w, *following;

	if (!p->poison.due)
		return;
	p->poison.due = false;
	poison_forget_old(p);
	HASH_ITER(hh, p->poison.entries, e, next) {
		if (e->due)
			poison_look_after(p, e);
	}
	DL_FOREACH_SAFE(p->workers, w, following) {
		if (w->lease)
			lease_advance(w->lease); /* its next call may have had to wait */
	}
}

/* --- life --- */

void poison_init(struct pool *p, uint64_t seed)
{
	p->poison = (struct poison){ .limit = p->settings->poison_kills };
	digest_key_init(&p->poison.key, seed);
}

void poison_take_settings(struct pool *p)
{
	p->poison.limit = p->settings->poison_kills;
	if (!p->poison.limit)
		poison_deinit(p); /* nothing is refused or held back any more */
}

void poison_deinit(struct pool *p)
{
	struct poison_entry *e, *next;

	HASH_ITER(hh, p->poison.entries, e, next)
		poison_forget(p, e);
}

#include "daemon/pool/affinity.h"

#include <utlist.h>

#include "daemon/base/log.h"
#include "daemon/base/mem.h"
#include "daemon/pool/keep.h"
#include "daemon/pool/launch.h"
#include "daemon/pool/lease.h"
#include "daemon/pool/pool.h"
#include "daemon/pool/request.h"
#include "daemon/pool/session.h"
#include "daemon/pool/worker.h"

struct queue *affinity_queue_of(const struct request *r)
{
	struct worker *w = affinity_worker_of(r);

	return w ? &w->own : &r->pool->queue;
}

struct worker *affinity_worker_of(const struct request *r)
{
	const struct session *s = r->session;

	return s && s->worker && (session_is_strict(s) || r->kind == REQUEST_CLOSE) ? s->worker : NULL;
}

struct worker *affinity_awaited(const struct request *r)
{
	struct worker *w = r->lease ? r->lease->worker : session_awaits(r);

	return w ? w : affinity_worker_of(r);
}

bool affinity_has_hook(const struct session *s)
{
	const struct worker *w = s->worker;

	if (!w || !s->sends)
		return false;
	return w->adopted ? w->state <= WORKER_IDLE : w->hs.session_close && worker_is_serving(w); /* it has not said yet */
}

/* --- binding --- */

void affinity_bind(struct session *s, struct worker *w)
{
	if (s->worker == w)
		return;
	affinity_unbind(s);
	s->worker = w;
	s->generation = w->generation;
	DL_APPEND2(w->sessions, s, worker_prev, worker_next);
	w->n_bound += session_is_strict(s);
	if (session_is_strict(s))
		keep_session(s);
}

static void affinity_unlink(struct session *s)
{
	struct worker *w = s->worker;

	s->worker = NULL;
	s->holder = 0;
	DL_DELETE2(w->sessions, s, worker_prev, worker_next);
	w->n_bound -= session_is_strict(s);
}

void affinity_forget_later(struct worker *w, const struct forget *f)
{
	if (w->n_forgets == w->room_forgets) {
		w->room_forgets = 2 * w->room_forgets + 16;
		w->forgets = mem_resize(w->forgets, w->room_forgets, sizeof(*w->forgets));
	}
	w->forgets[w->n_forgets++] = *f;
}

static void affinity_forget(struct worker *w, const struct session *s)
{
	const struct forget f = { .session = s->id, .sends = s->sends };

	if (!worker_is_serving(w) || w->n_forgets || launch_send_forget(w, s->id, s->sends) < 0)
		affinity_forget_later(w, &f);
}

void affinity_remind(struct worker *w)
{
	while (w->n_forgets && worker_is_serving(w)) {
		const struct forget *f = &w->forgets[w->n_forgets - 1];

		if (launch_send_forget(w, f->session, f->sends) < 0)
			return; /* another time */
		w->n_forgets--;
	}
}

void affinity_unbind(struct session *s)
{
	struct worker *w = s->worker;

	if (!w)
		return;
	affinity_unlink(s);
	if (w->state > WORKER_DRAINING)
		return;
	if (s->sends && w->pool->state == POOL_RUNNING) /* a worker that leaves runs the hooks of what it still has */
		affinity_forget(w, s);
	if (w->state == WORKER_DRAINING)
		affinity_call(w);
}

static bool affinity_may_carry(const struct worker *w)
{
	return (w->state == WORKER_IDLE || w->state == WORKER_BUSY) && w->due == WORKER_WHY_NONE;
}

/* All workers but session_reserve, one at least, may be bound to sessions. */
static bool affinity_is_full(const struct pool *p)
{
	unsigned max = p->settings->max_workers, reserve = p->settings->session_reserve, carriers = 0;
	const struct worker *w;

	DL_FOREACH (p->workers, w)
		carriers += w->n_bound && affinity_may_carry(w);
	return carriers >= (max > reserve ? max - reserve : 1);
}

/* Of those that may carry one more session the one with the fewest; full: only those that have some already. NULL: none. */
static struct worker *affinity_find(const struct pool *p, bool full, bool idle)
{
	struct worker *w, *found = NULL;

	for (w = idle ? p->idle : p->workers; w; w = idle ? w->idle_next : w->next) {
		if (affinity_may_carry(w) && (w->n_bound || !full) && (!idle || worker_can_be_sent(w)) &&
		    (!found || w->n_bound < found->n_bound))
			found = w;
	}
	return found;
}

/* Its own worker if that is free now. */
static struct worker *affinity_prefer(const struct session *s, struct worker *idle)
{
	struct worker *w = s->worker;

	return w && w->state == WORKER_IDLE && worker_can_be_sent(w) ? w : idle;
}

/* An anonymous lease takes a worker away from its sessions: one without any if there is one. */
static struct worker *affinity_find_free(struct worker *idle)
{
	struct worker *w = idle;

	while (w && (w->n_bound || !worker_can_be_sent(w)))
		w = w->idle_next;
	return w ? w : idle;
}

struct worker *affinity_choose(struct request *r, struct worker *idle)
{
	struct pool *p = r->pool;
	struct session *s = r->session;
	struct worker *w;
	bool full;

	if (!s)
		return r->kind == REQUEST_CHECKOUT ? affinity_find_free(idle) : idle;
	if (!session_is_strict(s))
		return affinity_prefer(s, idle);
	full = affinity_is_full(p);
	w = affinity_find(p, full, true);
	if (w)
		return w;
	w = affinity_find(p, full, false);
	if (!w)
		return idle; /* all of them are to be replaced */
	affinity_bind(s, w);
	affinity_queue(r);
	return NULL;
}

/* --- queues --- */

void affinity_queue(struct request *r)
{
	struct session *s = r->session;
	struct pool *p = r->pool;

	if (session_is_strict(s) && !s->worker && affinity_is_full(p))
		affinity_bind(s, affinity_find(p, true, false));
	if (request_is_hook(r))
		queue_push_hook(affinity_queue_of(r), r);
	else
		queue_push(affinity_queue_of(r), r);
	if (affinity_queue_of(r) != &p->queue)
		affinity_call(s->worker);
	pool_mark(p);
}

void affinity_call(struct worker *w)
{
	struct pool *p = w->pool;

	if (!w->called) {
		w->called = true;
		DL_APPEND2(p->called, w, called_prev, called_next);
	}
	pool_mark(p);
}

static void affinity_uncall(struct worker *w)
{
	if (w->called)
		DL_DELETE2(w->pool->called, w, called_prev, called_next);
	w->called = false;
}

static void affinity_serve_own(struct worker *w)
{
	while (!w->pool->paused && w->own.count && worker_is_serving(w) && !w->lease && worker_can_be_sent(w)) {
		w->own_last = true;
		pool_serve_request(w, queue_pop(&w->own));
	}
	if (w->state == WORKER_DRAINING && !w->n_bound)
		worker_settle(w);
}

static bool hook_is_next(const struct worker *w)
{
	const struct request *r = queue_any(&w->own);

	return r && request_is_hook(r);
}

void affinity_serve(struct pool *p, bool first)
{
	struct worker *w, *next;

	DL_FOREACH_SAFE2 (p->called, w, next, called_next) {
		if (first && w->own_last && p->queue.count && !hook_is_next(w))
			continue; /* it is the turn of the others, if they want it */
		affinity_uncall(w);
		affinity_serve_own(w);
	}
}

void affinity_note_gone(struct worker *w, const char *how)
{
	affinity_uncall(w);
	while (w->sessions) {
		struct session *s = w->sessions;

		affinity_unlink(s); /* it may still run its hooks when it is told to leave */
		session_note_worker_gone(s, how);
	}
	if (w->own.count)
		LOG_BUG("a worker goes with calls in its queue");
}

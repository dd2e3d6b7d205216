#include "daemon/pool/queue.h"

#include <stdlib.h>
#include <utlist.h>

#include "daemon/base/log.h"
#include "daemon/base/mem.h"
#include "daemon/pool/caller.h"
#include "daemon/pool/request.h"

static struct share *share_get(struct queue *q, const struct account *a)
{
	struct share *s;

	HASH_FIND_PTR(q->shares, &a, s);
	if (!s) {
		s = MEM_NEW(struct share);
		s->account = a;
		s->turn = a ? q->forgotten : 0; /* nobody who comes goes before hooks */
		HASH_ADD_PTR(q->shares, account, s);
	}
	return s;
}

/* Hooks have a share of their own: else those of the pool's user would win the turn of a call with each. */
static const struct account *account_of(const struct request *r)
{
	return request_is_hook(r) ? NULL : r->caller->account;
}

static struct lane *lane_get(struct queue *q, const struct request *r)
{
	struct caller *c = r->caller;
	struct lane *lane;

	HASH_FIND_PTR(q->lanes, &c, lane);
	if (lane)
		return lane;
	lane = MEM_NEW(struct lane);
	lane->queue = q;
	lane->caller = c;
	lane->share = share_get(q, account_of(r));
	lane->share->n_lanes++;
	HASH_ADD_PTR(q->lanes, caller, lane);
	DL_APPEND2(c->lanes, lane, caller_prev, caller_next);
	return lane;
}

static void lane_free(struct lane *lane)
{
	struct queue *q = lane->queue;
	struct share *s = lane->share;

	if (lane->first)
		LOG_BUG("a lane is freed with requests in it");
	HASH_DEL(q->lanes, lane);
	DL_DELETE2(lane->caller->lanes, lane, caller_prev, caller_next);
	free(lane);
	if (--s->n_lanes)
		return;
	if (s->turn > q->forgotten)
		q->forgotten = s->turn;
	HASH_DEL(q->shares, s);
	free(s);
}

void lane_free_all(struct caller *c)
{
	while (c->lanes)
		lane_free(c->lanes);
}

void queue_deinit(struct queue *q)
{
	while (q->lanes)
		lane_free(q->lanes);
}

static void queue_count(struct queue *q, struct lane *lane, int one)
{
	lane->count += (unsigned)one;
	lane->share->count += (unsigned)one;
	q->count += (unsigned)one;
	if (q->total)
		*q->total += (unsigned)one;
}

/* One that waits stays before one that comes, unless it had a turn since the last of that. */
static int share_compare(const struct share *waits, const struct share *comes)
{
	return waits->turn <= comes->turn ? -1 : 1;
}

void queue_push(struct queue *q, struct request *r)
{
	struct lane *lane = lane_get(q, r);
	struct share *s = lane->share;

	if (!s->count)
		DL_INSERT_INORDER(q->ring, s, share_compare);
	if (!lane->count)
		DL_APPEND(s->ring, lane);
	r->lane = lane;
	DL_APPEND2(lane->first, r, lane_prev, lane_next);
	queue_count(q, lane, 1);
}

void queue_push_front(struct queue *q, struct request *r)
{
	struct lane *lane = lane_get(q, r);
	struct share *s = lane->share;

	if (s->count)
		DL_DELETE(q->ring, s);
	if (lane->count)
		DL_DELETE(s->ring, lane);
	DL_PREPEND(q->ring, s);
	s->turn = 0; /* nobody who comes goes before it */
	DL_PREPEND(s->ring, lane);
	r->lane = lane;
	DL_PREPEND2(lane->first, r, lane_prev, lane_next);
	queue_count(q, lane, 1);
}

void queue_push_hook(struct queue *q, struct request *r)
{
	struct lane *lane = lane_get(q, r);
	struct share *s = lane->share;

	if (s->count)
		DL_DELETE(q->ring, s);
	if (!lane->count)
		DL_APPEND(s->ring, lane);
	DL_PREPEND(q->ring, s);
	r->lane = lane;
	DL_APPEND2(lane->first, r, lane_prev, lane_next);
	queue_count(q, lane, 1);
}

/* The lane stays, even when it is empty. */
static void queue_take_out(struct queue *q, struct request *r)
{
	struct lane *lane = r->lane;
	struct share *s = lane->share;

	DL_DELETE2(lane->first, r, lane_prev, lane_next);
	r->lane = NULL;
	queue_count(q, lane, -1);
	if (!lane->count) {
		DL_DELETE(s->ring, lane);
		lane->prev = lane->next = NULL;
	}
	if (!s->count) {
		DL_DELETE(q->ring, s);
		s->prev = s->next = NULL;
	}
}

void queue_remove(struct queue *q, struct request *r)
{
	struct lane *lane = r->lane;

	queue_take_out(q, r);
	if (q->transient && !lane->count)
		lane_free(lane);
}

struct request *queue_pop(struct queue *q)
{
	struct share *s = q->ring;
	struct request *r;
	struct lane *lane;

	if (!s)
		return NULL;
	lane = s->ring;
	r = lane->first;
	if (!request_is_hook(r))
		s->turn = ++q->turns;
	if (s->count > 1 && !request_is_hook(r)) { /* the next uid's turn; hooks take nobody's */
		DL_DELETE(q->ring, s);
		DL_APPEND(q->ring, s);
	}
	if (lane->count > 1) { /* the next caller's turn */
		DL_DELETE(s->ring, lane);
		DL_APPEND(s->ring, lane);
	}
	queue_remove(q, r);
	return r;
}

struct request *queue_any(const struct queue *q)
{
	return q->ring ? q->ring->ring->first : NULL;
}

static unsigned at_most(unsigned n, unsigned limit)
{
	return n < limit ? n : limit;
}

/* How many of r's share are served before r; own: how many are before it in its lane. */
static unsigned share_ahead(const struct share *s, const struct request *r, unsigned own)
{
	unsigned n = own;
	bool passed = false;

	for (const struct lane *lane = s->ring; lane; lane = lane->next) {
		if (lane == r->lane)
			passed = true;
		else
			n += at_most(lane->count, own + !passed); /* its turns before that of r */
	}
	return n;
}

unsigned queue_ahead(const struct queue *q, const struct request *r, unsigned *in_lane)
{
	unsigned n, own = 0, in_share;
	bool passed = false;

	for (const struct request *o = r->lane->first; o && o != r; o = o->lane_next)
		own++;
	n = in_share = share_ahead(r->lane->share, r, own);
	for (const struct share *s = q->ring; s; s = s->next) {
		if (s == r->lane->share)
			passed = true;
		else
			n += s->account ? at_most(s->count, in_share + !passed) : s->count;
	}
	*in_lane = own;
	return n;
}

#include "daemon/pool/queue.h"

#include <limits.h>
#include <stdbool.h>
#include <stdlib.h>
#include <utlist.h>

#include "daemon/base/log.h"
#include "daemon/base/mem.h"
#include "daemon/pool/caller.h"
#include "daemon/pool/request.h"

static struct lane *lane_get(struct caller *c, const struct queue *q)
{
	struct lane *lane;

	for (lane = c->lanes; lane; lane = lane->sibling) {
		if (lane->queue == q)
			return lane;
	}
	lane = MEM_NEW(struct lane);
	lane->queue = q;
	lane->sibling = c->lanes;
	c->lanes = lane;
	return lane;
}

void queue_push(struct queue *q, struct request *r)
{
	struct lane *lane = lane_get(r->caller, q);

	if (!lane->first)
		DL_APPEND(q->ring, lane);
	r->lane = lane;
	DL_APPEND2(lane->first, r, lane_prev, lane_next);
	q->count++;
}

void queue_push_front(struct queue *q, struct request *r)
{
	struct lane *lane = lane_get(r->caller, q);

	if (lane->first)
		DL_DELETE(q->ring, lane);
	DL_PREPEND(q->ring, lane);
	r->lane = lane;
	DL_PREPEND2(lane->first, r, lane_prev, lane_next);
	q->count++;
}

void queue_remove(struct queue *q, struct request *r)
{
	struct lane *lane = r->lane;

	DL_DELETE2(lane->first, r, lane_prev, lane_next);
	r->lane = NULL;
	if (!lane->first) {
		DL_DELETE(q->ring, lane);
		lane->prev = lane->next = NULL;
	}
	q->count--;
}

struct request *queue_pop(struct queue *q)
{
	struct lane *lane = q->ring;
	struct request *r;

	if (!lane)
		return NULL;
	r = lane->first;
	queue_remove(q, r);
	if (lane->first) { /* the next caller's turn */
		DL_DELETE(q->ring, lane);
		DL_APPEND(q->ring, lane);
	}
	return r;
}

struct request *queue_any(const struct queue *q)
{
	return q->ring ? q->ring->first : NULL;
}

/* At most `limit` of them are counted. */
static unsigned lane_count(const struct lane *lane, const struct request *until, unsigned limit)
{
	unsigned n = 0;

	for (const struct request *r = lane->first; r && r != until && n < limit; r = r->lane_next)
		n++;
	return n;
}

unsigned queue_ahead(const struct queue *q, const struct request *r, unsigned *in_lane)
{
	unsigned n, own = lane_count(r->lane, r, UINT_MAX);
	bool passed = false;

	n = *in_lane = own;
	for (const struct lane *lane = q->ring; lane; lane = lane->next) {
		if (lane == r->lane)
			passed = true;
		else
			n += lane_count(lane, NULL, own + !passed); /* its turns before that of r */
	}
	return n;
}

void lane_free_all(struct lane *lanes)
{
	while (lanes) {
		struct lane *next = lanes->sibling;

		if (lanes->first)
			LOG_BUG("a lane is freed with requests in it");
		free(lanes);
		lanes = next;
	}
}

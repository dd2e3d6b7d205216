/*
 * The waiting requests of one pool: round robin over callers, first in first out within one. Each caller has a lane, owned by
 * the caller and kept for its next request. All operations are O(1).
 */
#pragma once

#include <stdint.h>

struct caller;
struct request;

struct lane {
	const struct queue *queue; /* borrows: compared only */
	struct request *first;     /* list; borrows */
	struct lane *prev, *next;  /* ring of lanes with requests; NULL while the lane is empty */
	struct lane *sibling;      /* the caller's next lane */
};

struct queue {
	struct lane *ring; /* its head is served next */
	unsigned count;
};

void queue_push(struct queue *q, struct request *r);
/* Before all others of its caller, whose turn is next: it was served before and has come back. */
void queue_push_front(struct queue *q, struct request *r);
/* NULL when empty. */
struct request *queue_pop(struct queue *q);
/* r must be in q. */
void queue_remove(struct queue *q, struct request *r);
/* Some waiting request, NULL when there is none: for ending them all. */
struct request *queue_any(const struct queue *q);
/* How many would be served before r, which must be in q, if nothing came and nothing left; *in_lane: those of its own
 * caller. */
unsigned queue_ahead(const struct queue *q, const struct request *r, unsigned *in_lane);
/* Lanes of a caller that has nothing queued any more. */
void lane_free_all(struct lane *lanes);

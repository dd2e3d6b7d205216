/*
 * Waiting requests: round robin over uids, within a uid over its callers, first in first out within one caller. So many
 * connections give a uid no more than one does. A uid that comes goes before those that had a turn since its last, so a flood
 * of another costs it nothing. A pool has a queue, and so has a worker for what it alone may run.
 *
 * A caller has a lane in each queue where it has something, and the lanes of one uid make its share. Queues own both; the
 * caller only lists its lanes, to leave them all when it goes. In a queue that lasts, a lane stays for the caller's next
 * request; in a transient one it goes when it is empty. All operations are O(1), but a uid that comes passes those whose turns
 * were before its own.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "daemon/base/hash.h"

struct account;
struct caller;
struct request;
struct share;

struct lane {
	struct queue *queue;       /* borrows: owns the lane */
	struct share *share;       /* borrows: goes after its last lane */
	struct caller *caller;     /* borrows: lane_free_all() when it goes */
	struct request *first;     /* list; borrows */
	unsigned count;
	struct lane *prev, *next;  /* ring of lanes with requests of one share; NULL while the lane is empty */
	struct lane *caller_prev, *caller_next;
	UT_hash_handle hh;
};

struct share {
	const struct account *account; /* borrows: compared only; NULL: that of the hooks */
	struct lane *ring;         /* its head is served next */
	unsigned count;            /* requests */
	unsigned n_lanes;          /* with the empty ones */
	uint64_t turn;             /* its last one; 0: none */
	struct share *prev, *next; /* ring of shares with requests, by their last turns */
	UT_hash_handle hh;
};

/* All zero: an empty queue that lasts. */
struct queue {
	struct share *ring;   /* its head is served next */
	unsigned count;
	uint64_t turns;       /* so far */
	uint64_t forgotten;   /* the last turn of a share that is no more: a new one may be of the same uid */
	unsigned *total;      /* borrows: counts them too, with those of other queues; NULL: nobody does */
	bool transient;       /* it will end before its callers: keeps nothing of them that is empty */
	struct lane *lanes;   /* uthash by caller; owns */
	struct share *shares; /* uthash by account; owns */
};

/* It must be empty. */
void queue_deinit(struct queue *q);
void queue_push(struct queue *q, struct request *r);
/* Before all others of its caller, whose turn is next, and its uid's: it was served before and has come back. */
void queue_push_front(struct queue *q, struct request *r);
/* A hook: before all that are none, and behind those that are. Nobody loses a turn for it. */
void queue_push_hook(struct queue *q, struct request *r);
/* NULL when empty. */
struct request *queue_pop(struct queue *q);
/* r must be in q. */
void queue_remove(struct queue *q, struct request *r);
/* The one that queue_pop() would give. NULL when empty. */
struct request *queue_any(const struct queue *q);
/* How many would be served before r, which must be in q, if nothing came and nothing left; *in_lane: those of its own
 * caller. */
unsigned queue_ahead(const struct queue *q, const struct request *r, unsigned *in_lane);
/* The lanes of a caller that has nothing queued any more. */
void lane_free_all(struct caller *c);

/*
 * The calls of one pool that have killed workers, by target and arguments. From `poison_kills` dead workers on such a call is
 * refused at once; before that as few of them run at once as may still die. It is forgotten after POISON_MEMORY without a
 * death, or when it succeeds. Nothing is hashed for the sake of it as long as no call has killed a worker, but for calls whose
 * arguments are not kept until the end.
 */
#pragma once

#include <stdbool.h>

#include "daemon/base/digest.h"
#include "daemon/base/hash.h"
#include "daemon/pool/deaths.h"
#include "daemon/pool/worker.h"

#define POISON_MEMORY (600 * NS_PER_S)
#define POISON_MAX 1024 /* calls that are remembered: then the one that killed longest ago is forgotten */

struct pool;
struct request;

struct poison_entry {
	struct digest digest;
	char target[64]; /* for people; cut */
	unsigned kills;
	uint64_t last; /* ns */
	struct deaths deaths; /* of the last workers that it has killed */
	struct request *held; /* list; borrows: they wait until others with this digest have ended */
	bool due;             /* look after those that wait at the end of the turn */
	UT_hash_handle hh;    /* those that killed longest ago are first */
};

struct poison {
	unsigned limit; /* 0: nothing is ever remembered */
	struct digest_key key;
	struct poison_entry *entries; /* uthash; owns */
	unsigned n_held;
	bool due;
};

void poison_init(struct pool *p, uint64_t seed);
void poison_deinit(struct pool *p);
/* The pool's settings are others now. */
void poison_take_settings(struct pool *p);
static inline bool poison_is_empty(const struct poison *po)
{
	return !po->entries;
}

enum poison_verdict {
	POISON_PASS,
	POISON_HOLD,   /* not now: enough of its like are running */
	POISON_REFUSE, /* never */
};

/* May r be given to a worker? */
enum poison_verdict poison_judge(struct request *r);
/* r, which waits but not in a queue any more, is kept here until it may be judged again. */
void poison_hold(struct request *r);
/* r is not kept here any more. */
void poison_drop(struct request *r);
/* All that are kept here, back into their queues. */
void poison_release_all(struct pool *p);
/* Those of the pool's queue, back into it, in no order. Those of one worker stay: it would bring them here again. */
void poison_release_shared(struct pool *p);
/* What r, which waits, is held back for: here, or as the next under a lease whose worker is free. NULL: it is not. */
const struct poison_entry *poison_keeper(struct request *r);
/* Answers r with what its like have done. */
void poison_refuse(struct request *r);
/* What is known about r's like, NULL when they are innocent. */
const struct poison_entry *poison_find(struct request *r);
/* ns until it is forgotten. */
uint64_t poison_wait(const struct pool *p, const struct poison_entry *e);

/* The slot of w will outlive its request, or the request's arguments: it must be known later what it was. */
void poison_note_kept(struct worker *w);
/* w died, for this reason, with a call in its slot. */
void poison_note_death(struct worker *w, enum worker_why why);
/* The call in the slot of w has ended; good: with a value. */
void poison_note_ended(struct worker *w, bool good);
/* r, which waited, has been answered: the next under its lease may not have to wait. */
void poison_note_gone(const struct request *r);
/* Once per turn. */
void poison_advance(struct pool *p);

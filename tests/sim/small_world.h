/*
 * A world so small that all that may happen in it can be tried. Nothing happens by itself and nothing takes its time: a
 * client asks, a worker reads or answers, a worker crashes, the daemon looks, the clock moves to the next timer - each
 * is a move that somebody chooses, in any order.
 */
#pragma once

#include "tests/sim/world.h"

struct small_size {
	const char *name;
	unsigned clients, workers;
	unsigned leases;         /* so many of the clients check a worker out, and make their call under the lease */
	unsigned sessions;       /* so many of the clients, the first ones too, do it in the one session; all have one uid then */
	unsigned closes;         /* at most: session.close */
	bool hooks;              /* the workers want to know of it */
	bool prefer;             /* the affinity of the pool */
	unsigned crashes;        /* at most */
	unsigned cancels, gone;  /* at most: calls cancelled, clients that go away before their answer */
	unsigned ticks;          /* how often, at most, the clock moves to the next timer */
	unsigned deaths;         /* of the daemon, at most */
	bool recycled;           /* a worker is due after one call */
	bool forks;              /* the workers are forked; a crash may also be that of their template */
	bool idempotent;         /* the calls may be run again when their worker is lost */
};

enum move_kind {
	MOVE_ASK,     /* the n-th client asks for its call or lease */
	MOVE_LEASED,  /* the n-th client calls under its lease */
	MOVE_CHECKIN, /* the n-th client gives it back */
	MOVE_OPEN,    /* session.open of the session, which is lost; 1: with reset */
	MOVE_CLOSE,   /* session.close */
	MOVE_EVENT,   /* the n-th of what the workers have before them */
	MOVE_CRASH,   /* the n-th worker that lives */
	MOVE_CANCEL,  /* the n-th request of a client */
	MOVE_GO,      /* the n-th client */
	MOVE_TICK,
	MOVE_DIE,  /* the daemon dies, and another one goes on; clients that have not asked connect again */
	MOVE_LOOK, /* the daemon works until nothing is left to do; n: in which gait */
	MOVE_N,
};

struct move {
	uint8_t kind, n;
};

#define MOVES_MAX 64

struct small_world {
	const struct small_size *size;
	struct world *world; /* owns */
	struct sim_script pace; /* of its workers now */
	bool checks;         /* the invariants after each look */
	unsigned asked, called, closes, crashes, cancels, gone, ticks, deaths;
};

/* All workers are ready, and all clients are there. */
void small_world_init(struct small_world *s, const struct small_size *size);
/* The moves that can be made now. */
unsigned small_world_moves(const struct small_world *s, struct move moves[MOVES_MAX]);
/* False: it cannot be made now. */
bool small_world_move(struct small_world *s, struct move m);
/* Two that are alike go on alike. */
uint64_t small_world_portrait(const struct small_world *s);
/* Nothing is under way: without a new move all stays as it is. */
bool small_world_is_calm(const struct small_world *s);
/* From here on nothing fails and time passes: all must be answered, and the pool must be whole. Ends the world. */
void small_world_finish(struct small_world *s);
/* The daemon is told to stop at once: nobody may go without an answer, nothing may be left. Ends the world. */
void small_world_stop(struct small_world *s);
/* After one of both, when no invariant is violated: what is violated stays as it is. */
void small_world_free(struct small_world *s);

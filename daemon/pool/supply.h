/*
 * How many workers a pool has. The minimum is kept; calls that wait make the pool grow, workers with nothing to do leave, those
 * that are used up are replaced, and deaths slow down what follows. It starts and stops workers; of calls it knows only how
 * many wait.
 */
#pragma once

#include "daemon/io/loop.h"
#include "daemon/pool/breaker.h"

struct failure;
struct pool;
struct worker;

struct supply {
	struct failure *failure; /* owns: of the last start; NULL once a worker was ready */
	unsigned failures_in_row;
	uint64_t first_failure_wall; /* UNIX ms */
	unsigned deaths_in_row;      /* unwanted deaths of replacements without a success between */
	uint64_t last_death;         /* ns: of the last that counted */
	uint64_t seed;               /* of the jitter */
	unsigned n_due;              /* workers in IDLE or BUSY that are to be replaced */
	bool pressed;                /* calls have waited for long enough: grow */
	struct breaker breaker;
	struct loop_timer respawn; /* back-off */
	struct loop_timer growth;  /* until `pressed` */
	struct loop_timer review;  /* when a worker may have been idle for too long, or become too old */
};

void supply_init(struct pool *p, uint64_t seed);
void supply_deinit(struct pool *p);
/* The pool begins to leave: nothing is started any more. */
void supply_stop(struct pool *p);
/* Once per turn: starts, replaces and dismisses workers as things are now. */
void supply_advance(struct pool *p);
/* The most workers that the pool may have for a moment, while some are being replaced. */
unsigned supply_ceiling(const struct pool *p);
/* ns until the next start is tried; 0: at once, or nothing holds it back. */
uint64_t supply_wait(const struct pool *p);

/* For a reload: a worker is ready with new code, so that deaths of before say nothing any more. */
void supply_begin_anew(struct pool *p);
/* The pool's settings are others now. */
void supply_take_settings(struct pool *p);
/* w, if it serves, is to be replaced because somebody wants it. */
void supply_recycle(struct worker *w);
/* There may be more workers than the pool has room for now: the rest leave, each after its call. */
void supply_shrink(struct pool *p);
/* For a reload: w, when it is of an older generation than its pool, is to be replaced. */
void supply_make_old(struct worker *w);
/* For a reload with replace = after: a worker leaves, when its call has ended, and none is started in its place but the canary.
 * False: there is none that could. */
bool supply_make_room(struct pool *p);

/* w was IDLE or BUSY and has answered its call: is it used up? Then it will leave when it can. */
void supply_weigh(struct worker *w);
/* News of workers, by the pool. */
void supply_note_ready(struct worker *w);
void supply_note_dead(struct worker *w);
/* w, which is due, is not IDLE or BUSY any more. */
void supply_note_gone(struct worker *w);
/* w has answered a call. */
void supply_note_reply(struct worker *w);

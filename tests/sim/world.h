/*
 * One simulated world: a pool, workers with a temper, callers that come, ask and go, all drawn from one seed. A step
 * is one thing that somebody does; after each, every invariant is checked. The first violation ends the world.
 */
#pragma once

#include "tests/sim/ledger.h"
#include "tests/sim/sim_stage.h"
#include "tests/sim/temper.h"
#include "tests/sim/trace.h"

#define WORLD_CALLERS 6
#define WORLD_IDS 1000 /* ids that a caller may use: some come again */

struct world;

struct world_caller {
	struct caller caller;
	struct world *world;
};

/* Starts in a row without a worker that got ready, for the back-off. */
struct streak {
	unsigned n;
	uint64_t began; /* ns */
};

struct world {
	uint64_t seed, step;
	struct sim_random random;
	struct temper temper;
	struct sim_stage stage;
	struct ledger ledger;
	struct record nobody; /* stands for a request that the ledger does not have */
	struct trace trace;
	struct world_caller *callers[WORLD_CALLERS]; /* owns; NULL: a free place */
	struct streak streak;
	uint64_t resumed; /* ns: when the daemon last went on after it had been stopped */
	unsigned n_answers, n_good;
	char violation[200]; /* "" as long as all is well */
};

struct world *world_new(uint64_t seed);
struct world *world_free(struct world *w);
/* The first violation counts. */
void world_violate(struct world *w, const char *what, uint64_t number);
void world_step(struct world *w);
/* Everybody leaves, nothing fails any more: after a while the pool must be whole again. Then it is ended. */
void world_end(struct world *w);

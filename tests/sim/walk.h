/*
 * A random walk through a world, all drawn from one seed. A step is one thing that somebody does, or a few before the
 * daemon looks; after each, every invariant is checked.
 */
#pragma once

#include "tests/sim/world.h"

struct world *walk_new(uint64_t seed);
void walk_step(struct world *w);
/* A step is left out: the others keep their numbers. */
void walk_skip(struct world *w);
/* Nothing fails any more; sometimes after a rest, the world is ended. */
void walk_end(struct world *w);

/*
 * Allocations that fail on purpose, one in a run, each run in a process of its own (fault 98). The program is linked with --wrap
 * for malloc and its relatives, so that only what pool/, base/, proto/ and the world ask for counts.
 *
 * A site is where an allocation is asked for: the functions that are then on the stack, the innermost few. A run makes
 * thousands of allocations and has a hundred sites.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct failing_total {
	uint64_t sites, tried, aborted; /* aborted: of those that were tried */
};

/* The n-th allocation from now on fails; 0: none does. */
void failing_arm(uint64_t n);
/* run: false for a violated invariant. Each allocation that it makes fails in turn; what follows must be the documented abort
 * or a run in which all invariants hold. False: it was something else, and is told on stdout. */
bool failing_try_all(bool (*run)(uint64_t seed), uint64_t seed, struct failing_total *t);
/* The same for some of the allocations of many runs, with seeds from this one on: of each site the first, and others that
 * the seed chooses: one, or ten where runs go on. */
bool failing_try_sites(bool (*run)(uint64_t seed), uint64_t seed, unsigned n_runs, struct failing_total *t);

/*
 * Allocations that fail on purpose: each one of a short run, once, in a process of its own (fault 98). The program is linked
 * with --wrap for malloc and its relatives, so that only what pool/, base/, proto/ and the world ask for counts.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* The n-th allocation from now on fails; 0: none does. */
void failing_arm(uint64_t n);
/* run: false for a violated invariant. Each allocation that it makes fails in turn; what follows must be the documented abort
 * or a run in which all invariants hold. False: it was something else, and is told on stdout. */
bool failing_try_all(bool (*run)(uint64_t seed), uint64_t seed, uint64_t *n_tried, uint64_t *n_aborted);

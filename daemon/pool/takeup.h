/*
 * Goes on where another daemon has ended: what its keeper has, workers and sessions, comes into the pools of this one. What cannot
 * be taken up is said in the log, and kept no more.
 */
#pragma once

#include <stdbool.h>

struct keeper;
struct pool;
struct registry;

struct takeup {
	struct keeper *keeper;      /* borrows */
	struct registry *registry;  /* borrows: has given no number yet */
	struct pool *const *pools;  /* borrows: they have not begun */
	unsigned n_pools;
};

/* From here on the keeper is the registry's. False: the record of its numbers is missing or malformed, and nothing was done. */
bool takeup_all(const struct takeup *t);

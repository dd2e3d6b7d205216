/*
 * The armed timers of a loop whose clock stands still until it is told: the same in the simulated world and in the fuzz
 * targets. sim_timers.c defines loop_timer_init(), loop_timer_set() and loop_timer_stop() of daemon/io/loop.h.
 */
#pragma once

#include "daemon/io/loop.h"

struct sim_timers {
	struct loop_timer *list; /* borrows */
	uint64_t order;          /* of the last one that was armed */
};

/* Each implementation of struct loop says where it has them. */
struct sim_timers *loop_timers(struct loop *l);

/* When the first one is due; LOOP_NEVER. */
uint64_t sim_timers_next(const struct sim_timers *ts);
unsigned sim_timers_count(const struct sim_timers *ts);
/* Fires what is due now, the earliest first, and of equal times the one that was armed first. What is armed meanwhile
 * waits for the next turn, as in the real loop. Returns how many fired. */
unsigned sim_timers_fire(struct sim_timers *ts, uint64_t now);

/*
 * A third implementation of daemon/io/loop.h, for fuzzing the front with its real streams: real sockets, and a clock
 * that stands still until it is told. Nothing waits: a turn delivers what is ready now. The order in a turn is that
 * of libev in daemon/io/loop.c: I/O of high priority, timers, other I/O, then the end of the turn.
 */
#pragma once

#include "daemon/io/loop.h"

/* Turns until nothing is ready any more; aborts when that never comes. */
void still_loop_settle(struct loop *l);
/* Time passes: each timer has its turns at its time. */
void still_loop_pass(struct loop *l, uint64_t ns);
/* Time passes and the daemon does not run, as after SIGSTOP: timers are late. */
void still_loop_freeze(struct loop *l, uint64_t ns);
/* What is still watched, armed or marked: 0 when all that used the loop has ended. */
unsigned still_loop_leftovers(const struct loop *l);

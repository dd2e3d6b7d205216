/*
 * Whether the workers of a pool still answer: a ping on the control channel every ping_interval, beside the calls, which it
 * neither delays nor reorders. One miss is shown; a worker that waits for a call and misses three is replaced. One that runs a
 * call may hold the GIL for a good reason: its deadline decides.
 */
#pragma once

#include "daemon/io/loop.h"

#define HEALTH_MISSES 3

struct pool;

struct health {
	struct loop_timer timer;
};

void health_init(struct pool *p);
/* Begins, when the pool's ping_interval is not 0. */
void health_start(struct pool *p);
void health_stop(struct pool *p);
/* Workers that have not answered their last ping. */
unsigned health_missing(const struct pool *p);

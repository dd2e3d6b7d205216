/*
 * A peek is a question for the stack of a worker (worker.stack) that waits for a glance. Owned by the client that asked, which
 * is told once, or not at all when it has gone.
 */
#pragma once

#include "daemon/front/errand.h"
#include "daemon/io/loop.h"
#include "daemon/pool/glance.h"

struct client;

struct peek {
	struct errand errand;
	uint64_t worker;       /* number */
	uint64_t until;        /* ns: what is known by then is told */
	struct glance_waiter waiter;
	struct loop_task again;
	struct loop_grave grave;
};

/* Asks for a glance at w, whose process runs; c is told what it shows, under that id, and never before this returns. */
void peek_start(struct client *c, uint64_t id, struct worker *w);

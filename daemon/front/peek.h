/*
 * A peek is a question for the stack of a worker (worker.stack) that waits for a glance. Owned by the client that asked, which
 * is told once, or not at all when it has gone.
 */
#pragma once

#include "daemon/io/loop.h"
#include "daemon/pool/glance.h"

struct client;

struct peek {
	struct client *client; /* borrows: it owns its peeks, and drops them when it ends */
	uint64_t id;           /* of the request */
	uint64_t worker;       /* number */
	uint64_t until;        /* ns: what is known by then is told */
	struct glance_waiter waiter;
	struct loop_task again;
	struct peek *prev, *next;
	struct loop_grave grave;
};

/* Asks for a glance at w, whose process runs; c is told what it shows, under that id, and never before this returns. */
void peek_start(struct client *c, uint64_t id, struct worker *w);
/* Does c wait for one under that id? */
bool peek_is_on(const struct client *c, uint64_t id);
/* c is not told any more. */
void peek_drop_all(struct client *c);

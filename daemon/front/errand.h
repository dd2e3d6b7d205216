/*
 * Something that a client waits for and that is no call of a worker: a stack, a reload. It counts as a request that is in
 * flight. Embedded in what knows how to do it; owned by the client, which is answered once, or not at all when it has gone.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct client;

struct errand {
	struct client *client; /* borrows: it owns its errands, and drops them when it ends */
	uint64_t id;           /* of the request */
	void (*drop)(struct errand *e); /* ends what is being done, and calls errand_end() */
	struct errand *prev, *next;
};

#define ERRANDS_MAX 64 /* of one connection */

void errand_begin(struct errand *e, struct client *c, uint64_t id, void (*drop)(struct errand *e));
/* It is not waited for any more. */
void errand_end(struct errand *e);
/* Does c wait for one under that id? */
bool errand_is_on(const struct client *c, uint64_t id);
/* c is not told any more. */
void errand_drop_all(struct client *c);

/* Events of the daemon as they happen, for commands that go on until they are stopped. */
#pragma once

#include <msgpack.h>

#include "client/ctl/ctl.h"

struct follow {
	struct ctl *ctl;
	/* One event, a map that is valid during the call. */
	void (*told)(struct follow *f, struct span event);
	const char *what; /* that are lost when this side is too slow, for people: "events" */
};

/* Subscribes: f->told is called from now on, also from within ctl_ask(). kinds: n_kinds names; none: what is usual. pool: NULL
 * for all. */
int follow_begin(struct follow *f, char *const *kinds, size_t n_kinds, const char *pool);
/* Until SIGINT or SIGTERM, or nobody reads stdout any more: CTL_OK. CTL_FAILED, which is told on stderr, when the connection is
 * lost. */
int follow_run(struct follow *f);

/* One line per kind of event: identifier, name on the wire, told unless others are asked for, what such events are.
 * docs/protocol.md has the same table, and a test compares them. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "proto/span.h"

#define PROTO_EVENT_KINDS(X)                                                                                             \
	X(WORKER, "worker", true, "a worker, or the process of a template, is in another state")                          \
	X(SESSION, "session", true, "a session was opened, lost or ended")                                                \
	X(LEASE, "lease", true, "a lease has begun or ended")                                                             \
	X(BREAKER, "breaker", true, "the circuit breaker of a pool is in another state")                                  \
	X(POOL, "pool", true, "something happened to a pool as a whole")                                                  \
	X(CONFIG, "config", true, "the configuration was read again")                                                     \
	X(OUTPUT, "output", false, "a line that a worker printed")

enum event_kind {
#define X(UPPER, name, usual, doc) EVENT_##UPPER,
	PROTO_EVENT_KINDS(X)
#undef X
		EVENT_N_KINDS,
};

#define EVENT_BIT(kind) (UINT32_C(1) << (kind))

const char *event_kind_name(enum event_kind k);
bool event_kind_is_usual(enum event_kind k);
/* EVENT_N_KINDS when the bytes name none. */
enum event_kind event_kind_find(struct span name);
/* All names, separated by spaces. Static. */
const char *event_kind_list(void);

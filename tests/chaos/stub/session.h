/* What a stub worker has of each session: a count in its copy of the values, and one in memory. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/span.h"

struct stub;

/* What this worker has of a session. */
struct session {
	uint64_t id, send;
	bool has_copy;
	uint64_t count; /* in its copy of the values */
	uint64_t begun; /* calls of the session here: in memory, whatever becomes of the copy */
};

struct sessions {
	struct session *list; /* owns */
	size_t n, room;
	size_t current; /* index + 1 of that in which the call runs; 0: none */
};

/* The current one, NULL. Holds until another is taken. */
struct session *session_here(const struct stub *s);
/*
 * told: what a call says of its session, which is the current one from now on. The copy is what came with it, if any did.
 * False: the daemon takes for current what is not here.
 */
bool session_take(struct stub *s, struct span told);
void session_forget(struct stub *s, uint64_t id, uint64_t send);

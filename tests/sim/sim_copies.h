/*
 * The values of sessions as a simulated worker has them: of each session one counter, "n". Every call of a session reads it
 * and writes one more, so that whoever looks can tell how often the session was served.
 */
#pragma once

#include <msgpack.h>
#include <stdbool.h>
#include <stdint.h>

#include "proto/span.h"

struct sim_copy {
	struct sim_copy *prev, *next;
	uint64_t session, send, n;
};

struct sim_copies {
	struct sim_copy *list; /* owns */
	uint64_t session;      /* of the call in hand; 0: none */
	uint64_t n;            /* what its handler found */
};

/* The params of a call. False: the daemon has sent what it may not: a session without the values that it needs. */
bool sim_copies_take(struct sim_copies *c, struct span params);
/* {set: {"n": ...}} of a success, as the value of the key "session". */
void sim_copies_pack_writes(struct sim_copies *c, msgpack_packer *pk);
/* The call in hand has ended. */
void sim_copies_end(struct sim_copies *c);
/* params: of the control message `forget`, or of `session_close`. */
void sim_copies_forget(struct sim_copies *c, struct span params);
void sim_copies_close(struct sim_copies *c, struct span params);
void sim_copies_deinit(struct sim_copies *c);

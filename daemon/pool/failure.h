/* Why a worker could not be brought to ready, kept by its pool for everybody who asks while the pool has no worker. */
#pragma once

#include <msgpack.h>
#include <stdint.h>

struct worker;

struct failure {
	char *message;         /* owns: "RuntimeError: licence server refused, app.py line 5" */
	char phase[24];
	msgpack_sbuffer cause; /* owns: one encoded map */
};

/* Of a worker that is DEAD and never was ready. */
struct failure *failure_new(const struct worker *w);
struct failure *failure_free(struct failure *f);
/* The phases of a worker's init: key and [{phase, ms, module?}, ...]. */
void failure_pack_phases(msgpack_packer *pk, const char *key, const struct worker *w);
/* "11:40:02" of UNIX ms, local time. */
void failure_clock(uint64_t wall_ms, char out[16]);

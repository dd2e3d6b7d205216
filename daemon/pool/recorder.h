/*
 * Keeps failed calls of a pool so that they can be run again outside of the daemon: python3 -m pypool_worker.replay FILE.
 * One record is one MessagePack map, with the arguments as the caller sent them and all that a worker is given:
 * docs/replay.md. Off unless the pool has record_failures. Arguments go into records and never into the log.
 */
#pragma once

#include "daemon/io/archive.h"

struct outcome;
struct pool;
struct request;

struct recorder {
	struct archive archive;
	uint64_t second; /* ns: begin of the second that n_kept is of */
	unsigned n_kept;
	uint64_t n_skipped; /* there were too many in a second, since the last log line about it */
	uint64_t retry;     /* ns: a directory that could not be used is not tried again before; 0: at once */
};

void recorder_init(struct pool *p);
void recorder_deinit(struct pool *p);
/* The pool's settings are others now. */
void recorder_take_settings(struct pool *p);
/* It is asked for, and its directory can be used. Then bodies of running calls are kept until their end. */
bool recorder_is_on(const struct pool *p);
/* "off", "on", "unusable" (its directory is, and the log says why). */
const char *recorder_state_name(const struct pool *p);
/* r ends with o; records it if it is of the kind that is worth it. */
void recorder_note(const struct request *r, const struct outcome *o);

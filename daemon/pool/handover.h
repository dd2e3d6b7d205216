/*
 * What this process hands over to the program that it is about to execute: the pools as they are, with calls that run and leases. The
 * fds stay open, so workers and clients do not notice. Nothing here is kept in case of a crash: that is keep.h.
 *
 * A pool that does something which cannot be handed over is waited for: see handover_obstacle().
 */
#pragma once

#include <msgpack.h>

#include "daemon/base/unpack.h"

struct caller;
struct lease;
struct pool;
struct request;
struct session;
struct stream;
struct worker;

#define HANDOVER_FORMAT 5 /* what is packed, and in which order: another one cannot be taken over */

/* What its workers have begun to print and not ended is a line: its beginning stays with this program. */
void handover_end_output(const struct pool *p);
/* Why p cannot be handed over now, in words; NULL: it can. Static. */
const char *handover_obstacle(const struct pool *p);
void handover_pack_pool(const struct pool *p, msgpack_packer *pk);

/* Those of the connections, which are taken over before; NULL: it is gone. */
struct handover_callers {
	struct caller *(*find)(const struct handover_callers *h, uint64_t id);
};
/* p, which has the name that was packed first, has not begun. */
void handover_take_pool(struct pool *p, struct unpacker *u, const struct handover_callers *h);

/* For unpack_fd() of the next program, which it stays open for; -1: there is none. */
void handover_pack_fd(msgpack_packer *pk, int fd);
/* What has come over s and was not delivered, and what waits to be written, also half of a message. Its own fd is packed by its owner. */
void handover_pack_stream(msgpack_packer *pk, const struct stream *s);
/* Into s, which has just been opened; one that is not is left as it is. False: there is no memory for it. */
bool handover_take_stream(struct unpacker *u, struct stream *s);

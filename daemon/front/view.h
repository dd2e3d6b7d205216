/* A reply that is being written, for methods that look at things as they are now. */
#pragma once

#include <msgpack.h>
#include <stdint.h>

struct pool;
struct query;
struct worker;

struct view {
	const struct query *q;
	msgpack_sbuffer buf;
	msgpack_packer pk;
	uint64_t now; /* ns */
};

void view_begin(struct view *v, const struct query *q);
/* Replies with what was packed. */
void view_send(struct view *v);
/* Packs key and the ms from now until `at`; nil for LOOP_NEVER. */
void view_pack_left(struct view *v, const char *key, uint64_t at);
/* "call": what w runs, nil when that is nothing. */
void view_pack_slot(struct view *v, const struct worker *w);
/* "last_failure": of a start, nil when the last went well. */
void view_pack_failure(msgpack_packer *pk, const struct pool *p);
/* "breaker" */
/* What workers are forked from; nil with start = exec. */
void view_pack_template(msgpack_packer *pk, const struct pool *p);
void view_pack_breaker(msgpack_packer *pk, const struct pool *p);

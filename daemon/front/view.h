/* A reply that is being written, for methods that look at things as they are now. */
#pragma once

#include <msgpack.h>
#include <stdint.h>

struct query;

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

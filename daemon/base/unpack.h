/*
 * Reading what packed.h has made, by ourselves and in one order: after the first value that is not as expected all others are zero and
 * `bad` stays set, so that a whole record is read before it is asked whether it was one.
 */
#pragma once

#include "proto/cursor.h"

struct unpacker {
	struct span rest;
	bool bad;
};

static inline uint64_t unpack_uint(struct unpacker *u)
{
	uint64_t v = 0;

	u->bad |= !mp_read_uint(&u->rest, &v);
	return u->bad ? 0 : v;
}

static inline bool unpack_bool(struct unpacker *u)
{
	bool v = false;

	u->bad |= !mp_read_bool(&u->rest, &v);
	return !u->bad && v;
}

/* Text or bytes, in place. */
static inline struct span unpack_text(struct unpacker *u)
{
	struct span v = { 0 };

	u->bad |= !mp_read_text(&u->rest, &v);
	return !u->bad ? v : (struct span){ 0 };
}

/* One value of any type, in place. */
static inline struct span unpack_any(struct unpacker *u)
{
	struct span v = { 0 };

	u->bad |= !mp_read_any(&u->rest, &v);
	return !u->bad ? v : (struct span){ 0 };
}

/* How many values follow that belong together. */
static inline uint32_t unpack_array(struct unpacker *u)
{
	uint32_t n = 0;

	u->bad |= !mp_read_array(&u->rest, &n);
	return u->bad ? 0 : n;
}

/* An fd, or -1: it is packed plus one. */
static inline int unpack_fd(struct unpacker *u)
{
	return (int)unpack_uint(u) - 1;
}

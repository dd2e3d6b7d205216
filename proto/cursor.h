/*
 * The cursor walks MessagePack from outside: it finds where one value ends, without recursion, allocation or decoding.
 * It refuses a header that promises more values than bytes can still come, so memory use never depends on what a peer
 * claims. It is resumable: feed it the bytes as they arrive; no byte is looked at twice.
 *
 * The mp_ functions read one value in place from bytes that a cursor has already accepted.
 */
#pragma once

#include "proto/span.h"

#define CURSOR_DEPTH_MAX 512 /* what msgpack-python's packer can produce */

enum cursor_status {
	CURSOR_DONE = 0,
	CURSOR_MORE,      /* all bytes used, the value goes on */
	CURSOR_TOO_DEEP,  /* nested deeper than CURSOR_DEPTH_MAX */
	CURSOR_TOO_MANY,  /* promises more values or bytes than the limit leaves room for */
	CURSOR_INVALID,   /* the byte 0xc1 */
};

struct cursor {
	uint64_t left;  /* bytes that may still come, header bytes included */
	uint64_t due;   /* values still owed over all levels */
	uint64_t skip;  /* payload bytes of the current str/bin/ext still to pass over */
	uint8_t head[9]; /* a header cut by the end of a feed */
	uint8_t head_len;
	uint16_t depth;
	uint32_t owed[CURSOR_DEPTH_MAX]; /* values owed per level */
};

/* limit: the most bytes that the value may take. */
void cursor_init(struct cursor *c, uint64_t limit);
/* Walks on over data; *used is how many bytes of it belong to the value (all of them on CURSOR_MORE). */
enum cursor_status cursor_feed(struct cursor *c, const uint8_t *data, size_t len, size_t *used);
/* After what it has refused: at which byte of the value the header begins that is wrong, however it was fed. */
static inline uint64_t cursor_place(const struct cursor *c, uint64_t limit)
{
	return limit - c->left; /* that header has not been taken */
}
/* Exactly one value that fills all of s? Cut, or promising more than s holds, which is the same here: CURSOR_TOO_MANY;
 * nothing at all: CURSOR_MORE; bytes after it: CURSOR_INVALID. */
enum cursor_status cursor_check(struct span s);
/* The same. *place: the byte of s at which it is wrong; unchanged when it is not. */
enum cursor_status cursor_check_place(struct span s, uint64_t *place);
/* A sentence for people, such as "nested deeper than 512". Static. */
const char *cursor_status_text(enum cursor_status status);

/* Typed reading. Each returns false, and leaves *s alone, when the next value is of another type or is cut. */
bool mp_read_array(struct span *s, uint32_t *n);
bool mp_read_map(struct span *s, uint32_t *n);
bool mp_read_uint(struct span *s, uint64_t *v); /* any encoding of a non-negative integer */
bool mp_read_bool(struct span *s, bool *v);
bool mp_read_nil(struct span *s);
bool mp_read_text(struct span *s, struct span *text); /* str or bin */
/* Takes the next value, whatever it is. */
bool mp_read_any(struct span *s, struct span *value);
/* Name of the type of the next value, such as "str" or "map", for error messages; "nothing" at the end. */
const char *mp_type_name(struct span s);

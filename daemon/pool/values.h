/*
 * The values of a session: a dict of encoded values under text keys, kept as they came and never decoded. Contents are
 * never changed in place: an edit makes new ones or leaves the old, so that whoever sends them holds what he began with.
 */
#pragma once

#include <msgpack.h>

#include "daemon/base/blob.h"

#define VALUES_KEY_MAX 255 /* bytes of a key */
#define VALUES_KEYS_MAX 1024

struct values {
	struct slice pairs; /* ref: key, value, key, value, ...; exactly n pairs */
	uint32_t n;
};

enum values_status {
	VALUES_OK = 0,
	VALUES_MALFORMED, /* a key that is no text of 1..VALUES_KEY_MAX bytes, or is given twice */
	VALUES_TOO_LARGE, /* more bytes than the limit */
	VALUES_TOO_MANY,  /* more keys than VALUES_KEYS_MAX */
	VALUES_NO_MEMORY,
};

/* What an edit would have made; for the message of a refusal. */
struct values_size {
	size_t bytes;
	uint32_t keys, removed;
};

/* set: one encoded map, del: one encoded array of keys; len 0 for none of it. All of it or nothing. limit: bytes of all keys
 * and values; 0: none. *size, unless NULL, says what came of it, or would have. */
enum values_status values_edit(struct values *v, struct blob_pool *blobs, struct span set, struct span del, size_t limit,
			       struct values_size *size);
void values_clear(struct values *v);
/* The value of a key, valid until the next edit. False: there is none. */
bool values_get(const struct values *v, struct span key, struct span *value);
/* One encoded map of all of them. */
void values_pack(const struct values *v, msgpack_packer *pk);
static inline size_t values_bytes(const struct values *v)
{
	return v->pairs.span.len;
}

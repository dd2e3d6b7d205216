/* Small additions to msgpack-c's packer, so that a reply reads like the map that it makes. */
#pragma once

#include <msgpack.h>
#include <string.h>

#include "proto/span.h"

static inline void pack_text(msgpack_packer *pk, const char *s)
{
	size_t n = strlen(s);

	msgpack_pack_str(pk, n);
	msgpack_pack_str_body(pk, s, n);
}

static inline void pack_text_n(msgpack_packer *pk, const char *s, size_t n)
{
	msgpack_pack_str(pk, n);
	msgpack_pack_str_body(pk, s, n);
}

static inline void pack_bool(msgpack_packer *pk, bool v)
{
	if (v)
		msgpack_pack_true(pk);
	else
		msgpack_pack_false(pk);
}

static inline void pack_kv_text(msgpack_packer *pk, const char *key, const char *s)
{
	pack_text(pk, key);
	if (s)
		pack_text(pk, s);
	else
		msgpack_pack_nil(pk);
}

static inline void pack_kv_uint(msgpack_packer *pk, const char *key, uint64_t v)
{
	pack_text(pk, key);
	msgpack_pack_uint64(pk, v);
}

static inline void pack_kv_bool(msgpack_packer *pk, const char *key, bool v)
{
	pack_text(pk, key);
	pack_bool(pk, v);
}

static inline void pack_kv_double(msgpack_packer *pk, const char *key, double v)
{
	pack_text(pk, key);
	msgpack_pack_double(pk, v);
}

/* list: NULL-terminated, or NULL for an empty one. */
static inline void pack_kv_list(msgpack_packer *pk, const char *key, char *const *list)
{
	size_t n = 0;

	while (list && list[n])
		n++;
	pack_text(pk, key);
	msgpack_pack_array(pk, n);
	for (size_t i = 0; i < n; i++)
		pack_text(pk, list[i]);
}

/* Bytes that are already one encoded value. */
static inline void pack_raw(msgpack_packer *pk, struct span encoded)
{
	pk->callback(pk->data, (const char *)encoded.p, encoded.len);
}

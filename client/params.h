/* What the methods with params of their own have in common. */
#pragma once

#include "client/pypool.h"
#include "proto/pack.h"

/* Records bad_argument; returns -EINVAL. */
int params_bad(struct pypool *p, const char *what);
/* One whole encoded map (or array, if that may be)? Sending anything else would cost the connection. 0 or -EINVAL. */
int params_check(struct pypool *p, struct pypool_span s, bool array_too, const char *what);
/* In ms: that of the call, else the handle's; 0: none. */
uint32_t params_timeout(const struct pypool *p, const struct pypool_options *o);
/* The daemon answers a missed deadline itself, and knows more about it: our own limit is behind its. */
uint32_t params_limit(uint32_t timeout_ms);
/* A key, unless it is 0, or NULL. */
void pack_kv_set(msgpack_packer *pk, const char *key, uint64_t v);
void pack_kv_given(msgpack_packer *pk, const char *key, const char *v);
/* Numbers and truths of an answer; what is not there, or of another type, is 0. */
uint64_t answer_uint(struct pypool_span map, const char *key);
int answer_is_true(struct pypool_span map, const char *key);

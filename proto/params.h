/*
 * The params of a request: one map with known keys. One table gives each key its name and kind; a method accepts a set of
 * keys. Values are found in place: `args` is checked for form and never decoded.
 */
#pragma once

#include "proto/envelope.h"

/* X(UPPER, field, kind). Kinds: NAME text of 1..255 bytes, valid UTF-8 without control characters; MS integer 1..2^31;
 * UINT integer 0..2^64-1; BOOL; ANY one value of any type; LIST array (forwarded or ignored as it is). */
#define PROTO_PARAMS(X)                                                                                                  \
	X(TARGET, target, NAME)                                                                                          \
	X(ARGS, args, ANY)                                                                                               \
	X(POOL, pool, NAME)                                                                                              \
	X(SESSION, session, NAME)                                                                                        \
	X(LEASE, lease, UINT)                                                                                            \
	X(TIMEOUT_MS, timeout_ms, MS)                                                                                    \
	X(QUEUE_TIMEOUT_MS, queue_timeout_ms, MS)                                                                        \
	X(META, meta, BOOL)                                                                                              \
	X(TRACEPARENT, traceparent, NAME)                                                                                \
	X(TYPE, type, ANY)                                                                                               \
	X(TTL_MS, ttl_ms, MS)                                                                                            \
	X(ID, id, UINT)                                                                                                  \
	X(CALL, call, UINT)                                                                                              \
	X(WORKER, worker, UINT)                                                                                          \
	X(LINES, lines, UINT)                                                                                            \
	X(PROTOCOL, protocol, UINT)                                                                                      \
	X(CLIENT, client, NAME)                                                                                          \
	X(FEATURES, features, LIST)                                                                                    \
	X(IDEMPOTENT, idempotent, BOOL)                                                                                  \
	X(DIRECT, direct, BOOL)                                                                                                 \
	X(OPEN, open, BOOL)                                                                                              \
	X(RESET, reset, BOOL)                                                                                            \
	X(KEY, key, NAME)                                                                                                \
	X(KEYS, keys, LIST)                                                                                              \
	X(VALUES, values, ANY)                                                                                           \
	X(WAIT, wait, BOOL)                                                                                              \
	X(DRY_RUN, dry_run, BOOL)                                                                                        \
	X(MIN_WORKERS, min_workers, UINT)                                                                                \
	X(MAX_WORKERS, max_workers, UINT)                                                                                \
	X(NOW, now, BOOL)                                                                                                \
	X(KINDS, kinds, LIST)                                                                                            \
	X(POOLS, pools, LIST)

enum param {
#define X(UPPER, field, kind) PARAM_##UPPER,
	PROTO_PARAMS(X)
#undef X
		PARAM_N,
};

#define PARAM_BIT(p) (UINT64_C(1) << (p))
#define PARAM_MS_MAX (UINT64_C(1) << 31)
#define PARAM_NAME_MAX 255

#define PARAM_CTYPE_NAME struct span
#define PARAM_CTYPE_ANY struct span
#define PARAM_CTYPE_LIST struct span
#define PARAM_CTYPE_UINT uint64_t
#define PARAM_CTYPE_MS uint64_t
#define PARAM_CTYPE_BOOL bool

struct params {
	uint64_t has; /* PARAM_BIT of each key that was given */
#define X(UPPER, field, kind) PARAM_CTYPE_##kind field;
	PROTO_PARAMS(X)
#undef X
};

static inline bool params_has(const struct params *p, enum param key)
{
	return p->has & PARAM_BIT(key);
}

/* map: the encoded map of the envelope, len 0 for an empty one. accepted: PARAM_BIT of each key that method_name takes.
 * False: *c says which key is wrong and what is accepted (bad_request): unknown, given twice, wrong type or range. A nil
 * value is the same as an absent key, except for ANY. */
bool params_parse(struct span map, uint64_t accepted, const char *method_name, struct params *out, struct complaint *c);

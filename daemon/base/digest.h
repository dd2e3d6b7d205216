/*
 * A name of 128 bits for a call: its target and the bytes of its arguments. Keyed with a secret that is made anew at each start,
 * so that nobody can choose arguments which share another call's digest. Why xxhash: docs/decisions/xxhash.md.
 */
#pragma once

#include <stdbool.h>

#include "proto/span.h"

#define DIGEST_SECRET 192

struct digest_key {
	uint8_t secret[DIGEST_SECRET];
};

struct digest {
	uint64_t low, high;
};

/* seed: used only where the kernel has no random bytes yet. */
void digest_key_init(struct digest_key *k, uint64_t seed);
struct digest digest_of(const struct digest_key *k, const char *target, struct span args);

static inline bool digest_equals(const struct digest *a, const struct digest *b)
{
	return a->low == b->low && a->high == b->high;
}

#include "daemon/base/digest.h"

#include <sys/random.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

_Static_assert(DIGEST_SECRET >= XXH3_SECRET_SIZE_MIN, "the secret is too short");

/* splitmix64, to stretch a seed */
static uint64_t stretch(uint64_t *seed)
{
	uint64_t z = *seed += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

void digest_key_init(struct digest_key *k, uint64_t seed)
{
	if (getrandom(k->secret, sizeof(k->secret), GRND_NONBLOCK) == (ssize_t)sizeof(k->secret))
		return;
	for (size_t i = 0; i < sizeof(k->secret); i += sizeof(uint64_t)) {
		uint64_t word = stretch(&seed);

		memcpy(k->secret + i, &word, sizeof(word));
	}
}

/* The NUL after the target is hashed too: no target holds one, so no two calls are the same string of bytes. */
struct digest digest_of(const struct digest_key *k, const char *target, struct span args)
{
	XXH3_state_t state;
	XXH128_hash_t hash;

	(void)XXH3_128bits_reset_withSecret(&state, k->secret, sizeof(k->secret)); /* fails only for a short secret */
	(void)XXH3_128bits_update(&state, target, strlen(target) + 1);
	if (args.len)
		(void)XXH3_128bits_update(&state, args.p, args.len);
	hash = XXH3_128bits_digest(&state);
	return (struct digest){ .low = hash.low64, .high = hash.high64 };
}

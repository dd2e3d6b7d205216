#include "daemon/base/histogram.h"

#include <stddef.h>

#define SUB_BITS 4 /* log2 of HISTOGRAM_STEPS */

_Static_assert(HISTOGRAM_STEPS == 1 << SUB_BITS, "an octave has HISTOGRAM_STEPS buckets");

/* Values below 16 have a bucket each; above, an octave is cut into 16. What is over the last bucket is counted there. */
static size_t bucket_of(uint64_t us)
{
	unsigned octave;
	size_t i;

	if (us < HISTOGRAM_STEPS)
		return us;
	octave = 63 - (unsigned)__builtin_clzll(us);
	i = (size_t)(octave - SUB_BITS + 1) * HISTOGRAM_STEPS + ((us >> (octave - SUB_BITS)) & (HISTOGRAM_STEPS - 1));
	return i < HISTOGRAM_BUCKETS ? i : HISTOGRAM_BUCKETS - 1;
}

/* The largest value that falls into bucket i. */
static uint64_t bucket_edge(size_t i)
{
	unsigned shift;

	if (i < HISTOGRAM_STEPS)
		return i;
	if (i == HISTOGRAM_BUCKETS - 1)
		return UINT64_MAX;
	shift = (unsigned)(i / HISTOGRAM_STEPS) - 1;
	return ((uint64_t)(HISTOGRAM_STEPS + i % HISTOGRAM_STEPS + 1) << shift) - 1;
}

static const uint32_t bounds[] = { 100,     250,      500,      1000,     2500,     5000,    10000,
				   25000,   50000,    100000,   250000,   500000,   1000000, 2500000,
				   5000000, 10000000, 30000000, 60000000, 300000000 };

_Static_assert(sizeof(bounds) / sizeof(bounds[0]) == HISTOGRAM_BOUNDS, "HISTOGRAM_BOUNDS is their number");

uint64_t histogram_bound(unsigned i)
{
	return bounds[i];
}

void histogram_add(struct histogram *h, uint64_t us)
{
	uint32_t *bucket = &h->buckets[bucket_of(us)];
	size_t i = 0;

	h->count++;
	h->sum_us += us;
	if (us > h->max_us)
		h->max_us = us;
	while (i < HISTOGRAM_BOUNDS && us > bounds[i]) /* short calls, which come often, are found first */
		i++;
	if (i < HISTOGRAM_BOUNDS)
		h->within[i]++;
	if (*bucket < UINT32_MAX)
		(*bucket)++;
}

uint64_t histogram_quantile(const struct histogram *h, unsigned permille)
{
	uint64_t rank, seen = 0;

	if (!h->count)
		return 0;
	/* rounded up, and without the product that could overflow */
	rank = h->count / 1000 * permille + (h->count % 1000 * permille + 999) / 1000;
	if (!rank)
		rank = 1;
	for (size_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
		seen += h->buckets[i];
		if (seen >= rank)
			return bucket_edge(i) < h->max_us ? bucket_edge(i) : h->max_us;
	}
	return h->max_us;
}

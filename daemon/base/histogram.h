/* Log-linear histogram of durations in microseconds: 1 µs to an hour with at most 6.25 % error (16 steps an octave). Beside
 * it exact counts for a few round bounds, which monitoring asks for. */
#pragma once

#include <stdint.h>

#define HISTOGRAM_STEPS 16
#define HISTOGRAM_BUCKETS (33 * HISTOGRAM_STEPS)
#define HISTOGRAM_BOUNDS 19

struct histogram {
	uint64_t count;
	uint64_t sum_us;
	uint64_t max_us;
	uint64_t within[HISTOGRAM_BOUNDS]; /* over the bound before, and at most this one */
	uint32_t buckets[HISTOGRAM_BUCKETS];
};

void histogram_add(struct histogram *h, uint64_t us);
/* The value that permille/1000 of the samples do not exceed (upper edge of its bucket, at most max_us); 0 when empty. */
uint64_t histogram_quantile(const struct histogram *h, unsigned permille);
/* 100 µs to 5 minutes, ascending. */
uint64_t histogram_bound(unsigned i);

/* The wall clock, for people only: nothing is decided by it. */
#pragma once

#include <stdint.h>
#include <time.h>

/* UNIX time in ms. */
static inline uint64_t wall_ms(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_REALTIME, &ts); /* cannot fail for this clock */
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

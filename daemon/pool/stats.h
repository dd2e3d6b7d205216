/* Counters and timings of one pool. accepted = completed + failed + cancelled + abandoned + queued + running. */
#pragma once

#include "daemon/base/histogram.h"

struct stats {
	uint64_t accepted, completed, failed, cancelled, abandoned;
	uint64_t spawned, died, ready, leases;
	struct histogram wait; /* received to started, µs */
	struct histogram run;  /* started to answered, µs */
};

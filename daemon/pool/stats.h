/* Counters and timings of one pool. accepted = completed + failed + cancelled + abandoned + queued + running. */
#pragma once

#include "daemon/base/histogram.h"
#include "daemon/pool/worker.h"

struct stats {
	uint64_t accepted, completed, failed, cancelled, abandoned;
	uint64_t spawned, adopted, died, ready, leases;
	uint64_t deaths[WORKER_N_WHYS]; /* died, by its cause */
	uint64_t direct_calls, direct_errors; /* over sockets of direct leases, as their workers told at the end; in no other count */
	uint64_t sessions, sessions_lost, sessions_expired;
	struct histogram wait; /* received to started, µs */
	struct histogram run;  /* started to answered, µs */
};

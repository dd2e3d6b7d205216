/* Leases in a world whose daemon and workers the test plays itself. */
#pragma once

#include "tests/unit/client_world.h"

/* Both ends of the socket of a direct lease. */
struct world_pair {
	int client, worker;
};

struct world_pair world_socketpair(void);
/* Submits a direct checkout, which the daemon reads. */
uint64_t world_checkout(struct world *w, uint32_t timeout_ms, struct outcome *o);
/* The same, and has it answered; *worker plays the worker's part. */
uint64_t world_lease(struct world *w, uint64_t number, struct world *worker);
/* Submits a call under a lease. */
uint64_t world_execute(struct world *w, uint64_t lease, uint32_t timeout_ms, struct outcome *o);
/* And the worker's end, when it is open. */
void world_free_both(struct world *w, struct world *worker);

/* The answer to a checkout; with fds, a direct one that says fds: 1. */
void fake_answer_checkout(struct world *w, uint64_t id, uint64_t lease, const int *fds, unsigned n_fds);
void fake_send_lease_lost(struct world *w, uint64_t lease, const char *reason, const char *message);
bool fake_has_key(struct span params, const char *key);

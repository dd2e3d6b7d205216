/*
 * What is shared by all pools of a daemon: numbers that are never reused, the tables that find a call by its caller's id, a
 * call by its number, a lease by its id, the accounts of uids, and the feed of events.
 */
#pragma once

#include <stdint.h>

#include "daemon/pool/account.h"
#include "daemon/pool/keep.h"

struct feed;
struct lease;
struct request;

/* In the number of a template's process: these have numbers of their own. */
#define REGISTRY_TEMPLATE (UINT64_C(1) << 31)

struct registry {
	uint64_t last_call, last_worker, last_template, last_lease, last_caller, last_session;
	struct request *by_caller_id; /* uthash; borrows: pools own requests */
	struct request *by_call;      /* uthash */
	struct lease *leases;         /* uthash; owns */
	struct account *accounts;     /* uthash; owns */
	unsigned n_connected;         /* accounts with connections */
	struct account_limits limits; /* of each account; none until the daemon sets them */
	struct feed *feed;            /* borrows: where all of them tell what happens; NULL: nobody listens */
	struct keeper *keeper;        /* borrows: of what another daemon needs to go on; NULL: nothing is kept */
	uint64_t until_kept;          /* so many numbers may be given until keep_daemon() */
};

/* How far the numbers that are kept run ahead. */
#define REGISTRY_KEEP_EVERY 65536

void registry_init(struct registry *g);
/* Everything must have ended; logs a BUG line otherwise. */
void registry_deinit(struct registry *g);

/* The next number of one of those above. */
static inline uint64_t registry_next(struct registry *g, uint64_t *last)
{
	if (g->until_kept && --g->until_kept == 0)
		keep_daemon(g);
	return ++*last;
}

void registry_add_request(struct registry *g, struct request *r);
void registry_remove_request(struct registry *g, struct request *r);
struct request *registry_find_by_id(const struct registry *g, uint64_t caller, uint64_t id);
struct request *registry_find_call(const struct registry *g, uint64_t call);

void registry_add_lease(struct registry *g, struct lease *l);
void registry_remove_lease(struct registry *g, struct lease *l);
struct lease *registry_find_lease(const struct registry *g, uint64_t id);

/*
 * A caller is whoever asks a pool for something: in the daemon a client's connection. The pool knows it only by this struct,
 * which the connection embeds.
 */
#pragma once

#include <sys/types.h>

#include "daemon/pool/outcome.h"

struct account;
struct caller;
struct lane;
struct lease;
struct registry;
struct request;

struct caller_ops {
	/* The one end of a request; r and o are valid during the call only. With o->abandoned nobody is left to be told. */
	void (*finished)(struct caller *c, const struct request *r, const struct outcome *o);
	/* Something that c did not ask for: the name of a notification and its encoded map, valid during the call. May be
	 * NULL. */
	void (*news)(struct caller *c, const char *name, struct span params);
};

/* Ids of leases that have ended, so that late users are told so. */
#define CALLER_ENDED_LEASES 64

struct caller_ended_lease {
	uint64_t id;
	uint64_t at; /* ns */
	const char *how; /* static: "its ttl was over" */
};

struct caller {
	const struct caller_ops *ops;
	uint64_t id; /* never reused */
	uid_t uid;
	struct account *account;  /* borrows: of that uid; NULL once the caller is gone */
	struct request *requests; /* list; borrows: pools own requests, request_finish() unlinks */
	unsigned n_requests;
	size_t body_bytes;        /* of its requests that are not finished */
	struct lease *leases;     /* list; borrows: lease_end() unlinks */
	unsigned n_leases;
	struct lane *lanes;       /* list; borrows: its places in queues, which own them */
	struct caller_ended_lease *ended; /* owns: ring of CALLER_ENDED_LEASES, or NULL */
	unsigned n_ended;
};

void caller_init(struct caller *c, const struct caller_ops *ops, struct registry *g, uid_t uid);
/* The caller went away: what it has queued is never run, what runs is interrupted, its leases end. Afterwards nothing
 * points to c any more. */
void caller_gone(struct caller *c);
void caller_note_ended(struct caller *c, uint64_t lease, uint64_t now, const char *how);
/* How that lease of this caller ended within the last minute, or NULL. */
const char *caller_find_ended(const struct caller *c, uint64_t lease, uint64_t now);

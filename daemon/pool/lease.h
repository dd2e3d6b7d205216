/*
 * A lease binds one worker to one caller until checkin, the end of its ttl, of its caller or of its worker. Calls under a
 * lease run on that worker, in order. The lease is plain data with a place in the registry, which owns it.
 */
#pragma once

#include "daemon/base/hash.h"
#include "daemon/io/loop.h"
#include "daemon/io/pair.h"
#include "proto/span.h"

struct caller;
struct request;
struct session;
struct worker;

enum lease_end_how {
	LEASE_END_CHECKIN,
	LEASE_END_TTL,
	LEASE_END_OWNER_GONE,
	LEASE_END_WORKER_DIED,
	LEASE_END_DRAINED,
	LEASE_END_SHUTDOWN,
	LEASE_END_CLOSED,    /* the socket of a direct lease was: by its client, or by the worker because of what came there */
	LEASE_END_NO_SOCKET, /* it could not be made */
};

struct lease {
	uint64_t id;
	struct caller *caller; /* borrows: caller_gone() ends its leases */
	struct worker *worker; /* borrows: points back; the worker ends its lease before it dies */
	struct session *session; /* borrows: points back; NULL: anonymous */
	uint64_t begun, expires; /* ns */
	uint64_t tail_mark;      /* first output line of the worker that belongs to it */
	bool direct;             /* no calls of it come this way: see direct.h */
	struct pair socket;      /* of a direct one */
	struct loop_timer ttl;
	struct request *waiting; /* list; borrows: calls under this lease */
	unsigned n_waiting;
	struct lease *prev, *next; /* the caller's */
	UT_hash_handle hh;
	struct loop_grave grave;
};

/* Leases w, which is taken out of idle by the caller of this function, to c, for session s unless that is NULL. ttl in ns; 0: no
 * limit. */
struct lease *lease_new(struct worker *w, struct caller *c, struct session *s, uint64_t ttl);
/* One that has begun before this program was executed. */
struct lease_left {
	uint64_t id, begun, expires;
	int socket; /* owned: the worker's end of a direct one's, else -1 */
};
void lease_take_over(struct worker *w, struct caller *c, struct session *s, struct lease_left *left);
/* How one has ended, as caller_find_ended() says it: the same text, which lives for ever; NULL: none is told so. */
const char *lease_end_text(struct span text);
/* Its waiting calls end, its running call is interrupted, its worker is given back when it is clean. */
void lease_end(struct lease *l, enum lease_end_how how);
void lease_push(struct lease *l, struct request *r);
void lease_remove(struct lease *l, struct request *r);
/* Starts the next waiting call if the worker's slot is free. */
void lease_advance(struct lease *l);

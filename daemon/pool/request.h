/*
 * A request is one thing that a caller asked of a pool: run a handler, or lease a worker. RECEIVED → QUEUED → RUNNING → DONE.
 * The pool owns it; request_finish() is the only place that answers, once, and cuts every borrow.
 *
 * Its deadline is absolute from the moment the daemon has read it: waiting counts.
 */
#pragma once

#include "daemon/base/digest.h"
#include "daemon/base/hash.h"
#include "daemon/io/loop.h"
#include "daemon/pool/outcome.h"

struct caller;
struct lane;
struct lease;
struct poison_entry;
struct pool;
struct session;
struct worker;

enum request_state {
	REQUEST_RECEIVED,
	REQUEST_QUEUED,
	REQUEST_RUNNING,
	REQUEST_DONE,
};

enum request_kind {
	REQUEST_EXECUTE,
	REQUEST_CHECKOUT,
	REQUEST_PUT,    /* writes values of a session */
	REQUEST_DELETE, /* and removes some */
	REQUEST_CLOSE,  /* the hooks at the end of a session; the pool's own */
};

/* What the caller asked for; borrowed during the call that takes it. Times in ns, 0: the pool's own. */
struct request_spec {
	enum request_kind kind;
	uint64_t id; /* the caller's own number for it */
	uint64_t received;
	struct slice body; /* the frame that target, args and traceparent point into */
	struct span target, args, traceparent;
	uint64_t timeout, queue_timeout, ttl;
	bool want_meta;
	bool idempotent; /* it may be run again when its worker is lost */
	bool direct;     /* a checkout: calls go over a socket of its own */
	struct session *session; /* of the caller, or NULL */
	/* of one that the program before this one has taken: 0 and false for a new one */
	uint64_t call;
	unsigned attempts;
	bool retried;
	size_t body_bytes; /* its body may have been given up */
};

struct request_key {
	uint64_t caller, id;
};

struct request {
	struct request_key key;
	uint64_t call; /* daemon-wide number, never reused */
	enum request_kind kind;
	enum request_state state;
	bool want_meta, idempotent, direct;
	bool retried;      /* a worker was lost that had begun it */
	unsigned attempts; /* workers that it was given to */
	struct pool *pool;     /* borrows: the pool ends its requests before itself */
	struct caller *caller; /* borrows: caller_gone() ends its requests */
	struct worker *worker; /* borrows, RUNNING only: the worker's slot points back */
	struct lease *lease;   /* borrows: the lease under which it waits or runs; lease_end() ends it */
	struct session *session; /* borrows: it goes on until its requests have ended */
	bool in_session;       /* it waits there for its turn */
	struct slice body;     /* ref; a large one until it is sent, a small one until the end: see request_requeue() */
	struct span args;      /* in body */
	size_t body_bytes;     /* charged to the caller */
	uint64_t received, started, queue_deadline, deadline, ttl; /* ns, absolute but for ttl */
	unsigned ahead;        /* requests that waited when it came */
	uint64_t tail_mark;    /* first output line of the worker that belongs to it */
	struct loop_timer timer;
	bool digested;         /* digest is known: see poison.h */
	struct digest digest;
	struct lane *lane;     /* of the caller in the pool's queue, while in it */
	struct poison_entry *held; /* borrows: waits there, in no queue */
	struct request *lane_prev, *lane_next; /* in one of the two */
	struct request *lease_prev, *lease_next;
	struct request *session_prev, *session_next;
	struct request *caller_prev, *caller_next;
	struct request *pool_prev, *pool_next;
	UT_hash_handle hh_id, hh_call;
	struct loop_grave grave;
	const char *traceparent; /* behind target; NULL: none was given */
	char target[]; /* NUL-terminated; "checkout" for a checkout */
};

struct request *request_new(struct pool *p, struct caller *c, const struct request_spec *spec);
/* What is handed over as numbers of a request that runs: each is a field of struct request_left. */
#define REQUEST_NUMBERS(X)                                                                                                \
	X(call) X(id) X(received) X(started) X(deadline) X(queue_deadline) X(attempts) X(ahead) X(want_meta) X(idempotent)         \
	X(retried) X(body_bytes)

/* One that its worker runs already, since before this program was executed. */
struct request_left {
	uint64_t call, id, received, started, deadline, queue_deadline;
	struct worker *worker;
	struct session *session; /* NULL: none */
	struct lease *lease;     /* NULL: none */
	struct span target, traceparent;
	struct slice body;       /* ref; empty: it has been given up */
	struct span args;        /* in body */
	unsigned attempts, ahead;
	bool want_meta, idempotent, retried;
	size_t body_bytes;       /* as it came */
};
struct request *request_take_over(struct pool *p, struct caller *c, const struct request_left *left);
/* The only way out. Answers the caller, unlinks r from everything, frees it at the end of the turn. A worker that still
 * runs it keeps its slot taken: see slot_abandon(). */
void request_finish(struct request *r, const struct outcome *told);
/* RECEIVED → QUEUED in the pool's queue or, with a lease or a session, in that. */
void request_enqueue(struct request *r);
/* QUEUED → RUNNING on w, out of its queue. */
void request_start(struct request *r, struct worker *w);
/* RUNNING → QUEUED, first of its caller: its worker died without having read it. False, and nothing is done, when that
 * cannot be: its bytes are not kept (too large), it has a lease, or the pool takes nothing new. */
bool request_requeue(struct request *r);
/* The same for one that its worker may have begun, once, when the caller has said that it may be run again. */
bool request_retry(struct request *r);
/* The caller asks to forget it: answered `cancelled`, interrupted when it runs. */
void request_cancel(struct request *r);
/* The caller is gone: the same, with nobody to answer. */
void request_abandon(struct request *r);
/* It runs hooks at the end of a session, before calls: the session counts until then, and for each a call has run before. */
static inline bool request_is_hook(const struct request *r)
{
	return r->kind == REQUEST_CLOSE;
}
/* Its body has been given up: nobody knows any more what its arguments were. */
static inline bool request_is_spent(const struct request *r)
{
	return r->body_bytes && !r->body.span.len;
}
/* It needs no worker. */
static inline bool request_is_edit(const struct request *r)
{
	return r->kind == REQUEST_PUT || r->kind == REQUEST_DELETE;
}
const char *request_state_name(enum request_state s);

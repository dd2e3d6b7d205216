/*
 * A session: calls of one uid under one name, which run one after the other, and values that the daemon keeps for them.
 * With strict affinity all of them run in one worker process, and the session is lost with it; with prefer they go to the
 * worker of the last one if it is free.
 *
 * A session has one request at most whose turn it is, its head: that one waits in a queue (the worker's own when the session
 * is bound to it, else the pool's) or runs. All others wait in the session. Owned by its pool, found by (uid, name).
 *
 * A call that was answered early may run on. Until its worker has ended it, or is dead, the session lingers there: it goes on
 * only with what waits in that very worker's queue or needs no worker, and a new session of its name waits with it.
 */
#pragma once

#include "daemon/base/hash.h"
#include "daemon/io/loop.h"
#include "daemon/pool/values.h"

struct account;
struct caller;
struct kept_session;
struct lease;
struct outcome;
struct pool;
struct request;
struct worker;

#define SESSION_TEXT 400

struct session {
	uint64_t id; /* daemon-wide, never reused */
	uid_t uid;
	struct pool *pool;
	bool strict; /* as its pool was set when it was opened */
	bool listed; /* it is found by its name; one that was closed goes on until its requests have ended */
	bool closed; /* its hooks are running, or have run, or there are none */
	bool ending; /* it is in the pool's table of those that are closed and still have requests */
	struct session *before, *after; /* borrow: of the same name; this one waits until the one before has ended */
	bool lost;   /* strict: its worker is gone, until it is opened again */
	struct worker *lingering; /* borrows: it still runs an answered call of this session; its slot points back */
	struct worker *worker; /* borrows: of the last call; strict: it is bound to that one; NULL when there is none */
	struct session *worker_prev, *worker_next;
	uint64_t generation; /* of that worker; 0: none yet */
	uint64_t holder;     /* id of the worker that has the values as they are now; 0: none */
	uint64_t sends;      /* how often they were sent */
	struct values values;
	struct request *head;    /* borrows: request_finish() cuts it */
	struct request *waiting; /* list; borrows */
	unsigned n_waiting, n_requests;
	struct lease *lease;     /* borrows: lease_end() cuts it */
	uint64_t used, ttl;      /* ns: last used; 0: no limit */
	struct loop_timer timer; /* may go off too early: cheaper than arming it at each use */
	struct account *account; /* borrows: charged with this session */
	bool due;                /* its next request may have its turn: see session_advance() */
	struct session *due_prev, *due_next;
	char how[SESSION_TEXT];  /* lost: what ended its worker */
	UT_hash_handle hh;
	struct loop_grave grave;
	size_t key_len;
	const char *name; /* NUL-terminated, in key */
	uint8_t key[];    /* uid, name */
};

bool session_is_strict(const struct session *s);
/* ns when it ends if it is not used; LOOP_NEVER. */
uint64_t session_expires(const struct session *s);

/* Is it leased by another caller than c? Then *o says so. */
bool session_is_held(const struct session *s, const struct caller *c, struct outcome *o);
struct session *session_find(const struct pool *p, uid_t uid, struct span name);
/* The session for a call of c: the one that there is, or a new one. NULL: *o says why (session_not_found when `open` is
 * false, session_lost, session_busy, quota, draining). */
struct session *session_for(struct pool *p, struct caller *c, struct span name, bool open, struct outcome *o);
/* The same for session.open, which takes a lost one up again. ttl in ns, 0: the pool's. *fresh: it was not there, or lost. */
struct session *session_open(struct pool *p, struct caller *c, struct span name, uint64_t ttl, bool reset, bool *fresh,
			     struct outcome *o);
/* Its name is free at once; hooks run in its worker when its requests have ended. */
void session_close(struct session *s);
/* What a program that is executed in this process's place needs beside that. Workers: NULL for none. */
struct session_left {
	uint64_t used, sends, generation;
	struct worker *worker;    /* of the last call */
	struct worker *lingering; /* it still runs an answered call of it */
	bool holds;               /* the worker has the values as they are now */
};
void session_take_over(struct session *s, const struct session_left *left);
/* r, which its worker runs already, is its head. */
void session_take_over_head(struct session *s, struct request *r);
/* That of another daemon's, in a pool that has not begun. w: its worker, if that has been taken up too; else NULL. */
struct session *session_take_up(struct pool *p, uint64_t id, const struct kept_session *k, struct worker *w);

/* r, of this session, waits for its turn. */
void session_push(struct session *s, struct request *r);
/* r, which waits in its session, does so no more. */
void session_remove(struct request *r);
/* How many calls will run before r, which waits in its session: of that session, and before its head. */
unsigned session_ahead(const struct request *r);
/* r, of a session, is at its end. */
void session_note_finished(struct request *r);
/* Of its worker w, which may go on with what the lease had it do. */
void session_note_lease_ended(struct session *s, struct worker *w);
/* w has ended its call, or is dead. */
void session_note_slot_free(struct worker *w);
/* The worker whose answered call r waits for, in its session; NULL when it waits for something else. */
struct worker *session_awaits(const struct request *r);
/* Its worker is gone, and it has none now: a strict one is lost. how: for people. */
void session_note_worker_gone(struct session *s, const char *how);
/* Once per turn: gives the next requests of sessions their turn. */
void sessions_advance(struct pool *p);
/* All waiting requests of sessions end with `fail`. */
void sessions_fail_waiting(struct pool *p, void (*fail)(struct request *r));
void sessions_deinit(struct pool *p);

/*
 * One Python process of a pool, in one explicit state. worker_set_state() is the only writer of the state: list, timer,
 * counters, log line and the pool's notice move with it. Owned by its pool; ids are never reused and a replacement is a
 * new worker.
 *
 *   STARTING → INITIALIZING → IDLE ⇄ BUSY        DRAINING finishes what it has and takes nothing new
 *   any of them → STOPPING (told to leave: ask, TERM, KILL) → DEAD (reaped, last bytes read)
 */
#pragma once

#include "daemon/io/process.h"
#include "daemon/io/stream.h"
#include "daemon/pool/gate.h"
#include "daemon/pool/glance.h"
#include "daemon/pool/handshake.h"
#include "daemon/pool/keep.h"
#include "daemon/pool/queue.h"
#include "daemon/pool/slot.h"

struct lease;
struct pool;
struct session;
struct template;

enum worker_state {
	WORKER_STARTING,     /* asked for, no hello yet */
	WORKER_INITIALIZING, /* user code is being imported */
	WORKER_IDLE,
	WORKER_BUSY,         /* a call, or a lease */
	WORKER_DRAINING,
	WORKER_STOPPING,
	WORKER_DEAD,
	WORKER_N_STATES,
};

#define WORKER_WHYS(X)                                                                                                   \
	X(NONE, none)                                                                                                    \
	X(SPAWN_FAILED, spawn_failed)                                                                                    \
	X(INIT_FAILED, init_failed)                                                                                      \
	X(INIT_TIMEOUT, init_timeout)                                                                                    \
	X(DEADLINE, deadline)                                                                                            \
	X(CANCELLED, cancelled)                                                                                          \
	X(CRASHED, crashed)                                                                                              \
	X(OOM, oom)                                                                                                      \
	X(PROTOCOL, protocol)                                                                                            \
	X(NO_MEMORY, no_memory)                                                                                          \
	X(LOST, lost)                                                                                                    \
	X(TEMPLATE_LOST, template_lost)                                                                                  \
	X(MAX_REQUESTS, max_requests)                                                                                    \
	X(MAX_AGE, max_age)                                                                                              \
	X(RSS_LIMIT, rss_limit)                                                                                          \
	X(RECYCLE, recycle)                                                                                              \
	X(OPERATOR, operator)                                                                                            \
	X(RELOAD, reload)                                                                                                \
	X(SURPLUS, surplus)                                                                                              \
	X(SHUTDOWN, shutdown)

enum worker_why {
#define X(UPPER, lower) WORKER_WHY_##UPPER,
	WORKER_WHYS(X)
#undef X
		WORKER_N_WHYS,
};

/* Stages of STOPPING. */
enum worker_stop {
	WORKER_STOP_ASK,
	WORKER_STOP_TERM,
	WORKER_STOP_KILL,
};

#define WORKER_MOVES 8

/* One move of the past. */
struct worker_move {
	enum worker_state from, to;
	enum worker_why why;
	uint64_t at; /* ns */
};

struct worker {
	uint64_t id;
	struct pool *pool; /* borrows: the pool owns its workers */
	enum worker_state state;
	enum worker_why why;  /* of the last move that had a reason; of DEAD: the cause of death */
	uint64_t born, since; /* ns: created; in this state */
	uint64_t ready_at;    /* ns; 0: never was */
	struct worker_move moves[WORKER_MOVES]; /* ring, see worker_move() */
	unsigned n_moves;
	uint64_t generation;
	bool probe;           /* started to see whether the pool works again */
	bool adopted;         /* STARTING, INITIALIZING: another daemon has started it, and it is asked to serve this one */
	uint64_t kept_life, heard_life; /* for keep_worker(), as in struct kept_worker; 0: it is not kept */
	bool is_template;     /* it is what others are forked from, and never serves: it is in the pool's list of templates */
	struct template *template; /* borrows: whose process it is, as long as that one wants it */
	struct template *fork;     /* borrows: has been asked to fork it, and has not answered */
	struct worker *fork_prev, *fork_next;
	struct process proc;
	struct stream calls;
	struct handshake hs;
	struct slot slot;
	struct lease *lease;  /* borrows: points back; lease_end() cuts it */
	struct session *sessions; /* list; borrows: that ran here last; strict ones are bound to it */
	unsigned n_bound;         /* those */
	struct queue own;         /* calls of sessions for this worker alone */
	struct forget *forgets;   /* owns: that it could not be told */
	unsigned n_forgets, room_forgets;
	bool own_last;            /* its last call was one of them */
	bool called;              /* it is in the pool's list of these */
	struct worker *called_prev, *called_next;
	uint64_t grace_until; /* ns: then it is killed, if it still runs what nobody waits for */
	uint64_t again;       /* ns after which it is interrupted again */
	enum slot_reason abandoned; /* why the call in the slot has no request any more */
	uint64_t calls_done;
	enum worker_why due;  /* it is to be replaced, for this; NONE: it is not */
	uint64_t max_calls;   /* after which it is due; 0: no limit */
	uint64_t old_at;      /* ns, when it is due for its age; LOOP_NEVER */
	uint64_t ping_seq;    /* of the last ping; hs.pong is what has come back */
	uint64_t ping_health; /* of the last one that health sent */
	struct glance glance;
	struct glance_waiter init_glance; /* at the init timeout */
	uint64_t ping_calls;  /* calls_done when it was last looked after */
	unsigned misses;      /* pings in a row without an answer */
	bool died_busy;       /* DEAD: with a call that it had read */
	uint64_t logged_lines; /* output lines up to this number are in the log */
	int spawn_error;      /* negative errno of a failed start */
	bool unconfined;      /* and that was because it could not be given its cgroup */
	struct process_exit exit; /* DEAD */
	pid_t last_pid;
	enum worker_stop stage;
	struct loop_timer timer; /* of the state: init timeout, grace, stage of stopping */
	struct gate_ticket ticket;
	struct worker *prev, *next;           /* the pool's living, dead or templates */
	struct worker *idle_prev, *idle_next; /* the pool's idle */
	struct loop_grave grave;
};

/* In STARTING, waiting at the gate. */
struct worker *worker_new(struct pool *p, uint64_t generation, bool probe);
/* One that another daemon has started, with the fds (owned, taken in any case) that it has left. NULL: it cannot be gone on with; it
 * finds its channels at their end. */
struct worker *worker_take_up(struct pool *p, uint64_t id, const struct kept_worker *k, int fds[PROCESS_FDS],
			      int old_calls[PROCESS_OLD_CALLS]);
/* What is handed over of a worker as numbers, beside its forgets: each is a field of struct worker_left. */
#define WORKER_NUMBERS(X)                                                                                                \
	X(id) X(generation) X(state) X(pid) X(why) X(stage) X(born) X(since) X(ready_at) X(calls_done) X(due) X(max_calls)      \
	X(old_at) X(abandoned) X(grace_until) X(again) X(timer_at) X(kept_life) X(heard_life) X(ping_seq) X(n_targets)           \
	X(session_close) X(unread) X(own_last) X(max_frame) X(call) X(last_call) X(slow_call) X(direct) X(broken) X(started)

/* One that this process has, as the program before this one had it. */
struct worker_left {
	uint64_t id, generation, born, since, ready_at, calls_done, max_calls, old_at, timer_at, kept_life, heard_life, ping_seq;
	uint64_t grace_until, again;
	uint64_t call, last_call, slow_call, started; /* of its slot; call 0: free */
	enum worker_state state;
	enum worker_why why, due;
	enum worker_stop stage;
	enum slot_reason abandoned;
	pid_t pid;
	bool direct, broken, session_close, unread, own_last;
	unsigned n_targets;
	uint32_t max_frame; /* of its call socket: what it was told when it was started */
	int calls_fd, fds[PROCESS_FDS]; /* -1: none */
	struct span target, traceparent, python, codec;
};
/* Can another program go on with it? One that has not served yet ends with this one. */
static inline bool worker_can_be_left(const struct worker *w)
{
	return w->ready_at && w->state >= WORKER_IDLE && w->state <= WORKER_STOPPING;
}
/* Everything is borrowed. */
void worker_leave(const struct worker *w, struct worker_left *left);
/* Takes the fds, in any case. NULL: it cannot be gone on with. */
struct worker *worker_take_over(struct pool *p, struct worker_left *left);
/* The process of a template. */
struct worker *worker_new_template(struct template *t);
struct worker *worker_free(struct worker *w);

/* Of the list; NULL when there is none with that number. */
struct worker *worker_find(struct worker *list, uint64_t id);
bool worker_may_become(enum worker_state from, enum worker_state to);
/* The only writer of the state. An illegal move is a BUG line and changes nothing. */
void worker_set_state(struct worker *w, enum worker_state to, enum worker_why why);
/* The n-th move that is remembered, the eldest first; NULL when there is none. Of the times that it went from idle to busy and
 * back only the last is remembered, so that a worker's whole life has room. */
const struct worker_move *worker_move(const struct worker *w, unsigned n);
const char *worker_state_name(enum worker_state s);
const char *worker_why_name(enum worker_why y);
/* It leaves for a reason of ours, between two calls, and is asked to. */
bool worker_why_is_polite(enum worker_why y);
/* Polite, or what a caller wanted: its death says nothing about the pool's health. */
bool worker_why_is_wanted(enum worker_why y);
static inline bool worker_is_serving(const struct worker *w)
{
	return w->state == WORKER_IDLE || w->state == WORKER_BUSY || w->state == WORKER_DRAINING;
}

/* Its slot is free and its process still hears us: a call that it is given now may reach it. */
bool worker_can_be_sent(const struct worker *w);

/* The template that was asked to fork it, `process`, has answered: it is pid. 0 or a negative errno, -ECHILD: it is not. */
int worker_born(struct worker *w, const struct worker *process, pid_t pid);
/* There was an error (negative errno). */
void worker_unborn(struct worker *w, int error);

/* What came out of it since the last time, as log records, one a line. */
void worker_log_output(struct worker *w);

/* It has broken the rules, and is killed for it. */
void worker_accuse(struct worker *w, const char *what);
/* Tells it to leave: politely when the reason is, at once for everything else. Nothing to do when it is leaving already. */
void worker_stop(struct worker *w, enum worker_why why);
/* No more patience: KILL now. */
void worker_kill(struct worker *w);
/* After a call or a lease ended: next call of the lease, idle, or leave. */
void worker_settle(struct worker *w);

/*
 * One simulated world: a pool, workers with a temper, callers, and the ledger of what each was told. What happens is
 * somebody else's choice: walk.c draws it from a seed, small.c tries everything. The first violation ends the world.
 */
#pragma once

#include "daemon/pool/lease.h"
#include "tests/sim/ledger.h"
#include "tests/sim/listener.h"
#include "tests/sim/sim_stage.h"
#include "tests/sim/temper.h"
#include "tests/sim/trace.h"

#define WORLD_CALLERS 6
#define WORLD_SESSIONS 4
#define WORLD_FLAVOURS 20 /* different arguments */

struct world;

#define WORLD_SOCKETS 4

/* A client's end of the socket of a direct lease, which may have ended. */
struct world_socket {
	uint64_t lease; /* 0: a free place */
	int fd;
};

struct world_caller {
	struct caller caller;
	struct world *world;
	struct world_socket sockets[WORLD_SOCKETS];
};

/* Starts in a row without a worker that got ready, for the back-off. */
struct streak {
	unsigned n;
	uint64_t began; /* ns */
	unsigned wanted; /* that somebody has caused meanwhile: canaries, and the replacements of what an operator ended */
};

/* Workers that calls with the same arguments have killed since one of them succeeded. */
struct kills {
	unsigned n, with_first; /* running when the first died */
	uint64_t last;          /* ns */
};

struct world {
	uint64_t seed, step;
	struct sim_random random;
	struct temper temper;
	struct sim_stage stage;
	struct ledger ledger;
	struct listener listener;
	bool keeps; /* its daemon may die, and another one goes on with what was kept */
	struct world_socket orphans[WORLD_SOCKETS]; /* whose daemon has died */
	bool crashing; /* it dies just now */
	unsigned n_crashes;
	uint64_t next_fuse; /* how far the next daemon gets with its beginning, see sim_set_fuse() */
	uint64_t taken_up; /* the last number of a worker before this daemon */
	bool deaf; /* nobody listens to its events: where there are millions of worlds */
	struct record nobody; /* stands for a request that the ledger does not have */
	struct trace trace;
	struct world_caller *callers[WORLD_CALLERS]; /* owns; NULL: a free place */
	struct streak streak, templates;
	uint64_t templates_ready; /* ns: when the last template got ready; 0: it has not */
	struct kills kills[WORLD_FLAVOURS + 1];
	unsigned max_workers; /* the most of the pool since it was last looked at */
	bool squeezed; /* it has been made smaller, and calls wait that were taken for workers which leave */
	bool shrinking; /* it has been made smaller, and has more workers than that still */
	uint64_t resumed; /* ns: when the daemon last went on after it had been stopped */
	unsigned n_answers, n_good;
	char violation[200]; /* "" as long as all is well */
};

/* An empty world; world_begin() gives it a pool. */
struct world *world_new(uint64_t seed);
void world_begin(struct world *w, const struct pool_settings *settings, unsigned gate);
struct world *world_free(struct world *w);

/* The first violation counts. */
void world_violate(struct world *w, const char *what, uint64_t number);
void world_trace(struct world *w, const char *what, uint64_t a, uint64_t b);

/* What may happen. Nothing is looked at by the daemon before time passes or the loop settles. */
void world_come(struct world *w, unsigned place);
void world_leave(struct world *w, unsigned place);
/* asked: kind, id, times, idempotent; of its args only their length, which is 1 + flavour. l: NULL, or a lease of c. */
void world_submit(struct world *w, struct world_caller *c, const struct request_spec *asked, struct lease *l);
/* The same in a session of the caller's user, which is opened if need be; kind: also REQUEST_PUT and REQUEST_DELETE. */
void world_submit_in(struct world *w, struct world_caller *c, const struct request_spec *asked, unsigned session);
/* The session that the caller's user has under this number, NULL when there is none. */
struct session *world_session(const struct world *w, const struct world_caller *c, unsigned session);
/* session.open: takes up a lost one again. */
void world_open(struct world *w, struct world_caller *c, unsigned session, bool reset);
void world_close(struct world *w, struct world_caller *c, unsigned session);
void world_checkin(struct world *w, struct lease *l);
/* It closes its end of a socket. */
void world_hang_up(struct world *w, struct world_socket *s);
void world_cancel(struct world *w, struct request *r);
void world_kill(struct world *w, struct sim_child *c);
/* SIGSTOP to a template. */
void world_halt(struct world *w, struct sim_child *c);
/* The daemon dies and another one begins, which may be unable to tell the workers: see world_crash.c. */
void world_crash(struct world *w, bool mute);
/* Clients drop the sockets that they have had from a daemon which is dead. */
void world_drop_orphans(struct world *w);
/* The daemon is stopped meanwhile. */
void world_freeze(struct world *w, uint64_t ns);

/* Everybody leaves: after a while the pool must be whole again. */
void world_rest(struct world *w);
/* Ends the pool; nothing may be left over. */
void world_end(struct world *w, bool politely);

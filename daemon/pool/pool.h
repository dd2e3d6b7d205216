/*
 * A pool keeps its workers alive and lends them to requests. It owns workers and requests. All of its work is done once per
 * turn of the loop, in pool_dispatch(): callbacks only mark it, so that nothing recurses through the scheduler.
 */
#pragma once

#include "daemon/io/process.h"
#include "daemon/io/stream.h"
#include "daemon/pool/caller.h"
#include "daemon/pool/gate.h"
#include "daemon/pool/health.h"
#include "daemon/pool/poison.h"
#include "daemon/pool/queue.h"
#include "daemon/pool/recorder.h"
#include "daemon/pool/registry.h"
#include "daemon/pool/reload.h"
#include "daemon/pool/request.h"
#include "daemon/pool/settings.h"
#include "daemon/pool/stats.h"
#include "daemon/pool/supply.h"
#include "daemon/pool/worker.h"

#define POOL_DEAD_KEPT 16 /* dead workers whose output and exit are still shown */

enum pool_state {
	POOL_RUNNING,
	POOL_DRAINING, /* nothing new is taken, what runs may finish */
	POOL_STOPPING, /* workers are told to leave */
	POOL_STOPPED,  /* no process is left */
};

struct pool;

struct pool_ops {
	/* It serves its minimum, or its first init failure is known; once. */
	void (*settled)(struct pool *p);
	/* POOL_STOPPED; once. */
	void (*stopped)(struct pool *p);
};

/* What all pools of a daemon share. Everything outlives the pool. */
struct pool_env {
	struct loop *loop;
	struct blob_pool *blobs;
	struct registry *registry;
	struct gate *gate;
	struct spawner *spawner;
	const char *library; /* directory that holds python_worker/ */
	struct oom *oom;     /* NULL: nothing is known of the OOM killer */
	struct cgroups *groups; /* as far as the settings of the pool have limits for them, they are prepared; NULL: never */
	uint64_t seed;       /* of the jitter */
};

struct pool {
	const struct pool_settings *settings; /* borrows: whoever made the pool, or a reload, keeps them for as long */
	const struct pool_ops *ops;
	struct loop *loop;
	struct blob_pool *blobs;
	struct registry *registry;
	struct gate *gate;
	struct spawner *spawner;
	const char *library;
	struct oom *oom;
	struct cgroups *groups;
	struct stream_limits worker_limits;
	struct pool_settings resized; /* a copy of the settings with another size; their texts are not its own */
	const struct pool_settings *given; /* borrows: the settings without that */
	enum pool_state state;
	bool settled;
	bool paused; /* no call is started, but for those of leases */
	uint64_t generation;
	struct worker *workers; /* list; owns: the living */
	struct worker *dead;    /* list, eldest first; owns: at most POOL_DEAD_KEPT */
	struct worker *templates; /* list; owns: the processes of templates, also of those that are not wanted any more */
	struct template *template; /* owns: of `generation`; NULL with start = exec */
	unsigned n_dead;
	struct worker *idle;    /* list; borrows: the last that became idle is served first */
	unsigned in_state[WORKER_N_STATES];
	struct queue queue;
	struct session *sessions;     /* uthash; owns: those that are found by their names */
	struct session *ending;       /* uthash; of each name the last that was closed and still has requests */
	struct session *sessions_due; /* list; borrows: their next requests may have their turn */
	unsigned n_sessions;          /* with those that are ending */
	unsigned n_in_sessions;       /* requests that wait in them */
	unsigned n_own;               /* and in the queues of workers */
	struct worker *called;        /* list; borrows: they may be able to take calls of their sessions */
	struct caller self;           /* of its own requests */
	uint64_t last_own;            /* id of the last of them */
	struct request *requests; /* list; owns: not finished */
	unsigned n_requests, n_running;
	unsigned n_hooks_running; /* of these: its own */
	unsigned n_direct;        /* direct leases */
	struct supply supply;
	struct reload reload;
	struct health health;
	struct recorder recorder;
	struct poison poison;
	uint8_t *idempotent; /* owns: encoded array of targets that may be run again, as the last ready worker says */
	size_t idempotent_len;
	struct loop_task dispatch;
	struct stats stats;
};

struct pool *pool_new(const struct pool_settings *settings, const struct pool_env *env, const struct pool_ops *ops);
/* POOL_STOPPED, with no requests. */
struct pool *pool_free(struct pool *p);
/* Starts the minimum of workers. */
void pool_start(struct pool *p);
/* For a reload: the pool is set to this from now on. */
void pool_take_settings(struct pool *p, const struct pool_settings *settings);
/* What w was or is to be started with: the canary of a reload is ahead of its pool. */
const struct pool_settings *pool_settings_of(const struct worker *w);

/* Takes a request; its one answer comes by the caller's ops, perhaps before this returns. lease: NULL, or one of the
 * caller's on a worker of this pool. */
void pool_submit(struct pool *p, struct caller *c, const struct request_spec *spec, struct lease *lease);

/* No new requests; waiting ones end with draining/never; when nothing runs, the workers are told to leave. */
void pool_drain(struct pool *p);
/* The same, but what runs ends now and workers are killed. */
void pool_stop_now(struct pool *p);

/* Gives r, which was taken out of its queue, to w, which is free. */
void pool_serve_request(struct worker *w, struct request *r);
/* Work for the end of this turn. */
void pool_mark(struct pool *p);
/* Requests that wait for a worker, but for those under a lease. */
static inline unsigned pool_waiting(const struct pool *p)
{
	return p->queue.count + p->poison.n_held + p->n_in_sessions + p->n_own;
}
/* No worker serves and none can be started: calls fail at once with the last failure. */
bool pool_is_down(const struct pool *p);
static inline bool pool_is_leaving(const struct pool *p)
{
	return p->state >= POOL_STOPPING;
}
/* A template has been asked for a worker, whose pid is not known yet. */
bool pool_expects_fork(const struct pool *p);
/* The handler is marked as one that may be run again. */
bool pool_may_rerun(const struct pool *p, const char *target);
/* The worker that has been BUSY or INITIALIZING for the longest; a pool without workers: the process of its template while that
 * initializes; NULL when there is none. */
struct worker *pool_eldest(const struct pool *p);
/* Workers that are not DEAD. */
unsigned pool_living(const struct pool *p);
const char *pool_state_name(const struct pool *p);

/* News from its workers and requests. */
void pool_note_worker(struct pool *p, struct worker *w, enum worker_state from);
void pool_note_finished(struct pool *p);
/* A template's process is dead; its output and exit are kept. */
void pool_keep_dead_template(struct pool *p, struct worker *w);

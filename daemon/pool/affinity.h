/*
 * Which worker a session's call runs on: strict sessions are bound to one, many may share it, and `session_reserve` workers
 * stay free of them. A worker has a queue of its own for the sessions that are bound to it; it is served in turn with the
 * pool's.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct pool;
struct queue;
struct request;
struct session;
struct worker;

/* The queue that r waits in when it has its turn. */
struct queue *affinity_queue_of(const struct request *r);
/* The only worker that r may run on; NULL: any of its pool. */
struct worker *affinity_worker_of(const struct request *r);
/* The one that r waits for: its lease's, where its session lingers, or that one; NULL: any of its pool. */
struct worker *affinity_awaited(const struct request *r);
/* r, the head of its session, into that queue. */
void affinity_queue(struct request *r);
/* The worker that r, which was taken out of the pool's queue, shall run on: `idle`, or a better one. NULL: it was put into the
 * queue of the worker that its session is bound to now. */
struct worker *affinity_choose(struct request *r, struct worker *idle);
/* s runs on w from now on. */
void affinity_bind(struct session *s, struct worker *w);
/* s has no worker any more; that one, if it lives, forgets it. */
void affinity_unbind(struct session *s);
/* The worker of s is there and wants to know when s ends. */
bool affinity_has_hook(const struct session *s);

/* A copy of a session's values that a worker is to forget. */
struct forget {
	uint64_t session, sends;
};
/* w is told later. */
void affinity_forget_later(struct worker *w, const struct forget *f);
/* Tells w what it could not be told when its control socket was full. Nothing to do most of the time. */
void affinity_remind(struct worker *w);

/* w may be able to take a call of its own queue. */
void affinity_call(struct worker *w);
/* Once per turn, before and after the pool's own queue: workers take the calls of their sessions. */
void affinity_serve(struct pool *p, bool first);
/* w serves no more: it has no sessions from now on. how: for people. */
void affinity_note_gone(struct worker *w, const char *how);

/*
 * The event loop: a private libev loop on epoll (loop.c is the only file that includes ev.h). A turn of the loop runs what is
 * ready (I/O of high priority, then timers and other I/O), then deferred tasks, then flushes, then the graveyard, then
 * waits. tests/sim has a second implementation of this header under a simulated clock.
 *
 * Watchers are embedded in their owner and must be stopped before it goes away.
 */
#pragma once

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

#define NS_PER_MS UINT64_C(1000000)
#define NS_PER_S UINT64_C(1000000000)
#define LOOP_NEVER UINT64_MAX

struct loop;

/* NULL when epoll cannot be had. */
struct loop *loop_new(void);
struct loop *loop_free(struct loop *l); /* NULL in, NULL out */
/* Runs until loop_stop(). */
void loop_run(struct loop *l);
void loop_stop(struct loop *l);
/* One turn with what lies ready, signals too, outside of loop_run(). */
void loop_turn_once(struct loop *l);
/* CLOCK_MONOTONIC in ns, read now; never goes back. */
uint64_t loop_now(const struct loop *l);
/* Longest time in ns that one turn has kept others waiting, since the start. */
uint64_t loop_worst_stall(const struct loop *l);

enum loop_priority {
	LOOP_PRIO_NORMAL = 0,
	LOOP_PRIO_WORKER = 1, /* replies before expired timers */
	LOOP_PRIO_OUTPUT = 2, /* stdio of workers before their replies */
};

#define LOOP_READ 1
#define LOOP_WRITE 2
#define LOOP_BROKEN                                                                                                    \
	4 /* only reported: the kernel cannot watch the fd any more; the watcher is stopped, end its owner */

struct loop_io {
	struct loop *loop;
	int fd;
	int events; /* what is watched now: LOOP_READ | LOOP_WRITE, 0 for stopped */
	void (*ready)(struct loop_io *io, int events);
	uint64_t store[8]; /* libev's watcher */
};

void loop_io_init(struct loop_io *io, struct loop *l, int fd, enum loop_priority prio,
		  void (*ready)(struct loop_io *io, int events));
/* Watches for exactly these events; 0 stops. No system call when nothing changes. */
void loop_io_watch(struct loop_io *io, int events);
/* Stops and closes io->fd (then -1). Every fd that was ever watched is closed here. */
void loop_io_close(struct loop_io *io);

struct loop_timer {
	struct loop *loop;
	uint64_t at; /* absolute, ns; LOOP_NEVER when stopped */
	void (*fired)(struct loop_timer *t);
	uint64_t store[8];
};

void loop_timer_init(struct loop_timer *t, struct loop *l, void (*fired)(struct loop_timer *t));
/* Arms for an absolute time (again: moves it). Never fires early; a time that has passed fires in the next turn.
 * LOOP_NEVER stops. */
void loop_timer_set(struct loop_timer *t, uint64_t at);
void loop_timer_stop(struct loop_timer *t);

/* Work at the end of the turn: deferred tasks first, all flushes after them. Marking twice runs once. A task that is marked
 * while tasks run still runs in the same turn. */
struct loop_task {
	void (*run)(struct loop_task *t);
	struct loop_task *next;
	bool marked;
};

void loop_defer(struct loop *l, struct loop_task *t);
void loop_flush_later(struct loop *l, struct loop_task *t);
/* The number of this turn. */
uint64_t loop_turn(struct loop *l);
/* Run t in the next turn even if nothing else happens: for work that was cut short to let others run. */
void loop_next_turn(struct loop *l, struct loop_task *t);
/* Unmarks, wherever it is marked. */
void loop_task_cancel(struct loop *l, struct loop_task *t);

/* Frees an object at the end of the turn, after the flushes: no callback frees what it was called on. */
struct loop_grave {
	void (*release)(struct loop_grave *g);
	struct loop_grave *next;
};

void loop_bury(struct loop *l, struct loop_grave *g, void (*release)(struct loop_grave *g));

struct loop_signal {
	struct loop *loop;
	void (*received)(struct loop_signal *s, int signo);
	uint64_t store[8];
};

void loop_signal_start(struct loop_signal *s, struct loop *l, int signo,
		       void (*received)(struct loop_signal *s, int signo));
void loop_signal_stop(struct loop_signal *s);

/* A half-closed peer: its fd polls readable (EOF) for ever, so it is watched for the full close only, by an epoll of its
 * own inside the loop's. */
struct loop_hup {
	struct loop *loop;
	int fd;                              /* -1 when not watched */
	void (*hung_up)(struct loop_hup *h); /* the watch has been stopped before */
};

/* 0 or a negative errno. The fd must not be watched by a loop_io at the same time for LOOP_READ. */
int loop_hup_start(struct loop_hup *h, struct loop *l, int fd, void (*hung_up)(struct loop_hup *h));
void loop_hup_stop(struct loop_hup *h);

/*
 * A glance tells where a worker is now: its Python stack and what its process is doing. The stack comes by a signal; at the same
 * time a ping asks the worker's control thread, which can answer only when it gets the GIL. One glance at a time looks at a
 * worker, many may wait for it, and it belongs to the call that ran when it began: when that ends, so does the glance.
 */
#pragma once

#include "daemon/io/look.h"
#include "daemon/io/loop.h"
#include "proto/span.h"

struct glance;
struct worker;

/* Embedded in whoever waits; zeros: does not wait. */
struct glance_waiter {
	/* Once; gw does not wait any more. It may not ask for another glance. */
	void (*done)(struct glance_waiter *gw, const struct glance *g);
	struct glance *on; /* borrows; NULL: does not wait */
	struct glance_waiter *prev, *next;
};

struct glance {
	bool on;
	uint64_t call;         /* that ran, 0 for none */
	uint64_t asked, taken; /* ns; taken 0: nothing is known */
	uint64_t pong;         /* last that had come when it was asked */
	bool pinged, ponged;
	bool stale;               /* the next stack is that of an earlier call */
	bool stacked;             /* the stack has come, or will not */
	bool complete;            /* and it was all of it */
	struct process_look look; /* from just before it was asked: the signal wakes a process that sleeps */
	char *stack;              /* owns; NULL: none */
	struct loop_timer timer;
	struct glance_waiter *waiters; /* list; borrows */
};

void glance_init(struct worker *w);
/* Nobody may wait any more. */
void glance_deinit(struct worker *w);
/* Looks at w, whose process runs, for at most `limit` ns, or joins those who do. gw NULL: for glance_last() only. */
void glance_ask(struct worker *w, struct glance_waiter *gw, uint64_t limit);
/* gw does not wait any more, if it did. */
void glance_forget(struct glance_waiter *gw);
/* The call is over or the worker is gone: those who wait get what has come. answered: it was the worker that ended it, so it
 * had the GIL. */
void glance_cut(struct worker *w, bool answered);
/* News for it. */
void glance_take_stack(struct worker *w, struct span text, bool complete);
void glance_take_pong(struct worker *w);
/* The last one, if it is not older than max_age ns and of the call that runs now; else NULL. */
const struct glance *glance_last(const struct worker *w, uint64_t max_age);

#define GLANCE_FRESH NS_PER_S /* a storm of questions costs one look a second */
#define GLANCE_TEXT 120
/* "running Python", "in C code that holds the GIL", "asleep in read", "stopped (state T)"; "" when it is not known. Returns
 * out. */
const char *glance_activity(const struct glance *g, char out[GLANCE_TEXT]);
struct span glance_stack(const struct glance *g);

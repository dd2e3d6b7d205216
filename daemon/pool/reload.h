/*
 * The rolling reload of a pool: one new worker, the canary, must get ready with the code as it is now (start = fork: forked from
 * a new template, which has imported it); then all that are older
 * are replaced, a few at a time, each between its calls, those with sessions when these are closed or drain_timeout is over. A
 * canary that fails changes nothing: the old workers serve on, and whoever asked is told why.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct failure;
struct pool;
struct pool_settings;
struct template;
struct worker;

enum reload_state {
	RELOAD_NONE,
	RELOAD_CANARY,  /* is being started, or waits for a place */
	RELOAD_ROLLING, /* it serves; older ones are being replaced */
};

/* How it ended. */
struct reload_result {
	const struct failure *failure; /* of the canary or its template; NULL: all workers are new, or would be */
	const struct worker *canary, *template; /* dry: that got ready; else NULL, as `template` is with start = exec */
	bool cut;                      /* the pool is leaving: it was given up */
	uint64_t generation;           /* of the pool now */
	unsigned replaced; /* dry: that would be */
	bool dry;
	uint64_t ns; /* that it took */
};

/* Whoever wants to know. Embedded; told once, or dropped before. */
struct reload_waiter {
	void (*done)(struct reload_waiter *rw, const struct reload_result *r);
	struct pool *pool; /* borrows; NULL while it does not wait */
	bool dry;          /* wants to know only whether it would work; with a reload that is no dry run it is told of that */
	bool later;        /* it waits for the reload after the one that is on its way */
	struct reload_waiter *prev, *next;
};

struct reload {
	enum reload_state state;
	bool dry, again_dry;   /* nobody wants more than the canary; the same of the reload that follows */
	const struct pool_settings *settings; /* borrows: of the canary, the pool's when it is ready; NULL: no reload is on */
	const struct pool_settings *wanted;   /* borrows: of the last that was asked for */
	struct template *next; /* owns: what the canary is forked from; the pool takes it over. NULL: none, or not yet */
	struct worker *canary; /* borrows; NULL: not yet, or it is ready */
	bool again;            /* asked for after the canary of this one had begun: the code may have changed since */
	bool placed;           /* replace = after: a worker was dismissed to make room for the canary */
	uint64_t begun;        /* ns */
	unsigned replaced;
	uint64_t n_done, n_failed;
	struct failure *failure; /* owns: of the last canary; NULL: it got ready */
	struct reload_waiter *waiters; /* list; borrows */
};

void reload_init(struct pool *p);
void reload_deinit(struct pool *p);
/* Begins one with these settings (which outlive the pool's use of them), or has one more follow when the canary of one is being
 * started already. rw: NULL, or told at its end. */
void reload_start(struct pool *p, const struct pool_settings *settings, struct reload_waiter *rw);
/* rw is not told any more. */
void reload_forget(struct reload_waiter *rw);
/* The pool begins to leave. */
void reload_cut(struct pool *p);
/* Once per turn. */
void reload_advance(struct pool *p);
/* w is the canary of a dry run: it is never to serve. */
bool reload_is_only_tried(const struct worker *w);
/* News of workers, by the pool. */
void reload_note_ready(struct worker *w);
/* w, the process of the next template, died before it was warm. */
void reload_note_template_failed(struct worker *w);
/* True: it was the canary, and its death is no failure of the pool. */
bool reload_note_dead(struct worker *w);
const char *reload_state_name(enum reload_state s);

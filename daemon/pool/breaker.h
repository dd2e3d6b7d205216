/*
 * The circuit breaker of a pool. It counts failures in a row: starts that failed, crashes, kills at a deadline; never what a
 * handler raises. Open, the pool refuses calls at once and says why; after a while it lets a worker of its own try.
 *
 *   CLOSED → OPEN (too many in a row) → HALF_OPEN (the time is over) → CLOSED (the try went well) or OPEN
 */
#pragma once

#include "daemon/io/loop.h"
#include "daemon/pool/deaths.h"

struct worker;

enum breaker_state {
	BREAKER_CLOSED,
	BREAKER_OPEN,
	BREAKER_HALF_OPEN,
};

struct breaker {
	enum breaker_state state;
	unsigned threshold; /* 0: never opens */
	uint64_t reset;     /* ns */
	unsigned starts,
		crashes; /* failures in a row: of starts since a worker was ready, of workers since a call was answered */
	uint64_t first_wall; /* UNIX ms: of the first of them */
	uint64_t n_opened;
	struct deaths deaths;    /* the last failures */
	struct loop_timer timer; /* OPEN: until it may try */
	void (*changed)(struct breaker *b);
};

/* changed: called when the state has changed. */
void breaker_init(struct breaker *b, struct loop *l, unsigned threshold, uint64_t reset,
		  void (*changed)(struct breaker *b));
void breaker_deinit(struct breaker *b);

static inline bool breaker_is_open(const struct breaker *b)
{
	return b->state != BREAKER_CLOSED;
}
static inline unsigned breaker_failures(const struct breaker *b)
{
	return b->starts + b->crashes;
}
const char *breaker_state_name(enum breaker_state s);
/* ns until it tries, 0 when it does already or is closed. */
uint64_t breaker_wait(const struct breaker *b);

/* A worker died that should not have. text: what a person is told; copied. */
void breaker_note_failure(struct breaker *b, const struct worker *w, const char *text);
/* A worker became ready. In HALF_OPEN: the try went well. */
void breaker_note_ready(struct breaker *b);
/* What went wrong before says nothing any more: the code is new. */
void breaker_close(struct breaker *b);
/* A worker has answered a call. That says nothing about starts: when they were failing, only a try that is ready closes it. */
void breaker_note_success(struct breaker *b);

/*
 * What became of each request, written down from three sides: who asked, what was told, and what the simulated workers
 * saw of it. It complains when the sides do not agree.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "daemon/base/hash.h"
#include "proto/errors.h"

struct record {
	uint64_t call; /* its number */
	uint64_t caller, id;
	bool checkout; /* or anything else that no handler runs for */
	bool idempotent, leased;
	bool retried; /* a worker that had begun it died, or was killed for what it said: what it replied is void then */
	bool replied; /* before it was answered: the value lay ready */
	unsigned answered, saw, began, ended;
	bool abandoned;
	unsigned flavour; /* of its arguments */
	uint64_t session; /* 0: none */
	enum error_code code;
	enum executed executed;
	UT_hash_handle hh;
};

/* What was seen of a session. */
struct story {
	uint64_t session;    /* its number */
	uint64_t good;       /* calls that succeeded since it was new or reset: what its counter must be */
	int64_t pid;         /* strict: of the worker that runs its calls; 0: not known yet, or lost */
	uint64_t last_begun; /* number of the last call that was begun, of those without a lease */
	uint64_t running;    /* number of the call that a worker has begun and not ended, the hooks included; 0: none */
	uint64_t direct;     /* the same of its last direct lease, which may have ended */
	UT_hash_handle hh;
};

struct ledger {
	struct record *records; /* uthash; owns */
	uint64_t n_open; /* not answered */
	struct story *stories; /* uthash; owns */
};

void ledger_init(struct ledger *l);
void ledger_deinit(struct ledger *l);
/* False: the number is used already. */
bool ledger_open(struct ledger *l, uint64_t call, uint64_t caller, uint64_t id, bool checkout);
struct record *ledger_find(const struct ledger *l, uint64_t call); /* NULL: nobody asked for it */
/* Made at the first look. */
struct story *ledger_story(struct ledger *l, uint64_t session);
/* Of the session of that direct lease, which has the number of its call, a worker has begun a call and not ended it. */
bool ledger_runs_beside(const struct ledger *l, uint64_t direct);
/* A worker has ended the call, or is dead. */
void ledger_note_ended(struct ledger *l, uint64_t call);
/* The daemon is gone: whoever waits for an answer sees its connection closed. */
void ledger_cut(struct ledger *l);
/* NULL, or what is wrong with it now: to be asked at every news. */
const char *record_complaint(const struct record *r);

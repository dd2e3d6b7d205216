/* Where the live records of a ledger lie, by kind and id, and in the order of their last put. Owned by the ledger. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/base/hash.h"

struct ledger_key {
	uint64_t id, kind;
};

struct ledger_item {
	struct ledger_key key;
	size_t len;      /* of its bytes */
	size_t at[2];    /* its place in each half; in that which is not current, when it was copied to it */
	uint32_t copied; /* the epoch that the half which it was copied to last will have; 0: never */
	struct ledger_item *prev, *next; /* of `order` */
	UT_hash_handle hh;
};

struct ledger_index {
	struct ledger_item *by_key; /* owns */
	struct ledger_item *order;  /* the same, the latest at the end */
	size_t live_bytes;          /* of their records */
	bool walking;
	struct ledger_item *walk; /* while walking, whom it comes to next; NULL: it is at the end */
};

struct ledger_item *ledger_index_find(const struct ledger_index *x, uint32_t kind, uint64_t id);
/* Adds it, or moves it to the end, also of the walk. The caller sets its place. */
struct ledger_item *ledger_index_put(struct ledger_index *x, uint32_t kind, uint64_t id, size_t len);
void ledger_index_remove(struct ledger_index *x, struct ledger_item *item);
void ledger_index_clear(struct ledger_index *x);
/* A walk goes through all in order, and on while they change: what is put comes (again) at the end, what is removed does not. */
void ledger_index_walk(struct ledger_index *x);
/* NULL: that was the last one, and the walk has ended. */
struct ledger_item *ledger_index_step(struct ledger_index *x);

/*
 * One of the two memfds of a ledger: a header, then records without gaps. A record is there when the committed length, which is
 * stored after its bytes, covers it; what lies behind that is of no meaning. The words of the header that change carry a check of
 * their own and each record carries one, so that no damage passes for a state.
 *
 * All that is used is reserved before, because a store to a page that cannot be had is a SIGBUS; and the memfd is sealed
 * against being cut, for the same reason.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/span.h"

#define LEDGER_HALF_HEADER 4096
#define LEDGER_HALF_UNIT ((size_t)64 * 1024)        /* of what is reserved: a multiple of every page size */
#define LEDGER_HALF_MOST ((size_t)8 * UINT32_MAX)   /* bytes: the committed length is counted in eights, in 32 bits */
#define LEDGER_RECORD_MOST ((size_t)UINT32_MAX - 1) /* bytes of one record */

enum ledger_void {
	LEDGER_HOLDS = 0,
	LEDGER_VOID_NO_MEMORY,
	LEDGER_VOID_WIPED,
	LEDGER_N_VOIDS,
};

struct ledger_half {
	int fd;                  /* owns; -1: none */
	uint8_t *map;            /* owns: `mapped` bytes of address space from its begin; NULL: none */
	size_t mapped, reserved; /* multiples of the unit; what is reserved is mapped, and only that may be used */
	size_t used;             /* header and records, also those that are not committed yet */
};

/* What stands in the header. */
struct ledger_half_state {
	uint64_t identity; /* of the ledger that both halves belong to */
	uint32_t which;    /* 0 or 1 */
	uint32_t epoch;    /* 0: not current, unless the other one is younger by one */
	uint32_t why_void; /* enum ledger_void */
	size_t committed;  /* bytes, with the header */
};

struct ledger_record {
	uint32_t kind;
	uint64_t id;
	bool removes; /* the record before it of the same kind and id; bytes is empty */
	struct span bytes;
	size_t size; /* that it takes, to the begin of the next one */
};

/* Makes an empty one that is not current. 0 or a negative errno. */
int ledger_half_open(struct ledger_half *h, uint32_t which, uint64_t identity);
/* Takes fd, in any case, and reads its header; changes nothing in it. NULL, or what is wrong; of another format, *found is
 * that. */
const char *ledger_half_take(struct ledger_half *h, int fd, struct ledger_half_state *state, uint32_t *found);
/* Maps what is committed. NULL, or what is wrong. */
const char *ledger_half_take_records(struct ledger_half *h, size_t committed);
void ledger_half_close(struct ledger_half *h);

/* So that `bytes` in all can be used. What spans point to may move. 0 or a negative errno. */
int ledger_half_reserve(struct ledger_half *h, size_t bytes);
/* Gives back to the system what is reserved over `keep` bytes, by this process or another. */
void ledger_half_release(struct ledger_half *h, size_t keep);
/* Of its memory, also of what others have reserved. */
size_t ledger_half_allocated(const struct ledger_half *h);

size_t ledger_record_size(size_t bytes);
/* False: the bytes at that place are no whole, undamaged record. */
bool ledger_half_read(const struct ledger_half *h, size_t at, struct ledger_record *r);
/* The bytes of the record at that place, which are trusted to be there. */
struct span ledger_half_bytes(const struct ledger_half *h, size_t at, size_t len);
/* Writes a record behind the last one; there is room for it. Returns its place. */
size_t ledger_half_append(struct ledger_half *h, uint32_t kind, uint64_t id, struct span bytes);
size_t ledger_half_append_removal(struct ledger_half *h, uint32_t kind, uint64_t id);
/* The same with a copy of `size` bytes of another one, which are a record. */
size_t ledger_half_copy(struct ledger_half *h, const struct ledger_half *from, size_t at, size_t size);
/* All that was appended is there from now on: one store. */
void ledger_half_commit(struct ledger_half *h);
void ledger_half_set_epoch(struct ledger_half *h, uint32_t epoch);
/* Voids it, then erases its records and gives back their memory. */
void ledger_half_set_void(struct ledger_half *h, enum ledger_void why);

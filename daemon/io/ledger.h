/*
 * Records that outlive this process: each has a kind, an id and bytes, and a later put of the same kind and id takes the place
 * of the one before. They lie in two memfds, of which one is current: records are appended to it, and when more of it is
 * superseded than live, the live ones are copied to the other one, a part with each put, and then it is made current by one
 * store. Whoever dies at any instruction leaves the state before or after a put or remove, never a part of it.
 *
 * There is one writer. Nothing here knows what the bytes are, nor who keeps the memfds: who has both has the ledger.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "proto/span.h"

#define LEDGER_FORMAT 1 /* of the memfds: another version is refused, so a change of their layout changes it */

struct ledger;

struct ledger_entry {
	uint32_t kind;
	uint64_t id;
	struct span bytes; /* aligned to 8; valid until the next put or remove */
};

/* NULL and errno. */
struct ledger *ledger_new(void);
/*
 * That of another process, in either order of its memfds; takes both fds in any case. Nothing in them changes before the first
 * put or remove, so that a ledger may be looked at and left as it was. NULL: why says in a sentence what is wrong.
 */
struct ledger *ledger_take(int a, int b, char *why, size_t why_size);
/* The memfds stay as they are, for whoever holds another descriptor of them. */
struct ledger *ledger_free(struct ledger *l);
/* 0, 1: borrowed; to be handed on. */
int ledger_fd(const struct ledger *l, unsigned which);

/* The bytes may not lie in the ledger. False: there is no memory; the ledger is void from now on, and who takes it is told so. */
bool ledger_put(struct ledger *l, uint32_t kind, uint64_t id, struct span bytes);
/* Nothing, if there is none. May void it as well. */
void ledger_remove(struct ledger *l, uint32_t kind, uint64_t id);
bool ledger_find(const struct ledger *l, uint32_t kind, uint64_t id, struct span *bytes);
/* Calls each for those of a kind, in the order of their last put. It may not put nor remove. */
void ledger_each(const struct ledger *l, uint32_t kind, void (*each)(void *user, const struct ledger_entry *e),
		 void *user);
/* Voids it on purpose: after an orderly end there is nothing to take up. */
void ledger_wipe(struct ledger *l);
/* A void ledger holds nothing, and takes nothing any more. */
bool ledger_is_void(const struct ledger *l);
/* Memory that both memfds occupy. */
size_t ledger_bytes(const struct ledger *l);

/*
 * What a connection wants to hear of what happens: kinds of events, of some pools or of all that it may observe. One that does
 * not read loses events, which are counted, and costs no more than SUBSCRIPTION_ROOM. Owned by its client.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "daemon/base/unpack.h"
#include "daemon/pool/feed.h"

struct client;
struct server;

#define SUBSCRIPTION_ROOM (1u << 20) /* bytes of output that may wait when an event is sent */
#define SUBSCRIPTIONS_MAX 32         /* of one uid */

struct subscription {
	struct client *client;     /* borrows: its owner */
	uint32_t kinds;            /* EVENT_BIT of each that is wanted */
	const struct pool **pools; /* owns: those that are; NULL: all that it may observe */
	unsigned n_pools;
	uint64_t dropped;          /* lost, and it has not been told */
	struct subscription *prev, *next; /* the server's */
};

/* s tells its clients what comes out of its feed. */
void subscription_init(struct server *s);
/* What subscription_take() of the next program reads. */
void subscription_pack(const struct client *c, msgpack_packer *pk);
void subscription_take(struct client *c, struct unpacker *u);
/* c hears nothing more. Safe without one. */
void subscription_end(struct client *c);

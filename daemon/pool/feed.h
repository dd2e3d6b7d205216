/*
 * Where all of the daemon tells what happens, for whoever has subscribed to it: there is one feed, and its owner sends what
 * comes out of it. What nobody wants is not made.
 */
#pragma once

#include <msgpack.h>

#include "proto/events.h"

struct feed;
struct pool;

/* What has happened: a map whose header is not written, so that pairs may be added. */
struct event {
	enum event_kind kind;
	const struct pool *pool; /* borrows: that it concerns; NULL: the daemon */
	uint32_t n;              /* pairs of keys and values in buf */
	msgpack_sbuffer buf;
};

struct feed_ops {
	/* e is valid during the call. Calls nobody back. */
	void (*told)(struct feed *f, const struct event *e);
	/* So many events of that kind are lost: they could not be made. */
	void (*missed)(struct feed *f, enum event_kind kind, const struct pool *p, uint64_t n);
};

struct feed {
	const struct feed_ops *ops;
	uint32_t wanted; /* EVENT_BIT of each kind that somebody wants */
};

/* f: NULL where nobody listens. */
static inline bool feed_wants(const struct feed *f, enum event_kind kind)
{
	return f && f->wanted & EVENT_BIT(kind);
}

/*
 * What another daemon needs to go on where this one ends, as records and fds that outlive it: a worker that has become ready, and a
 * session that can be found by its name. Here the records are made and read, takeup.h goes on with them; whoever keeps them knows only
 * their ids. What has no keeper is not made.
 *
 * Not kept: calls and leases (they end with the connections of their callers), templates and workers that initialize (they end with
 * the daemon), statistics.
 */
#pragma once

#include <msgpack.h>

#include "daemon/io/remains.h"
#include "proto/span.h"

struct kept_worker;
struct pool;
struct registry;
struct session;
struct worker;

enum keep_kind {
	KEEP_DAEMON = 1, /* id 0 */
	KEEP_POOL,       /* by a digest of its name */
	KEEP_WORKER,
	KEEP_SESSION,
};

/* The record is valid during the call. */
typedef void (*keep_found)(void *user, uint64_t id, struct span record);

struct keeper {
	/* Takes the place of an earlier record of that kind and id. */
	void (*put)(struct keeper *k, enum keep_kind kind, uint64_t id, struct span record);
	void (*remove)(struct keeper *k, enum keep_kind kind, uint64_t id);
	/* Copies of the fds, under that name. */
	void (*hold)(struct keeper *k, const char *name, const int *fds, unsigned n);
	void (*release)(struct keeper *k, const char *name);
	/* What there is when a daemon begins, see takeup.h. found: may neither put nor remove. */
	void (*each)(struct keeper *k, enum keep_kind kind, keep_found found, void *user);
	/* The fds of r that are held under that name, the caller's from then on; false: none, as remains_find(). */
	bool (*find)(struct keeper *k, const char *name, const struct remains *r, int fds[PROCESS_FDS]);
	/* One that is held under that name; -1. */
	int (*take)(struct keeper *k, const char *name);
};

/* Bytes of the name of a worker's fds, in hex to be short: the next daemon gets the names of all its files in one variable of its
 * environment, and exec() takes no more than 128 KiB for that. */
#define KEEP_NAME 40

/* The numbers that were given up to now. */
void keep_daemon(struct registry *g);
void keep_pool(const struct pool *p);
/* w is ready, or its call socket is another one now. */
void keep_worker(struct worker *w);
/* It has the new one. */
void keep_heard(struct worker *w);
void keep_no_worker(struct worker *w);
/* The same when its record is gone already. */
void keep_no_files(struct keeper *k, struct worker *w);
/* The same of one that could not be taken up; k: NULL when its record cannot be read. */
void keep_no_record(struct keeper *keeper, uint64_t id, const struct kept_worker *k);
/* Of s, as keep_read_session() reads it. */
void keep_pack_session(const struct session *s, msgpack_packer *pk);
/* s is new, or has changed. Of one that is not listed nothing is kept. */
void keep_session(const struct session *s);
void keep_no_session(const struct session *s);

/* What is read points into the record. */
struct kept_daemon {
	uint64_t mark, last_call, last_worker, last_session, last_lease, last_caller;
};
struct kept_pool {
	struct span name;
	uint64_t generation, shape; /* see shape.h */
};
struct kept_worker {
	struct span pool;
	uint64_t generation;
	uint64_t life, heard; /* how often its call socket was kept, and of which of them it has been heard of last */
	struct remains remains;
	char name[KEEP_NAME]; /* of its fds */
};
struct kept_session {
	struct span pool, name, how; /* how: what lost it; empty: it is not lost */
	struct span values;          /* one encoded map */
	uint64_t uid, worker, ttl, generation, sends; /* worker 0: none, or any will do: then generation is 0 too */
	bool strict;
};

/* False: the record is not one of this version's. */
bool keep_read_daemon(struct span record, struct kept_daemon *k);
bool keep_read_pool(struct span record, struct kept_pool *k);
/* Of its other files. */
void keep_own_name(char name[KEEP_NAME], uint64_t worker);
/* Of the call sockets that it may have: the n-th of at most PROCESS_OLD_CALLS. False: there are not so many. */
bool keep_old_calls(const struct kept_worker *k, uint64_t id, unsigned n, char name[KEEP_NAME]);
bool keep_read_worker(uint64_t id, struct span record, struct kept_worker *k);
bool keep_read_session(struct span record, struct kept_session *k);

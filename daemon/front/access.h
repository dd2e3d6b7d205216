/*
 * Who may do what. The first access block that lists a peer and concerns a pool decides the peer's role on that pool; one
 * without pools concerns all of them, and the daemon. Nobody else has a role, when there are blocks; when there are none,
 * everybody may use and observe. Root administers, listed or not, and so does the daemon's own user where no service manager
 * has given that user to the daemon; but whoever a worker has started never does.
 *
 * The kernel says who a peer is, as it was at its connect(); names were resolved when the configuration was read.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "proto/methods.h"

struct descent;

/* One access block. */
struct access_rule {
	char *name;      /* owns */
	bool everybody;  /* else who has one of these numbers */
	uid_t *uids;     /* owns */
	unsigned n_uids;
	gid_t *gids;     /* owns */
	unsigned n_gids;
	unsigned *pools; /* owns: their numbers; none: all, and the daemon */
	unsigned n_pools;
	enum role role;
};

struct access {
	struct access_rule *rules; /* owns: n_rules, in the order in which they are asked */
	unsigned n_rules;
	bool own_is_admin; /* the daemon's own user administers */
};

struct access_peer {
	uid_t uid;
	gid_t gid;
	const gid_t *groups; /* borrows: the others that it is in */
	unsigned n_groups;
	bool is_own;    /* the daemon's own user */
	bool is_suspect; /* a worker has started it, or that cannot be ruled out: no admin */
};

/* What a peer may do. */
struct access_grant {
	enum role role;    /* where no pool is concerned */
	enum role highest; /* of this one and all pools */
	uint8_t *pools;    /* owns: enum role on each, NULL: the same on all as `role` */
};

struct access_grant access_judge(const struct access *a, const struct access_peer *peer, unsigned n_pools);
/* The same for a connection: asks the kernel for the groups and the descent of a peer of which the rest is known. */
struct access_grant access_ask(const struct access *a, int fd, const struct access_peer *known, pid_t pid,
			       unsigned n_pools, struct descent *descent);
void access_grant_deinit(struct access_grant *g);

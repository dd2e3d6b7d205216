/*
 * A daemon without a process: front, pools, streams and all between them are the real ones, on a loop whose clock
 * stands still and with puppets for workers. A script of bytes moves it: what clients send, what workers say, what
 * time it is.
 */
#pragma once

#include "daemon/front/server.h"
#include "tests/fuzz/food.h"
#include "tests/fuzz/puppet.h"
#include "tests/fuzz/user.h"

#define WORLD_POOLS 2
#define WORLD_USERS 4
#define WORLD_MAX_FRAME 4096

struct world {
	struct loop *loop; /* owns */
	struct blob_pool blobs;
	struct registry registry;
	struct gate gate;
	struct puppets puppets;
	struct pool_settings settings[WORLD_POOLS];
	struct pool *pools[WORLD_POOLS]; /* owns */
	unsigned n_pools, n_stopped;
	struct server server;
	struct user users[WORLD_USERS];
	int first_fd;  /* the lowest that was free at the start */
	uint64_t bugs; /* in the log at the start */
};

void world_init(struct world *w, unsigned n_pools, unsigned n_workers);
/* The daemon stops, everybody goes home, and all invariants are checked. */
void world_end(struct world *w);

/* Until nothing moves any more: the daemon works, clients read, SIGKILL kills. */
void world_settle(struct world *w);
void world_pass(struct world *w, uint64_t ns);
void world_freeze(struct world *w, uint64_t ns);
/* A new connection; nothing happens when the user has one. */
void world_connect(struct world *w, unsigned user, uid_t uid);

/* Runs the script: each step is a byte, which chooses one of the table, and what the step eats. */
struct world_step {
	void (*run)(struct world *w, struct food *f);
};

void world_run(struct world *w, const struct world_step *steps, unsigned n_steps, struct food *f);

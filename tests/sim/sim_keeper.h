/* A keeper in plain memory, which outlives the pools of a simulated daemon: records as they were put, and copies of fds. */
#pragma once

#include "daemon/pool/keep.h"
#include "tests/sim/sim_loop.h"

struct sim_kept {
	struct sim_kept *prev, *next;
	enum keep_kind kind;
	uint64_t id;
	size_t len;
	uint8_t bytes[];
};

struct sim_held {
	struct sim_held *prev, *next;
	char name[KEEP_NAME];
	struct sim_file file; /* holds */
	bool left; /* by another daemon, and this one has not taken it */
};

struct sim_keeper {
	struct keeper keeper;
	struct loop *loop;     /* borrows */
	struct sim_kept *kept; /* list; owns */
	struct sim_held *held; /* list; owns */
};

void sim_keeper_init(struct sim_keeper *k, struct loop *l);
/* Returns how many workers and sessions, and files of them, it still had. */
unsigned sim_keeper_deinit(struct sim_keeper *k);
/* Another daemon begins; then it has taken what it wants, and the rest is dropped. */
void sim_keeper_begin(struct sim_keeper *k);
void sim_keeper_drop_rest(struct sim_keeper *k);
/* All records, as when they are refused. */
void sim_keeper_forget(struct sim_keeper *k);
/* NULL: there is none. */
const struct sim_kept *sim_keeper_find(const struct sim_keeper *k, enum keep_kind kind, uint64_t id);
/* Something is held under that name; inode: of that file, 0: of any. */
bool sim_keeper_holds(const struct sim_keeper *k, const char *name, uint64_t inode);

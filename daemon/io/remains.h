/*
 * What is left of a process's plumbing when its daemon is gone: the fds without which another daemon cannot go on with it. They come
 * back in any order, under one name; the files that they are tell them apart.
 */
#pragma once

#include "daemon/io/named_fds.h"
#include "daemon/io/process.h"

struct remains_file {
	uint64_t dev, inode; /* both 0: there was none */
};

/* Plain data: it outlives the daemon as a record. */
struct remains {
	pid_t pid;
	struct remains_file files[PROCESS_FDS];
};

/* What there is of p now. fds: borrowed, in the order of enum process_fd, without those that are closed; *n of them. */
void remains_of(struct remains *r, const struct process *p, int fds[PROCESS_FDS], unsigned *n);
/* Takes those of r out of the ones that have that name. False: one is not there without which it does not go; then all fds[] are -1. */
bool remains_find(const struct remains *r, struct named_fds *left, const char *name, int fds[PROCESS_FDS]);

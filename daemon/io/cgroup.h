/*
 * The control group of one worker: what the worker and all that it starts may use together, also what leaves its process
 * group. Owned by its struct process.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "daemon/io/cgroups.h"
#include "daemon/io/oom.h"

struct cgroup_limits {
	uint64_t memory; /* bytes; 0: none */
	uint64_t pids;   /* processes and threads; 0: none */
};

struct cgroup {
	struct cgroups *all; /* borrows: outlives it */
	char name[64];       /* in each hierarchy */
	unsigned made;       /* BIT(i): it is there in all->all[i] */
	struct oom oom;
	unsigned tries;             /* to remove it */
	struct cgroup *prev, *next; /* all->dying */
};

/* An empty one for worker number `worker`, into *out. 0 or a negative errno; then nothing of it is left. */
int cgroup_new(struct cgroups *c, uint64_t worker, const struct cgroup_limits *limits, struct cgroup **out);
/* That of a worker which another daemon, or we before an exec, had put into one: into *out, NULL when it is in none that we know.
 * Its limits are set again, since a restart by systemd may have taken them off. 0 or a negative errno. */
int cgroup_adopt(struct cgroups *c, pid_t pid, const struct cgroup_limits *limits, struct cgroup **out);
/* Kills what is in it and removes it, when that takes time in the background. Returns NULL, takes NULL. */
struct cgroup *cgroup_end(struct cgroup *g);

/* The files that a process writes "0" to in order to enter it, for a child that may only make system calls; -1 where there is
 * none. The caller closes them. 0 or a negative errno; then there is nothing to close. */
int cgroup_open(const struct cgroup *g, int fds[CGROUP_N]);
/* A child of ours that is not reaped. 0, also for one that is dead, or a negative errno. */
int cgroup_add(const struct cgroup *g, pid_t pid);
/* A process in it was killed by the kernel for want of memory. */
bool cgroup_was_oom(struct cgroup *g);

/* For cgroups.c: one more try to remove those that are dying; and the last ones, which may block for half a second. */
void cgroup_bury(struct cgroups *c);
void cgroup_bury_now(struct cgroups *c);
/* Writes text to the file of a group (or of the given one, with ""). 0 or a negative errno. */
int cgroup_write(const struct cgroup_hierarchy *h, const char *group, const char *file, const char *text);

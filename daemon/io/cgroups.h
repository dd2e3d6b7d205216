/*
 * The control groups that the daemon may make: below the one that it runs in, where that was given to it (systemd: Delegate=).
 * cgroup v2, or v1 with a hierarchy for each controller. In v2 a group with groups below it has no processes of its own, so
 * the daemon moves into a leaf, `daemon`. One cgroup (see cgroup.h) is for one worker. Owned by the daemon.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "daemon/io/loop.h"

struct cgroup;

enum cgroup_controller {
	CGROUP_MEMORY,
	CGROUP_PIDS,
	CGROUP_N,
};

struct cgroup_hierarchy {
	int dir; /* owns: the group that was given to us */
	bool v2;
	unsigned controllers; /* BIT(enum cgroup_controller): which of them are limited here */
};

struct cgroups {
	struct loop *loop;
	const char *proc, *root; /* borrow: "/proc/self/cgroup", "/sys/fs/cgroup" */
	struct cgroup_hierarchy all[CGROUP_N];
	unsigned n;
	unsigned controllers; /* of all */
	struct cgroup *dying; /* list; owns: they still have processes, which have been killed */
	struct loop_timer timer;
};

#define CGROUPS_LEAF "daemon"
#define CGROUPS_WORKER "worker-"

void cgroups_init(struct cgroups *c, struct loop *l, const char *proc, const char *root);
/* Blocks until those that are dying are gone, for half a second at most. */
void cgroups_deinit(struct cgroups *c);
/* From now on groups with a limit of these controllers (BIT) can be made. Nothing to do when they can be already. 0, or a
 * negative errno and a sentence in why that says what to do. */
int cgroups_prepare(struct cgroups *c, unsigned controllers, char *why, size_t why_size);

/* For what ends between two daemons, in the cgroup that systemd makes for that (`.control`): in version 2 no new process can be put
 * into a group that has handed its controllers on, so that they are taken back until the next daemon has moved. The limits of those
 * that live on are off meanwhile. */
void cgroups_take_back(const char *proc, const char *root);

/*
 * The unit of systemd that a process belongs to: its cgroup says so, wherever it has gone in the tree of processes, and whatever it has
 * done to itself. A unit has all that is in its cgroup and in those below.
 */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#define UNIT_TEXT 4096 /* of /proc/PID/cgroup */

struct unit {
	const char *hierarchy; /* borrows: static */
	char path[UNIT_TEXT];  /* of its cgroup there */
};

/* Out of /proc/PID/cgroup of a process of it. False: it is in no service. */
bool unit_parse(struct unit *u, const char *cgroup);
/* The process with that cgroup is one of it. */
bool unit_holds(const struct unit *u, const char *cgroup);
/* That of this process. */
bool unit_own(struct unit *u);
bool unit_has(const struct unit *u, pid_t pid);

/* The control group of a process. groups: its file /proc/PID/cgroup. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* The path in the hierarchy in which systemd keeps its units; the caller frees it. NULL: none. */
char *doctor_cgroup(const char *groups);
/* The lowest limit of memory from the group up, in bytes. root: where the hierarchies are. False: there is none, or it cannot be
 * read. */
bool doctor_cgroup_memory(const char *groups, const char *root, uint64_t *bytes);

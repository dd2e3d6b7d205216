/*
 * Whether the kernel's OOM killer was at work on us: the counter of the daemon's own memory cgroup, for workers that have none of
 * their own (see cgroup.h). cgroup v2 (memory.events counts what is below too) and v1 (memory.oom_control).
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct oom {
	int fd;         /* owns: the file with the counter; -1: there is none */
	uint64_t taken; /* kills up to this number are explained */
};

/* proc: "/proc/self/cgroup"; root: "/sys/fs/cgroup". Kills from before are nobody's. */
void oom_init(struct oom *o, const char *proc, const char *root);
/* The counter in that file, which o owns from now on. Negative: there is none. */
void oom_watch(struct oom *o, int fd);
void oom_deinit(struct oom *o);
/* A process of ours died of a SIGKILL that we did not send: was it the OOM killer? Each kill that was counted explains one. */
bool oom_take(struct oom *o);

/*
 * Processes of the unit that this daemon is the main process of, which nobody looks after any more: what an earlier daemon has left
 * behind, and what a worker has whose end another process than its parent sees.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Kills each process of our own cgroup, and of those below it, but this one and those that `spared` says. Returns how many. Only for
 * the main process of a unit: else they are not ours. */
unsigned leftovers_kill(bool (*spared)(void *user, pid_t pid), void *user);
/* Kills what descends from that worker, which is dead: those of our own cgroup that bear its mark. */
unsigned leftovers_kill_of(uint64_t worker, pid_t pid);

/* Those that are there at some moment, and nobody who comes after it. */
struct leftovers {
	int *pidfds; /* owns */
	size_t n;
};

/* All of our own cgroup, and of those below it, but this one. */
void leftovers_find(struct leftovers *l);
void leftovers_kill_found(struct leftovers *l);
void leftovers_deinit(struct leftovers *l);

/*
 * Processes of the unit that this daemon is the main process of, which nobody looks after any more: what an earlier daemon has left
 * behind, and what a worker has whose end another process than its parent sees.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* Kills each process of our own cgroup, and of those below it, but this one and those that `spared` says. Returns how many. Only for
 * the main process of a unit: else they are not ours. */
unsigned leftovers_kill(bool (*spared)(void *user, pid_t pid), void *user);
/* Kills what descends from that worker, which is dead: those that bear its mark. */
unsigned leftovers_kill_of(uint64_t worker, pid_t pid);

/*
 * Whether a process descends from a worker, so that it must not administer what runs it.
 *
 * To find out takes a file of /proc for each of its ancestors. One that is no worker's never becomes one, so when it comes twice
 * running it is remembered, for as long as it runs and until another one comes: programs open connections by the dozen.
 */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

struct descent {
	int pidfd; /* owns: of the stranger that is remembered; -1: none is */
	pid_t pid; /* of the last stranger */
	uid_t uid;
};

#define DESCENT_INIT { .pidfd = -1 }

void descent_deinit(struct descent *d);
/* True also when it cannot be known. pid: as the kernel says it of a connection's other end, uid likewise. */
bool descent_is_ours(struct descent *d, pid_t pid, uid_t uid);

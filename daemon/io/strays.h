/*
 * Orphans of workers become the daemon's children (it is a subreaper), and nobody else waits for them. The strays reap every
 * dead child that is not the process of a worker; those are left to their pidfd. Orphans of a worker that is dead are killed:
 * they are known by a mark that they inherit (docs/decisions/strays.md).
 */
#pragma once

#include <sys/types.h>

#include "daemon/io/loop.h"

struct strays {
	struct loop *loop;
	struct loop_signal chld;
	struct loop_task again; /* a dead worker was in the way */
	struct loop_timer later; /* or one that may be a worker's, for all that is known */
	/* Is this the pid of a struct process that is running? */
	bool (*owned)(struct strays *s, pid_t pid);
	/* Is a fork under way whose pid is not known yet? Then nothing is reaped. NULL: never. */
	bool (*expecting)(struct strays *s);
	/* Does the worker with this number live? NULL: nobody is killed. */
	bool (*lives)(struct strays *s, uint64_t worker);
	int children; /* owns: /proc says there who they are; kept open, for when no more files can be; -1: none */
	uint64_t reaped, killed;
};

/* Makes the daemon a subreaper and begins; the first look is when the loop runs. 0 or a negative errno. */
int strays_start(struct strays *s, struct loop *l, bool (*owned)(struct strays *s, pid_t pid));
void strays_stop(struct strays *s);

/*
 * Whether another daemon comes after one that has crashed only systemd knows: it may give up (start limit), or have been told to stop
 * meanwhile. What the next one needs is in the store until then, and a lock with it, so that whoever waits for the lock knows when
 * nobody comes any more. Workers find their channels at their end by then and leave; one that is deep in C code cannot.
 */
#pragma once

#include "daemon/io/named_fds.h"

/* The lock: that of the daemon before, or a new one, which is stored. -1: there is none. */
int vigil_lock(struct named_fds *left);
/* After an orderly end: takes fd (-1: only the store has it). */
void vigil_unlock(int fd);
/* Leaves a process behind that kills, when the lock is free, those which are in the unit now. The next daemon ends it. */
void vigil_begin(void);

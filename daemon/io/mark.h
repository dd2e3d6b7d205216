/*
 * What tells a worker's descendants, whatever they have become: a number that fork, exec, setsid and an empty environment
 * leave as it is. It is kept in the soft limit on file locks, which Linux has not enforced since 2.4 and everybody may read
 * (docs/decisions/strays.md).
 */
#pragma once

#include <stdint.h>
#include <sys/types.h>

/* Says which daemon has made a mark: its pid, or that of the daemon whose workers it has taken up. Not 0. */
uint64_t mark_of_daemon(void);
/* That one's marks are ours from now on, and ours are like its. Before any other is made. */
void mark_go_on(uint64_t daemon);
/* The limit for worker number `worker` of this daemon; 0: it cannot be marked. */
uint64_t mark_make(uint64_t worker);
/* Of the calling process, which is a child before its exec. Only system calls; when it fails there is no mark. */
void mark_set(uint64_t mark);
/* The worker of this daemon that process pid descends from; 0: it has no mark, or another daemon's. */
uint64_t mark_read(pid_t pid);

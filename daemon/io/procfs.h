/* Files of the kernel as text: small, and anew from their beginning at each read. */
#pragma once

#include <stddef.h>
#include <sys/types.h>

/* Reads fd from its beginning, at most size - 1 bytes, with a NUL behind them. How many; 0 when it cannot be read. */
size_t procfs_read(int fd, char *buf, size_t size);
/* The same of /proc/PID/name. */
size_t procfs_read_of(pid_t pid, const char *name, char *buf, size_t size);
/* -ENOENT: there is no such process, or we may not see it. */
pid_t procfs_parent(pid_t pid);

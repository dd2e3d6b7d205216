/* Where the kernel puts a core dump, as /proc/sys/kernel/core_pattern has it. */
#pragma once

#include <stddef.h>
#include <sys/types.h>

/* "/var/crash/core.812", "piped to /usr/lib/systemd/systemd-coredump", "core in /srv" (cwd: the process's directory);
 * "not known". Returns out. */
const char *core_describe(const char *pattern, const char *cwd, pid_t pid, char *out, size_t size);
/* The same for a process with the daemon's directory, by the kernel's pattern as it is now. */
const char *core_where(pid_t pid, char *out, size_t size);

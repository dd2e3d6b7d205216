#include "daemon/io/mark.h"

#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "daemon/io/procfs.h"

#define LIMITS_MAX 4096 /* /proc/PID/limits has 17 lines of 80 */
#define LINE "Max file locks"

static uint32_t taken_up; /* 0: none; a process is one daemon, and this is its name among others */

uint64_t mark_of_daemon(void)
{
	return taken_up ? taken_up : (uint64_t)getpid();
}

void mark_go_on(uint64_t daemon)
{
	taken_up = (uint32_t)daemon;
}

/* The daemon is in it: what another one has marked, or whoever set this limit by hand, is not ours. */
uint64_t mark_make(uint64_t worker)
{
	return worker <= UINT32_MAX && sizeof(rlim_t) == sizeof(uint64_t) ? mark_of_daemon() << 32 | worker : 0;
}

void mark_set(uint64_t mark)
{
	struct rlimit limit;

	if (!mark || getrlimit(RLIMIT_LOCKS, &limit) < 0)
		return;
	limit.rlim_cur = (rlim_t)mark;
	(void)setrlimit(RLIMIT_LOCKS, &limit); /* the environment has a mark too */
}

uint64_t mark_read(pid_t pid)
{
	char limits[LIMITS_MAX];
	const char *at;
	uint64_t mark;

	(void)procfs_read_of(pid, "limits", limits, sizeof(limits)); /* "" when it cannot be read */
	at = strstr(limits, LINE);
	mark = at ? strtoull(at + sizeof(LINE) - 1, NULL, 10) : 0; /* "unlimited" is 0 */
	return mark >> 32 == mark_of_daemon() ? mark & UINT32_MAX : 0;
}

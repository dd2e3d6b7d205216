#include "daemon/io/look.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "daemon/base/cleanup.h"
#include "daemon/io/process.h"
#include "daemon/io/procfs.h"

#define N(name)                                                                                                        \
	{                                                                                                              \
		SYS_##name, #name                                                                                      \
	}

/* Those that a process sleeps in. Others have their wchan. */
static const struct {
	long number;
	const char *name;
} syscalls[] = {
	N(accept4),    N(accept),        N(clock_nanosleep), N(connect),      N(epoll_pwait), N(fcntl),    N(fdatasync),
	N(flock),      N(fsync),         N(futex),           N(io_getevents), N(nanosleep),   N(openat),   N(ppoll),
	N(pread64),    N(pselect6),      N(pwrite64),        N(read),         N(readv),       N(recvfrom), N(recvmmsg),
	N(recvmsg),    N(rt_sigsuspend), N(rt_sigtimedwait), N(semtimedop),   N(sendfile),    N(sendmsg),  N(sendto),
	N(splice),     N(sync),          N(wait4),           N(waitid),       N(write),       N(writev),
#ifdef SYS_poll /* not on the newer machines, whose libc uses those above */
	N(epoll_wait), N(open),          N(pause),           N(poll),         N(select),
#endif
};

/* Field 3 of /proc/PID/stat; the second, the name, may hold anything, brackets too. */
static char read_state(pid_t pid)
{
	char buf[1024], *at;

	(void)procfs_read_of(pid, "stat", buf, sizeof(buf)); /* "" when not */
	at = strrchr(buf, ')');
	return at && at[1] == ' ' ? at[2] : 0;
}

static void read_wchan(pid_t pid, char *out, size_t size)
{
	if (!procfs_read_of(pid, "wchan", out, size) || !(isalpha((unsigned char)out[0]) || out[0] == '_'))
		out[0] = '\0'; /* "0": it does not sleep, or we may not know */
}

static const char *read_syscall(pid_t pid)
{
	char buf[256], *end;
	long number;

	if (!procfs_read_of(pid, "syscall", buf, sizeof(buf)))
		return NULL;
	number = strtol(buf, &end, 10);
	if (end == buf) /* "running" */
		return NULL;
	for (size_t i = 0; i < ARRAY_SIZE(syscalls); i++) {
		if (syscalls[i].number == number)
			return syscalls[i].name;
	}
	return NULL;
}

void process_look(const struct process *p, struct process_look *look)
{
	*look = (struct process_look){ 0 };
	if (!p->pid)
		return;
	look->state = read_state(p->pid);
	read_wchan(p->pid, look->wchan, sizeof(look->wchan));
	look->syscall = read_syscall(p->pid);
}

uint64_t process_rss(const struct process *p)
{
	unsigned long long pages;
	char buf[128];

	if (!p->pid || !procfs_read_of(p->pid, "statm", buf, sizeof(buf)) || sscanf(buf, "%*u %llu", &pages) != 1)
		return 0;
	return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

#include "daemon/io/leftovers.h"

#include <dirent.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/pidfd.h>
#include <unistd.h>

#include "daemon/base/cleanup.h"
#include "daemon/base/log.h"
#include "daemon/base/mem.h"
#include "daemon/io/mark.h"
#include "daemon/io/unit.h"

/* Looked at again behind its pidfd: its number may have become another's. -1: it is none of them. */
static int open_if(pid_t pid, bool (*is_one)(void *user, pid_t pid), void *user)
{
	_cleanup_close_ int fd = is_one(user, pid) ? pidfd_open(pid, 0) : -1;

	return fd >= 0 && is_one(user, pid) ? TAKE_FD(fd) : -1;
}

static void find_all(struct leftovers *l, bool (*is_one)(void *user, pid_t pid), void *user)
{
	DIR *proc = opendir("/proc");
	const struct dirent *e;

	while (proc && (e = readdir(proc))) {
		pid_t pid = (pid_t)strtol(e->d_name, NULL, 10);
		int fd = pid > 0 && pid != getpid() ? open_if(pid, is_one, user) : -1;

		if (fd < 0)
			continue;
		l->pidfds = mem_resize(l->pidfds, l->n + 1, sizeof(*l->pidfds));
		l->pidfds[l->n++] = fd;
	}
	if (proc)
		(void)closedir(proc); /* only read */
}

void leftovers_kill_found(struct leftovers *l)
{
	for (size_t i = 0; i < l->n; i++)
		(void)pidfd_send_signal(l->pidfds[i], SIGKILL, NULL, 0); /* it may have ended by itself */
}

void leftovers_deinit(struct leftovers *l)
{
	for (size_t i = 0; i < l->n; i++)
		cleanup_close(&l->pidfds[i]);
	free(l->pidfds);
	*l = (struct leftovers){ 0 };
}

static unsigned kill_all(bool (*is_one)(void *user, pid_t pid), void *user)
{
	_cleanup_(leftovers_deinit) struct leftovers all = { 0 };

	find_all(&all, is_one, user);
	leftovers_kill_found(&all);
	if (all.n)
		LOG(INFO, "leftovers.killed", KV("n", all.n));
	return (unsigned)all.n;
}

/* Which of the unit's processes. */
struct choice {
	struct unit unit;
	bool (*spared)(void *user, pid_t pid); /* NULL: those of a worker */
	void *user;
	uint64_t worker;
	pid_t pid;
};

static bool is_chosen(void *user, pid_t pid)
{
	const struct choice *c = user;

	if (c->spared)
		return unit_has(&c->unit, pid) && !c->spared(c->user, pid);
	return pid != c->pid && mark_read(pid) == c->worker && unit_has(&c->unit, pid);
}

unsigned leftovers_kill(bool (*spared)(void *user, pid_t pid), void *user)
{
	struct choice c = { .spared = spared, .user = user };

	return unit_own(&c.unit) ? kill_all(is_chosen, &c) : 0;
}

/* Of the unit: another unit's daemon may have the number that is in our marks, when that of the first of us is free again. */
unsigned leftovers_kill_of(uint64_t worker, pid_t pid)
{
	struct choice c = { .worker = worker, .pid = pid };

	return worker && unit_own(&c.unit) ? kill_all(is_chosen, &c) : 0;
}

static bool is_any(void *user, pid_t pid)
{
	return unit_has(user, pid);
}

void leftovers_find(struct leftovers *l)
{
	struct unit unit;

	if (unit_own(&unit))
		find_all(l, is_any, &unit);
}

/* The cgroup of a process says which unit it belongs to, wherever it has gone in the tree of processes. */
#include "daemon/io/leftovers.h"

#include <dirent.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <unistd.h>

#include "daemon/base/cleanup.h"
#include "daemon/base/log.h"
#include "daemon/io/mark.h"
#include "daemon/io/procfs.h"

#define CGROUP_MAX 4096
#define SERVICE ".service"

/* How the line of a hierarchy begins, behind its number: the one of version 2, and that of systemd where there is only version 1. */
static const char *const hierarchies[] = { "::/", ":name=systemd:/" };

/* The path of that hierarchy, "" when there is none. In text, which is cut behind it. */
static char *cgroup_path(char *text, const char *hierarchy)
{
	char *line = strstr(text, hierarchy), *path;

	if (!line)
		return text + strlen(text);
	path = strchr(line, '/');
	path[strcspn(path, "\n")] = '\0';
	return path;
}

/* Up to the last component that is a service: below it are cgroups of its own. False: there is none. */
static bool cut_behind_service(char *path)
{
	char *end = NULL;

	for (char *at = path; (at = strstr(at, SERVICE)); at += strlen(SERVICE)) {
		if (at[strlen(SERVICE)] == '/' || at[strlen(SERVICE)] == '\0')
			end = at + strlen(SERVICE);
	}
	if (end)
		*end = '\0';
	return end;
}

struct in_unit {
	const char *hierarchy, *path;
	bool (*spared)(void *user, pid_t pid);
	void *user;
};

static bool is_below(pid_t pid, const struct in_unit *u)
{
	char text[CGROUP_MAX];
	const char *path;
	size_t len = strlen(u->path);

	(void)procfs_read_of(pid, "cgroup", text, sizeof(text)); /* "" when it cannot be read */
	path = cgroup_path(text, u->hierarchy);
	return strncmp(path, u->path, len) == 0 && (path[len] == '/' || path[len] == '\0');
}

/* Looked at again behind its pidfd: its number may have become another's. */
static bool kill_if(pid_t pid, bool (*is_one)(void *user, pid_t pid), void *user)
{
	_cleanup_close_ int fd = is_one(user, pid) ? pidfd_open(pid, 0) : -1;

	if (fd < 0 || !is_one(user, pid) || pidfd_send_signal(fd, SIGKILL, NULL, 0) < 0)
		return false;
	LOG(INFO, "leftover.killed", KV("pid", pid));
	return true;
}

static unsigned kill_all(bool (*is_one)(void *user, pid_t pid), void *user)
{
	DIR *proc = opendir("/proc");
	const struct dirent *e;
	unsigned n = 0;

	while (proc && (e = readdir(proc))) {
		pid_t pid = (pid_t)strtol(e->d_name, NULL, 10);

		if (pid > 0 && pid != getpid())
			n += kill_if(pid, is_one, user);
	}
	if (proc)
		(void)closedir(proc); /* only read */
	return n;
}

static bool is_in_unit(void *user, pid_t pid)
{
	const struct in_unit *u = user;

	return is_below(pid, u) && !u->spared(u->user, pid);
}

unsigned leftovers_kill(bool (*spared)(void *user, pid_t pid), void *user)
{
	for (size_t i = 0; i < ARRAY_SIZE(hierarchies); i++) {
		struct in_unit in = { .hierarchy = hierarchies[i], .spared = spared, .user = user };
		char text[CGROUP_MAX], *path;

		(void)procfs_read_of(getpid(), "cgroup", text, sizeof(text));
		in.path = path = cgroup_path(text, in.hierarchy);
		if (cut_behind_service(path))
			return kill_all(is_in_unit, &in);
	}
	return 0;
}

struct of_worker {
	uint64_t worker;
	pid_t pid;
};

static bool is_of_worker(void *user, pid_t pid)
{
	const struct of_worker *of = user;

	return pid != of->pid && mark_read(pid) == of->worker;
}

unsigned leftovers_kill_of(uint64_t worker, pid_t pid)
{
	struct of_worker of = { .worker = worker, .pid = pid };

	return worker ? kill_all(is_of_worker, &of) : 0;
}

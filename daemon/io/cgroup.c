/*
 * A group is a directory in each hierarchy that limits something, and the kernel makes the files in it. It can be removed when
 * no process is left in it; those that are killed take their time to go.
 */
#include "daemon/io/cgroup.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <utlist.h>

#include "daemon/base/cleanup.h"
#include "daemon/base/log.h"
#include "daemon/base/mem.h"
#include "daemon/io/procfs.h"

#define PATH_SIZE 128
#define TEXT_MAX 4096
#define TRIES_PAUSE (20 * NS_PER_MS)
#define TRIES_MAX 500              /* 10 s: whoever is then still there cannot be killed, and the group stays behind */
#define LAST_PAUSE (5 * NS_PER_MS) /* when the daemon ends and nobody is kept waiting */
#define LAST_TRIES 100

static int open_file(const struct cgroup_hierarchy *h, const char *group, const char *file, int flags)
{
	char path[PATH_SIZE];
	int fd;

	(void)snprintf(path, sizeof(path), "%s%s%s", group, *group ? "/" : "", file); /* names are ours and short */
	fd = openat(h->dir, path, flags | O_CLOEXEC | O_NOCTTY);
	return fd < 0 ? -errno : fd;
}

int cgroup_write(const struct cgroup_hierarchy *h, const char *group, const char *file, const char *text)
{
	_cleanup_close_ int fd = open_file(h, group, file, O_WRONLY);

	if (fd < 0)
		return fd;
	return write(fd, text, strlen(text)) < 0 ? -errno : 0;
}

static int write_number(const struct cgroup_hierarchy *h, const struct cgroup *g, const char *file, uint64_t n)
{
	char text[24];

	(void)snprintf(text, sizeof(text), "%llu", (unsigned long long)n);
	return cgroup_write(h, g->name, file, text);
}

/* --- limits --- */

/* Memory is what it says: without these two a worker would go on in swap. They are not in each kernel. */
static int limit_memory(const struct cgroup_hierarchy *h, const struct cgroup *g, uint64_t bytes)
{
	int r = write_number(h, g, h->v2 ? "memory.max" : "memory.limit_in_bytes", bytes);

	if (r < 0)
		return r;
	if (h->v2) {
		(void)write_number(h, g, "memory.swap.max", 0);
		(void)write_number(h, g, "memory.oom.group", 1); /* half a worker is of no use */
	} else if (write_number(h, g, "memory.memsw.limit_in_bytes", bytes) < 0) {
		(void)write_number(h, g, "memory.swappiness", 0);
	}
	return 0;
}

static unsigned limited(const struct cgroup_limits *limits)
{
	return (limits->memory ? BIT(CGROUP_MEMORY) : 0) | (limits->pids ? BIT(CGROUP_PIDS) : 0);
}

static int set_limits(const struct cgroup_hierarchy *h, const struct cgroup *g, const struct cgroup_limits *limits)
{
	int r = 0;

	if (h->controllers & BIT(CGROUP_MEMORY) && limits->memory)
		r = limit_memory(h, g, limits->memory);
	if (r == 0 && h->controllers & BIT(CGROUP_PIDS) && limits->pids)
		r = write_number(h, g, "pids.max", limits->pids);
	return r;
}

/* The counter of the OOM killer, also where another than our own limit is what sets it off. */
static void watch_oom(const struct cgroup_hierarchy *h, struct cgroup *g)
{
	if (h->controllers & BIT(CGROUP_MEMORY))
		oom_watch(&g->oom, open_file(h, g->name, h->v2 ? "memory.events" : "memory.oom_control", O_RDONLY));
}

/* --- its end --- */

/* A process that was in the group a moment ago. The pidfd keeps its number from being another's while we look again. */
static void kill_member(const struct cgroup *g, pid_t pid)
{
	_cleanup_close_ int pidfd = pid > 0 && pid != getpid() ? pidfd_open(pid, 0) : -1;
	char text[TEXT_MAX], *at;
	size_t len = strlen(g->name);

	if (pidfd < 0)
		return;
	(void)procfs_read_of(pid, "cgroup", text, sizeof(text)); /* "" when it cannot be read */
	for (at = strstr(text, g->name); at && (at[-1] != '/' || at[len] != '\n'); at = strstr(at + 1, g->name))
		;
	if (at)
		(void)pidfd_send_signal(pidfd, SIGKILL, NULL, 0); /* it may be dead */
}

/* v1, and v2 before Linux 5.14: one by one. What they fork meanwhile is found at the next try. */
static void kill_members(const struct cgroup_hierarchy *h, const struct cgroup *g)
{
	_cleanup_close_ int fd = open_file(h, g->name, "cgroup.procs", O_RDONLY);
	char pids[TEXT_MAX], *end, *last;

	(void)procfs_read(fd, pids, sizeof(pids)); /* "" when it cannot be read */
	last = strrchr(pids, '\n');
	for (char *at = pids; last && at < last; at = end + 1)
		kill_member(g, (pid_t)strtol(at, &end, 10));
}

/* True: it is gone, from everywhere. */
static bool try_remove(struct cgroup *g)
{
	for (unsigned i = 0; i < g->all->n; i++) {
		const struct cgroup_hierarchy *h = &g->all->all[i];

		if (!(g->made & BIT(i)))
			continue;
		if (unlinkat(h->dir, g->name, AT_REMOVEDIR) == 0 || errno == ENOENT)
			g->made &= ~BIT(i);
		else if (!h->v2 || cgroup_write(h, g->name, "cgroup.kill", "1") < 0)
			kill_members(h, g);
	}
	return !g->made;
}

static struct cgroup *cgroup_free(struct cgroup *g)
{
	oom_deinit(&g->oom);
	free(g);
	return NULL;
}

struct cgroup *cgroup_end(struct cgroup *g)
{
	if (!g)
		return NULL;
	if (try_remove(g))
		return cgroup_free(g);
	oom_deinit(&g->oom);
	DL_APPEND(g->all->dying, g);
	if (g->all->timer.at == LOOP_NEVER)
		loop_timer_set(&g->all->timer, loop_now(g->all->loop) + TRIES_PAUSE);
	return NULL;
}

static void give_up(struct cgroup *g)
{
	LOG(WARN, "cgroup.left", KV("name", g->name));
	DL_DELETE(g->all->dying, g);
	cgroup_free(g);
}

void cgroup_bury(struct cgroups *c)
{
	struct cgroup *g, *next;

	DL_FOREACH_SAFE(c->dying, g, next) {
		if (try_remove(g)) {
			DL_DELETE(c->dying, g);
			cgroup_free(g);
		} else if (++g->tries >= TRIES_MAX) {
			give_up(g);
		}
	}
	if (c->dying)
		loop_timer_set(&c->timer, loop_now(c->loop) + TRIES_PAUSE);
}

void cgroup_bury_now(struct cgroups *c)
{
	const struct timespec pause = { .tv_nsec = LAST_PAUSE };

	for (unsigned i = 0; c->dying && i < LAST_TRIES; i++) {
		if (i)
			(void)nanosleep(&pause, NULL); /* cut short: it is tried earlier */
		cgroup_bury(c);
	}
	while (c->dying)
		give_up(c->dying);
}

/* --- its life --- */

static int make(struct cgroup *g, unsigned i, const struct cgroup_limits *limits)
{
	const struct cgroup_hierarchy *h = &g->all->all[i];
	int r;

	if (!h->v2 && !(h->controllers & limited(limits)))
		return 0;
	if (mkdirat(h->dir, g->name, 0755) < 0)
		return -errno;
	g->made |= BIT(i);
	r = set_limits(h, g, limits);
	if (r == 0)
		watch_oom(h, g);
	return r;
}

int cgroup_new(struct cgroups *c, uint64_t worker, const struct cgroup_limits *limits, struct cgroup **out)
{
	struct cgroup *g;
	int r = 0;

	if (limited(limits) & ~c->controllers)
		return -ENODEV;
	g = MEM_NEW(struct cgroup);
	g->all = c;
	g->oom.fd = -1;
	/* with our own number, since another daemon may be given the same group */
	(void)snprintf(g->name, sizeof(g->name), CGROUPS_WORKER "%d.%llu", (int)getpid(), (unsigned long long)worker);
	for (unsigned i = 0; r == 0 && i < c->n; i++)
		r = make(g, i, limits);
	if (r < 0) {
		LOG(WARN, "cgroup.failed", KV("name", g->name), KV("worker", worker), KV("errno", -r));
		(void)cgroup_end(g);
		return r;
	}
	*out = g;
	return 0;
}

/* Bytes of the part of a path that begins there, if it is the name of a worker's group: others may begin like that. Else 0. */
static size_t name_len(const char *at)
{
	int len = 0;

	if (sscanf(at, CGROUPS_WORKER "%*[0-9].%*[0-9]%n", &len) == EOF || len <= 0)
		return 0;
	return at[len] == '/' || at[len] == '\n' || !at[len] ? (size_t)len : 0;
}

/* The first part of a path that is a worker's. False: there is none. */
static bool find_name(const char *text, char *name, size_t size)
{
	for (const char *at = strstr(text, "/" CGROUPS_WORKER); at; at = strstr(at + 1, "/" CGROUPS_WORKER)) {
		size_t len = name_len(at + 1);

		if (len && len < size) {
			memcpy(name, at + 1, len);
			name[len] = '\0';
			return true;
		}
	}
	return false;
}

static int take(struct cgroup *g, unsigned i, const struct cgroup_limits *limits)
{
	const struct cgroup_hierarchy *h = &g->all->all[i];
	int r;

	if (faccessat(h->dir, g->name, F_OK, 0) < 0)
		return 0;
	g->made |= BIT(i);
	r = set_limits(h, g, limits);
	watch_oom(h, g);
	return r;
}

int cgroup_adopt(struct cgroups *c, pid_t pid, const struct cgroup_limits *limits, struct cgroup **out)
{
	struct cgroup *g = MEM_NEW(struct cgroup);
	char text[TEXT_MAX];
	int r = 0;

	g->all = c;
	g->oom.fd = -1;
	(void)procfs_read_of(pid, "cgroup", text, sizeof(text)); /* "" when it cannot be read */
	if (find_name(text, g->name, sizeof(g->name))) {
		for (unsigned i = 0; r == 0 && i < c->n; i++)
			r = take(g, i, limits);
	}
	if (r < 0)
		LOG(WARN, "cgroup.failed", KV("name", g->name), KV("pid", pid), KV("errno", -r));
	if (r < 0 || !g->made)
		g = cgroup_free(g);
	if (r == 0)
		*out = g;
	return r;
}

int cgroup_open(const struct cgroup *g, int fds[CGROUP_N])
{
	int found[CGROUP_N] = { -1, -1 }, r = 0;

	for (unsigned i = 0; g && i < g->all->n && r >= 0; i++) {
		if (g->made & BIT(i))
			r = found[i] = open_file(&g->all->all[i], g->name, "cgroup.procs", O_WRONLY);
	}
	for (unsigned i = 0; i < CGROUP_N; i++) {
		if (r < 0)
			cleanup_close(&found[i]);
		else
			fds[i] = found[i];
	}
	return r < 0 ? r : 0;
}

int cgroup_add(const struct cgroup *g, pid_t pid)
{
	char text[16];

	(void)snprintf(text, sizeof(text), "%d", (int)pid);
	for (unsigned i = 0; g && i < g->all->n; i++) {
		int r = g->made & BIT(i) ? cgroup_write(&g->all->all[i], g->name, "cgroup.procs", text) : 0;

		if (r < 0 && r != -ESRCH)
			return r;
	}
	return 0;
}

bool cgroup_was_oom(struct cgroup *g)
{
	return g && oom_take(&g->oom);
}

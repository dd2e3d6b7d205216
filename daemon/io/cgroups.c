/*
 * Finding the group that was given to us. /proc/self/cgroup says where we are, in each hierarchy. Where the last part of that is
 * a unit of systemd, systemd must have said that the group is ours: root could write to it in any case, and systemd would
 * undo it some time later.
 */
#include "daemon/io/cgroups.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "daemon/base/cleanup.h"
#include "daemon/base/log.h"
#include "daemon/base/mem.h"
#include "daemon/io/cgroup.h"
#include "daemon/io/procfs.h"

#define TEXT_MAX 4096
#define CONTROL ".control" /* where systemd puts what it starts beside the service itself, when that is delegated */
#define MOVE_ROUNDS 16     /* a process that forks while it is moved leaves a child behind */

static const char *const controller_names[CGROUP_N] = { [CGROUP_MEMORY] = "memory", [CGROUP_PIDS] = "pids" };

/* Where we are in one hierarchy. */
struct place {
	char *path; /* owns: of the directory */
	bool v2;
};

static void place_deinit(struct place *p)
{
	free(p->path);
	p->path = NULL;
}

/* name is one of the words of list, which end with one of `ends`. */
static bool has_word(const char *list, size_t len, const char *name, const char *ends)
{
	size_t n = strlen(name);

	for (const char *at = list, *end = list + len; at < end;) {
		size_t word = strcspn(at, ends);

		if (word > (size_t)(end - at))
			word = (size_t)(end - at);
		if (word == n && memcmp(at, name, n) == 0)
			return true;
		at += word + 1;
	}
	return false;
}

/* The path in the line of /proc/self/cgroup for that controller of v1, or, for NULL, of v2. Owned by the caller; or NULL. */
static char *find_line(const char *text, const char *controller)
{
	for (const char *line = text; *line;) {
		size_t len = strcspn(line, "\n");
		const char *list = memchr(line, ':', len);
		const char *path = list ? memchr(list + 1, ':', len - (size_t)(list + 1 - line)) : NULL;

		if (path && (controller ? has_word(list + 1, (size_t)(path - list - 1), controller, ",:")
					: path == list + 1 && *line == '0'))
			return mem_strndup(path + 1, len - (size_t)(path + 1 - line));
		line += len + (line[len] == '\n');
	}
	return NULL;
}

static bool is_there(const char *path)
{
	return access(path, F_OK) == 0;
}

/* In a container the path may be the host's: then the root that is mounted is our own group. */
static char *below(const char *mount, const char *path)
{
	char *whole = mem_printf("%s%s", mount, strcmp(path, "/") == 0 ? "" : path);

	if (is_there(whole))
		return whole;
	free(whole);
	return mem_strdup(mount);
}

static char *mount_of_v2(const struct cgroups *c)
{
	_cleanup_free_ char *file = mem_printf("%s/cgroup.controllers", c->root);

	return is_there(file) ? mem_strdup(c->root) : mem_printf("%s/unified", c->root);
}

/* In v2 we may be in our leaf already: put there by systemd (DelegateSubgroup=daemon), or by an earlier cgroups_prepare(). */
static char *find_v2(const struct cgroups *c, const char *text)
{
	_cleanup_free_ char *path = find_line(text, NULL), *mount = mount_of_v2(c);
	char *slash = path ? strrchr(path, '/') : NULL;

	if (!path)
		return NULL;
	if (slash && strcmp(slash + 1, CGROUPS_LEAF) == 0)
		*slash = '\0';
	return below(mount, path);
}

static bool find_place(const struct cgroups *c, const char *text, enum cgroup_controller controller, struct place *p)
{
	_cleanup_free_ char *path = find_line(text, controller_names[controller]), *mount = NULL;

	p->v2 = !path;
	if (p->v2) {
		p->path = find_v2(c, text);
	} else {
		mount = mem_printf("%s/%s", c->root, controller_names[controller]);
		p->path = below(mount, path);
	}
	return p->path && is_there(p->path);
}

/* --- is it ours? --- */

static bool is_unit(const char *path)
{
	const char *dot = strrchr(path, '.');

	return dot && (strcmp(dot, ".service") == 0 || strcmp(dot, ".scope") == 0);
}

/* The second is what systemd had before 251, which only root can read. */
static bool is_delegated(const char *path)
{
	static const char *const names[] = { "user.delegate", "trusted.delegate" };
	char value[4];

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		if (getxattr(path, names[i], value, sizeof(value)) == 1 && *value == '1')
			return true;
	}
	return false;
}

/* systemd says it in the hierarchy that it keeps for itself: v2, or the one by its name. */
static bool is_given(const struct cgroups *c, const char *text, const char *path)
{
	_cleanup_free_ char *v2 = find_v2(c, text), *own = find_line(text, "name=systemd");
	_cleanup_free_ char *mount = mem_printf("%s/systemd", c->root), *named = own ? below(mount, own) : NULL;

	return !is_unit(path) || (v2 && is_delegated(v2)) || (named && is_delegated(named));
}

#define DELEGATE                                                                                                       \
	"under systemd give it to pypoold by Delegate=memory pids and ProtectControlGroups=no in a drop-in of its "    \
	"unit (docs/operations.md, Limits of a worker)"

static int refuse(int r, char *why, size_t why_size, const char *path, const char *what)
{
	(void)snprintf(why, why_size, "the cgroup %s %s; " DELEGATE, path, what); /* a path that is cut short will do */
	return r;
}

static int check_given(const struct cgroups *c, const char *text, const struct place *p, char *why, size_t why_size)
{
	_cleanup_free_ char *file = mem_printf("%s/cgroup.procs", p->path);
	int r;

	if (geteuid() == 0 && !is_given(c, text, p->path))
		return refuse(-EPERM, why, why_size, p->path, "is systemd's");
	r = faccessat(AT_FDCWD, p->path, W_OK, AT_EACCESS) < 0 || faccessat(AT_FDCWD, file, W_OK, AT_EACCESS) < 0
		    ? -errno
		    : 0;
	if (r == -EROFS)
		return refuse(r, why, why_size, p->path, "is read-only here");
	return r < 0 ? refuse(r, why, why_size, p->path, "is not pypoold's to write to") : 0;
}

/* --- v2 --- */

static size_t read_at(int dir, const char *name, char *buf, size_t size)
{
	_cleanup_close_ int fd = openat(dir, name, O_RDONLY | O_CLOEXEC);

	return procfs_read(fd, buf, size);
}

/* All processes: ours, and whoever runs beside us, such as workers from before the first limit. */
static void move_to_leaf(const struct cgroup_hierarchy *h)
{
	char pids[TEXT_MAX], pid[16];

	for (unsigned round = 0; round < MOVE_ROUNDS && read_at(h->dir, "cgroup.procs", pids, sizeof(pids)); round++) {
		/* the last number may be cut short: it is whole in the next round */
		char *last = strrchr(pids, '\n'), *end;

		for (char *at = pids; last && at < last; at = end + 1) {
			(void)snprintf(pid, sizeof(pid), "%ld", strtol(at, &end, 10));
			(void)cgroup_write(h, CGROUPS_LEAF, "cgroup.procs", pid); /* it may be gone */
		}
	}
}

/* Both controllers where we have both: groups without memory would not tell of the OOM killer. */
static int enable(const struct cgroup_hierarchy *h, unsigned controllers)
{
	char text[32] = "";

	for (unsigned i = 0; i < CGROUP_N; i++) {
		if (controllers & BIT(i))
			(void)snprintf(text + strlen(text), sizeof(text) - strlen(text), "%s+%s", *text ? " " : "",
				       controller_names[i]);
	}
	return cgroup_write(h, "", "cgroup.subtree_control", text);
}

static unsigned available(int dir)
{
	char text[TEXT_MAX];
	size_t len = read_at(dir, "cgroup.controllers", text, sizeof(text));
	unsigned found = 0;

	for (unsigned i = 0; i < CGROUP_N; i++)
		found |= has_word(text, len, controller_names[i], " \n") ? BIT(i) : 0;
	return found;
}

static int prepare_v2(struct cgroup_hierarchy *h, unsigned controllers, const char *path, char *why, size_t why_size)
{
	int r;

	h->controllers = available(h->dir);
	if (controllers & ~h->controllers)
		return refuse(-ENOENT, why, why_size, path,
			      controllers & ~h->controllers & BIT(CGROUP_MEMORY) ? "has no memory controller"
										 : "has no pids controller");
	if (mkdirat(h->dir, CGROUPS_LEAF, 0755) < 0 && errno != EEXIST)
		return refuse(-errno, why, why_size, path, "takes no groups below it");
	move_to_leaf(h);
	r = enable(h, h->controllers);
	return r < 0 ? refuse(r, why, why_size, path, "cannot hand on its controllers") : 0;
}

/* --- all of them --- */

/* Of daemons that are gone. Those that still have processes cannot be removed, and nobody's are killed here. */
static void sweep(int dir)
{
	int fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	const struct dirent *e;

	if (!d) {
		cleanup_close(&fd);
		return;
	}
	while ((e = readdir(d))) {
		if (strncmp(e->d_name, CGROUPS_WORKER, strlen(CGROUPS_WORKER)) == 0)
			(void)unlinkat(dir, e->d_name, AT_REMOVEDIR);
	}
	(void)closedir(d); /* it was only read */
}

static int hierarchy_open(struct cgroup_hierarchy *h, const struct place *p, unsigned controllers, char *why,
			  size_t why_size)
{
	_cleanup_close_ int dir = open(p->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct cgroup_hierarchy found = { .dir = dir, .v2 = p->v2, .controllers = controllers };
	int r;

	if (dir < 0)
		return refuse(-errno, why, why_size, p->path, "cannot be opened");
	r = p->v2 ? prepare_v2(&found, controllers, p->path, why, why_size) : 0;
	if (r < 0)
		return r;
	sweep(dir);
	*h = found;
	h->dir = TAKE_FD(dir);
	LOG(INFO, "cgroup.given", KV("path", p->path), KV("version", p->v2 ? 2 : 1));
	return 0;
}

static int prepare_one(struct cgroups *c, const char *text, enum cgroup_controller controller, unsigned wanted,
		       char *why, size_t why_size)
{
	_cleanup_(place_deinit) struct place p = { 0 };
	int r;

	if (!find_place(c, text, controller, &p)) {
		(void)snprintf(why, why_size, "this machine has no cgroups with the controller %s in %s",
			       controller_names[controller], c->root);
		return -ENOENT;
	}
	r = check_given(c, text, &p, why, why_size);
	if (r == 0)
		r = hierarchy_open(&c->all[c->n], &p, p.v2 ? wanted : BIT(controller), why, why_size);
	if (r == 0)
		c->controllers |= c->all[c->n++].controllers;
	return r;
}

int cgroups_prepare(struct cgroups *c, unsigned controllers, char *why, size_t why_size)
{
	_cleanup_close_ int fd = open(c->proc, O_RDONLY | O_CLOEXEC);
	char text[TEXT_MAX];
	int r = 0;

	(void)procfs_read(fd, text, sizeof(text)); /* "" when it cannot be read */
	for (unsigned i = 0; r == 0 && i < CGROUP_N; i++) {
		if (controllers & ~c->controllers & BIT(i))
			r = prepare_one(c, text, i, controllers & ~c->controllers, why, why_size);
	}
	return r;
}

void cgroups_take_back(const char *proc, const char *root)
{
	const struct cgroups c = { .proc = proc, .root = root };
	_cleanup_close_ int fd = open(proc, O_RDONLY | O_CLOEXEC), dir = -1;
	_cleanup_free_ char *path = NULL;
	char text[TEXT_MAX];
	char *slash;

	(void)procfs_read(fd, text, sizeof(text)); /* "" when it cannot be read */
	path = find_v2(&c, text);
	slash = path ? strrchr(path, '/') : NULL;
	if (!slash || strcmp(slash + 1, CONTROL) != 0)
		return; /* not delegated, or no systemd */
	*slash = '\0';
	dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		return;
	for (unsigned i = 0; i < CGROUP_N; i++) { /* each by itself: one that is not handed on is an error */
		const struct cgroup_hierarchy h = { .dir = dir };
		char word[16];

		(void)snprintf(word, sizeof(word), "-%s", controller_names[i]);
		(void)cgroup_write(&h, "", "cgroup.subtree_control", word);
	}
}

static void cgroups_on_timer(struct loop_timer *t)
{
	cgroup_bury(container_of(t, struct cgroups, timer));
}

void cgroups_init(struct cgroups *c, struct loop *l, const char *proc, const char *root)
{
	*c = (struct cgroups){ .loop = l, .proc = proc, .root = root };
	loop_timer_init(&c->timer, l, cgroups_on_timer);
}

void cgroups_deinit(struct cgroups *c)
{
	if (!c->loop)
		return;
	cgroup_bury_now(c);
	loop_timer_stop(&c->timer);
	for (unsigned i = 0; i < c->n; i++) {
		sweep(c->all[i].dir); /* what a daemon before us has left, and is empty by now */
		cleanup_close(&c->all[i].dir);
	}
	*c = (struct cgroups){ 0 };
}

#include "daemon/io/oom.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/base/cleanup.h"
#include "daemon/base/mem.h"
#include "daemon/io/procfs.h"

#define FILE_MAX 4096

/* The number behind `oom_kill ` at the start of a line. */
static bool oom_count(int fd, uint64_t *count)
{
	char text[FILE_MAX];
	unsigned long long n;

	(void)procfs_read(fd, text, sizeof(text));
	for (const char *line = text; line; line = strchr(line, '\n')) {
		line += *line == '\n';
		if (sscanf(line, "oom_kill %llu", &n) == 1) {
			*count = n;
			return true;
		}
	}
	return false;
}

/* Takes the file if there is a counter in it. It stays open: when memory or descriptors are scarce is when it is needed. */
static bool oom_try(struct oom *o, char *path)
{
	_cleanup_free_ char *owned = path;
	_cleanup_close_ int fd = open(owned, O_RDONLY | O_CLOEXEC);

	if (!oom_count(fd, &o->taken))
		return false;
	o->fd = TAKE_FD(fd);
	return true;
}

static bool has_controller(const char *list, const char *end, const char *name)
{
	size_t len = strlen(name);

	for (const char *at = list; at && at < end; at = memchr(at, ',', (size_t)(end - at))) {
		at += *at == ',';
		if ((size_t)(end - at) >= len && memcmp(at, name, len) == 0 && (at + len == end || at[len] == ','))
			return true;
	}
	return false;
}

/* One line is `4:memory:/path`, or `0::/path` in cgroup v2. In a container the path may be the host's: then the root that is
 * mounted is our own cgroup. */
static bool oom_try_line(struct oom *o, const char *root, const char *line, int len)
{
	const char *list = memchr(line, ':', (size_t)len);
	const char *path = list ? memchr(list + 1, ':', (size_t)(line + len - list - 1)) : NULL;
	int n;

	if (!path)
		return false;
	n = (int)(line + len - ++path);
	if (line[0] == '0' && list + 2 == path)
		return oom_try(o, mem_printf("%s%.*s/memory.events", root, n, path)) ||
		       oom_try(o, mem_printf("%s/memory.events", root));
	if (!has_controller(list + 1, path - 1, "memory"))
		return false;
	return oom_try(o, mem_printf("%s/memory%.*s/memory.oom_control", root, n, path)) ||
	       oom_try(o, mem_printf("%s/memory/memory.oom_control", root));
}

void oom_init(struct oom *o, const char *proc, const char *root)
{
	_cleanup_close_ int fd = open(proc, O_RDONLY | O_CLOEXEC);
	char text[FILE_MAX];

	*o = (struct oom){ .fd = -1 };
	(void)procfs_read(fd, text, sizeof(text));
	for (const char *line = text; *line && o->fd < 0;) {
		size_t len = strcspn(line, "\n");

		(void)oom_try_line(o, root, line, (int)len);
		line += len + (line[len] == '\n');
	}
}

void oom_watch(struct oom *o, int fd)
{
	*o = (struct oom){ .fd = fd < 0 ? -1 : fd };
	(void)oom_count(o->fd, &o->taken); /* without a counter nothing is ever taken */
}

void oom_deinit(struct oom *o)
{
	cleanup_close(&o->fd);
	o->fd = -1;
}

bool oom_take(struct oom *o)
{
	uint64_t count;

	if (!oom_count(o->fd, &count) || count <= o->taken)
		return false;
	o->taken++;
	return true;
}

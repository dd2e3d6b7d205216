#include "daemon/io/oom.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/base/cleanup.h"
#include "daemon/base/mem.h"

#define FILE_MAX 4096

/* False, and out is "", when it cannot be read. */
static bool read_file(const char *path, char out[FILE_MAX])
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, out, FILE_MAX - 1);

	out[n > 0 ? n : 0] = '\0';
	return n > 0;
}

/* The number behind `oom_kill ` at the start of a line. */
static bool oom_count(const char *file, uint64_t *count)
{
	char text[FILE_MAX];
	unsigned long long n;

	if (!file || !read_file(file, text))
		return false;
	for (const char *line = text; line; line = strchr(line, '\n')) {
		line += *line == '\n';
		if (sscanf(line, "oom_kill %llu", &n) == 1) {
			*count = n;
			return true;
		}
	}
	return false;
}

/* Takes the path if there is a counter in that file. */
static bool oom_try(struct oom *o, char *path)
{
	if (!oom_count(path, &o->taken)) {
		free(path);
		return false;
	}
	o->file = path;
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
	char text[FILE_MAX];

	*o = (struct oom){ 0 };
	(void)read_file(proc, text); /* "" when not: no counter */
	for (const char *line = text; *line && !o->file;) {
		size_t len = strcspn(line, "\n");

		(void)oom_try_line(o, root, line, (int)len);
		line += len + (line[len] == '\n');
	}
}

void oom_deinit(struct oom *o)
{
	free(o->file);
	*o = (struct oom){ 0 };
}

bool oom_take(struct oom *o)
{
	uint64_t count;

	if (!oom_count(o->file, &count) || count <= o->taken)
		return false;
	o->taken++;
	return true;
}

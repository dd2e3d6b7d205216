#include "daemon/io/procfs.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "daemon/base/cleanup.h"

size_t procfs_read(int fd, char *buf, size_t size)
{
	size_t used = 0;
	ssize_t n;

	while (fd >= 0 && used < size - 1 && (n = pread(fd, buf + used, size - 1 - used, (off_t)used)) > 0)
		used += (size_t)n;
	buf[used] = '\0';
	return used;
}

size_t procfs_read_of(pid_t pid, const char *name, char *buf, size_t size)
{
	_cleanup_close_ int fd = -1;
	char path[64];

	(void)snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, name); /* names are ours and short */
	fd = open(path, O_RDONLY | O_CLOEXEC);
	return procfs_read(fd, buf, size);
}

pid_t procfs_parent(pid_t pid)
{
	char buf[512];
	const char *end;
	int parent;

	if (!procfs_read_of(pid, "stat", buf, sizeof(buf)))
		return -ENOENT;
	end = strrchr(buf, ')'); /* the name before it may hold anything; it has 64 bytes at most */
	return end && sscanf(end, ") %*c %d", &parent) == 1 ? parent : -ENOENT;
}

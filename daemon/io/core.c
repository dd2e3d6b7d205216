#include "daemon/io/core.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "daemon/base/cleanup.h"

/* %p and %P are the pid, %% a percent sign; what else the kernel would fill in stays as it is. */
static void core_expand(const char *pattern, pid_t pid, char *out, size_t size)
{
	size_t used = 0;

	out[0] = '\0';
	for (const char *at = pattern; *at && used + 1 < size; at++) {
		if (at[0] == '%' && (at[1] == 'p' || at[1] == 'P'))
			used += (size_t)snprintf(out + used, size - used, "%d", (int)pid);
		else
			used += (size_t)snprintf(out + used, size - used, "%c", *at);
		at += at[0] == '%' && (at[1] == 'p' || at[1] == 'P' || at[1] == '%');
	}
}

const char *core_describe(const char *pattern, const char *cwd, pid_t pid, char *out, size_t size)
{
	char name[256];

	if (!pattern[0]) {
		(void)snprintf(out, size, "not known");
	} else if (pattern[0] == '|') {
		(void)snprintf(out, size, "piped to %.*s", (int)strcspn(pattern + 1, " "), pattern + 1);
	} else {
		core_expand(pattern, pid, name, sizeof(name));
		(void)snprintf(out, size, pattern[0] == '/' ? "%s" : "%s in %s", name, cwd);
	}
	return out;
}

const char *core_where(pid_t pid, char *out, size_t size)
{
	_cleanup_close_ int fd = open("/proc/sys/kernel/core_pattern", O_RDONLY | O_CLOEXEC);
	char pattern[256], cwd[PATH_MAX];
	ssize_t n = fd < 0 ? -1 : read(fd, pattern, sizeof(pattern) - 1);

	pattern[n > 0 ? n : 0] = '\0';
	pattern[strcspn(pattern, "\n")] = '\0';
	return core_describe(pattern, getcwd(cwd, sizeof(cwd)) ? cwd : "its directory", pid, out, size);
}

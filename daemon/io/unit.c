#include "daemon/io/unit.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "daemon/base/cleanup.h"
#include "daemon/io/procfs.h"

#define SERVICE ".service"

/* How the line of a hierarchy goes on behind its number: the one of version 2, and that of systemd where there is only version 1. */
static const char *const hierarchies[] = { "::/", ":name=systemd:/" };

/* The path in that hierarchy; NULL when there is none. *len: without the end of the line. */
static const char *path_in(const char *cgroup, const char *hierarchy, size_t *len)
{
	for (const char *line = cgroup; *line; line += strcspn(line, "\n"), line += *line == '\n') {
		size_t number = strspn(line, "0123456789");

		if (strncmp(line + number, hierarchy, strlen(hierarchy)) == 0) {
			const char *path = line + number + strlen(hierarchy) - 1;

			*len = strcspn(path, "\n");
			return path;
		}
	}
	return NULL;
}

/* Up to the last component that is a service: what is below has been made by that. 0: there is none. */
static size_t service_len(const char *path, size_t len)
{
	size_t end = 0;

	for (size_t i = strlen(SERVICE); i <= len; i++) {
		if ((i == len || path[i] == '/') && strncmp(path + i - strlen(SERVICE), SERVICE, strlen(SERVICE)) == 0)
			end = i;
	}
	return end;
}

bool unit_parse(struct unit *u, const char *cgroup)
{
	for (size_t i = 0; i < ARRAY_SIZE(hierarchies); i++) {
		size_t len = 0;
		const char *path = path_in(cgroup, hierarchies[i], &len);
		size_t end = path ? service_len(path, len) : 0;

		if (end && end < sizeof(u->path)) {
			u->hierarchy = hierarchies[i];
			(void)snprintf(u->path, sizeof(u->path), "%.*s", (int)end, path);
			return true;
		}
	}
	return false;
}

bool unit_holds(const struct unit *u, const char *cgroup)
{
	size_t len = 0, own = strlen(u->path);
	const char *path = path_in(cgroup, u->hierarchy, &len);

	return path && len >= own && strncmp(path, u->path, own) == 0 && (len == own || path[own] == '/');
}

bool unit_own(struct unit *u)
{
	char text[UNIT_TEXT];

	(void)procfs_read_of(getpid(), "cgroup", text, sizeof(text)); /* "" when it cannot be read */
	return unit_parse(u, text);
}

bool unit_has(const struct unit *u, pid_t pid)
{
	char text[UNIT_TEXT];

	(void)procfs_read_of(pid, "cgroup", text, sizeof(text)); /* "" when it cannot be read */
	return unit_holds(u, text);
}

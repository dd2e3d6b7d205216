#include "client/ctl/doctor_cgroup.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NO_LIMIT (1ull << 60) /* version 1 writes a number near 2^63 for none */

/* The path behind this beginning of a line: "0::" or "4:memory:", where the number is any. */
static char *find_line(const char *groups, const char *controller)
{
	char line[4096], *found = NULL;
	FILE *f = fopen(groups, "re");

	while (f && !found && fgets(line, sizeof(line), f)) {
		const char *names = strchr(line, ':'), *group = names ? strchr(names + 1, ':') : NULL;

		line[strcspn(line, "\n")] = '\0';
		if (group && (size_t)(group - names - 1) == strlen(controller) && strncmp(names + 1, controller, strlen(controller)) == 0)
			found = strdup(group + 1);
	}
	if (f)
		(void)fclose(f); /* was only read */
	return found;
}

char *doctor_cgroup(const char *groups)
{
	char *group = find_line(groups, "");

	if (group && strcmp(group, "/") != 0)
		return group;
	free(group);
	return find_line(groups, "name=systemd"); /* systemd is in that one, or in none */
}

/* Of one file. "max" and what is as good as that are no limit. */
static void take_limit(const char *dir, const char *group, const char *file, uint64_t *least)
{
	unsigned long long v;
	char *path;
	FILE *f;

	if (asprintf(&path, "%s%s/%s", dir, group, file) < 0)
		return;
	f = fopen(path, "re");
	if (f && fscanf(f, "%llu", &v) == 1 && v < *least)
		*least = v;
	if (f)
		(void)fclose(f); /* was only read */
	free(path);
}

/* Of the group and of all above it; takes group. */
static void take_limits(const char *dir, char *group, const char *file, uint64_t *least)
{
	char *slash;

	if (!group)
		return;
	do {
		take_limit(dir, group, file, least);
		slash = strrchr(group, '/');
		if (slash)
			*slash = '\0';
	} while (slash);
	free(group);
}

bool doctor_cgroup_memory(const char *groups, const char *root, uint64_t *bytes)
{
	uint64_t least = NO_LIMIT;
	char *memory;

	take_limits(root, find_line(groups, ""), "memory.max", &least);
	if (asprintf(&memory, "%s/memory", root) >= 0) {
		take_limits(memory, find_line(groups, "memory"), "memory.limit_in_bytes", &least);
		free(memory);
	}
	*bytes = least;
	return least < NO_LIMIT;
}

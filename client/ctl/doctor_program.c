#include "client/ctl/doctor_program.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Beside us in a build tree, else where make install and packages put it. The first of these paths that is there. */
static char *find_near(const char *const *places, int mode)
{
	char self[PATH_MAX], *path, *slash;
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);

	if (n <= 0)
		return NULL;
	self[n] = '\0';
	slash = strrchr(self, '/');
	*slash = '\0';
	for (; *places; places++) {
		if (asprintf(&path, "%s/%s", self, *places) < 0)
			return NULL;
		if (access(path, mode) == 0)
			return path;
		free(path);
	}
	return NULL;
}

char *doctor_find_pypoold(void)
{
	static const char *const places[] = { "pypoold", "../sbin/pypoold", NULL };

	return find_near(places, X_OK);
}

char *doctor_find_library(void)
{
	static const char *const places[] = { "python_worker", "../lib/pypoold/python_worker", NULL };

	return find_near(places, R_OK);
}

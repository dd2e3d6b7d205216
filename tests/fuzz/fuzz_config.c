/*
 * A configuration file of any bytes: it is taken, or refused with complaints that name the file, one a line and
 * without control characters.
 */
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/base/cleanup.h"
#include "daemon/config.h"
#include "tests/fuzz/must.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	return setenv("XDG_RUNTIME_DIR", "/run/user/0", 1); /* the default of socket is there */
}

/* A file in memory whose path is /proc/self/fd/N; nothing is beside it. */
static int make_file(const uint8_t *data, size_t len, char *path, size_t size)
{
	int fd = memfd_create("pypoold.conf", MFD_CLOEXEC);

	MUST(fd >= 0 && fchmod(fd, 0600) == 0, "no memfd");
	MUST(write(fd, data, len) == (ssize_t)len && lseek(fd, 0, SEEK_SET) == 0, "no room in a memfd");
	(void)snprintf(path, size, "/proc/self/fd/%d", fd); /* fits */
	return fd;
}

static void check_said(const char *said, size_t len, const char *path)
{
	bool named = false;

	MUST(len > 0 && said[len - 1] == '\n', "refused without a complaint");
	MUST(strlen(said) == len, "a NUL in a complaint");
	for (const char *line = said; *line; line = strchr(line, '\n') + 1)
		named |= strncmp(line, path, strlen(path)) == 0 && line[strlen(path)] == ':';
	MUST(named, "no complaint names the file: %s", said);
	for (const char *p = said; *p; p++)
		MUST(*p == '\n' || ((unsigned char)*p >= ' ' && *p != 0x7f), "a control character: %s", said);
}

static void check_pool(const struct pool_settings *s)
{
	MUST(s->name && s->name[0] && s->app && s->app[0] && s->python && s->python[0] == '/', "a pool without a name");
	MUST(s->min_workers <= s->max_workers && s->max_workers > 0, "%u to %u workers", s->min_workers,
	     s->max_workers);
	MUST(s->environment && s->path && s->modules, "a list that is missing");
}

static void check_config(const struct config *c)
{
	MUST(c->socket && c->socket[0] == '/' && strlen(c->socket) <= 107, "socket = %s", c->socket);
	MUST(c->max_frame > 0 && c->max_frame <= 0x04ffffff, "max_frame = %u", c->max_frame);
	MUST(c->start_concurrency > 0 && c->n_pools > 0, "no pools");
	for (unsigned i = 0; i < c->n_pools; i++)
		check_pool(&c->pools[i]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	char path[64];
	int fd = make_file(data, len, path, sizeof(path));
	const struct config_request request = { .file = path, .library = "/nowhere" };
	_cleanup_free_ char *said = NULL;
	struct config *c;
	size_t n = 0;
	FILE *f = open_memstream(&said, &n);

	MUST(f, "no memory stream");
	c = config_load(&request, f);
	(void)fclose(f); /* a memory stream */
	(void)close(fd); /* memory */
	if (c)
		check_config(c);
	if (c)
		MUST(n == 0, "taken, with complaints: %s", said);
	else
		check_said(said, n, path);
	config_free(c);
	return 0;
}

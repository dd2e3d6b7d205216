/*
 * Preloaded into the daemon: its n-th allocation fails, once. Workers are not touched.
 *
 *   FAILING_MALLOC=N        which one, from 1; 0 for none
 *   FAILING_MALLOC_COUNT=F  at the end, how many there were is written to this file
 *
 * An allocation counts in the process that was preloaded first, not in its children.
 */
#include <errno.h>
#include <execinfo.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t n, size_t size);
extern void *__libc_realloc(void *p, size_t size);

static struct {
	pid_t owner;
	uint64_t n, fails;
} state;

static void __attribute__((constructor)) begin(void)
{
	const char *n = getenv("FAILING_MALLOC");
	void *warm[1];

	(void)backtrace(warm, 1); /* loads a library, which allocates */
	if (n)
		state.fails = strtoull(n, NULL, 10);
	state.n = 0;
	state.owner = getpid();
}

static void __attribute__((destructor)) end(void)
{
	const char *path = getenv("FAILING_MALLOC_COUNT");
	int fd = path && getpid() == state.owner ? open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644) : -1;

	if (fd < 0)
		return;
	(void)dprintf(fd, "%llu\n", (unsigned long long)state.n);
	(void)close(fd);
}

/* Says where, for whoever has to find out what went wrong. */
static void tell(size_t size)
{
	char line[100];
	void *frames[12];
	int n = snprintf(line, sizeof(line), "failing_malloc: allocation %llu, of %zu bytes, fails here:\n",
			 (unsigned long long)state.n, size);

	(void)!write(STDERR_FILENO, line, (size_t)n);
	backtrace_symbols_fd(frames + 2, backtrace(frames, 12) - 2, STDERR_FILENO);
}

static int fails(size_t size)
{
	if (!state.owner || getpid() != state.owner || ++state.n != state.fails)
		return 0;
	tell(size);
	errno = ENOMEM;
	return 1;
}

void *malloc(size_t size)
{
	return fails(size) ? NULL : __libc_malloc(size);
}

void *calloc(size_t n, size_t size)
{
	return fails(n * size) ? NULL : __libc_calloc(n, size);
}

void *realloc(void *p, size_t size)
{
	return fails(size) ? NULL : __libc_realloc(p, size);
}

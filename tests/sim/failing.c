#include "tests/sim/failing.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/base/log.h"

void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t size);
void *__real_reallocarray(void *p, size_t n, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t size);
void *__wrap_reallocarray(void *p, size_t n, size_t size);

/* What is in the place of malloc has no other way to know. */
static struct {
	uint64_t n, fails;
} count;

static bool fails(void)
{
	return ++count.n == count.fails;
}

void *__wrap_malloc(size_t size)
{
	return fails() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t n, size_t size)
{
	return fails() ? NULL : __real_calloc(n, size);
}

void *__wrap_realloc(void *p, size_t size)
{
	return fails() ? NULL : __real_realloc(p, size);
}

void *__wrap_reallocarray(void *p, size_t n, size_t size)
{
	return fails() ? NULL : __real_reallocarray(p, n, size);
}

void failing_arm(uint64_t n)
{
	count.n = 0;
	count.fails = n;
}

/* A process that does the run with its n-th allocation failing; its last words go to `words`. */
static int run_apart(bool (*run)(uint64_t seed), uint64_t seed, uint64_t n, int words)
{
	int status = -1;
	pid_t pid;

	(void)fflush(stdout);
	pid = fork();
	if (pid == 0) {
		(void)dup2(words, STDERR_FILENO);
		log_close();
		log_open(LOG_FORMAT_TEXT, LOG_LEVEL_ERROR); /* it keeps a descriptor of its own */
		failing_arm(n);
		if (!run(seed)) {
			(void)fflush(stdout);
			_exit(1);
		}
		_exit(count.n >= n ? 0 : 2); /* 2: there are not so many */
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return -1;
	return status;
}

static bool said_exhausted(int words)
{
	char text[4096];
	ssize_t n = pread(words, text, sizeof(text) - 1, 0);

	text[n > 0 ? n : 0] = '\0';
	return strstr(text, "mem.exhausted") != NULL;
}

bool failing_try_all(bool (*run)(uint64_t seed), uint64_t seed, uint64_t *n_tried, uint64_t *n_aborted)
{
	for (uint64_t n = 1;; n++) {
		int words = memfd_create("words", MFD_CLOEXEC);
		int status = run_apart(run, seed, n, words);
		bool clean = WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT && said_exhausted(words);

		(void)close(words);
		if (WIFEXITED(status) && WEXITSTATUS(status) == 2)
			return true;
		++*n_tried;
		*n_aborted += clean;
		if (!clean && status != 0) {
			printf("sim: seed %llu: allocation %llu fails: neither a clean abort nor a good run (status "
			       "0x%x)\nsim: again: build/tests/sim --seed %llu --failing %llu\n",
			       (unsigned long long)seed, (unsigned long long)n, (unsigned)status, (unsigned long long)seed,
			       (unsigned long long)n);
			return false;
		}
	}
}

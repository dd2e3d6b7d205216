#include "tests/sim/failing.h"

#include <execinfo.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/base/cleanup.h"
#include "daemon/base/log.h"
#include "tests/sim/sim_random.h"

#define SITE_DEPTH 4    /* callers that tell sites apart: mem_new(), who asks it, and for whom */
#define SITES_MAX 4096  /* a power of 2, far above what there are */
#define DRAWN_MAX 10    /* tries at a site where the daemon goes on without what it asked for; where it aborts, two tell all */
#define OWN_FRAMES 5    /* at most: what is in the place of malloc, what that calls, and a sanitizer's */

void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t size);
void *__real_reallocarray(void *p, size_t n, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t size);
void *__wrap_reallocarray(void *p, size_t n, size_t size);

/* The n-th allocation of the run with this seed. */
struct place {
	uint64_t seed, n;
};

/* A place of a hash table; a hash of 0 is free. */
struct site {
	uint64_t hash;
	uint64_t n; /* allocations there */
	struct place first, drawn[DRAWN_MAX];
};

/* What is in the place of malloc has no other way to know. */
static struct {
	uint64_t n, fails;
	struct site *sites; /* borrows: what is asked for is written down there; NULL: it is not */
	uint64_t seed;
	struct sim_random random;
} count;

/* Of whoever asks for memory now, to return to `caller`; never 0. */
static uint64_t site_now(const void *caller)
{
	void *frames[OWN_FRAMES + SITE_DEPTH];
	int n = backtrace(frames, ARRAY_SIZE(frames)), at = 0;
	struct sim_random hash = { 0 };

	while (at < n && frames[at] != caller)
		at++;
	for (int i = at; i < n && i < at + SITE_DEPTH; i++)
		hash.state = sim_random_next(&hash) ^ (uint64_t)(uintptr_t)frames[i];
	return sim_random_next(&hash) | 1;
}

/* Some of those that were seen, each as likely as the others. */
static void note_site(struct site *sites, uint64_t hash)
{
	struct place here = { .seed = count.seed, .n = count.n };
	uint64_t chosen;
	size_t at = hash & (SITES_MAX - 1);

	while (sites[at].hash && sites[at].hash != hash)
		at = (at + 1) & (SITES_MAX - 1);
	if (!sites[at].n++)
		sites[at].first = here;
	chosen = sites[at].n <= DRAWN_MAX ? sites[at].n - 1 : sim_random_below(&count.random, sites[at].n);
	if (chosen < DRAWN_MAX)
		sites[at].drawn[chosen] = here;
	sites[at].hash = hash;
}

static bool fails(const void *caller)
{
	count.n++;
	if (count.sites)
		note_site(count.sites, site_now(caller));
	return count.n == count.fails;
}

void *__wrap_malloc(size_t size)
{
	return fails(__builtin_return_address(0)) ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t n, size_t size)
{
	return fails(__builtin_return_address(0)) ? NULL : __real_calloc(n, size);
}

void *__wrap_realloc(void *p, size_t size)
{
	return fails(__builtin_return_address(0)) ? NULL : __real_realloc(p, size);
}

void *__wrap_reallocarray(void *p, size_t n, size_t size)
{
	return fails(__builtin_return_address(0)) ? NULL : __real_reallocarray(p, n, size);
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

/* True: there are not so many allocations, or all is well. False: what was wrong is told. */
static bool try_one(bool (*run)(uint64_t seed), struct place at, struct failing_total *t, bool *over)
{
	int words = memfd_create("words", MFD_CLOEXEC);
	int status = run_apart(run, at.seed, at.n, words);
	bool clean = WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT && said_exhausted(words);

	(void)close(words);
	*over = WIFEXITED(status) && WEXITSTATUS(status) == 2;
	t->tried += !*over;
	t->aborted += clean;
	if (clean || *over || status == 0)
		return true;
	printf("sim: seed %llu: allocation %llu fails: neither a clean abort nor a good run (status 0x%x)\n"
	       "sim: again: build/tests/sim --seed %llu --failing %llu\n",
	       (unsigned long long)at.seed, (unsigned long long)at.n, (unsigned)status, (unsigned long long)at.seed,
	       (unsigned long long)at.n);
	return false;
}

bool failing_try_all(bool (*run)(uint64_t seed), uint64_t seed, struct failing_total *t)
{
	bool over = false;

	for (struct place at = { .seed = seed, .n = 1 }; !over; at.n++) {
		if (!try_one(run, at, t, &over))
			return false;
	}
	return true;
}

/* Runs, in which nothing fails, to see who asks for memory. */
static bool look_for_sites(bool (*run)(uint64_t seed), uint64_t seed, unsigned n_runs, struct site *sites)
{
	bool good = true;

	count.random.state = seed;
	for (unsigned i = 0; i < n_runs && good; i++) {
		count.seed = seed + i;
		failing_arm(0);
		count.sites = sites;
		good = run(count.seed);
		count.sites = NULL;
	}
	return good;
}

static bool try_site(bool (*run)(uint64_t seed), const struct site *site, struct failing_total *t)
{
	uint64_t aborted = t->aborted, most = site->n < DRAWN_MAX ? site->n : DRAWN_MAX;
	bool over, good = try_one(run, site->first, t, &over);

	t->sites++;
	if (t->aborted > aborted)
		most = 1;
	for (uint64_t i = 0; i < most && good; i++)
		good = try_one(run, site->drawn[i], t, &over);
	return good;
}

bool failing_try_sites(bool (*run)(uint64_t seed), uint64_t seed, unsigned n_runs, struct failing_total *t)
{
	static struct site sites[SITES_MAX];
	bool good;

	memset(sites, 0, sizeof(sites));
	good = look_for_sites(run, seed, n_runs, sites);
	for (size_t i = 0; i < SITES_MAX && good; i++) {
		if (sites[i].hash)
			good = try_site(run, &sites[i], t);
	}
	return good;
}

/*
 * The pool in the simulated world.
 *
 *   sim                     many random walks, each from its seed, each of 1,000 steps, and failing allocations
 *   sim --seed N            that walk alone (and, with more --steps than one has, the next ones)
 *   sim --seed N --only L   the steps of L alone, as in 3,17-19: tests/sim/minimise finds the fewest that fail
 *   sim --seed N --failing K   its short walk with the K-th allocation failing, in this process
 *   sim --failing all       short walks with each of their allocations failing in turn; --seed N: of that one
 *   sim --small [NAME]      the small worlds of small.c, complete; --path P: one way through one; --audit: see small.h
 */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "daemon/base/log.h"
#include "tests/sim/failing.h"
#include "tests/sim/small.h"
#include "tests/sim/walk.h"

#define STEPS_OF_A_WORLD 1000
#define STEPS_BY_DEFAULT 1000000
#define STEPS_OF_A_SHORT_WORLD 60
#define FAILING_SEEDS 2 /* of which all allocations fail */
#define SITE_SEEDS 100  /* that are searched for sites of allocations */
#define FIXED_SEEDS 50 /* 1, 2, ... of each run without a seed */

struct total {
	unsigned worlds, failed;
	uint64_t steps, answers, good, turns, spawned, forked;
};

struct options {
	uint64_t seed, steps;
	bool fixed; /* the seeds that each run without a seed has */
	const char *only; /* steps, NULL: all */
	const char *failing; /* the number of an allocation, or "all"; NULL: none */
	bool small, audited;
	const char *name, *path;
};

static void usage(void)
{
	(void)fprintf(stderr, "usage: sim [--seed N] [--steps N] [--only STEPS]\n"
			      "       sim --seed N --failing K | sim [--seed N] --failing all\n"
			      "       sim --small [NAME [--path P]] [--audit]\n");
	exit(2);
}

static uint64_t parse_number(const char *text, char **end)
{
	uint64_t v = strtoull(text, end, 10);

	if (*end == text)
		usage();
	return v;
}

static uint64_t parse_whole(const char *text)
{
	char *end;
	uint64_t v = parse_number(text, &end);

	if (*end)
		usage();
	return v;
}

/* Is n in a list as 3,17-19? */
static bool list_has(const char *list, uint64_t n)
{
	bool found = false;

	for (const char *at = list; *at;) {
		char *end;
		uint64_t from = parse_number(at, &end), to = from;

		if (*end == '-')
			to = parse_number(end + 1, &end);
		if (*end && *end != ',')
			usage();
		found |= n >= from && n <= to;
		at = *end ? end + 1 : end;
	}
	return found;
}

static void print_violation(const struct world *w)
{
	printf("sim: seed %llu, step %llu: %s\nsim: the last events:\n", (unsigned long long)w->seed,
	       (unsigned long long)w->step, w->violation);
	trace_print(&w->trace);
}

/* False: a violation; the world is left as it is. */
static bool run_world(uint64_t seed, const char *only, struct total *t)
{
	struct world *w = walk_new(seed);

	for (unsigned i = 1; i <= STEPS_OF_A_WORLD && !w->violation[0]; i++) {
		if (only && !list_has(only, i))
			walk_skip(w);
		else
			walk_step(w);
	}
	t->worlds++;
	t->steps += w->step;
	t->answers += w->n_answers;
	t->good += w->n_good;
	t->turns += sim_turns(w->stage.loop);
	t->spawned += w->stage.machine.n_spawned;
	t->forked += w->stage.machine.n_forked;
	if (!w->violation[0])
		walk_end(w);
	if (w->violation[0]) {
		print_violation(w);
		printf("sim: again: build/tests/sim --seed %llu%s%s\n", (unsigned long long)seed, only ? " --only " : "",
		       only ? only : "");
		if (!only)
			printf("sim: fewer steps: tests/sim/minimise %llu\n", (unsigned long long)seed);
		t->failed++;
		return false;
	}
	world_free(w);
	return true;
}

static bool run_short_world(uint64_t seed)
{
	struct world *w = walk_new(seed);

	for (unsigned i = 0; i < STEPS_OF_A_SHORT_WORLD && !w->violation[0]; i++)
		walk_step(w);
	if (!w->violation[0])
		walk_end(w);
	if (w->violation[0]) {
		print_violation(w);
		return false;
	}
	world_free(w);
	return true;
}

static double seconds(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void print_failing(const struct failing_total *f)
{
	printf("sim: %llu allocations failed, one in a run: %llu clean aborts, %llu runs went on\n",
	       (unsigned long long)f->tried, (unsigned long long)f->aborted, (unsigned long long)(f->tried - f->aborted));
}

/* Fault 98. */
static void run_failing(uint64_t seed, unsigned n_seeds, struct total *t)
{
	struct failing_total f = { 0 };

	for (unsigned i = 0; i < n_seeds; i++)
		t->failed += !failing_try_all(run_short_world, seed + i, &f);
	print_failing(&f);
}

/* The same in a time that does not depend on the seed. */
static void run_failing_sites(uint64_t seed, struct total *t)
{
	struct failing_total f = { 0 };
	double begin = seconds();

	t->failed += !failing_try_sites(run_short_world, seed, SITE_SEEDS, &f);
	printf("sim: %llu sites of allocations in %d short walks, %.1f s\n", (unsigned long long)f.sites, SITE_SEEDS,
	       seconds() - begin);
	print_failing(&f);
}

static uint64_t random_seed(void)
{
	uint32_t seed;

	if (getrandom(&seed, sizeof(seed), 0) != sizeof(seed))
		return (uint64_t)time(NULL);
	return seed;
}

static void run_worlds(const struct options *o, struct total *t)
{
	uint64_t seed = o->seed;

	for (uint64_t i = 1; o->fixed && i <= FIXED_SEEDS && t->steps < o->steps; i++) {
		if (!run_world(i, NULL, t))
			return;
	}
	while (t->steps < o->steps) {
		if (!run_world(seed++, o->only, t))
			return;
	}
}

static int run_walks(const struct options *o)
{
	struct total t = { 0 };
	double begin = seconds();

	printf("sim: seed %llu\n", (unsigned long long)o->seed);
	run_worlds(o, &t);
	if (o->fixed && !t.failed)
		run_failing_sites(o->seed, &t);
	printf("sim: %llu steps, %llu turns of the loop, %llu requests answered (%llu with success), %llu workers "
	       "started and %llu forked, %.1f s\n",
	       (unsigned long long)t.steps, (unsigned long long)t.turns, (unsigned long long)t.answers,
	       (unsigned long long)t.good, (unsigned long long)t.spawned, (unsigned long long)t.forked,
	       seconds() - begin);
	printf("sim: %u passed, %u failed\n", t.worlds - t.failed, t.failed);
	return t.failed ? 1 : 0;
}

/* In this process, for a debugger. */
static int run_one_failing(uint64_t seed, uint64_t n)
{
	bool good;

	failing_arm(n);
	good = run_short_world(seed);
	printf("sim: %s\n", good ? "a good run" : "failed");
	return good ? 0 : 1;
}

static int run_short(const struct options *o)
{
	struct total t = { 0 };

	if (strcmp(o->failing, "all") != 0)
		return run_one_failing(o->seed, parse_whole(o->failing));
	printf("sim: seed %llu\n", (unsigned long long)o->seed);
	run_failing(o->seed, o->fixed ? FAILING_SEEDS : 1, &t);
	return t.failed ? 1 : 0;
}

static void parse_options(struct options *o, int argc, char **argv)
{
	static const struct option known[] = {
		{ "seed", required_argument, NULL, 's' }, { "steps", required_argument, NULL, 'n' },
		{ "only", required_argument, NULL, 'o' }, { "failing", required_argument, NULL, 'f' },
		{ "small", no_argument, NULL, 'w' },
		{ "path", required_argument, NULL, 'p' }, { "audit", no_argument, NULL, 'a' },
		{ NULL, 0, NULL, 0 },
	};
	int c;

	while ((c = getopt_long(argc, argv, "", known, NULL)) != -1) {
		if (c == 's')
			o->seed = parse_whole(optarg), o->fixed = false;
		else if (c == 'n')
			o->steps = parse_whole(optarg);
		else if (c == 'o')
			o->only = optarg;
		else if (c == 'f')
			o->failing = optarg;
		else if (c == 'w')
			o->small = true;
		else if (c == 'a')
			o->audited = true;
		else if (c == 'p')
			o->path = optarg;
		else
			usage();
	}
	o->name = optind < argc ? argv[optind++] : NULL;
	if (optind < argc || (o->name && !o->small) || (o->path && !o->name) || (o->only && o->fixed) ||
	    (o->failing && o->fixed && strcmp(o->failing, "all") != 0))
		usage();
	if (!o->steps)
		o->steps = o->fixed ? STEPS_BY_DEFAULT : STEPS_OF_A_WORLD;
}

int main(int argc, char **argv)
{
	struct options o = { .seed = random_seed(), .fixed = true };
	int status;

	parse_options(&o, argc, argv);
	log_open(LOG_FORMAT_TEXT, LOG_LEVEL_ERROR);
	if (o.failing)
		status = run_short(&o);
	else
		status = o.small ? small_run(o.name, o.path, o.audited) : run_walks(&o);
	(void)fflush(stdout);
	if (status)
		_exit(status); /* the failed world is left as it is, and is no leak */
	return 0;
}

/*
 * The pool in the simulated world: many worlds, each from its seed, each of 1,000 steps. Usage: sim [--seed N]
 * [--steps N]. With a seed: that world alone (and, with more steps than one world has, the next ones).
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "daemon/base/log.h"
#include "tests/sim/failing.h"
#include "tests/sim/world.h"

#define STEPS_OF_A_WORLD 1000
#define STEPS_BY_DEFAULT 1000000
#define STEPS_OF_A_SHORT_WORLD 60
#define FAILING_SEEDS 2
#define FIXED_SEEDS 50 /* 1, 2, ... of each run without a seed */

struct total {
	unsigned worlds, failed;
	uint64_t steps, answers, good, turns, spawned, spent_ns;
};

static void print_violation(const struct world *w)
{
	printf("sim: seed %llu, step %llu: %s\nsim: the last events (again: build/tests/sim --seed %llu):\n",
	       (unsigned long long)w->seed, (unsigned long long)w->step, w->violation, (unsigned long long)w->seed);
	trace_print(&w->trace);
}

/* False: a violation; the world is left as it is. */
static bool run_world(uint64_t seed, struct total *t)
{
	struct world *w = world_new(seed);

	for (unsigned i = 0; i < STEPS_OF_A_WORLD && !w->violation[0]; i++)
		world_step(w);
	t->worlds++;
	t->steps += w->step;
	t->answers += w->n_answers;
	t->good += w->n_good;
	t->turns += sim_turns(w->stage.loop);
	t->spawned += w->stage.machine.n_spawned;
	if (!w->violation[0])
		world_end(w);
	if (w->violation[0]) {
		print_violation(w);
		t->failed++;
		return false;
	}
	world_free(w);
	return true;
}

static bool run_short_world(uint64_t seed)
{
	struct world *w = world_new(seed);

	for (unsigned i = 0; i < STEPS_OF_A_SHORT_WORLD && !w->violation[0]; i++)
		world_step(w);
	if (!w->violation[0])
		world_end(w);
	if (w->violation[0]) {
		print_violation(w);
		return false;
	}
	world_free(w);
	return true;
}

/* Fault 98. */
static void run_failing(uint64_t seed, struct total *t)
{
	uint64_t n = 0, aborted = 0;

	for (uint64_t i = 0; i < FAILING_SEEDS; i++)
		t->failed += !failing_try_all(run_short_world, seed + i, &n, &aborted);
	printf("sim: %llu allocations failed, one in a run: %llu clean aborts, %llu runs went on\n",
	       (unsigned long long)n, (unsigned long long)aborted, (unsigned long long)(n - aborted));
}

static uint64_t parse_number(const char *text)
{
	char *end;
	uint64_t v = strtoull(text, &end, 10);

	if (!*text || *end) {
		fprintf(stderr, "usage: sim [--seed N] [--steps N]: \"%s\" is no number\n", text);
		exit(2);
	}
	return v;
}

static uint64_t random_seed(void)
{
	uint32_t seed;

	if (getrandom(&seed, sizeof(seed), 0) != sizeof(seed))
		return (uint64_t)time(NULL);
	return seed;
}

static void run_worlds(uint64_t seed, uint64_t steps, bool fixed, struct total *t)
{
	for (uint64_t i = 1; fixed && i <= FIXED_SEEDS && t->steps < steps; i++) {
		if (!run_world(i, t))
			return;
	}
	while (t->steps < steps) {
		if (!run_world(seed++, t))
			return;
	}
}

int main(int argc, char **argv)
{
	uint64_t seed = random_seed(), steps = 0;
	bool fixed = true;
	struct total t = { 0 };
	struct timespec begin, end;

	for (int i = 1; i < argc; i += 2) {
		const char *value = i + 1 < argc ? argv[i + 1] : "";

		if (strcmp(argv[i], "--seed") == 0) {
			seed = parse_number(value);
			fixed = false;
		} else if (strcmp(argv[i], "--steps") == 0) {
			steps = parse_number(value);
		} else {
			fprintf(stderr, "usage: sim [--seed N] [--steps N]\n");
			return 2;
		}
	}
	if (!steps)
		steps = fixed ? STEPS_BY_DEFAULT : STEPS_OF_A_WORLD;
	log_open(LOG_FORMAT_TEXT, LOG_LEVEL_ERROR);
	(void)clock_gettime(CLOCK_MONOTONIC, &begin);
	printf("sim: seed %llu\n", (unsigned long long)seed);
	run_worlds(seed, steps, fixed, &t);
	if (fixed && !t.failed)
		run_failing(seed, &t);
	(void)clock_gettime(CLOCK_MONOTONIC, &end);
	printf("sim: %llu steps, %llu turns of the loop, %llu requests answered (%llu with success), %llu workers "
	       "started, "
	       "%.1f s\n",
	       (unsigned long long)t.steps, (unsigned long long)t.turns, (unsigned long long)t.answers,
	       (unsigned long long)t.good, (unsigned long long)t.spawned,
	       (double)(end.tv_sec - begin.tv_sec) + (double)(end.tv_nsec - begin.tv_nsec) / 1e9);
	printf("sim: %u passed, %u failed\n", t.worlds - t.failed, t.failed);
	(void)fflush(stdout);
	if (t.failed)
		_exit(1); /* the failed world is left as it is, and is no leak */
	return 0;
}

#include "tests/sim/sim_random.h"

uint64_t sim_random_next(struct sim_random *r)
{
	uint64_t z = r->state += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

uint64_t sim_random_below(struct sim_random *r, uint64_t n)
{
	return n ? sim_random_next(r) % n : 0;
}

uint64_t sim_random_between(struct sim_random *r, uint64_t from, uint64_t to)
{
	return from + sim_random_below(r, to - from + 1);
}

bool sim_random_once_in(struct sim_random *r, unsigned n)
{
	return n && sim_random_below(r, n) == 0;
}

struct sim_random sim_random_of(uint64_t seed, uint64_t step)
{
	struct sim_random a = { .state = seed }, b = { .state = ~step };

	return (struct sim_random){ .state = sim_random_next(&a) ^ sim_random_next(&b) };
}

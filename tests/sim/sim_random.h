/* Random numbers that a seed makes repeatable (splitmix64). */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct sim_random {
	uint64_t state;
};

uint64_t sim_random_next(struct sim_random *r);
/* 0 ... n - 1; 0 for n = 0. */
uint64_t sim_random_below(struct sim_random *r, uint64_t n);
uint64_t sim_random_between(struct sim_random *r, uint64_t from, uint64_t to);
/* True once in n times, on average. */
bool sim_random_once_in(struct sim_random *r, unsigned n);
/* The stream of one step of a seed. */
struct sim_random sim_random_of(uint64_t seed, uint64_t step);

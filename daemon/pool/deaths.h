/* The last of the workers that somebody has seen die, and what a person is told of each. Zeros: none yet. */
#pragma once

#include <msgpack.h>
#include <stdint.h>

struct worker;

#define DEATHS_KEPT 5

struct death {
	uint64_t wall_ms; /* UNIX */
	uint64_t worker;
	char *text; /* owns: "worker 7 (pid 812) was killed by signal 11 (SIGSEGV)" */
};

struct deaths {
	struct death ring[DEATHS_KEPT];
	uint64_t n; /* ever added */
};

void deaths_deinit(struct deaths *d);
/* text: copied; made UTF-8. */
void deaths_add(struct deaths *d, const struct worker *w, const char *text);
/* The n-th before the last, NULL when there is none or it is forgotten. */
const struct death *deaths_last(const struct deaths *d, unsigned n);
/* Packs key and the kept ones, last first: [{time_ms, worker, what}, ...]. */
void deaths_pack(msgpack_packer *pk, const char *key, const struct deaths *d);

/* The last events of a world, for whoever has to find out what led to a violation. */
#pragma once

#include <stdint.h>

#define TRACE_KEPT 50

struct trace_entry {
	uint64_t now;     /* ns */
	const char *what; /* static */
	uint64_t a, b;
};

struct trace {
	struct trace_entry entries[TRACE_KEPT];
	uint64_t n;
};

void trace_add(struct trace *t, uint64_t now, const char *what, uint64_t a, uint64_t b);
void trace_print(const struct trace *t);

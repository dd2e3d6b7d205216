#include "tests/sim/trace.h"

#include <stdio.h>

void trace_add(struct trace *t, uint64_t now, const char *what, uint64_t a, uint64_t b)
{
	t->entries[t->n++ % TRACE_KEPT] = (struct trace_entry){ .now = now, .what = what, .a = a, .b = b };
}

void trace_print(const struct trace *t)
{
	uint64_t i = t->n > TRACE_KEPT ? t->n - TRACE_KEPT : 0;

	for (; i < t->n; i++) {
		const struct trace_entry *e = &t->entries[i % TRACE_KEPT];

		printf("  %12.6f s  %-26s %llu %llu\n", (double)e->now / 1e9, e->what, (unsigned long long)e->a,
		       (unsigned long long)e->b);
	}
}

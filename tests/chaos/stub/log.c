#include "tests/chaos/stub/log.h"

#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "tests/chaos/stub/stub.h"

uint64_t log_now_ns(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

void log_note(const struct stub *s, char letter, uint64_t call)
{
	char line[160];
	int n = snprintf(line, sizeof(line), "%c %llu %llu %s %llu\n", letter, (unsigned long long)s->worker,
			 (unsigned long long)call, s->tag[0] ? s->tag : "-", (unsigned long long)log_now_ns());

	if (write(s->log, line, (size_t)n) != n)
		_exit(9);
}

#include "client/ctl/stamp.h"

#include <stdio.h>
#include <time.h>

#include "proto/cursor.h"

void stamp_print(struct span value)
{
	struct tm tm;
	uint64_t ms;
	time_t s;

	if (!mp_read_uint(&value, &ms)) {
		printf("- ");
		return;
	}
	s = (time_t)(ms / 1000);
	if (!localtime_r(&s, &tm)) {
		printf("%llu ", (unsigned long long)ms);
		return;
	}
	printf("%04d-%02d-%02d %02d:%02d:%02d.%03u ", tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday, tm.tm_hour,
	       tm.tm_min, tm.tm_sec, (unsigned)(ms % 1000));
}

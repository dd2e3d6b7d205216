#include "client/ctl/why.h"

#include <stdlib.h>
#include <time.h>

void why_put(struct span map, const char *key, cell_fn *text)
{
	struct span value = cell_of(map, key);
	char *s = value.len ? text(value) : NULL;

	fputs(s ? s : "-", stdout);
	free(s);
}

bool why_has(struct span map, const char *key)
{
	return cell_of(map, key).len > 0;
}

uint64_t why_uint(struct span map, const char *key)
{
	struct span value = cell_of(map, key);
	uint64_t v = 0;

	return mp_read_uint(&value, &v) ? v : 0;
}

bool why_true(struct span map, const char *key)
{
	struct span value = cell_of(map, key);
	bool v = false;

	return mp_read_bool(&value, &v) && v;
}

bool why_is(struct span map, const char *key, const char *word)
{
	struct span value = cell_of(map, key), text;

	return mp_read_text(&value, &text) && span_equals(text, word);
}

void why_label(const char *label)
{
	printf("  %-10s", label);
}

void why_line(const char *label, const char *before, struct span map, const char *key, cell_fn *text,
		     const char *after)
{
	why_label(label);
	fputs(before, stdout);
	why_put(map, key, text);
	puts(after);
}

void why_plural(uint64_t n, const char *one, const char *many)
{
	printf("%llu %s", (unsigned long long)n, n == 1 ? one : many);
}

/* UNIX ms as "11:40:02". */
void why_clock(uint64_t ms)
{
	time_t s = (time_t)(ms / 1000);
	struct tm tm;

	if (localtime_r(&s, &tm))
		printf("%02d:%02d:%02d", tm.tm_hour, tm.tm_min, tm.tm_sec);
	else
		printf("%llu ms", (unsigned long long)ms);
}

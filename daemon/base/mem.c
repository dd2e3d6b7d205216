#include "daemon/base/mem.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/base/log.h"

/* The log needs no memory of its own, so this line gets out. */
void mem_exhausted(size_t size)
{
	const struct log_field fields[] = { KV("bytes", size) };

	log_write(LOG_LEVEL_ERROR, "mem.exhausted", fields, 1);
	abort();
}

void *mem_new(size_t size)
{
	void *p = calloc(1, size ? size : 1);

	if (!p)
		mem_exhausted(size);
	return p;
}

void *mem_resize(void *p, size_t n, size_t size)
{
	void *q = reallocarray(p, n, size);

	if (!q && n && size)
		mem_exhausted(n > SIZE_MAX / size ? SIZE_MAX : n * size);
	return q;
}

char *mem_strdup(const char *s)
{
	return s ? mem_strndup(s, strlen(s)) : NULL;
}

char *mem_strndup(const void *s, size_t n)
{
	char *copy = mem_new(n + 1);

	if (n)
		memcpy(copy, s, n);
	return copy;
}

char *mem_printf(const char *format, ...)
{
	va_list ap;
	char *s = NULL;
	int n;

	va_start(ap, format);
	n = vasprintf(&s, format, ap);
	va_end(ap);
	if (n < 0 || !s)
		mem_exhausted(0);
	return s;
}

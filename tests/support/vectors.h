/*
 * Reads tests/vectors/NAME.hex: lines of `what: hex bytes`; comments and empty lines are for people and other readers.
 * Programs run in the root of the tree; PYPOOL_VECTORS names another place.
 */
#pragma once

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>

#include "proto/span.h"

struct vector {
	char what[128];
	uint8_t bytes[1024];
	size_t len;
};

struct vectors {
	FILE *file; /* owns */
};

static inline bool vectors_open(struct vectors *v, const char *name)
{
	const char *place = getenv("PYPOOL_VECTORS");
	char path[4096];

	(void)snprintf(path, sizeof(path), "%s/%s.hex", place ? place : "tests/vectors", name);
	v->file = fopen(path, "re");
	return v->file;
}

static inline void vectors_close(struct vectors *v)
{
	(void)fclose(v->file);
}

/* False: not two hex digits at a time, or too many. */
static inline bool vector_read_hex(struct vector *out, const char *hex)
{
	unsigned byte;
	int n;

	out->len = 0;
	while (sscanf(hex, " %2x%n", &byte, &n) == 1) {
		if (!isxdigit((unsigned char)hex[n - 1]) || !isxdigit((unsigned char)hex[n - 2]))
			return false;
		if (out->len == sizeof(out->bytes))
			return false;
		out->bytes[out->len++] = (uint8_t)byte;
		hex += n;
	}
	return hex[strspn(hex, " \n")] == '\0';
}

/* 1: *out is the next vector; 0: no more; -1: a line that cannot be read. */
static inline int vectors_next(struct vectors *v, struct vector *out)
{
	char line[8192];

	while (fgets(line, sizeof(line), v->file)) {
		char *colon = strstr(line, ": ");

		if (line[0] == '#' || line[0] == '\n')
			continue;
		if (!colon || (size_t)(colon - line) >= sizeof(out->what))
			return -1;
		*colon = '\0';
		(void)snprintf(out->what, sizeof(out->what), "%.120s", line);
		return vector_read_hex(out, colon + 2) ? 1 : -1;
	}
	return 0;
}

static inline struct span vector_span(const struct vector *v)
{
	return (struct span){ .p = v->bytes, .len = v->len };
}

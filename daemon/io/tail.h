/*
 * The last lines of a worker's stdout and stderr: a bounded ring of bytes, cut into lines, each with its time. It survives the
 * worker's death with its owner. Positions are marks: the number of lines ever added.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "proto/span.h"

enum tail_source {
	TAIL_STDOUT,
	TAIL_STDERR,
	TAIL_N_SOURCES,
};

#define TAIL_LINE_MAX 2000 /* bytes; a longer line is cut there and goes on as a new one */

struct tail_line {
	uint64_t number;  /* 0, 1, ... in order of arrival */
	uint64_t wall_ms; /* UNIX time */
	enum tail_source source;
	struct span text; /* without the newline; any bytes; valid until the tail changes */
};

struct tail;

/* capacity: bytes of text kept; lines: number of lines kept, at the most. */
struct tail *tail_new(size_t capacity, unsigned lines);
struct tail *tail_free(struct tail *t);
/* Adds raw output. A line without its newline is held back until the rest comes or tail_finish(). */
void tail_add(struct tail *t, enum tail_source source, const void *data, size_t len, uint64_t wall_ms);
/* Makes a line of what is held back. */
void tail_finish(struct tail *t, uint64_t wall_ms);
/* Lines ever added: the number that the next line will have. */
uint64_t tail_mark(const struct tail *t);
/* How many lines it keeps at the most. */
unsigned tail_capacity(const struct tail *t);
/* Lines that have been pushed out. */
uint64_t tail_lost(const struct tail *t);
/* The first kept line with number >= from; false when there is none. A line held back counts as the last. */
bool tail_next(const struct tail *t, uint64_t from, struct tail_line *line);

/*
 * The tail keeps text in a ring of bytes in which no line is split, so that a line can be shown in place. Every line takes
 * one byte more than its text: none is empty in the ring, and a full ring is not mistaken for an empty one.
 */
#include "daemon/io/tail.h"

#include "daemon/base/cleanup.h"
#include "daemon/base/mem.h"

struct kept_line {
	uint64_t wall_ms;
	uint32_t at;
	uint16_t len;
	uint8_t source;
};

/* A line that has not ended yet. */
struct open_line {
	uint64_t wall_ms; /* of its first byte */
	bool begun;
	uint16_t len;
	uint8_t text[TAIL_LINE_MAX];
};

struct tail {
	uint8_t *ring; /* owns */
	size_t size;
	size_t head;             /* where the newest line ends */
	struct kept_line *lines; /* owns: ring of max_lines */
	unsigned max_lines, first, count;
	uint64_t added;
	struct open_line open[TAIL_N_SOURCES];
};

struct tail *tail_new(size_t capacity, unsigned lines)
{
	struct tail *t = MEM_NEW(struct tail);

	t->size = capacity > TAIL_LINE_MAX ? capacity : TAIL_LINE_MAX + 1;
	if (t->size > UINT32_MAX)
		t->size = UINT32_MAX;
	t->max_lines = lines ? lines : 1;
	t->ring = mem_new(t->size);
	t->lines = mem_new(t->max_lines * sizeof(*t->lines));
	return t;
}

struct tail *tail_free(struct tail *t)
{
	if (!t)
		return NULL;
	free(t->ring);
	free(t->lines);
	free(t);
	return NULL;
}

static void tail_drop_oldest(struct tail *t)
{
	t->first = (t->first + 1) % t->max_lines;
	t->count--;
}

/* Finds room for n bytes at or after head; false: the oldest line is in the way. */
static bool tail_find_room(const struct tail *t, size_t n, size_t *at)
{
	size_t oldest = t->lines[t->first].at;

	if (t->count == 0) {
		*at = 0;
		return true;
	}
	*at = t->head;
	if (t->head <= oldest)
		return n <= oldest - t->head;
	if (n <= t->size - t->head)
		return true;
	*at = 0;
	return n <= oldest;
}

static void tail_push(struct tail *t, enum tail_source source, const uint8_t *text, size_t len, uint64_t wall_ms)
{
	struct kept_line *line;
	size_t at;

	while (t->count == t->max_lines || !tail_find_room(t, len + 1, &at))
		tail_drop_oldest(t);
	memcpy(t->ring + at, text, len);
	t->ring[at + len] = '\n';
	t->head = at + len + 1;
	line = &t->lines[(t->first + t->count) % t->max_lines];
	*line = (struct kept_line){
		.wall_ms = wall_ms, .at = (uint32_t)at, .len = (uint16_t)len, .source = (uint8_t)source
	};
	t->count++;
	t->added++;
}

static void tail_push_open(struct tail *t, enum tail_source source)
{
	struct open_line *o = &t->open[source];

	tail_push(t, source, o->text, o->len, o->wall_ms);
	o->len = 0;
	o->begun = false;
}

/* Holds back text without a newline. */
static void tail_hold(struct tail *t, enum tail_source source, const uint8_t *p, size_t len, uint64_t wall_ms)
{
	struct open_line *o = &t->open[source];

	while (len > 0) {
		size_t n = TAIL_LINE_MAX - o->len;

		if (n == 0) {
			tail_push_open(t, source);
			continue;
		}
		if (n > len)
			n = len;
		if (!o->begun)
			o->wall_ms = wall_ms;
		o->begun = true;
		memcpy(o->text + o->len, p, n);
		o->len = (uint16_t)(o->len + n);
		p += n;
		len -= n;
	}
}

void tail_add(struct tail *t, enum tail_source source, const void *data, size_t len, uint64_t wall_ms)
{
	const uint8_t *p = data, *end = p + len;

	while (p < end) {
		const uint8_t *newline = memchr(p, '\n', (size_t)(end - p));

		if (!newline) {
			tail_hold(t, source, p, (size_t)(end - p), wall_ms);
			return;
		}
		if (!t->open[source].begun && newline - p <= TAIL_LINE_MAX) {
			tail_push(t, source, p, (size_t)(newline - p), wall_ms);
		} else {
			tail_hold(t, source, p, (size_t)(newline - p), wall_ms);
			tail_push_open(t, source);
		}
		p = newline + 1;
	}
}

void tail_finish(struct tail *t, uint64_t wall_ms)
{
	(void)wall_ms; /* a line has the time of its first byte */
	for (unsigned source = 0; source < TAIL_N_SOURCES; source++) {
		if (t->open[source].begun)
			tail_push_open(t, source);
	}
}

uint64_t tail_mark(const struct tail *t)
{
	return t->added;
}

unsigned tail_capacity(const struct tail *t)
{
	return t->max_lines;
}

uint64_t tail_lost(const struct tail *t)
{
	return t->added - t->count;
}

/* Lines that are held back follow the others, numbered as if they ended now. */
static bool tail_next_open(const struct tail *t, uint64_t from, struct tail_line *line)
{
	uint64_t number = t->added;

	for (unsigned source = 0; source < TAIL_N_SOURCES; source++) {
		const struct open_line *o = &t->open[source];

		if (!o->begun)
			continue;
		if (number++ < from)
			continue;
		*line = (struct tail_line){ .number = number - 1,
					    .wall_ms = o->wall_ms,
					    .source = source,
					    .text = { .p = o->text, .len = o->len } };
		return true;
	}
	return false;
}

bool tail_next(const struct tail *t, uint64_t from, struct tail_line *line)
{
	uint64_t lost = tail_lost(t);
	const struct kept_line *k;

	if (from < lost)
		from = lost;
	if (from >= t->added)
		return tail_next_open(t, from, line);
	k = &t->lines[(t->first + (from - lost)) % t->max_lines];
	*line = (struct tail_line){ .number = from,
				    .wall_ms = k->wall_ms,
				    .source = k->source,
				    .text = { .p = t->ring + k->at, .len = k->len } };
	return true;
}

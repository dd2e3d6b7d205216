#include "proto/frame.h"

#include <stdio.h>
#include <stdlib.h>

void frame_reader_init(struct frame_reader *r, enum frame_mode mode, uint32_t max_frame)
{
	*r = (struct frame_reader){
		.mode = mode,
		.max_frame = max_frame < FRAME_MAX_LIMIT ? max_frame : FRAME_MAX_LIMIT,
	};
}

static void frame_reader_forget(struct frame_reader *r)
{
	free(r->partial);
	r->partial = NULL;
	r->scanned = 0;
}

void frame_reader_deinit(struct frame_reader *r)
{
	frame_reader_forget(r);
}

static bool is_array_header(uint8_t b)
{
	return (b >= 0x90 && b <= 0x9f) || b == 0xdc || b == 0xdd;
}

/* The framing that a connection with this first byte speaks. Of short arrays only the lengths that a message may have,
 * or one with an element forgotten or added: the others say nothing about MessagePack-RPC. */
static enum frame_mode mode_of(uint8_t first)
{
	if (first <= FRAME_MAX_LIMIT >> 24)
		return FRAME_PREFIXED;
	if ((first >= 0x92 && first <= 0x95) || first == 0xdc || first == 0xdd)
		return FRAME_BARE;
	return FRAME_UNKNOWN;
}

static enum frame_status frame_bad(struct frame_reader *r, enum cursor_status why, uint64_t place)
{
	r->why = why;
	r->place = place;
	return FRAME_BAD;
}

static enum frame_status frame_ready(struct frame *out, const uint8_t *body, size_t len, size_t taken)
{
	*out = (struct frame){ .body = { .p = body, .len = len }, .taken = taken };
	return FRAME_READY;
}

static enum frame_status frame_more(struct frame *out, size_t need)
{
	*out = (struct frame){ .need = need };
	return FRAME_MORE;
}

static enum frame_status frame_next_prefixed(struct frame_reader *r, const uint8_t *data, size_t len, struct frame *out)
{
	enum cursor_status status;
	uint64_t place;
	uint32_t n;

	if (len < FRAME_PREFIX)
		return frame_more(out, FRAME_PREFIX);
	n = (uint32_t)data[0] << 24 | (uint32_t)data[1] << 16 | (uint32_t)data[2] << 8 | data[3];
	if (n == 0)
		return FRAME_EMPTY;
	if (n > r->max_frame)
		return FRAME_TOO_LARGE;
	if (len - FRAME_PREFIX < n)
		return frame_more(out, FRAME_PREFIX + (size_t)n);
	status = cursor_check_place((struct span){ .p = data + FRAME_PREFIX, .len = n }, &place);
	if (status != CURSOR_DONE)
		return frame_bad(r, status, place);
	return frame_ready(out, data + FRAME_PREFIX, n, FRAME_PREFIX + (size_t)n);
}

/* Keeps the cursor of a message that is cut, so that the bytes seen are not looked at again. */
static enum frame_status frame_keep(struct frame_reader *r, const struct cursor *c, size_t scanned, struct frame *out)
{
	if (!r->partial)
		r->partial = malloc(sizeof(*r->partial));
	if (!r->partial)
		return FRAME_NO_MEMORY;
	if (r->partial != c)
		*r->partial = *c;
	r->scanned = scanned;
	return frame_more(out, scanned + (size_t)(c->due + c->skip));
}

static enum frame_status frame_next_bare(struct frame_reader *r, const uint8_t *data, size_t len, struct frame *out)
{
	struct cursor fresh, *c = r->partial;
	enum cursor_status status;
	size_t used, total;
	uint64_t place;

	if (len == 0)
		return frame_more(out, 1);
	if (!is_array_header(data[0]))
		return frame_bad(r, CURSOR_DONE, 0);
	if (!c) {
		cursor_init(&fresh, r->max_frame);
		c = &fresh;
	}
	status = cursor_feed(c, data + r->scanned, len - r->scanned, &used);
	total = r->scanned + used;
	if (status == CURSOR_MORE)
		return frame_keep(r, c, total, out);
	place = cursor_place(c, r->max_frame);
	frame_reader_forget(r);
	if (status == CURSOR_TOO_MANY)
		return FRAME_TOO_LARGE;
	if (status != CURSOR_DONE)
		return frame_bad(r, status, place);
	return frame_ready(out, data, total, total);
}

enum frame_status frame_next(struct frame_reader *r, const uint8_t *data, size_t len, struct frame *out)
{
	if (r->mode == FRAME_UNKNOWN) {
		if (len == 0)
			return frame_more(out, 1);
		r->mode = mode_of(data[0]);
	}
	if (r->mode == FRAME_PREFIXED)
		return frame_next_prefixed(r, data, len, out);
	if (r->mode == FRAME_BARE)
		return frame_next_bare(r, data, len, out);
	return FRAME_FOREIGN;
}

static const char *status_words(const struct frame_reader *r, enum frame_status status)
{
	switch (status) {
	case FRAME_READY:
		return "a message";
	case FRAME_MORE:
		return "the message goes on";
	case FRAME_FOREIGN:
		return "neither MessagePack-RPC nor a length of at most 0x04ffffff";
	case FRAME_EMPTY:
		return "a frame of length 0";
	case FRAME_TOO_LARGE:
		return "the message is, or says that it will be, larger than max_frame";
	case FRAME_BAD:
		/* the cursor had no complaint: it was not asked */
		return r->why == CURSOR_DONE ? "a message must be an array" : cursor_status_text(r->why);
	case FRAME_NO_MEMORY:
		return "out of memory";
	}
	return "unknown";
}

const char *frame_status_text(const struct frame_reader *r, enum frame_status status, char out[FRAME_TEXT])
{
	const char *words = status_words(r, status);

	if (status == FRAME_BAD)
		(void)snprintf(out, FRAME_TEXT, "%s (byte %llu of the message)", words, (unsigned long long)r->place);
	else
		(void)snprintf(out, FRAME_TEXT, "%s", words);
	return out;
}

void frame_put_prefix(uint8_t out[FRAME_PREFIX], uint32_t len)
{
	out[0] = (uint8_t)(len >> 24);
	out[1] = (uint8_t)(len >> 16);
	out[2] = (uint8_t)(len >> 8);
	out[3] = (uint8_t)len;
}

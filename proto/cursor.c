#include "proto/cursor.h"

#define INVALID_BYTE 0xc1

/* Bytes of each value whose size its first byte alone tells, without those that hold other values. 0: the first byte
 * does not tell. One look-up a value is what makes flat arrays cheap. */
static const uint8_t leaf_size[256] = {
	[0x00 ... 0x7f] = 1, /* positive fixint */
	[0xa0] = 1,          /* fixstr of 0..31 bytes */
	[0xa1] = 2,          [0xa2] = 3,  [0xa3] = 4,  [0xa4] = 5,  [0xa5] = 6,          [0xa6] = 7,  [0xa7] = 8,
	[0xa8] = 9,          [0xa9] = 10, [0xaa] = 11, [0xab] = 12, [0xac] = 13,         [0xad] = 14, [0xae] = 15,
	[0xaf] = 16,         [0xb0] = 17, [0xb1] = 18, [0xb2] = 19, [0xb3] = 20,         [0xb4] = 21, [0xb5] = 22,
	[0xb6] = 23,         [0xb7] = 24, [0xb8] = 25, [0xb9] = 26, [0xba] = 27,         [0xbb] = 28, [0xbc] = 29,
	[0xbd] = 30,         [0xbe] = 31, [0xbf] = 32, [0xc0] = 1, /* nil */
	[0xc2 ... 0xc3] = 1,                                       /* false, true */
	[0xca] = 5,                                                /* float 32, 64 */
	[0xcb] = 9,          [0xcc] = 2,                           /* uint 8..64 */
	[0xcd] = 3,          [0xce] = 5,  [0xcf] = 9,  [0xd0] = 2, /* int 8..64 */
	[0xd1] = 3,          [0xd2] = 5,  [0xd3] = 9,  [0xd4] = 3, /* fixext 1..16: type byte and data */
	[0xd5] = 4,          [0xd6] = 6,  [0xd7] = 10, [0xd8] = 18, [0xe0 ... 0xff] = 1, /* negative fixint */
};

/* What a complete header promises. */
struct promise {
	uint64_t bytes;  /* payload of this value */
	uint64_t values; /* values inside this one */
	bool holds;      /* array or map */
};

static uint64_t read_be(const uint8_t *p, size_t n)
{
	uint64_t v = 0;

	while (n-- > 0)
		v = v << 8 | *p++;
	return v;
}

/* Bytes of a header: the first, and the length field after it. */
static size_t header_size(uint8_t first)
{
	switch (first) {
	case 0xc4: /* bin 8 */
	case 0xc7: /* ext 8 */
	case 0xd9: /* str 8 */
		return 2;
	case 0xc5: /* bin, ext, str, array, map 16 */
	case 0xc8:
	case 0xda:
	case 0xdc:
	case 0xde:
		return 3;
	case 0xc6: /* bin, ext, str, array, map 32 */
	case 0xc9:
	case 0xdb:
	case 0xdd:
	case 0xdf:
		return 5;
	default:
		return 1;
	}
}

static struct promise header_promise(const uint8_t *p, size_t size)
{
	uint64_t n = read_be(p + 1, size - 1);

	switch (*p) {
	case 0x80 ... 0x8f:
		return (struct promise){ .values = 2u * (*p & 0x0fu), .holds = true };
	case 0x90 ... 0x9f:
		return (struct promise){ .values = *p & 0x0fu, .holds = true };
	case 0xc4 ... 0xc6:
	case 0xd9 ... 0xdb:
		return (struct promise){ .bytes = n };
	case 0xc7 ... 0xc9:
		return (struct promise){ .bytes = n + 1 }; /* the type byte comes first */
	case 0xdc ... 0xdd:
		return (struct promise){ .values = n, .holds = true };
	case 0xde ... 0xdf:
		return (struct promise){ .values = 2 * n, .holds = true };
	default:
		return (struct promise){ .bytes = leaf_size[*p] - 1u };
	}
}

void cursor_init(struct cursor *c, uint64_t limit)
{
	c->left = limit;
	c->due = 1;
	c->skip = 0;
	c->head_len = 0;
	c->depth = 0;
}

/* Room for `bytes` more and one byte for each value that is due beside the one at hand? */
static bool cursor_has_room(const struct cursor *c, uint64_t bytes)
{
	return c->due - 1 <= c->left && bytes <= c->left - (c->due - 1);
}

/* Takes a complete header: the value at hand is no longer due, what it promises is. */
static enum cursor_status cursor_take(struct cursor *c, const uint8_t *p, size_t size)
{
	struct promise promise = header_promise(p, size);

	if (promise.holds && c->depth == CURSOR_DEPTH_MAX)
		return CURSOR_TOO_DEEP;
	/* owed[] has 32 bits, and a map has two values a pair */
	if (promise.values > UINT32_MAX || !cursor_has_room(c, size + promise.bytes + promise.values))
		return CURSOR_TOO_MANY;
	c->left -= size;
	c->due += promise.values - 1;
	c->skip = promise.bytes;
	if (c->depth > 0)
		c->owed[c->depth - 1]--;
	if (promise.values > 0)
		c->owed[c->depth++] = (uint32_t)promise.values;
	return CURSOR_DONE;
}

/* Takes the next header, which a feed may have cut. CURSOR_DONE: taken. */
static enum cursor_status cursor_take_header(struct cursor *c, const uint8_t **pp, const uint8_t *end)
{
	uint8_t first = c->head_len > 0 ? c->head[0] : **pp;
	size_t size = header_size(first), want = size - c->head_len;
	size_t n = (size_t)(end - *pp) < want ? (size_t)(end - *pp) : want;
	const uint8_t *header = *pp;

	if (first == INVALID_BYTE)
		return CURSOR_INVALID;
	*pp += n;
	if (n < size) { /* some of it came, or comes, with another feed */
		memcpy(c->head + c->head_len, header, n);
		c->head_len += (uint8_t)n;
		if (n < want)
			return cursor_has_room(c, size) ? CURSOR_MORE : CURSOR_TOO_MANY;
		header = c->head;
		c->head_len = 0;
	}
	return cursor_take(c, header, size);
}

/* Passes over values of the innermost level while each is simple and complete in the data: the inner loop of flat
 * arrays. Leaves alone whatever is not, or breaks a limit. */
static const uint8_t *cursor_run(struct cursor *c, const uint8_t *p, const uint8_t *end)
{
	uint32_t *top = &c->owed[c->depth - 1], owed = *top;
	uint64_t slack = c->left - c->due; /* bytes that no value has claimed */
	const uint8_t *start = p;

	while (owed > 0 && p < end) {
		size_t size = leaf_size[*p];

		if (size == 0 || size > (size_t)(end - p) || size - 1 > slack)
			break;
		slack -= size - 1;
		p += size;
		owed--;
	}
	c->due -= *top - owed;
	c->left -= (uint64_t)(p - start);
	*top = owed;
	return p;
}

static const uint8_t *cursor_skip(struct cursor *c, const uint8_t *p, const uint8_t *end)
{
	uint64_t n = (uint64_t)(end - p) < c->skip ? (uint64_t)(end - p) : c->skip;

	c->skip -= n;
	c->left -= n;
	return p + n;
}

static enum cursor_status cursor_walk(struct cursor *c, const uint8_t **pp, const uint8_t *end)
{
	for (;;) {
		enum cursor_status status;

		if (c->skip > 0)
			*pp = cursor_skip(c, *pp, end);
		if (c->skip > 0)
			return CURSOR_MORE;
		if (c->due == 0)
			return CURSOR_DONE;
		while (c->depth > 0 && c->owed[c->depth - 1] == 0)
			c->depth--;
		if (c->depth > 0 && c->head_len == 0)
			*pp = cursor_run(c, *pp, end);
		if (c->due == 0)
			return CURSOR_DONE;
		if (c->depth > 0 && c->owed[c->depth - 1] == 0)
			continue;
		if (*pp == end)
			return CURSOR_MORE;
		status = cursor_take_header(c, pp, end);
		if (status != CURSOR_DONE)
			return status;
	}
}

enum cursor_status cursor_feed(struct cursor *c, const uint8_t *data, size_t len, size_t *used)
{
	static const uint8_t nothing[1]; /* data may be NULL when len is 0 */
	const uint8_t *start = len > 0 ? data : nothing, *p = start;
	enum cursor_status status = cursor_walk(c, &p, start + len);

	*used = (size_t)(p - start);
	return status;
}

enum cursor_status cursor_check(struct span s)
{
	uint64_t place;

	return cursor_check_place(s, &place);
}

enum cursor_status cursor_check_place(struct span s, uint64_t *place)
{
	struct cursor c;
	size_t used;
	enum cursor_status status;

	cursor_init(&c, s.len);
	status = cursor_feed(&c, s.p, s.len, &used);
	if (status == CURSOR_DONE && used < s.len)
		status = CURSOR_INVALID;
	if (status != CURSOR_DONE)
		*place = cursor_place(&c, s.len);
	return status;
}

const char *cursor_status_text(enum cursor_status status)
{
	switch (status) {
	case CURSOR_DONE:
		return "well formed";
	case CURSOR_MORE:
		return "cut short: there is no complete value";
	case CURSOR_TOO_DEEP:
		return "depth: values are nested deeper than 512";
	case CURSOR_TOO_MANY:
		return "cut short, or a header promises more values or bytes than there is room for";
	case CURSOR_INVALID:
		return "not MessagePack: the byte 0xc1 in it, or bytes after its end";
	}
	return "unknown";
}

static bool span_advance(struct span *s, size_t n)
{
	s->p += n;
	s->len -= n;
	return true;
}

/* Reads an array or map header: fix, 16 bit, 32 bit form. */
static bool read_count(struct span *s, uint8_t fix, uint8_t wide, uint32_t *n)
{
	size_t size;

	if (s->len == 0)
		return false;
	size = header_size(s->p[0]);
	if ((s->p[0] & 0xf0) == fix)
		*n = s->p[0] & 0x0fu;
	else if ((s->p[0] == wide || s->p[0] == wide + 1) && s->len >= size)
		*n = (uint32_t)read_be(s->p + 1, size - 1);
	else
		return false;
	return span_advance(s, size);
}

bool mp_read_array(struct span *s, uint32_t *n)
{
	return read_count(s, 0x90, 0xdc, n);
}

bool mp_read_map(struct span *s, uint32_t *n)
{
	return read_count(s, 0x80, 0xde, n);
}

bool mp_read_uint(struct span *s, uint64_t *v)
{
	uint64_t raw;
	size_t size;

	if (s->len == 0)
		return false;
	if (s->p[0] <= 0x7f) {
		*v = s->p[0];
		return span_advance(s, 1);
	}
	size = leaf_size[s->p[0]];
	if (s->p[0] < 0xcc || s->p[0] > 0xd3 || s->len < size)
		return false;
	raw = read_be(s->p + 1, size - 1);
	if (s->p[0] >= 0xd0 && raw >> (8 * (size - 1) - 1)) /* a signed form below zero */
		return false;
	*v = raw;
	return span_advance(s, size);
}

bool mp_read_bool(struct span *s, bool *v)
{
	if (s->len == 0 || (s->p[0] != 0xc2 && s->p[0] != 0xc3))
		return false;
	*v = s->p[0] == 0xc3;
	return span_advance(s, 1);
}

bool mp_read_nil(struct span *s)
{
	return s->len > 0 && s->p[0] == 0xc0 && span_advance(s, 1);
}

static bool is_text(uint8_t first)
{
	return (first >= 0xa0 && first <= 0xbf) || (first >= 0xc4 && first <= 0xc6) || (first >= 0xd9 && first <= 0xdb);
}

bool mp_read_text(struct span *s, struct span *text)
{
	uint64_t bytes;
	size_t size;

	if (s->len == 0 || !is_text(s->p[0]))
		return false;
	size = header_size(s->p[0]);
	if (s->len < size)
		return false;
	bytes = header_promise(s->p, size).bytes;
	if (bytes > s->len - size)
		return false;
	*text = (struct span){ .p = s->p + size, .len = (size_t)bytes };
	return span_advance(s, size + (size_t)bytes);
}

bool mp_read_any(struct span *s, struct span *value)
{
	struct cursor c;
	size_t used = s->len > 0 ? leaf_size[s->p[0]] : 0;

	if (used == 0 || used > s->len) {
		cursor_init(&c, s->len);
		if (cursor_feed(&c, s->p, s->len, &used) != CURSOR_DONE)
			return false;
	}
	*value = (struct span){ .p = s->p, .len = used };
	return span_advance(s, used);
}

const char *mp_type_name(struct span s)
{
	if (s.len == 0)
		return "nothing";
	switch (s.p[0]) {
	case 0x00 ... 0x7f:
	case 0xcc ... 0xd3:
	case 0xe0 ... 0xff:
		return "int";
	case 0x80 ... 0x8f:
	case 0xde ... 0xdf:
		return "map";
	case 0x90 ... 0x9f:
	case 0xdc ... 0xdd:
		return "array";
	case 0xa0 ... 0xbf:
	case 0xd9 ... 0xdb:
		return "str";
	case 0xc0:
		return "nil";
	case 0xc2 ... 0xc3:
		return "bool";
	case 0xc4 ... 0xc6:
		return "bin";
	case 0xca ... 0xcb:
		return "float";
	case INVALID_BYTE:
		return "invalid";
	default:
		return "ext";
	}
}

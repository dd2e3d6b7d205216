#include "tests/fuzz/reference.h"

#define DEPTH_MAX 512

struct reader {
	struct span left;
	unsigned depth, deepest;
};

static bool read_value(struct reader *r);

static bool take(struct reader *r, uint64_t n)
{
	if (n > r->left.len)
		return false;
	r->left.p += n;
	r->left.len -= (size_t)n;
	return true;
}

static bool read_number(struct reader *r, unsigned bytes, uint64_t *n)
{
	const uint8_t *p = r->left.p;

	*n = 0;
	if (!take(r, bytes))
		return false;
	for (unsigned i = 0; i < bytes; i++)
		*n = *n * 256 + p[i];
	return true;
}

static bool read_values(struct reader *r, uint64_t n)
{
	if (++r->depth > DEPTH_MAX)
		return false;
	if (r->depth > r->deepest)
		r->deepest = r->depth;
	while (n-- > 0) {
		if (!read_value(r))
			return false;
	}
	r->depth--;
	return true;
}

/* Formats 0xc0 to 0xdf, in the order of the specification. */
static bool read_format(struct reader *r, uint8_t format)
{
	uint64_t n;

	switch (format) {
	case 0xc0: /* nil */
	case 0xc2: /* false */
	case 0xc3: /* true */
		return true;
	case 0xc4 ... 0xc6: /* bin 8, 16, 32 */
		return read_number(r, 1u << (format - 0xc4), &n) && take(r, n);
	case 0xc7 ... 0xc9: /* ext 8, 16, 32 */
		return read_number(r, 1u << (format - 0xc7), &n) && take(r, 1) && take(r, n);
	case 0xca ... 0xcb: /* float 32, 64 */
		return take(r, 4u << (format - 0xca));
	case 0xcc ... 0xcf: /* uint 8, 16, 32, 64 */
		return take(r, 1u << (format - 0xcc));
	case 0xd0 ... 0xd3: /* int 8, 16, 32, 64 */
		return take(r, 1u << (format - 0xd0));
	case 0xd4 ... 0xd8: /* fixext 1, 2, 4, 8, 16 */
		return take(r, 1) && take(r, 1u << (format - 0xd4));
	case 0xd9 ... 0xdb: /* str 8, 16, 32 */
		return read_number(r, 1u << (format - 0xd9), &n) && take(r, n);
	case 0xdc ... 0xdd: /* array 16, 32 */
		return read_number(r, 2u << (format - 0xdc), &n) && read_values(r, n);
	case 0xde ... 0xdf: /* map 16, 32 */
		return read_number(r, 2u << (format - 0xde), &n) && read_values(r, 2 * n);
	default: /* 0xc1 */
		return false;
	}
}

static bool read_value(struct reader *r)
{
	uint8_t first = r->left.len ? r->left.p[0] : 0;

	if (!take(r, 1))
		return false;
	if (first <= 0x7f || first >= 0xe0) /* fixint */
		return true;
	if (first <= 0x8f) /* fixmap */
		return read_values(r, 2u * (first & 0x0f));
	if (first <= 0x9f) /* fixarray */
		return read_values(r, first & 0x0f);
	if (first <= 0xbf) /* fixstr */
		return take(r, first & 0x1f);
	return read_format(r, first);
}

struct reference reference_read(struct span s)
{
	struct reader r = { .left = s };
	bool ok = read_value(&r);

	return (struct reference){ .ok = ok, .len = s.len - r.left.len, .depth = r.deepest };
}

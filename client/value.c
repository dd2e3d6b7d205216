/* Reading single values out of encoded bytes, for callers that do not want a MessagePack library for an int. */
#include <errno.h>

#include "client/handle.h"

/* Big-endian bytes after the header byte. */
static uint64_t value_bits(struct span s, size_t n)
{
	uint64_t v = 0;

	for (size_t i = 1; i <= n; i++)
		v = v << 8 | s.p[i];
	return v;
}

/* Bytes of the number behind the header byte, if there are that many. */
static bool value_has(struct span s, size_t n)
{
	return s.len > n;
}

static bool value_read_negative(struct span s, int64_t *v)
{
	uint8_t head = s.len ? s.p[0] : 0;
	uint64_t sign;
	size_t n;

	if (head >= 0xe0) {
		*v = (int64_t)head - 256;
		return true;
	}
	if (head < 0xd0 || head > 0xd3)
		return false;
	n = (size_t)1 << (head - 0xd0);
	if (!value_has(s, n))
		return false;
	sign = UINT64_C(1) << (8 * n - 1);
	*v = (int64_t)((value_bits(s, n) ^ sign) - sign); /* extends the sign */
	return true;
}

int pypool_get_int(struct pypool_span value, int64_t *v)
{
	struct span s = span_of(value);
	uint64_t u;

	if (mp_read_uint(&s, &u)) {
		if (u > INT64_MAX)
			return -ERANGE;
		*v = (int64_t)u;
		return 0;
	}
	return value_read_negative(s, v) ? 0 : -EINVAL;
}

int pypool_get_double(struct pypool_span value, double *v)
{
	struct span s = span_of(value);
	uint64_t bits;
	int64_t i;
	float f;

	if (s.len > 0 && s.p[0] == 0xcb && value_has(s, 8)) {
		bits = value_bits(s, 8);
		memcpy(v, &bits, sizeof(*v));
	} else if (s.len > 0 && s.p[0] == 0xca && value_has(s, 4)) {
		uint32_t half = (uint32_t)value_bits(s, 4);

		memcpy(&f, &half, sizeof(f));
		*v = (double)f;
	} else if (mp_read_uint(&s, &bits)) {
		*v = (double)bits;
	} else if (value_read_negative(s, &i)) {
		*v = (double)i;
	} else {
		return -EINVAL;
	}
	return 0;
}

int pypool_get_text(struct pypool_span value, struct pypool_span *text)
{
	struct span s = span_of(value), t;

	if (!mp_read_text(&s, &t))
		return -EINVAL;
	*text = span_give(t);
	return 0;
}

int pypool_get_key(struct pypool_span map, const char *key, struct pypool_span *value)
{
	struct span s = span_of(map);
	uint32_t n;

	if (!mp_read_map(&s, &n))
		return -EINVAL;
	for (; n > 0; n--) {
		struct span name = { 0 }, v;

		if (!mp_read_text(&s, &name) && !mp_read_any(&s, &v))
			return -EINVAL;
		if (!mp_read_any(&s, &v))
			return -EINVAL;
		if (name.p && span_equals(name, key)) {
			*value = span_give(v);
			return 0;
		}
	}
	return -ENOENT;
}

int pypool_get_item(struct pypool_span array, size_t index, struct pypool_span *value)
{
	struct span s = span_of(array), v;
	uint32_t n;

	if (!mp_read_array(&s, &n))
		return -EINVAL;
	if (index >= n)
		return -ENOENT;
	for (size_t i = 0; i <= index; i++)
		if (!mp_read_any(&s, &v))
			return -EINVAL;
	*value = span_give(v);
	return 0;
}

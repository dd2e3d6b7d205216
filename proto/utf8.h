/* The little that names and messages need of UTF-8: where a character ends, and whether a terminal would act on it. */
#pragma once

#include "proto/span.h"

static inline bool utf8_is_tail(uint8_t b)
{
	return (b & 0xc0) == 0x80;
}

/* Bytes of the first character of s; 0 when it is no valid UTF-8 (cut, overlong, surrogate, over U+10FFFF) or s is
 * empty. */
static inline size_t utf8_char(struct span s)
{
	const uint8_t *p = s.p;

	if (s.len == 0)
		return 0;
	if (p[0] < 0x80)
		return 1;
	if (p[0] < 0xc2 || s.len < 2 || !utf8_is_tail(p[1]))
		return 0;
	if (p[0] < 0xe0)
		return 2;
	if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f) || s.len < 3 || !utf8_is_tail(p[2]))
		return 0;
	if (p[0] < 0xf0)
		return 3;
	if ((p[0] == 0xf0 && p[1] < 0x90) || (p[0] == 0xf4 && p[1] > 0x8f) || p[0] > 0xf4)
		return 0;
	return s.len >= 4 && utf8_is_tail(p[3]) ? 4 : 0;
}

/* Is the first character of s, which is valid, a control character: C0, DEL or C1? */
static inline bool utf8_is_control(struct span s)
{
	return s.p[0] < 0x20 || s.p[0] == 0x7f || (s.p[0] == 0xc2 && s.len > 1 && s.p[1] < 0xa0);
}

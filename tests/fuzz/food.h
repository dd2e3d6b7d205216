/* The fuzzer's bytes, eaten from the front. At the end bytes are 0 and chunks are empty: no input is too short. */
#pragma once

#include "proto/span.h"

struct food {
	struct span left;
};

static inline bool food_is_gone(const struct food *f)
{
	return f->left.len == 0;
}

static inline struct span food_bytes(struct food *f, size_t n)
{
	struct span s = { .p = f->left.p, .len = n < f->left.len ? n : f->left.len };

	f->left.p += s.len;
	f->left.len -= s.len;
	return s;
}

static inline uint8_t food_byte(struct food *f)
{
	struct span s = food_bytes(f, 1);

	return s.len ? s.p[0] : 0;
}

/* A length of one byte, and that much. */
static inline struct span food_chunk(struct food *f)
{
	return food_bytes(f, food_byte(f));
}

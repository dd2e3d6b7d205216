/* A span points at bytes that somebody else owns; it is valid as long as they are. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct span {
	const uint8_t *p;
	size_t len;
};

#define SPAN_LIT(s) ((struct span){ .p = (const uint8_t *)(s), .len = sizeof(s) - 1 })

static inline struct span span_str(const char *s)
{
	return (struct span){ .p = (const uint8_t *)s, .len = strlen(s) };
}

static inline bool span_equals(struct span s, const char *text)
{
	size_t n = strlen(text);

	return s.len == n && memcmp(s.p, text, n) == 0;
}

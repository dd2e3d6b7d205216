/*
 * MessagePack by the letter of its specification, for comparison: recursive, slow, and written apart from
 * proto/cursor.c.
 */
#pragma once

#include "proto/span.h"

struct reference {
	bool ok;        /* one complete value of at most 512 levels */
	size_t len;     /* its bytes */
	unsigned depth; /* its levels */
};

struct reference reference_read(struct span s);

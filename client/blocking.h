/* Blocking calls for the files that fill in params. */
#pragma once

#include "client/pypool.h"
#include "proto/span.h"

struct link;

/* 0, -EPERM in a forked child, -EBUSY inside a callback. */
int blocking_check(struct pypool *p);
/* Submits and waits; after blocking_check(). Failure is recorded in the handle. */
int blocking_call(struct link *link, const char *method, const struct span *params, size_t n, uint32_t limit_ms,
		  struct pypool_reply **out);
/* Waits until something happens, and does what is to be done then. */
void blocking_turn(struct pypool *p);

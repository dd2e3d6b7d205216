/* Looks into a map of a message. */
#pragma once

#include <stdint.h>

#include "proto/span.h"

/* 0, or a span of no length: it has no such key. */
uint64_t params_uint(struct span map, const char *name);
struct span params_any(struct span map, const char *name);

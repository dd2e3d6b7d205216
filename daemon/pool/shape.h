/*
 * A number for what makes the workers of a pool what they are: those of two daemons can stand side by side when the shapes of their
 * settings are the same.
 */
#pragma once

#include <stdint.h>

struct pool_settings;

/* Of all that a worker is started with and could not be told later. */
uint64_t shape_of(const struct pool_settings *s);
/* Of a text: the same in every process. */
uint64_t shape_of_text(const char *text);

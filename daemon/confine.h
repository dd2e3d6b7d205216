/* Whether the limits of a configuration that need cgroups can be kept: asked for before pools are set to it. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

struct config;
struct daemon;

/* False: they cannot, and why says which and what to do. */
bool confine_prepare(struct daemon *d, const struct config *c, char *why, size_t why_size);

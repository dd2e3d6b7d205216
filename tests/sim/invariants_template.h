/* The invariants of the templates of a world. */
#pragma once

#include <stdbool.h>

struct pool;
struct world;

void invariants_check_templates(struct world *w);
/* The first template of the pool is on its way. */
bool invariants_template_starts(const struct pool *p);

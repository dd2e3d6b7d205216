/* Tables like those of lsblk, out of a list of maps. */
#pragma once

#include <stdbool.h>
#include <stdio.h>

#include "client/ctl/cell.h"

struct ctl;
struct pypool_reply;

struct grid_column {
	const char *title;
	const char *key;
	cell_fn *text;
	bool right; /* numbers */
};

/* columns end with a NULL title. An enum ctl_exit. */
int grid_write(FILE *out, struct span list, const struct grid_column *columns);
int grid_print(struct span list, const struct grid_column *columns);
/* The same, or whole as JSON when that is wanted. */
int grid_show(const struct ctl *ctl, struct span list, const struct grid_column *columns);
/* Asks for a list and shows it. */
int grid_command(struct ctl *ctl, const char *method, const char *pool, const struct grid_column *columns);

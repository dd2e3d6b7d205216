/* What the parts of pypoolctl logs share. */
#pragma once

#include "client/ctl/ctl.h"

struct logs_filter {
	const char *pool;
	uint64_t worker;
	bool has_worker;
	uint64_t lines;
	bool has_lines;
};

/* A line of the answer to `logs`, or an event of the kind output. */
void logs_print_line(struct span line);
int logs_ask(struct ctl *ctl, const struct logs_filter *f, struct pypool_reply **reply);
/* The last lines, and then those that come, until it is stopped. */
int logs_follow(struct ctl *ctl, const struct logs_filter *f);

/* The pools that a command is about. */
#pragma once

#include "proto/span.h"

struct ctl;

/* For each pool that is named in argv from optind on, or for all that the daemon has; one that fails does not hold up the others.
 * Returns the worst of the exit statuses. */
int each_pool(struct ctl *ctl, int argc, char **argv, int (*one)(struct ctl *ctl, struct span pool, void *arg), void *arg);

/*
 * The configuration is read again, for a reload. A new one that is good takes the place of the old one at once, for what
 * concerns the daemon as a whole, and pool by pool when the pool's reload has shown that it works. A bad one changes nothing.
 */
#pragma once

#include "daemon/daemon.h"

/* The new one, which the daemon owns as long as a pool uses it; dry: nothing but that. NULL: the old one stays; *why, the caller's to
 * free, has every complaint, one a line. */
const struct config *renewal_read(struct daemon *d, bool dry, char **why);
/* For SIGHUP: reads it, and reloads all pools; a complaint goes to the log. */
void renewal_reload_all(struct daemon *d);

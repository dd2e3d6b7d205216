/* From a message to its method. */
#pragma once

#include "daemon/front/query.h"

/* Takes one message of a client. */
void router_take(struct client *c, const struct slice *body);
/* The same for one that the program before this one has taken already. */
void router_take_late(struct client *c, const struct slice *body, const struct query_late *late);

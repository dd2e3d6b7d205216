/* From a message to its method. */
#pragma once

#include "daemon/front/query.h"

/* Takes one message of a client. */
void router_take(struct client *c, const struct slice *body);

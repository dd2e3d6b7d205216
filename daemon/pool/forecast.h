/* When a waiting request will be started, from how long calls of its pool took so far. A guess, for people. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct request;

/* ahead: as queue_ahead() counts, or those that wait under the same lease before it. False: there is nothing to guess
 * from. */
bool forecast_start(const struct request *r, unsigned ahead, uint64_t *in_ns);

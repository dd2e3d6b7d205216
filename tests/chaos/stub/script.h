/* What calls can ask a stub worker for, good or bad: the table is in script.c. */
#pragma once

#include <stdbool.h>

#include "proto/span.h"

struct stub;

/* what: a name of the table. It may answer the call in hand, or not, or once too often; it may not return at all.
 * False: there is no such name. */
bool script_run(struct stub *s, struct span what);

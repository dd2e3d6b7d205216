/* A moment of the wall clock at the beginning of a line. */
#pragma once

#include "proto/span.h"

/* value: encoded, UNIX time in ms. Prints "2026-01-31 12:00:00.250 ", or "- " for anything else. */
void stamp_print(struct span value);

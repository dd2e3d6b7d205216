/* An error for people: code, message, executed, then the post-mortem; or as JSON. */
#pragma once

#include <stdbool.h>
#include <stdio.h>

struct pypool_error;

void failure_print(FILE *out, const struct pypool_error *e, bool json);

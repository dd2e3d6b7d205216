/* An error for people: code, message, executed, then the post-mortem; or as JSON. */
#pragma once

#include <stdbool.h>
#include <stdio.h>

#include "proto/span.h"

struct pypool_error;

/* The fields of a map, each on its line, texts of several lines below their key. */
void failure_print_fields(FILE *out, struct span map, int indent);
void failure_print(FILE *out, const struct pypool_error *e, bool json);

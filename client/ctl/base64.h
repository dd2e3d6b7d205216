#pragma once

#include <stdio.h>

#include "proto/span.h"

void base64_print(FILE *out, struct span bytes);
/* Decodes into out, which has room for text.len * 3 / 4 bytes. Strict: padded, no blanks. False: malformed. */
bool base64_decode(struct span text, uint8_t *out, size_t *n);

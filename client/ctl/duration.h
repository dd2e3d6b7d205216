/* Times as people write them: 250ms, 30s, 5m, 1h. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* 1 ms to 2^31 ms. False: *error says why (static). */
bool duration_parse(const char *text, uint32_t *ms, const char **error);

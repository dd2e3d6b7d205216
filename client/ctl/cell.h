/* What stands in a cell of a table: functions from an encoded value to a malloced string. NULL: it cannot be shown so (or
 * there is no memory), which becomes "-". All escape what could act on a terminal. */
#pragma once

#include "proto/span.h"

typedef char *cell_fn(struct span value);

char *cell_any(struct span value);   /* text as it is, all else as JSON */
char *cell_id(struct span value);    /* a number, where 0 is none */
char *cell_ms(struct span value);    /* 1.2s, 3m04s, 2h05m, 3d04h */
char *cell_us(struct span value);    /* 85us, 1.25ms, 3.4s */
char *cell_rate(struct span value);  /* a float: 1234, 12.3 */
char *cell_bytes(struct span value); /* 812, 4.0K, 1.5M */
char *cell_kib(struct span value);
char *cell_init(struct span value); /* init phases: "exec 12, imports numpy 80" (ms) */
char *cell_call(struct span value); /* {call, target, ms}: "app.work 1.2s" */
char *cell_template(struct span value); /* {state, reason}: "unfit: it has threads" */
char *cell_deaths(struct span value); /* {reason: n}: how many were not meant to be */
char *cell_first_line(struct span value);
/* The value of a key; len 0 when the map has none, or nil. */
struct span cell_of(struct span map, const char *key);

/* What pypoolctl why prints: one file for each kind of thing that it explains, and the words that they share, also with
 * pypoolctl stack. */
#pragma once

#include "client/ctl/cell.h"
#include "client/ctl/ctl.h"
#include "proto/cursor.h"

/* The exit status of the command. */
int why_print_call(struct span call);
int why_print_worker(struct span worker);
int why_print_pool(struct span pool);

/* The value of key as that kind of cell; "-" when there is none. */
void why_put(struct span map, const char *key, cell_fn *text);
bool why_has(struct span map, const char *key);
/* 0 or false when it is absent or something else. */
uint64_t why_uint(struct span map, const char *key);
bool why_true(struct span map, const char *key);
bool why_is(struct span map, const char *key, const char *word);
/* A line begins. */
void why_label(const char *label);
/* A whole line: label, before, the value, after. */
void why_line(const char *label, const char *before, struct span map, const char *key, cell_fn *text, const char *after);
/* "1 call", "2 calls" */
void why_plural(uint64_t n, const char *one, const char *many);
/* The beginning of a line: which worker it is, and its state. */
void why_print_who(struct span worker);
/* The line about the call that a worker runs, if it does. */
void why_print_slot(struct span worker);
/* UNIX ms as "11:40:02". */
void why_clock(uint64_t ms);

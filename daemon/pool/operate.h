/* What an operator does with a pool and its workers while they run. */
#pragma once

#include <stdbool.h>

struct pool;
struct worker;

/* Paused: calls are taken and wait, and what runs goes on, leases too, but no call is started. */
void operate_pause(struct pool *p, bool paused);
/* How many workers it has, until its next reload. min <= max, max > 0. */
void operate_resize(struct pool *p, unsigned min, unsigned max);
/* The same for one that has not begun, as it was before; nobody is told. */
void operate_set_size(struct pool *p, unsigned min, unsigned max);
/* Replaces only, or all workers, as those are replaced that are used up. Returns how many that will be. */
unsigned operate_recycle(struct pool *p, struct worker *only);
/* Now, whatever it runs; it is replaced. Of a template's process: that. */
void operate_kill(struct worker *w);

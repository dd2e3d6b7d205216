/* The invariants of a world, checked after every step. Each complains through world_violate(). */
#pragma once

struct outcome;
struct request;
struct streak;
struct world;

void invariants_check(struct world *w);
/* No answer comes before its time. */
void invariants_check_times(struct world *w, const struct request *r, const struct outcome *o);
/* Starts that fail one after the other come no faster than the back-off allows; free_starts of them at once. */
void invariants_check_streak(struct world *w, const struct streak *s, unsigned free_starts);
/* The daemon has not found a bug in itself. */
void invariants_check_log(struct world *w);

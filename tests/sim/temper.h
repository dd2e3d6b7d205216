/* What the simulated workers of a world are like: how often, and how, one fails to start or to answer. */
#pragma once

#include "tests/sim/sim_child.h"
#include "tests/sim/sim_random.h"

struct temper {
	struct sim_random *random; /* borrows: the world's */
	const struct sim_script *fixed; /* borrows: all are like this one, nothing is drawn; or NULL */
	unsigned bad_init;         /* one start in so many goes wrong; 0: none */
	unsigned bad_spawn;        /* the same of processes that cannot be made */
	unsigned bad_call;         /* one call in so many is not just answered */
	unsigned bad_manners;      /* one worker in so many does not listen */
	bool forks;                /* the pool has templates */
	unsigned bad_fork;         /* one fork in so many goes wrong */
};

void temper_init(struct temper *t, struct sim_random *random);
/* From now on everything works. */
void temper_calm(struct temper *t);
/* Draws what the next child will do; returns the errno of its start, or 0. */
int temper_draw_child(struct temper *t, struct sim_script *s);
/* What a template does with the next fork. */
void temper_draw_fork(struct temper *t, struct sim_script *s);
void temper_draw_call(struct temper *t, struct sim_script *s);

#include "tests/sim/sim_timers.h"

#include <stddef.h>

/* What loop_timer.store holds. */
struct timer_store {
	struct loop_timer *prev, *next;
	uint64_t order;
};

_Static_assert(sizeof(struct timer_store) <= sizeof(((struct loop_timer *)0)->store), "room for the list");

static struct timer_store *timer_store(const struct loop_timer *t)
{
	return (struct timer_store *)(void *)t->store;
}

void loop_timer_init(struct loop_timer *t, struct loop *l, void (*fired)(struct loop_timer *t))
{
	*t = (struct loop_timer){ .loop = l, .at = LOOP_NEVER, .fired = fired };
}

static void unlist(struct sim_timers *ts, const struct loop_timer *t)
{
	const struct timer_store *s = timer_store(t);

	if (s->prev)
		timer_store(s->prev)->next = s->next;
	else
		ts->list = s->next;
	if (s->next)
		timer_store(s->next)->prev = s->prev;
}

void loop_timer_set(struct loop_timer *t, uint64_t at)
{
	struct sim_timers *ts = loop_timers(t->loop);

	if (t->at != LOOP_NEVER)
		unlist(ts, t);
	t->at = at;
	if (at == LOOP_NEVER)
		return;
	*timer_store(t) = (struct timer_store){ .next = ts->list, .order = ++ts->order };
	if (ts->list)
		timer_store(ts->list)->prev = t;
	ts->list = t;
}

void loop_timer_stop(struct loop_timer *t)
{
	loop_timer_set(t, LOOP_NEVER);
}

/* The one that is due first, of those armed before `order`. */
static struct loop_timer *first_before(const struct sim_timers *ts, uint64_t order)
{
	struct loop_timer *first = NULL;

	for (struct loop_timer *t = ts->list; t; t = timer_store(t)->next) {
		if (timer_store(t)->order >= order)
			continue;
		if (!first || t->at < first->at ||
		    (t->at == first->at && timer_store(t)->order < timer_store(first)->order))
			first = t;
	}
	return first;
}

uint64_t sim_timers_next(const struct sim_timers *ts)
{
	const struct loop_timer *t = first_before(ts, UINT64_MAX);

	return t ? t->at : LOOP_NEVER;
}

unsigned sim_timers_count(const struct sim_timers *ts)
{
	unsigned n = 0;

	for (const struct loop_timer *t = ts->list; t; t = timer_store(t)->next)
		n++;
	return n;
}

unsigned sim_timers_fire(struct sim_timers *ts, uint64_t now)
{
	uint64_t order = ++ts->order;
	struct loop_timer *t;
	unsigned n = 0;

	while ((t = first_before(ts, order)) && t->at <= now) {
		loop_timer_stop(t);
		t->fired(t);
		n++;
	}
	return n;
}

#include "daemon/pool/breaker.h"

#include "daemon/base/cleanup.h"
#include "daemon/base/log.h"
#include "daemon/pool/pool.h"

const char *breaker_state_name(enum breaker_state s)
{
	static const char *const names[] = {
		[BREAKER_CLOSED] = "closed",
		[BREAKER_OPEN] = "open",
		[BREAKER_HALF_OPEN] = "half-open",
	};

	return names[s];
}

static void breaker_set_state(struct breaker *b, enum breaker_state to)
{
	if (b->state == to)
		return;
	b->state = to;
	if (to == BREAKER_CLOSED)
		b->starts = b->crashes = 0;
	if (to == BREAKER_OPEN) {
		b->n_opened++;
		loop_timer_set(&b->timer, loop_now(b->timer.loop) + b->reset);
	} else {
		loop_timer_stop(&b->timer);
	}
	b->changed(b);
}

static void breaker_on_timer(struct loop_timer *t)
{
	breaker_set_state(container_of(t, struct breaker, timer), BREAKER_HALF_OPEN);
}

void breaker_init(struct breaker *b, struct loop *l, unsigned threshold, uint64_t reset,
		  void (*changed)(struct breaker *b))
{
	*b = (struct breaker){ .threshold = threshold, .reset = reset, .changed = changed };
	loop_timer_init(&b->timer, l, breaker_on_timer);
}

void breaker_deinit(struct breaker *b)
{
	loop_timer_stop(&b->timer);
	deaths_deinit(&b->deaths);
}

uint64_t breaker_wait(const struct breaker *b)
{
	uint64_t now = loop_now(b->timer.loop);

	return b->timer.at != LOOP_NEVER && b->timer.at > now ? b->timer.at - now : 0;
}

void breaker_note_failure(struct breaker *b, const struct worker *w, const char *text)
{
	deaths_add(&b->deaths, w, text);
	if (breaker_failures(b) == 0)
		b->first_wall = deaths_last(&b->deaths, 0)->wall_ms;
	if (w->ready_at)
		b->crashes++;
	else
		b->starts++;
	if (b->state == BREAKER_HALF_OPEN || (b->threshold && breaker_failures(b) >= b->threshold))
		breaker_set_state(b, BREAKER_OPEN);
}

void breaker_note_ready(struct breaker *b)
{
	if (b->state == BREAKER_HALF_OPEN)
		breaker_set_state(b, BREAKER_CLOSED);
	else if (b->state == BREAKER_CLOSED)
		b->starts = 0;
}

void breaker_close(struct breaker *b)
{
	b->starts = b->crashes = 0;
	if (b->state != BREAKER_CLOSED)
		breaker_set_state(b, BREAKER_CLOSED);
}

void breaker_note_success(struct breaker *b)
{
	if (b->state == BREAKER_HALF_OPEN && !b->starts)
		breaker_set_state(b, BREAKER_CLOSED);
	else if (b->state == BREAKER_CLOSED)
		b->crashes = 0;
}

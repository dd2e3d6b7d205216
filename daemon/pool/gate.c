#include "daemon/pool/gate.h"

#include <utlist.h>

#include "daemon/base/cleanup.h"
#include "daemon/base/log.h"

static void gate_on_slice_over(struct loop_timer *t)
{
	gate_leave(container_of(t, struct gate_ticket, slice));
}

static struct gate_ticket *gate_next(const struct gate *g)
{
	struct gate_ticket *t = g->waiting;

	while (t && !t->light && g->inside >= g->limit)
		t = t->next;
	return t;
}

static void gate_admit(struct loop_task *task)
{
	struct gate *g = container_of(task, struct gate, admit);

	struct gate_ticket *t;

	while ((t = gate_next(g))) {
		DL_DELETE(g->waiting, t);
		t->state = t->light ? GATE_OUT : GATE_INSIDE;
		if (!t->light) {
			g->inside++;
			loop_timer_set(&t->slice, loop_now(g->loop) + GATE_SLICE);
		}
		t->admitted(t);
	}
}

void gate_init(struct gate *g, struct loop *l, unsigned limit)
{
	*g = (struct gate){ .loop = l, .limit = limit, .admit = { .run = gate_admit } };
}

void gate_deinit(struct gate *g)
{
	if (g->waiting || g->inside)
		LOG_BUG("the start gate ends with workers in it");
	loop_task_cancel(g->loop, &g->admit);
}

void gate_ticket_init(struct gate_ticket *t, struct gate *g, void (*admitted)(struct gate_ticket *t))
{
	*t = (struct gate_ticket){ .gate = g, .admitted = admitted };
	loop_timer_init(&t->slice, g->loop, gate_on_slice_over);
}

void gate_join(struct gate_ticket *t, bool light)
{
	struct gate *g = t->gate;

	t->state = GATE_WAITING;
	t->light = light;
	DL_APPEND(g->waiting, t);
	loop_defer(g->loop, &g->admit);
}

void gate_leave(struct gate_ticket *t)
{
	struct gate *g = t->gate;

	if (t->state == GATE_OUT)
		return;
	if (t->state == GATE_WAITING) {
		DL_DELETE(g->waiting, t);
	} else {
		loop_timer_stop(&t->slice);
		g->inside--;
	}
	t->state = GATE_OUT;
	if (g->waiting)
		loop_defer(g->loop, &g->admit);
}

#include "daemon/pool/glance.h"

#include <stdio.h>
#include <stdlib.h>
#include <utlist.h>

#include "daemon/base/cleanup.h"
#include "daemon/base/log.h"
#include "daemon/base/mem.h"
#include "daemon/pool/launch.h"
#include "daemon/pool/pool.h"

#define PONG_TIME (25 * NS_PER_MS) /* Python gives the GIL away every 5 ms to whoever wants it */

static uint64_t now_of(const struct worker *w)
{
	return loop_now(w->pool->loop);
}

static void glance_finish(struct worker *w)
{
	struct glance *g = &w->glance;
	struct glance_waiter *gw;

	g->on = false;
	g->taken = now_of(w);
	loop_timer_stop(&g->timer);
	while ((gw = g->waiters)) {
		glance_forget(gw);
		gw->done(gw, g);
	}
}

/* The stack may lie ready. True: that was all that was waited for, and the glance is over. */
static bool glance_end_stack(struct worker *w)
{
	process_drain_dump(&w->proc);
	return !w->glance.on;
}

static void glance_on_timer(struct loop_timer *t)
{
	struct worker *w = container_of(t, struct worker, glance.timer);

	if (!glance_end_stack(w))
		glance_finish(w);
}

void glance_init(struct worker *w)
{
	loop_timer_init(&w->glance.timer, w->pool->loop, glance_on_timer);
}

void glance_deinit(struct worker *w)
{
	if (w->glance.waiters)
		LOG_BUG("a worker is freed that somebody looks at");
	loop_timer_stop(&w->glance.timer);
	free(w->glance.stack);
	w->glance.stack = NULL;
}

/* Before hello the signal would kill it; a stopped one takes none. */
static bool glance_can_ask(const struct worker *w)
{
	char state = w->glance.look.state;

	return w->hs.hello && process_is_running(&w->proc) && state != 'T' && state != 't' && state != 'Z';
}

static void glance_begin(struct worker *w, uint64_t limit)
{
	struct glance *g = &w->glance;

	g->on = true;
	g->call = w->slot.call;
	g->asked = now_of(w);
	g->pong = w->hs.pong;
	g->pinged = g->ponged = g->complete = false;
	free(g->stack);
	g->stack = NULL;
	process_look(&w->proc, &g->look);
	g->stacked = !glance_can_ask(w);
	if (g->stacked) {
		limit = 0; /* but never before this returns */
	} else {
		g->stale = w->proc.dumping; /* of a glance that was cut: ours is asked for when that has ended */
		process_dump(&w->proc, limit);
		/* one that has not been answered is as good; more would fill the socket of a worker that hangs */
		g->pinged = w->ping_seq != w->hs.pong || launch_send_ping(w) == 0;
	}
	loop_timer_set(&g->timer, g->asked + limit);
}

void glance_ask(struct worker *w, struct glance_waiter *gw, uint64_t limit)
{
	struct glance *g = &w->glance;

	if (!g->on)
		glance_begin(w, limit);
	else if (now_of(w) + limit < g->timer.at)
		loop_timer_set(&g->timer, now_of(w) + limit);
	if (!gw || gw->on)
		return;
	gw->on = g;
	DL_APPEND(g->waiters, gw);
}

void glance_forget(struct glance_waiter *gw)
{
	if (!gw->on)
		return;
	DL_DELETE(gw->on->waiters, gw);
	gw->on = NULL;
}

void glance_cut(struct worker *w, bool answered)
{
	if (!w->glance.on)
		return;
	w->glance.ponged |= answered;
	if (!glance_end_stack(w))
		glance_finish(w);
}

void glance_take_stack(struct worker *w, struct span text, bool complete)
{
	struct glance *g = &w->glance;
	uint64_t at = g->asked + PONG_TIME;

	if (!g->on || g->stacked)
		return;
	if (g->stale) {
		g->stale = false;
		process_dump(&w->proc, g->timer.at > now_of(w) ? g->timer.at - now_of(w) : 0);
		return;
	}
	g->stack = text.len ? mem_strndup(text.p, text.len) : NULL;
	g->stacked = true;
	g->complete = complete;
	if (g->ponged || !g->pinged)
		glance_finish(w);
	else if (at < g->timer.at)
		loop_timer_set(&g->timer, at);
}

void glance_take_pong(struct worker *w)
{
	struct glance *g = &w->glance;

	if (!g->on || w->hs.pong == g->pong)
		return;
	g->ponged = true;
	if (g->stacked)
		glance_finish(w);
}

const struct glance *glance_last(const struct worker *w, uint64_t max_age)
{
	const struct glance *g = &w->glance;

	if (g->on || !g->taken || g->call != w->slot.call || now_of(w) - g->taken > max_age)
		return NULL;
	return g;
}

struct span glance_stack(const struct glance *g)
{
	return g->stack ? span_str(g->stack) : (struct span){ 0 };
}

static void describe_sleep(const struct glance *g, char out[GLANCE_TEXT])
{
	const char *where = g->look.syscall ? g->look.syscall : g->look.wchan;
	bool holds = g->pinged && !g->ponged;

	(void)snprintf(out, GLANCE_TEXT, "asleep%s%s%s%s", holds ? " in C code that holds the GIL" : "",
		       where[0] ? (holds ? ": " : " in ") : "", where, g->look.state == 'D' ? " (state D)" : "");
}

const char *glance_activity(const struct glance *g, char out[GLANCE_TEXT])
{
	out[0] = '\0';
	switch (g->look.state) {
	case 'R':
		(void)snprintf(out, GLANCE_TEXT, "%s",
			       g->ponged      ? "running Python"
			       : !g->complete ? "running, without an answer"
			       : g->pinged    ? "in C code that holds the GIL"
					      : "running");
		break;
	case 'S':
	case 'D':
		describe_sleep(g, out);
		break;
	case 'T':
	case 't':
		(void)snprintf(out, GLANCE_TEXT, "stopped (state %c)", g->look.state);
		break;
	case 'Z':
		(void)snprintf(out, GLANCE_TEXT, "dead");
		break;
	default:
		break;
	}
	return out;
}

#include "daemon/pool/health.h"

#include <utlist.h>

#include "daemon/base/cleanup.h"
#include "daemon/base/log.h"
#include "daemon/pool/launch.h"
#include "daemon/pool/pool.h"

static void health_miss(struct worker *w)
{
	bool waits = slot_is_free(w) && w->calls_done == w->ping_calls; /* and did so all the time */

	if (waits)
		w->misses++;
	else if (!w->misses)
		w->misses = 1;
	LOG(WARN, "worker.unresponsive", KV("pool", w->pool->settings->name), KV("worker", w->id),
	    KV("pid", w->last_pid), KV("misses", w->misses), KV("busy", !waits));
	if (waits && w->misses >= HEALTH_MISSES)
		worker_stop(w, WORKER_WHY_LOST);
}

static void health_look(struct worker *w)
{
	if (w->hs.pong < w->ping_health) {
		health_miss(w);
	} else {
		w->misses = 0;
		(void)launch_send_ping(w); /* when it cannot be sent, it is missed */
		w->ping_health = w->ping_seq;
	}
	w->ping_calls = w->calls_done;
}

static void health_on_timer(struct loop_timer *t)
{
	struct pool *p = container_of(t, struct pool, health.timer);
	struct worker *w, *next;

	DL_FOREACH_SAFE(p->workers, w, next) {
		if (worker_is_serving(w))
			health_look(w);
	}
	health_start(p);
}

void health_init(struct pool *p)
{
	loop_timer_init(&p->health.timer, p->loop, health_on_timer);
}

void health_start(struct pool *p)
{
	if (p->settings->ping_interval)
		loop_timer_set(&p->health.timer, loop_now(p->loop) + p->settings->ping_interval);
}

void health_stop(struct pool *p)
{
	loop_timer_stop(&p->health.timer);
}

unsigned health_missing(const struct pool *p)
{
	const struct worker *w;
	unsigned n = 0;

	DL_FOREACH(p->workers, w)
		n += worker_is_serving(w) && w->misses;
	return n;
}

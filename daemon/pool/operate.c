#include "daemon/pool/operate.h"

#include <utlist.h>

#include "daemon/base/log.h"
#include "daemon/pool/affinity.h"
#include "daemon/pool/event.h"
#include "daemon/pool/pool.h"

void operate_pause(struct pool *p, bool paused)
{
	struct worker *w;

	if (p->paused == paused)
		return;
	LOG(INFO, paused ? "pool.paused" : "pool.resumed", KV("pool", p->settings->name), KV("waiting", pool_waiting(p)));
	p->paused = paused;
	event_pool(p, paused ? "paused" : "resumed", NULL);
	DL_FOREACH (p->workers, w) {
		if (w->own.count)
			affinity_call(w);
	}
	pool_mark(p);
}

void operate_set_size(struct pool *p, unsigned min, unsigned max)
{
	p->resized = *p->settings; /* its texts stay those of the settings that were given */
	p->resized.min_workers = min;
	p->resized.max_workers = max;
	p->settings = &p->resized;
}

void operate_resize(struct pool *p, unsigned min, unsigned max)
{
	LOG(INFO, "pool.resized", KV("pool", p->settings->name), KV("min", min), KV("max", max));
	operate_set_size(p, min, max);
	event_pool_resized(p);
	supply_shrink(p);
}

unsigned operate_recycle(struct pool *p, struct worker *only)
{
	unsigned before = p->supply.n_due;
	struct worker *w;

	DL_FOREACH (p->workers, w) {
		if (!only || w == only)
			supply_recycle(w);
	}
	if (!only)
		event_pool(p, "recycled", NULL);
	return p->supply.n_due - before;
}

void operate_kill(struct worker *w)
{
	if (w->state == WORKER_STOPPING)
		worker_kill(w);
	else
		worker_stop(w, WORKER_WHY_OPERATOR);
}

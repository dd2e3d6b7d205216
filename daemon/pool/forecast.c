#include "daemon/pool/forecast.h"

#include "daemon/pool/affinity.h"
#include "daemon/pool/lease.h"
#include "daemon/pool/pool.h"

/* How calls of a pool have run. */
struct habit {
	uint64_t mean, longest; /* ns; the longest but for one in a hundred */
};

static bool habit_of(const struct pool *p, struct habit *h)
{
	const struct histogram *run = &p->stats.run;

	if (!run->count)
		return false;
	h->mean = run->sum_us * 1000 / run->count;
	h->longest = histogram_quantile(run, 990) * 1000;
	return true;
}

/* How long w goes on with what it has. False: nobody can say, it has gone on for longer than others do. */
static bool forecast_rest(const struct worker *w, const struct habit *h, uint64_t now, uint64_t *rest)
{
	uint64_t ran = slot_is_free(w) ? 0 : now - w->slot.started;

	if (slot_is_free(w))
		*rest = 0;
	else if (ran < h->mean)
		*rest = h->mean - ran;
	else if (ran < h->longest)
		*rest = h->longest - ran;
	else if (w->slot.request && w->slot.request->deadline != LOOP_NEVER)
		*rest = w->slot.request->deadline > now ? w->slot.request->deadline - now : 0;
	else
		return false;
	return true;
}

static bool forecast_may_use(const struct worker *w, const struct request *r)
{
	const struct worker *only = affinity_awaited(r);

	if (only && !r->lease)
		return w == only && worker_is_serving(w);
	return (w->state == WORKER_IDLE || w->state == WORKER_BUSY) && w->lease == r->lease;
}

bool forecast_start(const struct request *r, unsigned ahead, uint64_t *in_ns)
{
	uint64_t now = loop_now(r->pool->loop), first = UINT64_MAX, rest;
	struct habit h;
	unsigned n = 0;

	if (!habit_of(r->pool, &h))
		return false;
	for (const struct worker *w = r->pool->workers; w; w = w->next) {
		if (!forecast_may_use(w, r) || !forecast_rest(w, &h, now, &rest))
			continue;
		first = rest < first ? rest : first;
		n++;
	}
	if (!n)
		return false;
	*in_ns = first + ahead * h.mean / n;
	return true;
}

#include "tests/sim/invariants_template.h"

#include <utlist.h>

#include "daemon/pool/template.h"
#include "tests/sim/world.h"

#define SLACK NS_PER_MS
#define ANSWER_TIME (3 * NS_PER_S)

#define CHECK(w, ok, what, number)                                                                                     \
	do {                                                                                                           \
		if (!(ok))                                                                                             \
			world_violate(w, what, number);                                                                \
	} while (0)

static uint64_t latest(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

static bool is_in(const struct worker *list, const struct worker *k)
{
	while (list && list != k)
		list = list->next;
	return list;
}

static void check_fork(struct world *w, const struct template *t, const struct worker *k)
{
	const struct process *p = &k->proc;
	uint64_t since = latest(latest(t->waiting->proc.spawned_ns, t->heard), w->resumed);

	CHECK(w, k->fork == t && is_in(w->stage.pool->workers, k), "a fork that its worker does not know of", k->id);
	CHECK(w, k->state == WORKER_STARTING && !k->last_pid && !process_is_running(p) && p->control.fd >= 0,
	      "a worker waits for a fork and has a process", k->id);
	CHECK(w, k->generation == t->generation, "fault 85: a worker of another generation than its template", k->id);
	CHECK(w, k->timer.at == LOOP_NEVER, "a worker that is not born has a time", k->id);
	CHECK(w, loop_now(w->stage.loop) < since + ANSWER_TIME + SLACK, "fault 86: a fork that nobody waits for",
	      k->id);
}

static unsigned check_template(struct world *w, const struct template *t)
{
	bool living = t->state == TEMPLATE_STARTING || t->state == TEMPLATE_WARM;
	const struct pool *p = w->stage.pool;
	const struct worker *k;
	unsigned n = 0;

	CHECK(w, living == (t->worker != NULL), "a template and its process disagree", t->state);
	CHECK(w, !t->worker || (t->worker->template == t && is_in(p->templates, t->worker)),
	      "a template has the process of another", t->generation);
	CHECK(w, !t->waiting || t->state == TEMPLATE_WARM, "forks are waited for and nobody is there to do them",
	      t->state);
	CHECK(w, t->state != TEMPLATE_LOST || t->proven, "a template is lost that was never there", t->generation);
	CHECK(w, t->state != TEMPLATE_LOST || t->timer.at != LOOP_NEVER, "fault 80: a template that is not replaced",
	      0);
	CHECK(w, t->state != TEMPLATE_WARM || !(t->waiting || p->settings->ping_interval) || t->timer.at != LOOP_NEVER,
	      "fault 86: nobody looks after a template", t->generation);
	CHECK(w, (t->state == TEMPLATE_UNFIT) == (t->unfit != NULL), "a template that is unfit does not say why",
	      t->state);
	DL_FOREACH2(t->waiting, k, fork_next)
	{
		check_fork(w, t, k);
		n++;
	}
	return n;
}

static void check_process(struct world *w, const struct worker *k)
{
	CHECK(w, k->is_template && k->state != WORKER_DEAD && k->state != WORKER_BUSY && k->state != WORKER_DRAINING,
	      "a process of a template that is none", k->id);
	CHECK(w, !k->slot.call && !k->lease && !k->n_bound && !k->fork, "a template has work", k->id);
	CHECK(w, k->template || k->state == WORKER_STOPPING, "a template that nobody wants is not told to leave",
	      k->id);
	CHECK(w, k->state != WORKER_STOPPING || k->timer.at != LOOP_NEVER || k->stage == WORKER_STOP_KILL,
	      "a template that need not leave", k->id);
}

bool invariants_template_starts(const struct pool *p)
{
	return p->template && p->template->state == TEMPLATE_STARTING && !p->template->proven;
}

void invariants_check_templates(struct world *w)
{
	const struct pool *p = w->stage.pool;
	unsigned waiting = 0, forks = 0;
	const struct worker *k;

	if (p->template)
		waiting += check_template(w, p->template);
	if (p->reload.next)
		waiting += check_template(w, p->reload.next);
	DL_FOREACH(p->templates, k)
		check_process(w, k);
	DL_FOREACH(p->workers, k) {
		forks += k->fork != NULL;
		CHECK(w, !p->template || template_is_settled(p->template) || k->generation > p->generation || k->id <= w->taken_up,
		      "a worker is started before it is known what becomes of the template", k->id); /* but for a canary */
		CHECK(w, !k->is_template, "a template among the workers", k->id);
	}
	CHECK(w, waiting == forks, "a worker waits for a fork that nobody owes", forks);
	CHECK(w, pool_expects_fork(p) == (forks > 0), "forks are expected that nobody owes", forks);
	CHECK(w, p->settings->start_fork || !(p->template || p->templates), "a template that nobody has asked for", 0);
	CHECK(w, !p->template || p->template->generation == p->generation, "fault 85: a template of another generation",
	      0);
}

#include "daemon/pool/reload.h"

#include <utlist.h>

#include "daemon/base/cleanup.h"
#include "daemon/base/log.h"
#include "daemon/pool/event.h"
#include "daemon/pool/failure.h"
#include "daemon/pool/keep.h"
#include "daemon/pool/pool.h"
#include "daemon/pool/template.h"
#include "daemon/pool/worker.h"

const char *reload_state_name(enum reload_state s)
{
	static const char *const names[] = {
		[RELOAD_NONE] = "none",
		[RELOAD_CANARY] = "canary",
		[RELOAD_ROLLING] = "rolling",
	};

	return names[s];
}

void reload_init(struct pool *p)
{
	p->reload = (struct reload){ 0 };
}

void reload_deinit(struct pool *p)
{
	reload_cut(p);
	p->reload.failure = failure_free(p->reload.failure);
}

static void reload_begin(struct pool *p)
{
	struct reload *re = &p->reload;
	struct reload_waiter *rw;

	re->state = RELOAD_CANARY;
	re->settings = re->wanted;
	re->dry = re->again_dry;
	re->again = re->placed = false;
	re->begun = loop_now(p->loop);
	re->replaced = 0;
	DL_FOREACH (re->waiters, rw)
		rw->later = false;
	LOG(INFO, "pool.reload", KV("pool", p->settings->name), KV("state", re->dry ? "begin (dry)" : "begin"),
	    KV("generation", p->generation + 1));
	event_reload(p, NULL);
	pool_mark(p);
}

void reload_start(struct pool *p, const struct pool_settings *settings, struct reload_waiter *rw)
{
	struct reload *re = &p->reload;
	bool dry = rw && rw->dry;
	bool begun = re->state != RELOAD_NONE && (re->next || re->canary || re->state == RELOAD_ROLLING);

	if (rw) {
		rw->pool = p;
		rw->later = begun;
		DL_APPEND(re->waiters, rw);
	}
	re->wanted = settings;
	if (begun) {
		re->again_dry = dry && (re->again_dry || !re->again);
		re->again = true;
	} else if (re->state == RELOAD_NONE) {
		re->again_dry = dry;
		reload_begin(p);
	} else {
		re->settings = settings;
		re->dry &= dry;
	}
}

void reload_forget(struct reload_waiter *rw)
{
	if (rw->pool)
		DL_DELETE(rw->pool->reload.waiters, rw);
	rw->pool = NULL;
}

/* Those that wait for this one, or with `cut` all. */
static void reload_tell(struct pool *p, const struct reload_result *r)
{
	struct reload_waiter *rw, *following;

	DL_FOREACH_SAFE (p->reload.waiters, rw, following) {
		if (rw->later && !r->cut)
			continue;
		reload_forget(rw);
		rw->done(rw, r);
	}
}

static void reload_end(struct pool *p, bool cut)
{
	struct reload *re = &p->reload;
	bool tried = re->dry && !cut && !re->failure;
	struct template *next;
	const struct reload_result r = {
		.failure = re->failure,
		.canary = tried ? re->canary : NULL,
		.template = tried && re->next ? re->next->worker : NULL,
		.cut = cut,
		.generation = p->generation,
		.replaced = tried ? pool_living(p) - 1 : re->replaced,
		.dry = re->dry,
		.ns = loop_now(p->loop) - re->begun,
	};

	LOG(INFO, "pool.reload", KV("pool", p->settings->name),
	    KV("state", cut ? "given up" : re->failure ? "failed" : tried ? "would work" : "done"),
	    KV("generation", p->generation), KV("replaced", re->replaced), KV("ms", r.ns / NS_PER_MS));
	event_reload(p, &r);
	re->state = RELOAD_NONE;
	re->canary = NULL;
	re->n_done += !cut && !re->failure && !re->dry;
	re->n_failed += !cut && re->failure;
	re->settings = NULL;
	next = TAKE_PTR(re->next);
	reload_tell(p, &r); /* whoever is told may ask for the next one */
	template_free(next);
	if (re->state == RELOAD_NONE && re->again && !cut)
		reload_begin(p);
	else if (re->state == RELOAD_NONE)
		re->wanted = NULL;
}

void reload_cut(struct pool *p)
{
	if (p->reload.state != RELOAD_NONE)
		reload_end(p, true);
}

/* The new code is imported by a new template first. True: the canary can be started. */
static bool reload_is_warm(struct pool *p)
{
	struct reload *re = &p->reload;

	if (!re->settings->start_fork)
		return true;
	if (!re->next) {
		p->reload.failure = failure_free(p->reload.failure);
		re->next = template_new(p, p->generation + 1);
		template_start(re->next);
	}
	return template_is_settled(re->next);
}

/* The canary is one worker more, for a moment. With replace = after there is no room for one more, so one leaves before. */
static void reload_place_canary(struct pool *p)
{
	struct reload *re = &p->reload;

	if (pool_living(p) >= supply_ceiling(p)) {
		if (!re->placed && p->settings->replace_after)
			re->placed = supply_make_room(p);
		return;
	}
	p->reload.failure = failure_free(p->reload.failure);
	re->canary = worker_new(p, p->generation + 1, false);
	DL_APPEND(p->workers, re->canary);
}

/* Or as far as it goes: with code that works no more there is nothing to wait for. */
static bool reload_is_rolled(const struct pool *p)
{
	const struct worker *w;

	if (p->in_state[WORKER_IDLE] + p->in_state[WORKER_BUSY] < p->settings->min_workers && !p->supply.failure)
		return false;

	DL_FOREACH (p->workers, w) {
		if (w->generation < p->generation)
			return false;
	}
	return true;
}

void reload_advance(struct pool *p)
{
	const struct reload *re = &p->reload;

	if (re->state == RELOAD_CANARY && !re->canary && reload_is_warm(p))
		reload_place_canary(p);
	else if (re->state == RELOAD_ROLLING && reload_is_rolled(p))
		reload_end(p, false);
}

bool reload_is_only_tried(const struct worker *w)
{
	return w == w->pool->reload.canary && w->pool->reload.dry;
}

void reload_note_ready(struct worker *w)
{
	struct pool *p = w->pool;
	struct worker *old;

	if (reload_is_only_tried(w)) {
		reload_end(p, false);
		worker_stop(w, WORKER_WHY_SURPLUS);
		return;
	}
	if (w == p->reload.canary) {
		pool_take_settings(p, p->reload.settings);
		p->generation = w->generation;
		keep_pool(p);
		template_follow(p->reload.next, p->template);
		template_free(p->template);
		p->template = TAKE_PTR(p->reload.next);
		p->reload.canary = NULL;
		p->reload.state = RELOAD_ROLLING;
		supply_begin_anew(p);
		DL_FOREACH (p->workers, old)
			supply_make_old(old);
	}
	supply_make_old(w); /* one that was on its way when the canary got ready */
}

void reload_note_template_failed(struct worker *w)
{
	struct pool *p = w->pool;

	p->reload.failure = failure_new(w);
	reload_end(p, false);
}

bool reload_note_dead(struct worker *w)
{
	struct pool *p = w->pool;
	struct reload *re = &p->reload;

	if (w != re->canary) {
		re->replaced += re->state == RELOAD_ROLLING && w->generation < p->generation;
		return false;
	}
	if (w->why == WORKER_WHY_TEMPLATE_LOST) { /* says nothing of the code: there will be another canary */
		re->canary = NULL;
		return true;
	}
	re->failure = failure_new(w);
	reload_end(p, false);
	return true;
}

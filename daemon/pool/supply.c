#include "daemon/pool/supply.h"

#include <utlist.h>

#include "daemon/base/cleanup.h"
#include "daemon/base/log.h"
#include "daemon/base/mem.h"
#include "daemon/base/wall.h"
#include "daemon/io/look.h"
#include "daemon/pool/affinity.h"
#include "daemon/pool/event.h"
#include "daemon/pool/failure.h"
#include "daemon/pool/lease.h"
#include "daemon/pool/pool.h"
#include "daemon/pool/postmortem.h"
#include "daemon/pool/template.h"

#define BACKOFF_FIRST (100 * NS_PER_MS)
#define BACKOFF_MAX (30 * NS_PER_S)
#define HEALTHY_LIFE (10 * NS_PER_S) /* a worker that served this long did not die of how it was started */
#define GROWTH_DELAY (5 * NS_PER_MS) /* calls that wait for less need no new worker: those that are there keep up */

static unsigned min_u(unsigned a, unsigned b)
{
	return a < b ? a : b;
}

/* splitmix64: jitter that a seed makes repeatable. */
static uint64_t supply_random(struct supply *s)
{
	uint64_t z = s->seed += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

/* v ± 1/part */
static uint64_t supply_jitter(struct supply *s, uint64_t v, uint64_t part)
{
	uint64_t width = v / part;

	return width ? v - width + supply_random(s) % (2 * width) : v;
}

/* The first replacement comes at once; from the second death on it waits 0.1 s, twice that, ... 30 s, each ± 25 %. */
static uint64_t supply_backoff(struct supply *s)
{
	unsigned n = s->deaths_in_row;
	uint64_t wait;

	if (n < 2)
		return 0;
	wait = n - 2 >= 9 ? BACKOFF_MAX : BACKOFF_FIRST << (n - 2);
	return supply_jitter(s, wait < BACKOFF_MAX ? wait : BACKOFF_MAX, 4);
}

uint64_t supply_wait(const struct pool *p)
{
	const struct supply *s = &p->supply;
	uint64_t now = loop_now(p->loop), wait = 0;

	if (s->respawn.at != LOOP_NEVER && s->respawn.at > now)
		wait = s->respawn.at - now;
	return breaker_wait(&s->breaker) > wait ? breaker_wait(&s->breaker) : wait;
}

/* A tenth of the pool, one at least, may be away or doubled for being replaced. */
static unsigned supply_surge(const struct pool *p)
{
	unsigned tenth = p->settings->max_workers / 10;

	return tenth ? tenth : 1;
}

unsigned supply_ceiling(const struct pool *p)
{
	const struct pool_settings *c = p->settings;

	return c->max_workers + (c->replace_after ? 0 : supply_surge(p));
}

/* --- growth --- */

static void supply_on_growth(struct loop_timer *t)
{
	struct pool *p = container_of(t, struct pool, supply.growth);

	p->supply.pressed = true;
	pool_mark(p);
}

/* Notices calls that wait for longer than a moment. */
static void supply_feel(struct pool *p)
{
	struct supply *s = &p->supply;

	if (!p->queue.count || p->paused) {
		s->pressed = false;
		loop_timer_stop(&s->growth);
	} else if (!pool_living(p)) {
		s->pressed = true;
	} else if (!s->pressed && s->growth.at == LOOP_NEVER) {
		loop_timer_set(&s->growth, loop_now(p->loop) + GROWTH_DELAY);
	}
}

/* Workers that the pool needs now. */
static unsigned supply_need(const struct pool *p)
{
	const struct pool_settings *c = p->settings;
	unsigned need;

	if (c->min_workers == c->max_workers)
		return c->max_workers;
	need = p->in_state[WORKER_BUSY] + c->spare_workers + (p->supply.pressed ? p->queue.count : 0);
	if (!need && (p->supply.failure || p->supply.breaker.state == BREAKER_HALF_OPEN))
		need = 1; /* calls are refused until one has started */
	if (need < c->min_workers)
		return c->min_workers;
	return min_u(need, c->max_workers);
}

static bool supply_may_start(const struct pool *p)
{
	const struct supply *s = &p->supply;

	if (p->state != POOL_RUNNING || s->respawn.at != LOOP_NEVER)
		return false;
	return s->breaker.state != BREAKER_OPEN ||
	       !s->breaker.starts; /* when starts work, the next try finds workers */
}

/* After a failed start one worker at a time finds out whether it works again. One that is being killed for its init timeout
 * still counts: only its death sets the back-off. */
static bool supply_is_probing(const struct pool *p)
{
	const struct worker *w;

	for (w = p->supply.failure ? p->workers : NULL; w; w = w->next) {
		if (!w->ready_at)
			return true;
	}
	return false;
}

/* Workers that are there to stay. One that drains may go on for long, for its sessions. */
static unsigned supply_staying(const struct pool *p)
{
	return pool_living(p) - (p->settings->replace_after ? 0 : p->in_state[WORKER_DRAINING]);
}

static void supply_start(struct pool *p, unsigned wanted)
{
	if (p->template && !template_is_settled(p->template)) { /* all of them wait for it, also while those that were taken up suffice */
		if (supply_may_start(p))
			template_start(p->template);
		return;
	}
	while (supply_may_start(p) && supply_staying(p) < wanted && pool_living(p) < supply_ceiling(p) &&
	       !supply_is_probing(p)) {
		struct worker *w = worker_new(p, p->generation, p->supply.failure != NULL);

		DL_APPEND(p->workers, w);
	}
}

/* --- those that leave --- */

/* A worker that is due, an idle one if there is one. */
static struct worker *supply_find_due(const struct pool *p)
{
	struct worker *w, *found = NULL;

	DL_FOREACH(p->workers, w) {
		if (w->due == WORKER_WHY_NONE || (w->state != WORKER_IDLE && w->state != WORKER_BUSY))
			continue;
		if (w->state == WORKER_IDLE)
			return w;
		if (!found)
			found = w;
	}
	return found;
}

static void supply_review_by(struct supply *s, uint64_t at)
{
	if (at < s->review.at)
		loop_timer_set(&s->review, at);
}

static void supply_dismiss(struct worker *w)
{
	uint64_t drain = w->pool->settings->drain_timeout;

	if (w->state == WORKER_IDLE && !w->n_bound) {
		worker_stop(w, w->due);
		return;
	}
	worker_set_state(w, WORKER_DRAINING, w->due); /* it leaves when its call or lease, and its sessions, have ended */
	if ((w->n_bound || w->lease) && drain)
		supply_review_by(&w->pool->supply, w->since + drain);
	affinity_call(w);
}

/* Workers that are due leave as soon as enough others serve, or, with replace = after, few enough are away. */
static void supply_replace(struct pool *p, unsigned need)
{
	unsigned away = p->settings->replace_after ? supply_surge(p) : 0;
	struct worker *w;

	while (p->supply.n_due && p->in_state[WORKER_IDLE] + p->in_state[WORKER_BUSY] + away > need &&
	       (w = supply_find_due(p)))
		supply_dismiss(w);
}

static void supply_make_due(struct worker *w, enum worker_why why)
{
	if (w->due != WORKER_WHY_NONE)
		return;
	w->due = why;
	w->pool->supply.n_due++;
	pool_mark(w->pool);
}

void supply_take_settings(struct pool *p)
{
	struct supply *s = &p->supply;

	s->breaker.threshold = p->settings->breaker_failures;
	s->breaker.reset = p->settings->breaker_reset;
	supply_review_by(s, loop_now(p->loop)); /* whoever is idle for too long now, or too many */
}

void supply_begin_anew(struct pool *p)
{
	breaker_close(&p->supply.breaker);
	p->supply.deaths_in_row = 0;
	loop_timer_stop(&p->supply.respawn);
	pool_mark(p);
}

void supply_recycle(struct worker *w)
{
	if (w->state == WORKER_IDLE || w->state == WORKER_BUSY)
		supply_make_due(w, WORKER_WHY_RECYCLE);
}

void supply_shrink(struct pool *p)
{
	unsigned serving = p->in_state[WORKER_IDLE] + p->in_state[WORKER_BUSY], n_due = p->supply.n_due;
	struct worker *w;

	for (w = p->idle; w && serving - n_due > p->settings->max_workers; w = w->idle_next) {
		supply_make_due(w, WORKER_WHY_SURPLUS);
		n_due = p->supply.n_due;
	}
	DL_FOREACH (p->workers, w) {
		if (w->state == WORKER_BUSY && serving - p->supply.n_due > p->settings->max_workers)
			supply_make_due(w, WORKER_WHY_SURPLUS);
	}
	supply_review_by(&p->supply, loop_now(p->loop));
	pool_mark(p);
}

void supply_make_old(struct worker *w)
{
	if (w->generation < w->pool->generation && (w->state == WORKER_IDLE || w->state == WORKER_BUSY))
		supply_make_due(w, WORKER_WHY_RELOAD);
}

bool supply_make_room(struct pool *p)
{
	struct worker *w = p->idle ? p->idle : p->workers;

	while (w && w->state != WORKER_IDLE && w->state != WORKER_BUSY)
		w = w->next;
	if (!w)
		return false;
	supply_make_due(w, WORKER_WHY_RELOAD);
	supply_dismiss(w);
	return true;
}

void supply_weigh(struct worker *w)
{
	const struct pool_settings *c = w->pool->settings;

	if (w->due != WORKER_WHY_NONE || (w->state != WORKER_IDLE && w->state != WORKER_BUSY))
		return;
	if (w->max_calls && w->calls_done >= w->max_calls)
		supply_make_due(w, WORKER_WHY_MAX_REQUESTS);
	else if (c->max_rss && process_rss(&w->proc) > c->max_rss)
		supply_make_due(w, WORKER_WHY_RSS_LIMIT);
}

/* When w must be looked at again; now or earlier: it is too old, or has been idle for too long. */
static uint64_t supply_review_at(const struct pool *p, const struct worker *w)
{
	uint64_t at = LOOP_NEVER, idle = p->settings->idle_timeout;

	if (w->state == WORKER_DRAINING)
		return (w->n_bound || w->lease) && p->settings->drain_timeout ? w->since + p->settings->drain_timeout : LOOP_NEVER;
	if (w->due != WORKER_WHY_NONE)
		return LOOP_NEVER;
	if (w->state == WORKER_IDLE && !w->n_bound && idle && pool_living(p) > p->settings->min_workers)
		at = w->since + idle;
	if ((w->state == WORKER_IDLE || w->state == WORKER_BUSY) && w->old_at < at)
		at = w->old_at;
	return at;
}

/* Its lease and its sessions have had their time; a call that runs without a lease may still end. */
static void supply_end_drain(struct worker *w)
{
	if (w->lease)
		lease_end(w->lease, LEASE_END_DRAINED);
	affinity_note_gone(w, "its worker is being replaced, and drain_timeout is over");
	worker_settle(w);
}

static void supply_review(struct pool *p)
{
	uint64_t now = loop_now(p->loop), next = LOOP_NEVER, idle = p->settings->idle_timeout;
	unsigned need = supply_need(p), serving = p->in_state[WORKER_IDLE] + p->in_state[WORKER_BUSY];
	struct worker *w, *following;

	DL_FOREACH_SAFE(p->workers, w, following) {
		uint64_t at = supply_review_at(p, w);

		if (at > now)
			next = at < next ? at : next;
		else if (w->state == WORKER_DRAINING)
			supply_end_drain(w);
		else if (w->old_at <= now)
			supply_make_due(w, WORKER_WHY_MAX_AGE);
		else if (serving > need && serving--)
			worker_stop(w, WORKER_WHY_SURPLUS);
	}
	if (idle && pool_living(p) > p->settings->min_workers && now + idle < next)
		next = now + idle; /* those that are busy now, or needed */
	loop_timer_set(&p->supply.review, next);
}

static void supply_on_review(struct loop_timer *t)
{
	struct pool *p = container_of(t, struct pool, supply.review);

	if (p->state == POOL_RUNNING)
		supply_review(p);
}

/* Enough workers are there, so the breaker's try is the replacement of one that is idle. When none is, the answer to a call
 * that still runs will tell. */
static void supply_try(struct pool *p)
{
	const struct worker *w;

	DL_FOREACH(p->workers, w) {
		if (!w->ready_at || w->state == WORKER_STOPPING)
			return; /* it is on its way */
	}
	for (w = p->idle; w && w->n_bound; w = w->idle_next)
		;
	if (w)
		worker_stop((struct worker *)w, WORKER_WHY_SURPLUS);
}

/* --- news --- */

static void supply_note_failure(struct pool *p, const struct worker *w)
{
	struct supply *s = &p->supply;

	if (s->failures_in_row++ == 0)
		s->first_failure_wall = wall_ms();
	failure_free(s->failure);
	s->failure = failure_new(w);
	LOG(WARN, "worker.init_failed", KV("pool", p->settings->name), KV("worker", w->id),
	    KV("reason", s->failure->message), KV("n", s->failures_in_row));
	event_pool(p, "init_failed", s->failure->message);
}

static void supply_tell_breaker(struct pool *p, const struct worker *w)
{
	_cleanup_free_ char *text = NULL;
	char how[POSTMORTEM_TEXT];

	if (!w->ready_at)
		text = mem_strdup(p->supply.failure->message);
	else
		text = mem_printf("worker %llu (pid %d) %s%s%s", (unsigned long long)w->id, (int)w->last_pid,
				  postmortem_exit_text(w, how), w->slot.target[0] ? "; its last call was " : "",
				  w->slot.target);
	breaker_note_failure(&p->supply.breaker, w, text);
}

void supply_note_ready(struct worker *w)
{
	struct pool *p = w->pool;
	struct supply *s = &p->supply;
	const struct pool_settings *c = p->settings;

	s->failure = failure_free(s->failure);
	s->failures_in_row = 0;
	w->max_calls = supply_jitter(s, c->max_requests, 10);
	w->old_at = c->max_age ? w->ready_at + supply_jitter(s, c->max_age, 10) : LOOP_NEVER;
	supply_review_by(s, w->old_at);
	if (c->idle_timeout && c->min_workers < c->max_workers)
		supply_review_by(s, w->ready_at + c->idle_timeout);
	breaker_note_ready(&s->breaker);
	if (w->generation == p->generation && p->in_state[WORKER_IDLE] + p->in_state[WORKER_BUSY] > c->max_workers + s->n_due)
		supply_make_due(w, WORKER_WHY_SURPLUS); /* the pool was made smaller while it started */
}

void supply_note_dead(struct worker *w)
{
	struct pool *p = w->pool;
	struct supply *s = &p->supply;
	bool together;
	uint64_t wait;

	if (!w->ready_at && !worker_why_is_wanted(w->why))
		supply_note_failure(p, w);
	if (w->ready_at &&
	    (w->since - w->ready_at >= HEALTHY_LIFE || (worker_why_is_polite(w->why) && w->born >= s->last_death)))
		s->deaths_in_row = 0;
	if (worker_why_is_wanted(w->why) || p->state != POOL_RUNNING)
		return;
	together = s->deaths_in_row && w->born < s->last_death;
	if (!together || w->died_busy)
		supply_tell_breaker(p, w);
	if (together)
		return; /* not a replacement that died again: workers that die together count once */
	s->deaths_in_row++;
	s->last_death = w->since;
	wait = supply_backoff(s);
	if (wait)
		loop_timer_set(&s->respawn, w->since + wait);
}

void supply_note_gone(struct worker *w)
{
	if (w->due != WORKER_WHY_NONE)
		w->pool->supply.n_due--;
}

void supply_note_reply(struct worker *w)
{
	struct pool *p = w->pool;
	struct supply *s = &p->supply;

	breaker_note_success(&s->breaker);
	if (!s->deaths_in_row || w->born < s->last_death)
		return; /* a reply of an old worker does not show that new ones live */
	s->deaths_in_row = 0;
	loop_timer_stop(&s->respawn);
	pool_mark(p); /* whoever waited for that timer must not wait for ever */
}

static void supply_on_respawn(struct loop_timer *t)
{
	pool_mark(container_of(t, struct pool, supply.respawn));
}

static void supply_on_breaker(struct breaker *b)
{
	struct pool *p = container_of(b, struct pool, supply.breaker);
	const struct death *last = deaths_last(&b->deaths, 0);

	LOG(WARN, "pool.breaker", KV("pool", p->settings->name), KV("state", breaker_state_name(b->state)),
	    KV("failures", breaker_failures(b)), KV("last", last ? last->text : "none"));
	event_breaker(p);
	pool_mark(p);
}

/* --- life --- */

void supply_init(struct pool *p, uint64_t seed)
{
	struct supply *s = &p->supply;

	*s = (struct supply){ .seed = seed };
	breaker_init(&s->breaker, p->loop, p->settings->breaker_failures, p->settings->breaker_reset,
		     supply_on_breaker);
	loop_timer_init(&s->respawn, p->loop, supply_on_respawn);
	loop_timer_init(&s->growth, p->loop, supply_on_growth);
	loop_timer_init(&s->review, p->loop, supply_on_review);
}

void supply_stop(struct pool *p)
{
	loop_timer_stop(&p->supply.respawn);
	loop_timer_stop(&p->supply.growth);
	loop_timer_stop(&p->supply.review);
	loop_timer_stop(&p->supply.breaker.timer);
}

void supply_deinit(struct pool *p)
{
	supply_stop(p);
	breaker_deinit(&p->supply.breaker);
	failure_free(p->supply.failure);
}

void supply_advance(struct pool *p)
{
	unsigned need, doubled;

	if (p->state != POOL_RUNNING)
		return;
	if (p->settings->min_workers < p->settings->max_workers)
		supply_feel(p);
	need = supply_need(p);
	doubled = p->settings->replace_after ? 0 : min_u(p->supply.n_due, supply_surge(p));
	supply_start(p, need + doubled);
	if (p->supply.n_due)
		supply_replace(p, need);
	if (p->supply.breaker.state == BREAKER_HALF_OPEN && supply_may_start(p) && pool_living(p) >= need)
		supply_try(p);
}

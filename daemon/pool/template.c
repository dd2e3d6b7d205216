#include "daemon/pool/template.h"

#include <errno.h>
#include <stdio.h>
#include <utlist.h>

#include "daemon/base/cleanup.h"
#include "daemon/base/log.h"
#include "daemon/base/mem.h"
#include "daemon/pool/event.h"
#include "daemon/pool/failure.h"
#include "daemon/pool/launch.h"
#include "daemon/pool/pool.h"
#include "daemon/pool/postmortem.h"
#include "daemon/pool/worker.h"

#define ANSWER_TIME (3 * NS_PER_S) /* a fork of a process of many GiB takes a part of a second */
#define BACKOFF_FIRST (100 * NS_PER_MS)
#define BACKOFF_MAX (30 * NS_PER_S)
#define HEALTHY_LIFE (10 * NS_PER_S)

const char *template_state_name(const struct template *t)
{
	static const char *const names[] = {
		[TEMPLATE_NONE] = "none",   [TEMPLATE_STARTING] = "starting", [TEMPLATE_WARM] = "warm",
		[TEMPLATE_UNFIT] = "unfit", [TEMPLATE_LOST] = "lost",
	};

	return names[t->state];
}

bool template_is_settled(const struct template *t)
{
	return t->proven || t->state == TEMPLATE_UNFIT;
}

/* --- its timer --- */

static bool template_owes_pong(const struct template *t)
{
	return t->worker->hs.pong < t->asked_seq;
}

static uint64_t max_u64(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

/* Of the eldest question that it has not answered, or of the next one. It does one thing after the other, so the time begins
 * anew with each answer. */
static void template_arm(struct template *t)
{
	uint64_t interval = t->pool->settings->ping_interval, now = loop_now(t->pool->loop);

	if (t->waiting)
		loop_timer_set(&t->timer, max_u64(t->waiting->proc.spawned_ns, t->heard) + ANSWER_TIME);
	else if (template_owes_pong(t))
		loop_timer_set(&t->timer, t->asked_at + ANSWER_TIME);
	else
		loop_timer_set(&t->timer, interval ? now + interval : LOOP_NEVER);
}

static void template_ask(struct template *t)
{
	(void)launch_send_ping(t->worker); /* when it cannot be sent, it is not answered */
	t->asked_seq = t->worker->ping_seq;
	t->asked_at = loop_now(t->pool->loop);
	template_arm(t);
}

static void template_on_timer(struct loop_timer *timer)
{
	struct template *t = container_of(timer, struct template, timer);

	if (t->state == TEMPLATE_LOST) {
		t->state = TEMPLATE_NONE;
		template_start(t);
	} else if (t->waiting || template_owes_pong(t)) {
		worker_stop(t->worker, WORKER_WHY_LOST); /* which tells template_note() */
	} else {
		template_ask(t);
	}
}

/* --- life --- */

struct template *template_new(struct pool *p, uint64_t generation)
{
	struct template *t = MEM_NEW(struct template);

	t->pool = p;
	t->generation = generation;
	loop_timer_init(&t->timer, p->loop, template_on_timer);
	return t;
}

void template_start(struct template *t)
{
	if (t->state != TEMPLATE_NONE || t->pool->state != POOL_RUNNING)
		return;
	t->state = TEMPLATE_STARTING;
	t->asked_seq = 0;
	t->worker = worker_new_template(t);
	DL_APPEND(t->pool->templates, t->worker);
}

void template_follow(struct template *t, const struct template *before)
{
	if (!t || !before)
		return;
	t->n_forks += before->n_forks;
	t->n_lost += before->n_lost;
}

/* Its process is no concern of t any more. */
static struct worker *template_detach(struct template *t)
{
	struct worker *w = TAKE_PTR(t->worker);

	if (w)
		w->template = NULL;
	loop_timer_stop(&t->timer);
	t->state = TEMPLATE_NONE;
	return w;
}

/* Nobody will answer. What one of the workers leads to may drop t: see template_free(). */
static void template_fail_waiting(struct template *t)
{
	while (t->waiting)
		worker_stop(t->waiting, WORKER_WHY_TEMPLATE_LOST);
}

static void template_release(struct loop_grave *g)
{
	struct template *t = container_of(g, struct template, grave);

	free(t->unfit);
	free(t->lost);
	free(t);
}

struct template *template_free(struct template *t)
{
	struct worker *w;

	if (!t)
		return NULL;
	w = template_detach(t);
	if (w)
		worker_stop(w, t->pool->state == POOL_RUNNING ? WORKER_WHY_RELOAD : WORKER_WHY_SHUTDOWN);
	template_fail_waiting(t);
	loop_bury(t->pool->loop, &t->grave, template_release);
	return NULL;
}

/* From now on workers are started without it; t owns why. */
static void template_become_unfit(struct template *t, char *why)
{
	struct worker *w = template_detach(t);

	free(t->unfit);
	t->unfit = why;
	t->state = TEMPLATE_UNFIT;
	LOG(WARN, "template.unfit", KV("pool", t->pool->settings->name), KV("reason", t->unfit));
	event_pool(t->pool, "template_unfit", t->unfit);
	worker_stop(w, WORKER_WHY_SURPLUS);
	pool_mark(t->pool);
	template_fail_waiting(t);
}

/* --- forks --- */

int template_fork(struct template *t, struct worker *w, int *calls_fd)
{
	int r = launch_fork(w, t->worker, calls_fd);

	if (r < 0)
		return r;
	w->fork = t;
	DL_APPEND2(t->waiting, w, fork_prev, fork_next);
	template_arm(t);
	return 0;
}

void template_forget(struct worker *w)
{
	struct template *t = w->fork;

	if (!t)
		return;
	w->fork = NULL;
	DL_DELETE2(t->waiting, w, fork_prev, fork_next);
	if (t->state == TEMPLATE_WARM)
		template_arm(t);
}

static struct worker *template_find_waiting(const struct template *t, uint64_t id)
{
	struct worker *w;

	for (w = t->waiting; w && w->id != id; w = w->fork_next)
		;
	return w;
}

void template_note_forked(struct worker *process)
{
	const struct handshake *h = &process->hs;
	struct template *t = process->template;
	int r = -(int)h->forked_errno;
	struct worker *w = t ? template_find_waiting(t, h->forked) : NULL;

	if (t)
		t->heard = loop_now(t->pool->loop);
	if (!w)
		return; /* nobody wants it any more, and it finds its control channel closed */
	if (r == -EDEADLK) {
		template_become_unfit(t, mem_strdup("it has started a thread since it was warm"));
		return;
	}
	template_forget(w);
	if (!r)
		r = worker_born(w, process, (pid_t)h->forked_pid);
	t->n_forks += !r;
	if (r == -ECHILD) { /* the template's fault */
		worker_stop(w, WORKER_WHY_TEMPLATE_LOST);
		worker_accuse(process, "the template told of a fork that is no child of the daemon");
	} else if (r < 0) {
		worker_unborn(w, r);
	}
}

void template_note_pong(struct worker *process)
{
	if (process->template && process->template->state == TEMPLATE_WARM)
		template_arm(process->template);
}

/* --- what becomes of its process --- */

static void template_note_ready(struct template *t, struct worker *w)
{
	struct pool *p = t->pool;

	free(t->lost);
	t->lost = NULL;
	t->proven = true;
	if (w->hs.unfit) {
		template_become_unfit(t, TAKE_PTR(w->hs.unfit));
	} else {
		LOG(INFO, "template.warm", KV("pool", p->settings->name), KV("generation", t->generation),
		    KV("pid", w->last_pid), KV("ms", (w->ready_at - w->born) / NS_PER_MS), KV("fork", w->hs.fork));
		if (w->hs.fds)
			LOG(WARN, "template.files", KV("pool", p->settings->name), KV("open", w->hs.fds));
		t->state = TEMPLATE_WARM;
		event_pool(p, "template_warm", NULL);
		template_arm(t);
		pool_mark(p);
	}
}

static uint64_t template_backoff(struct template *t, const struct worker *w)
{
	unsigned n;

	if (w->ready_at && w->since - w->ready_at >= HEALTHY_LIFE)
		t->deaths_in_row = 0;
	n = t->deaths_in_row++;
	if (n == 0)
		return 0;
	return n > 8 ? BACKOFF_MAX : BACKOFF_FIRST << (n - 1);
}

static char *template_describe_end(const struct worker *w)
{
	struct failure *f;
	char *text, how[POSTMORTEM_TEXT];

	if (w->state == WORKER_STOPPING)
		return mem_printf("the template (pid %d) is being replaced: %s", (int)w->last_pid,
				  w->why == WORKER_WHY_LOST ? "it did not answer for 3 s" : worker_why_name(w->why));
	if (w->ready_at)
		return mem_printf("the template (pid %d) %s", (int)w->last_pid, postmortem_exit_text(w, how));
	f = failure_new(w);
	text = TAKE_PTR(f->message);
	failure_free(f);
	return text;
}

/* It had been warm, or one before it: workers are started without it until it is back. */
static void template_lose(struct template *t, struct worker *w)
{
	struct pool *p = t->pool;

	(void)template_detach(t);
	t->state = TEMPLATE_LOST;
	t->n_lost++;
	free(t->lost);
	t->lost = template_describe_end(w);
	LOG(WARN, "template.lost", KV("pool", p->settings->name), KV("reason", t->lost));
	event_pool(p, "template_lost", t->lost);
	if (p->state == POOL_RUNNING)
		loop_timer_set(&t->timer, loop_now(p->loop) + template_backoff(t, w));
	pool_mark(p);
	template_fail_waiting(t);
}

/* The code cannot be imported, as far as is known. */
static void template_fail(struct template *t, struct worker *w)
{
	struct pool *p = t->pool;

	(void)template_detach(t);
	pool_mark(p);
	if (t == p->template)
		supply_note_dead(w);
	else
		reload_note_template_failed(w);
}

void template_note(struct worker *w)
{
	struct template *t = w->template;

	if (w->state == WORKER_IDLE && t)
		template_note_ready(t, w);
	else if (w->state == WORKER_IDLE)
		worker_stop(w, WORKER_WHY_SURPLUS); /* nobody waits for it any more */
	else if (w->state >= WORKER_STOPPING && t && t->proven)
		template_lose(t, w);
	else if (w->state == WORKER_DEAD && t)
		template_fail(t, w);
	if (w->state == WORKER_DEAD)
		pool_keep_dead_template(w->pool, w);
}

/* Workers that this program has not started: what another daemon has left, and what the program before this one hands over. */
#include <stdio.h>
#include <utlist.h>

#include "daemon/base/cleanup.h"
#include "daemon/base/log.h"
#include "daemon/pool/event.h"
#include "daemon/pool/keep.h"
#include "daemon/pool/launch.h"
#include "daemon/pool/pool.h"
#include "daemon/pool/worker_parts.h"

#define ADOPT_TIME (5 * NS_PER_S) /* for an idle worker to answer another daemon */
#define ADOPT_GRACE NS_PER_S      /* at least: it may be idle, and only its answer was lost */

/* --- after a crash of the daemon --- */

/* What it ran for the daemon of before ends at its deadline, or now if it has none: nobody waits for it any more. */
static void worker_await_adopted(struct worker *w)
{
	uint64_t now = loop_now(w->pool->loop), deadline = process_noted_deadline(&w->proc);

	if (!process_noted_call(&w->proc))
		deadline = now + ADOPT_TIME;
	else if (deadline < now || deadline == LOOP_NEVER)
		deadline = now;
	loop_timer_set(&w->timer, deadline);
}

void worker_press_adopted(struct worker *w)
{
	uint64_t call = process_noted_call(&w->proc), grace = w->pool->settings->cancel_grace;

	if (!call || w->abandoned || process_interrupt(&w->proc, call, SLOT_DEADLINE) < 0) {
		worker_stop(w, WORKER_WHY_LOST);
		return;
	}
	w->abandoned = SLOT_DEADLINE;
	loop_timer_set(&w->timer, loop_now(w->pool->loop) + (grace > ADOPT_GRACE ? grace : ADOPT_GRACE));
}

struct worker *worker_take_up(struct pool *p, uint64_t id, const struct kept_worker *k, int fds[PROCESS_FDS],
			      int old_calls[PROCESS_OLD_CALLS])
{
	struct worker *w = worker_make(p, id, k->generation);
	int calls_fd, r;

	w->adopted = true;
	w->ready_at = loop_now(p->loop); /* it has been, and did not die of how it was started */
	r = process_adopt(&w->proc, k->remains.pid, fds, old_calls, &calls_fd);
	if (r < 0) {
		LOG(WARN, "worker.adopt.failed", KV("pool", p->settings->name), KV("worker", id), KV("pid", k->remains.pid),
		    KV("errno", -r));
		return worker_free(w);
	}
	launch_confine_again(w);
	w->calls_done = process_noted_done(&w->proc);
	p->stats.adopted++;
	p->in_state[WORKER_STARTING]++;
	DL_APPEND(p->workers, w);
	w->last_pid = k->remains.pid;
	worker_open_calls(w, calls_fd);
	w->calls.reader.max_frame = FRAME_MAX_LIMIT; /* what it was told is not known, and it keeps to that itself */
	handshake_begin(&w->hs, "adopt", NULL, loop_now(p->loop));
	worker_await_adopted(w);
	w->kept_life = k->life;
	w->heard_life = k->heard;
	keep_worker(w); /* before it is told: whoever comes after us must find what it has been given */
	w->hs.adopt = w->kept_life;
	LOG(INFO, "worker.adopted", KV("pool", p->settings->name), KV("worker", id), KV("pid", w->last_pid));
	event_worker_began(w);
	if (launch_send_adopt(w, w->hs.adopt) < 0)
		worker_stop(w, WORKER_WHY_LOST);
	return w;
}

/* --- at an upgrade --- */

/* A call socket at its end is of no use to anybody. */
static int worker_calls_fd(const struct worker *w)
{
	return stream_is_open(&w->calls) && !w->calls.ended ? w->calls.io.fd : -1;
}

void worker_leave(const struct worker *w, struct worker_left *left)
{
	*left = (struct worker_left){
		.id = w->id, .generation = w->generation, .state = w->state, .pid = w->proc.pid, .why = w->why, .stage = w->stage,
		.born = w->born, .since = w->since, .ready_at = w->ready_at, .calls_done = w->calls_done, .due = w->due,
		.max_calls = w->max_calls, .old_at = w->old_at, .abandoned = w->abandoned, .timer_at = w->timer.at,
		.kept_life = w->kept_life, .heard_life = w->heard_life, .grace_until = w->grace_until, .again = w->again,
		.ping_seq = w->ping_seq, .n_targets = w->hs.n_targets,
		.session_close = w->hs.session_close, .unread = w->calls.unread, .own_last = w->own_last,
		.max_frame = w->calls.reader.max_frame,
		.call = w->slot.call, .last_call = w->slot.last_call, .slow_call = w->slot.slow_call, .direct = w->slot.direct,
		.broken = w->slot.broken, .started = w->slot.started,
		.calls_fd = worker_calls_fd(w),
		.target = span_str(w->slot.target), .traceparent = span_str(w->slot.traceparent),
		.python = span_str(w->hs.python), .codec = span_str(w->hs.codec),
	};
	process_fds(&w->proc, left->fds);
}

static void copy_text(char *to, size_t size, struct span from)
{
	(void)snprintf(to, size, "%.*s", (int)from.len, (const char *)from.p); /* it comes from as large a place */
}

static void worker_restore_slot(struct worker *w, const struct worker_left *left)
{
	struct slot *s = &w->slot;
	uint64_t slow = w->pool->settings->slow_call;

	s->call = left->call;
	s->last_call = left->last_call;
	s->slow_call = left->slow_call;
	s->direct = left->direct;
	s->broken = left->broken;
	s->started = left->started;
	copy_text(s->target, sizeof(s->target), left->target);
	copy_text(s->traceparent, sizeof(s->traceparent), left->traceparent);
	if (s->call && slow)
		loop_timer_set(&s->slow_timer, s->started + slow);
	w->abandoned = left->abandoned;
	w->grace_until = left->grace_until;
	w->again = left->again;
}

static void worker_restore_state(struct worker *w, const struct worker_left *left)
{
	struct pool *p = w->pool;

	w->state = left->state;
	w->stage = left->stage;
	w->since = left->since;
	w->why = left->why;
	p->in_state[w->state]++;
	if (w->state == WORKER_IDLE)
		DL_PREPEND2(p->idle, w, idle_prev, idle_next);
	w->due = left->due;
	if (w->due != WORKER_WHY_NONE && (w->state == WORKER_IDLE || w->state == WORKER_BUSY))
		p->supply.n_due++;
	loop_timer_set(&w->timer, left->timer_at);
}

static void worker_restore_calls(struct worker *w, const struct worker_left *left)
{
	if (left->calls_fd >= 0)
		worker_open_calls(w, left->calls_fd);
	else
		w->calls.ended = true;
	w->calls.reader.max_frame = left->max_frame;
	w->calls.unread = left->unread;
}

static void worker_restore_life(struct worker *w, const struct worker_left *left)
{
	w->last_pid = left->pid;
	w->born = left->born;
	w->ready_at = left->ready_at;
	w->calls_done = left->calls_done;
	w->max_calls = left->max_calls;
	w->old_at = left->old_at;
	w->kept_life = left->kept_life;
	w->heard_life = left->heard_life;
	w->ping_seq = w->hs.pong = left->ping_seq; /* a ping that was missed is not waited for */
	w->own_last = left->own_last;
	w->hs.hello = w->hs.ready = true;
	w->hs.session_close = left->session_close;
	w->hs.n_targets = left->n_targets;
	copy_text(w->hs.python, sizeof(w->hs.python), left->python);
	copy_text(w->hs.codec, sizeof(w->hs.codec), left->codec);
}

struct worker *worker_take_over(struct pool *p, struct worker_left *left)
{
	_cleanup_close_ int calls = left->calls_fd;
	struct worker *w = worker_make(p, left->id, left->generation);
	int r = process_go_on(&w->proc, left->pid, left->fds);

	if (r < 0) {
		LOG(WARN, "worker.adopt.failed", KV("pool", p->settings->name), KV("worker", w->id), KV("pid", left->pid),
		    KV("errno", -r));
		return worker_free(w);
	}
	launch_confine_again(w);
	DL_APPEND(p->workers, w);
	worker_restore_life(w, left);
	worker_restore_calls(w, left);
	(void)TAKE_FD(calls); /* it is the stream's */
	worker_restore_slot(w, left);
	worker_restore_state(w, left);
	return w;
}

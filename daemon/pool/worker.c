#include "daemon/pool/worker.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <utlist.h>

#include "daemon/base/cleanup.h"
#include "daemon/base/log.h"
#include "daemon/base/mem.h"
#include "daemon/base/wall.h"
#include "daemon/io/leftovers.h"
#include "daemon/io/oom.h"
#include "daemon/pool/affinity.h"
#include "daemon/pool/event.h"
#include "daemon/pool/keep.h"
#include "daemon/pool/launch.h"
#include "daemon/pool/lease.h"
#include "daemon/pool/pool.h"
#include "daemon/pool/postmortem.h"
#include "daemon/pool/request.h"
#include "daemon/pool/session.h"
#include "daemon/pool/template.h"
#include "daemon/pool/worker_parts.h"

#define TERM_TIME (500 * NS_PER_MS) /* from TERM to KILL: the default action of TERM needs no help of Python */
#define TAIL_BYTES (64 * 1024)
#define TAIL_LINES 500
#define STACK_TIME (50 * NS_PER_MS)

static const uint8_t next_ok[WORKER_N_STATES] = {
	[WORKER_STARTING] = BIT(WORKER_INITIALIZING) | BIT(WORKER_STOPPING) | BIT(WORKER_DEAD),
	[WORKER_INITIALIZING] = BIT(WORKER_IDLE) | BIT(WORKER_STOPPING) | BIT(WORKER_DEAD),
	[WORKER_IDLE] = BIT(WORKER_BUSY) | BIT(WORKER_DRAINING) | BIT(WORKER_STOPPING) | BIT(WORKER_DEAD),
	[WORKER_BUSY] = BIT(WORKER_IDLE) | BIT(WORKER_DRAINING) | BIT(WORKER_STOPPING) | BIT(WORKER_DEAD),
	[WORKER_DRAINING] = BIT(WORKER_STOPPING) | BIT(WORKER_DEAD),
	[WORKER_STOPPING] = BIT(WORKER_DEAD),
};

bool worker_can_be_sent(const struct worker *w)
{
	return slot_is_free(w) && process_is_running(&w->proc) && stream_is_open(&w->calls) && !w->calls.ended;
}

struct worker *worker_find(struct worker *list, uint64_t id)
{
	while (list && list->id != id)
		list = list->next;
	return list;
}

bool worker_may_become(enum worker_state from, enum worker_state to)
{
	return next_ok[from] & BIT(to);
}

const char *worker_state_name(enum worker_state s)
{
	static const char *const names[WORKER_N_STATES] = {
		[WORKER_STARTING] = "starting", [WORKER_INITIALIZING] = "initializing", [WORKER_IDLE] = "idle",
		[WORKER_BUSY] = "busy",		[WORKER_DRAINING] = "draining",		[WORKER_STOPPING] = "stopping",
		[WORKER_DEAD] = "dead",
	};

	return names[s];
}

const char *worker_why_name(enum worker_why y)
{
	static const char *const names[WORKER_N_WHYS] = {
#define X(UPPER, lower) [WORKER_WHY_##UPPER] = #lower,
		WORKER_WHYS(X)
#undef X
	};

	return names[y];
}

bool worker_why_is_polite(enum worker_why y)
{
	return y == WORKER_WHY_SHUTDOWN || y == WORKER_WHY_MAX_REQUESTS || y == WORKER_WHY_MAX_AGE ||
	       y == WORKER_WHY_RSS_LIMIT || y == WORKER_WHY_SURPLUS || y == WORKER_WHY_RELOAD ||
	       y == WORKER_WHY_RECYCLE;
}

bool worker_why_is_wanted(enum worker_why y)
{
	return worker_why_is_polite(y) || y == WORKER_WHY_CANCELLED || y == WORKER_WHY_TEMPLATE_LOST ||
	       y == WORKER_WHY_OPERATOR;
}

/* When the timer of a state goes off; kept from STARTING to INITIALIZING, which share the init timeout, and to DRAINING,
 * where the call that is interrupted goes on. */
static void worker_set_timer(struct worker *w, enum worker_state to)
{
	if (to != WORKER_INITIALIZING && to != WORKER_DRAINING)
		loop_timer_stop(&w->timer);
	if (to == WORKER_IDLE || to == WORKER_STOPPING || to == WORKER_DEAD)
		gate_leave(&w->ticket);
}

static struct worker_move *move_before(struct worker *w, unsigned n)
{
	return &w->moves[(w->n_moves - n) % WORKER_MOVES];
}

static void worker_keep_move(struct worker *w, enum worker_state to, enum worker_why why, uint64_t now)
{
	if (to == WORKER_BUSY && w->n_moves >= 2 && move_before(w, 1)->from == WORKER_BUSY &&
	    move_before(w, 2)->to == WORKER_BUSY)
		w->n_moves -= 2; /* the call before this one is not remembered */
	*move_before(w, 0) = (struct worker_move){ .from = w->state, .to = to, .why = why, .at = now };
	w->n_moves++;
}

const struct worker_move *worker_move(const struct worker *w, unsigned n)
{
	unsigned first = w->n_moves > WORKER_MOVES ? w->n_moves - WORKER_MOVES : 0;

	return first + n < w->n_moves ? &w->moves[(first + n) % WORKER_MOVES] : NULL;
}

/* Where the pool looks for workers that serve, and its counters. */
static void worker_move_in_pool(struct worker *w, enum worker_state from, enum worker_state to)
{
	struct pool *p = w->pool;

	if (from == WORKER_IDLE)
		DL_DELETE2(p->idle, w, idle_prev, idle_next);
	if (to == WORKER_IDLE)
		DL_PREPEND2(p->idle, w, idle_prev, idle_next);
	p->in_state[from]--;
	p->in_state[to]++;
}

void worker_set_state(struct worker *w, enum worker_state to, enum worker_why why)
{
	struct pool *p = w->pool;
	enum worker_state from = w->state;
	uint64_t now = loop_now(p->loop);

	if (!worker_may_become(from, to)) {
		LOG_BUG("a worker is asked to make an illegal move");
		return;
	}
	if (!w->is_template)
		worker_move_in_pool(w, from, to);
	worker_set_timer(w, to);
	if (why != WORKER_WHY_NONE)
		w->why = why;
	if (to == WORKER_IDLE || to == WORKER_BUSY) /* once per call: not worth a line at INFO */
		LOG(DEBUG, "worker.state", KV("pool", p->settings->name), KV("worker", w->id),
		    KV("from", worker_state_name(from)), KV("state", worker_state_name(to)));
	else
		LOG(INFO, "worker.state", KV("pool", p->settings->name), KV("worker", w->id), KV("pid", w->last_pid),
		    KV("from", worker_state_name(from)), KV("state", worker_state_name(to)),
		    KV("reason", worker_why_name(w->why)), KV("ms", (now - w->since) / NS_PER_MS));
	worker_keep_move(w, to, why, now);
	w->state = to;
	event_worker_moved(w, from, (now - w->since) / NS_PER_MS);
	w->since = now;
	if (w->is_template)
		template_note(w);
	else
		pool_note_worker(p, w, from);
}

void worker_log_output(struct worker *w)
{
	struct tail_line line;

	/* a line that is held back for its end is logged when it has ended */
	while (w->logged_lines < tail_mark(w->proc.tail) && tail_next(w->proc.tail, w->logged_lines, &line)) {
		const struct log_field fields[] = {
			KV("pool", w->pool->settings->name),
			KV("worker", w->id),
			KV("pid", w->last_pid),
			KV("source", line.source == TAIL_STDERR ? "stderr" : "stdout"),
			KV_BYTES("text", line.text.p, line.text.len),
			KV_IF_ANY("traceparent", w->slot.traceparent),
			KV("call", w->slot.last_call),
		};

		if (line.number > w->logged_lines) { /* more came at once than the tail keeps */
			log_skip(LOG_LEVEL_INFO, "worker.output", line.number - w->logged_lines);
			event_output_missed(w, line.number - w->logged_lines);
		}
		w->logged_lines = line.number + 1;
		event_output(w, &line);
		if (log_enabled(LOG_LEVEL_INFO)) /* without the last field where there is no call */
			log_write(LOG_LEVEL_INFO, "worker.output", fields, ARRAY_SIZE(fields) - !w->slot.last_call);
	}
}

static void worker_on_output(struct process *proc)
{
	worker_log_output(container_of(proc, struct worker, proc));
}

/* Its call channel is at its end: it is most likely dead, and if it lives it is of no use. */
static void worker_await_end(struct worker *w)
{
	loop_timer_set(&w->timer, loop_now(w->pool->loop) + STACK_TIME);
}

void worker_accuse(struct worker *w, const char *what)
{
	LOG(WARN, "worker.protocol", KV("pool", w->pool->settings->name), KV("worker", w->id), KV("what", what));
	if (!w->hs.wrong)
		w->hs.wrong = mem_strdup(what);
	worker_stop(w, WORKER_WHY_PROTOCOL);
}

static void worker_send_init(struct worker *w)
{
	if (launch_send_init(w) < 0)
		worker_stop(w, WORKER_WHY_INIT_FAILED);
}

static void worker_on_control(struct process *proc, struct span message)
{
	struct worker *w = container_of(proc, struct worker, proc);
	uint64_t pong = w->hs.pong;
	struct complaint c;
	enum handshake_news news = handshake_take(&w->hs, message, &c);

	if (w->hs.hello && w->state == WORKER_STARTING)
		worker_set_state(w, WORKER_INITIALIZING, WORKER_WHY_NONE);
	switch (news) {
	case HANDSHAKE_HELLO:
		if (w->adopted)
			keep_heard(w);
		else if (w->hs.introduced)
			worker_send_init(w); /* its files are older than this daemon: it waits for that */
		break;
	case HANDSHAKE_READY:
		if (w->state != WORKER_INITIALIZING)
			break; /* it is being stopped: too late */
		w->ready_at = loop_now(w->pool->loop);
		w->abandoned = 0;
		if (w->adopted) /* what it ran for the daemon of before has ended */
			slot_forget_noted(w);
		worker_set_state(w, WORKER_IDLE, WORKER_WHY_NONE);
		if (w->calls.ended)
			worker_await_end(w);
		break;
	case HANDSHAKE_BROKEN:
		worker_accuse(w, c.message);
		break;
	case HANDSHAKE_FORKED:
		template_note_forked(w);
		break;
	case HANDSHAKE_NOTHING:
		if (w->hs.pong > w->ping_seq)
			w->hs.pong = pong; /* it answers another daemon */
		glance_take_pong(w); /* perhaps it was one */
		template_note_pong(w);
		affinity_remind(w);
		break;
	}
}

static void worker_on_control_closed(struct process *proc)
{
	struct worker *w = container_of(proc, struct worker, proc);

	if (proc->oversized)
		worker_accuse(w, "the worker sent a control message of over 64 KiB");
	else if (w->state == WORKER_STARTING || w->state == WORKER_INITIALIZING)
		worker_await_end(w); /* dead, most likely; if not, it cannot become ready any more */
}

static void worker_on_dumped(struct process *proc, struct span text, bool complete)
{
	glance_take_stack(container_of(proc, struct worker, proc), text, complete);
}

/* The init timeout is over, and it is known where it hangs. */
static void worker_on_init_glance(struct glance_waiter *gw, const struct glance *g)
{
	struct worker *w = container_of(gw, struct worker, init_glance);
	char activity[GLANCE_TEXT];

	if (w->state != WORKER_STARTING && w->state != WORKER_INITIALIZING)
		return; /* it made it in the last moment */
	free(w->hs.stack);
	w->hs.stack = g->stack ? mem_strdup(g->stack) : NULL;
	(void)snprintf(w->hs.activity, sizeof(w->hs.activity), "%s", glance_activity(g, activity));
	worker_stop(w, WORKER_WHY_INIT_TIMEOUT);
}

static enum worker_why worker_cause_of_death(const struct worker *w)
{
	if (w->state == WORKER_STOPPING)
		return w->why;
	if (w->exit.oom && (w->exit.signal == SIGKILL || !w->exit.known))
		return WORKER_WHY_OOM;
	if (w->exit.signal == SIGKILL && w->pool->oom && oom_take(w->pool->oom))
		return WORKER_WHY_OOM;
	return w->ready_at ? WORKER_WHY_CRASHED : WORKER_WHY_INIT_FAILED;
}

static bool worker_was_lost(const struct worker *w)
{
	return w->why == WORKER_WHY_CRASHED || w->why == WORKER_WHY_OOM || w->why == WORKER_WHY_PROTOCOL;
}

/* Its call when it died. One that it never read has not run: another worker gets it, and nobody notices. */
static void worker_end_call(struct worker *w)
{
	struct request *r = w->slot.request;
	struct postmortem pm;

	if (w->calls.unread && request_requeue(r)) {
		LOG(INFO, "call.requeued", KV("pool", w->pool->settings->name), KV("call", r->call), KV("worker", w->id),
		    KV_IF_ANY("traceparent", r->traceparent));
		return;
	}
	if (worker_was_lost(w) && pool_may_rerun(w->pool, r->target) && poison_judge(r) != POISON_REFUSE &&
	    request_retry(r)) {
		LOG(INFO, "call.retried", KV("pool", w->pool->settings->name), KV("call", r->call), KV("worker", w->id),
		    KV_IF_ANY("traceparent", r->traceparent));
		return;
	}
	postmortem_died(&pm, r, w);
	request_finish(r, &pm.outcome);
	postmortem_deinit(&pm);
}

/* The stack of a fatal signal as its last output; after the post-mortem, which has it as the stack. */
static void worker_print_fatal(struct worker *w)
{
	struct tail *t = w->proc.tail;

	if (!w->proc.fatal || !t)
		return;
	tail_add(t, TAIL_STDERR, w->proc.fatal, strlen(w->proc.fatal), wall_ms());
	tail_finish(t, wall_ms());
	worker_on_output(&w->proc);
}

/* The process is gone and everything that it wrote has been read, except the call channel: a reply found there counts. */
static void worker_on_exited(struct process *proc, const struct process_exit *how)
{
	struct worker *w = container_of(proc, struct worker, proc);
	char fate[POSTMORTEM_FATE];

	w->exit = *how;
	w->why = worker_cause_of_death(w); /* before the state moves: its call is told */
	worker_on_output(proc); /* the last line may have had no newline */
	if (stream_is_open(&w->calls))
		stream_drain_input(&w->calls);
	stream_close(&w->calls);
	slot_close(w);
	w->died_busy = !slot_is_free(w) && !w->calls.unread;
	poison_note_death(w, w->why);
	if (w->slot.request)
		worker_end_call(w);
	poison_note_ended(w, false);
	glance_cut(w, false);
	w->slot.call = 0;
	if (proc->foreign)
		leftovers_kill_of(w->id, w->last_pid);
	worker_set_state(w, WORKER_DEAD, w->why);
	if (w->lease)
		lease_end(w->lease, LEASE_END_WORKER_DIED);
	affinity_note_gone(w, postmortem_fate_text(w, fate));
	session_note_slot_free(w);
	worker_print_fatal(w);
}

static const struct process_ops process_ops = {
	.exited = worker_on_exited,
	.control = worker_on_control,
	.control_closed = worker_on_control_closed,
	.output = worker_on_output,
	.dumped = worker_on_dumped,
};

static void worker_on_frame(struct stream *s, struct slice *body)
{
	struct worker *w = container_of(s, struct worker, calls);

	if (w->state != WORKER_STARTING && w->state != WORKER_INITIALIZING)
		slot_take_frame(w, body);
	else
		worker_accuse(w, "the worker answered a call before it was ready");
}

static void worker_on_ended(struct stream *s, enum stream_end why)
{
	struct worker *w = container_of(s, struct worker, calls);
	char text[FRAME_TEXT];

	if (why == STREAM_END_FRAME)
		slot_break(w, frame_status_text(&s->reader, s->bad, text));
	else if (why == STREAM_END_MEMORY)
		slot_starve(w);
	/* closed: not dead yet, the exit status is still owed; a worker that closed it and lives is found below */
	else if (worker_is_serving(w))
		worker_await_end(w);
}

static const struct stream_ops stream_ops = {
	.frame = worker_on_frame,
	.ended = worker_on_ended,
};

void worker_open_calls(struct worker *w, int fd)
{
	struct pool *p = w->pool;

	stream_open(&w->calls, p->loop, p->blobs, fd, FRAME_PREFIXED, LOOP_PRIO_WORKER, &p->worker_limits, &stream_ops);
}

static void worker_signal(struct worker *w, int signo)
{
	int r = process_signal(&w->proc, signo);

	if (r < 0 && r != -ESRCH) /* gone already: its exit is on the way */
		LOG(WARN, "worker.signal.failed", KV("pool", w->pool->settings->name), KV("worker", w->id),
		    KV("errno", -r));
}

void worker_kill(struct worker *w)
{
	w->stage = WORKER_STOP_KILL;
	loop_timer_stop(&w->timer);
	worker_signal(w, SIGKILL);
}

static void worker_terminate(struct worker *w)
{
	w->stage = WORKER_STOP_TERM;
	worker_signal(w, SIGTERM);
	loop_timer_set(&w->timer, loop_now(w->pool->loop) + TERM_TIME);
}

/* What it was to be started with; a child that a template forks for it nevertheless finds its channels closed. */
static void worker_drop(struct worker *w, enum worker_why why)
{
	template_forget(w);
	process_unborn(&w->proc);
	stream_close(&w->calls);
	worker_set_state(w, WORKER_DEAD, why);
}

void worker_stop(struct worker *w, enum worker_why why)
{
	struct pool *p = w->pool;
	bool polite = worker_why_is_polite(why) && worker_is_serving(w); /* others cannot be trusted to leave when asked */
	char fate[POSTMORTEM_FATE];

	if (w->state == WORKER_STOPPING || w->state == WORKER_DEAD)
		return;
	if (!w->last_pid) { /* not started yet; a process whose exit is being told is moved to DEAD by worker_on_exited() */
		worker_drop(w, why);
		return;
	}
	slot_end_output(w);
	worker_set_state(w, WORKER_STOPPING, why);
	if (w->lease)
		lease_end(w->lease, worker_why_is_polite(why) ? LEASE_END_SHUTDOWN : LEASE_END_WORKER_DIED);
	affinity_note_gone(w, postmortem_fate_text(w, fate));
	/* its call channel is of no use any more, or it is to be gone now */
	if (why == WORKER_WHY_PROTOCOL || why == WORKER_WHY_NO_MEMORY || why == WORKER_WHY_OPERATOR)
		worker_kill(w);
	else if (polite && launch_send_stop(w) == 0)
		loop_timer_set(&w->timer, loop_now(p->loop) + p->settings->stop_timeout);
	else
		worker_terminate(w);
}

static void worker_grace_over(struct worker *w)
{
	stream_drain_input(&w->calls); /* a reply that lies ready wins */
	if (!stream_is_open(&w->calls) || w->calls.ended)
		worker_stop(w, WORKER_WHY_PROTOCOL); /* it closed its call channel and lives on */
	else if (slot_is_abandoned(w) && loop_now(w->pool->loop) < w->grace_until)
		slot_interrupt_again(w);
	else if (slot_is_abandoned(w))
		worker_stop(w, w->abandoned == SLOT_DEADLINE ? WORKER_WHY_DEADLINE : WORKER_WHY_CANCELLED);
}

static void worker_on_timer(struct loop_timer *t)
{
	struct worker *w = container_of(t, struct worker, timer);

	switch (w->state) {
	case WORKER_STARTING:
	case WORKER_INITIALIZING:
		if (w->proc.control.fd < 0)
			worker_accuse(w, "the worker closed its control channel");
		else if (w->adopted)
			worker_press_adopted(w);
		else
			glance_ask(w, &w->init_glance, STACK_TIME);
		break;
	case WORKER_IDLE:
	case WORKER_BUSY:
	case WORKER_DRAINING:
		worker_grace_over(w);
		break;
	case WORKER_STOPPING:
		if (w->stage == WORKER_STOP_ASK)
			worker_terminate(w);
		else
			worker_kill(w);
		break;
	case WORKER_DEAD:
	case WORKER_N_STATES:
		break;
	}
}

/* A fork that does not come is its template's fault, which has a time for that. */
static void worker_await_ready(struct worker *w)
{
	uint64_t most = pool_settings_of(w)->init_timeout;

	loop_timer_set(&w->timer, most ? loop_now(w->pool->loop) + most : LOOP_NEVER);
}

static void worker_on_admitted(struct gate_ticket *ticket)
{
	struct worker *w = container_of(ticket, struct worker, ticket);
	struct pool *p = w->pool;
	int fd = -1;

	if (!launch_asks(w, &fd)) {
		if (ticket->light) { /* it was to be forked: an interpreter costs more, and needs a place */
			gate_join(ticket, false);
			return;
		}
		w->spawn_error = launch_exec(w, &fd);
	}
	if (w->spawn_error < 0) {
		worker_set_state(w, WORKER_DEAD, WORKER_WHY_SPAWN_FAILED);
		return;
	}
	p->stats.spawned += !w->is_template;
	w->last_pid = w->proc.pid; /* 0: a template was asked, see worker_born() */
	worker_open_calls(w, fd);
	handshake_begin(&w->hs, w->fork ? "fork" : "exec", NULL, w->proc.spawned_ns);
	if (w->fork)
		return; /* see worker_born() */
	handshake_begin(&w->hs, "interpreter", NULL, w->proc.exec_ns);
	worker_await_ready(w);
	worker_send_init(w);
}

int worker_born(struct worker *w, const struct worker *process, pid_t pid)
{
	int r = process_born(&w->proc, pid);

	if (r < 0)
		return r;
	w->last_pid = pid;
	worker_await_ready(w);
	if (w->proc.group)
		worker_send_init(w); /* it has waited for that: it is in its group now */
	else
		handshake_introduce(&w->hs, &process->hs);
	return 0;
}

void worker_unborn(struct worker *w, int error)
{
	w->spawn_error = error;
	worker_drop(w, WORKER_WHY_SPAWN_FAILED);
}

struct worker *worker_make(struct pool *p, uint64_t id, uint64_t generation)
{
	struct worker *w = MEM_NEW(struct worker);

	w->id = id;
	w->pool = p;
	w->generation = generation;
	w->old_at = LOOP_NEVER;
	w->own.transient = true;
	w->own.total = &p->n_own;
	w->born = w->since = loop_now(p->loop);
	process_init(&w->proc, p->loop, &process_ops, TAIL_BYTES, TAIL_LINES);
	loop_timer_init(&w->timer, p->loop, worker_on_timer);
	glance_init(w);
	slot_init(w);
	w->init_glance.done = worker_on_init_glance;
	gate_ticket_init(&w->ticket, p->gate, worker_on_admitted);
	return w;
}

struct worker *worker_new(struct pool *p, uint64_t generation, bool probe)
{
	struct worker *w = worker_make(p, registry_next(p->registry, &p->registry->last_worker), generation);

	w->probe = probe;
	p->in_state[WORKER_STARTING]++;
	LOG(DEBUG, "worker.new", KV("pool", p->settings->name), KV("worker", w->id), KV("probe", probe));
	event_worker_began(w);
	gate_join(&w->ticket, launch_forks(w));
	return w;
}

struct worker *worker_new_template(struct template *t)
{
	struct registry *g = t->pool->registry;
	struct worker *w = worker_make(t->pool, REGISTRY_TEMPLATE | ++g->last_template, t->generation);

	w->is_template = true;
	w->template = t;
	event_worker_began(w);
	gate_join(&w->ticket, false);
	return w;
}

struct worker *worker_free(struct worker *w)
{
	if (!w)
		return NULL;
	gate_leave(&w->ticket);
	loop_timer_stop(&w->timer);
	slot_close(w);
	queue_deinit(&w->own);
	free(w->forgets);
	glance_deinit(w);
	handshake_deinit(&w->hs);
	process_deinit(&w->proc);
	free(w);
	return NULL;
}

void worker_settle(struct worker *w)
{
	if (!worker_is_serving(w) || !slot_is_free(w) || w->calls.ended)
		return; /* with its call channel at its end, the timer that was armed then decides */
	loop_timer_stop(&w->timer);
	affinity_remind(w);
	supply_weigh(w);
	if (w->lease)
		lease_advance(w->lease);
	else if (w->state == WORKER_BUSY && !pool_is_leaving(w->pool))
		worker_set_state(w, WORKER_IDLE, WORKER_WHY_NONE);
	else if (w->state == WORKER_DRAINING && w->n_bound && !pool_is_leaving(w->pool))
		affinity_call(w);
	else if (w->state != WORKER_IDLE)
		worker_stop(w, w->due != WORKER_WHY_NONE && !pool_is_leaving(w->pool) ? w->due : WORKER_WHY_SHUTDOWN);
}

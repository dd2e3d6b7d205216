#include "daemon/pool/postmortem.h"

#include <signal.h>
#include <stdio.h>

#include "daemon/base/cleanup.h"
#include "daemon/base/packed.h"
#include "daemon/io/core.h"
#include "daemon/pool/affinity.h"
#include "daemon/pool/failure.h"
#include "daemon/pool/lease.h"
#include "daemon/pool/pool.h"
#include "daemon/pool/request.h"
#include "daemon/pool/session.h"
#include "daemon/pool/stack.h"
#include "daemon/pool/text.h"
#include "daemon/pool/worker.h"
#include "proto/pack.h"

#define LINES_MAX 50
#define STACK_KEPT (32 * 1024)
#define HOLDERS_MAX 8

static void postmortem_begin(struct postmortem *pm, msgpack_packer *pk)
{
	packed_begin(&pm->cause, pk);
}

static void postmortem_end(struct postmortem *pm)
{
	pm->outcome.cause = (struct span){ .p = (const uint8_t *)pm->cause.data, .len = pm->cause.size };
}

void postmortem_deinit(struct postmortem *pm)
{
	msgpack_sbuffer_destroy(&pm->cause);
}

/* "1.9 GiB" */
static const char *text_rss(uint64_t kib, char out[TEXT_DURATION])
{
	if (kib >= 1024 * 1024)
		(void)snprintf(out, TEXT_DURATION, "%llu.%llu GiB", (unsigned long long)kib >> 20,
			       (unsigned long long)(kib & 0xfffff) * 10 >> 20);
	else
		(void)snprintf(out, TEXT_DURATION, "%llu MiB", (unsigned long long)kib >> 10);
	return out;
}

/* ", limit_memory of the pool allows 2.0 GiB", or "" */
static const char *text_memory_limit(const struct worker *w, char out[64])
{
	uint64_t limit = w->exit.oom ? pool_settings_of(w)->limit_memory : 0;
	char size[TEXT_DURATION];

	out[0] = '\0';
	if (limit)
		(void)snprintf(out, 64, ", limit_memory of the pool allows %s", text_rss(limit >> 10, size));
	return out;
}

/* A signal that pypoold did not send. */
static void describe_signal(const struct worker *w, char out[POSTMORTEM_TEXT])
{
	const struct process_exit *e = &w->exit;
	char name[TEXT_DURATION], rss[TEXT_DURATION], limit[64];

	if (w->why == WORKER_WHY_OOM && !e->known)
		(void)snprintf(out, POSTMORTEM_TEXT, "was killed by the kernel for want of memory (OOM killer%s)",
			       text_memory_limit(w, limit));
	else if (w->why == WORKER_WHY_OOM)
		(void)snprintf(out, POSTMORTEM_TEXT,
			       "was killed by the kernel for want of memory (OOM killer, SIGKILL; its peak was %s%s)",
			       text_rss(e->max_rss_kib, rss), text_memory_limit(w, limit));
	else
		(void)snprintf(out, POSTMORTEM_TEXT, "was killed by signal %d (%s)%s%s", e->signal,
			       text_signal(e->signal, name), e->signal == SIGKILL ? " from outside of pypoold" : "",
			       e->core_dumped ? ", core dumped" : "");
}

const char *postmortem_exit_text(const struct worker *w, char out[POSTMORTEM_TEXT])
{
	const struct process_exit *e = &w->exit;
	char name[TEXT_DURATION];
	bool told = w->why != WORKER_WHY_NONE && w->why != WORKER_WHY_CRASHED && w->why != WORKER_WHY_INIT_FAILED &&
		    w->why != WORKER_WHY_OOM;

	if (!e->known && w->why != WORKER_WHY_OOM) /* of that the cgroup tells */
		(void)snprintf(out, POSTMORTEM_TEXT, "ended, its exit status is not known");
	else if (e->known && !e->signal)
		(void)snprintf(out, POSTMORTEM_TEXT, "exited with status %d", e->exit_code);
	else if (told && (e->signal == SIGTERM || e->signal == SIGKILL))
		(void)snprintf(out, POSTMORTEM_TEXT, "was killed by pypoold (%s, %s)", worker_why_name(w->why),
			       text_signal(e->signal, name));
	else
		describe_signal(w, out);
	return out;
}

const char *postmortem_fate_text(const struct worker *w, char out[POSTMORTEM_FATE])
{
	char how[POSTMORTEM_TEXT];

	if (w->state == WORKER_DEAD)
		(void)snprintf(out, POSTMORTEM_FATE, "worker %llu (pid %d) %s", (unsigned long long)w->id, (int)w->last_pid,
			       postmortem_exit_text(w, how));
	else
		(void)snprintf(out, POSTMORTEM_FATE, "worker %llu (pid %d) is being stopped (%s)", (unsigned long long)w->id,
			       (int)w->last_pid, worker_why_name(w->why));
	return out;
}

void postmortem_pack_exit(msgpack_packer *pk, const struct worker *w)
{
	const struct process_exit *e = &w->exit;
	char text[POSTMORTEM_TEXT], core[400];
	bool never_ran = w->why == WORKER_WHY_SPAWN_FAILED;

	pack_kv_text(pk, "reason", worker_why_name(w->why));
	pack_kv_text(pk, "exit", never_ran ? NULL : postmortem_exit_text(w, text));
	pack_text(pk, "exit_code");
	msgpack_pack_int(pk, e->signal || !e->known ? -1 : e->exit_code);
	pack_kv_uint(pk, "signal", (uint64_t)e->signal);
	pack_kv_bool(pk, "core_dumped", e->core_dumped);
	pack_text(pk, "core");
	if (e->core_dumped)
		text_pack_safe(pk, span_str(core_where(w->last_pid, core, sizeof(core))), sizeof(core));
	else
		msgpack_pack_nil(pk);
	pack_kv_uint(pk, "max_rss_kib", e->max_rss_kib);
}

struct span postmortem_fatal(const struct worker *w)
{
	return w->proc.fatal && w->exit.signal ? span_str(w->proc.fatal) : (struct span){ 0 };
}

void postmortem_pack_stack(msgpack_packer *pk, const char *key, struct span stack)
{
	pack_text(pk, key);
	text_pack_safe(pk, stack_cut(stack), STACK_KEPT);
}

void postmortem_pack_lines(msgpack_packer *pk, const char *key, const struct tail *t, uint64_t from)
{
	struct tail_line line;
	uint64_t end = t ? tail_mark(t) : 0;
	uint64_t next = end > LINES_MAX && from < end - LINES_MAX ? end - LINES_MAX : from;
	uint32_t n = 0;

	for (uint64_t i = next; t && tail_next(t, i, &line); i = line.number + 1)
		n++;
	pack_text(pk, key);
	msgpack_pack_array(pk, n);
	for (uint64_t i = next; n && tail_next(t, i, &line); i = line.number + 1, n--)
		text_pack_safe(pk, line.text, TAIL_LINE_MAX);
}

struct span postmortem_last_line(const struct tail *t, uint64_t from)
{
	struct tail_line line;
	struct span last = { 0 };

	for (uint64_t i = from; t && tail_next(t, i, &line); i = line.number + 1) {
		if (line.source == TAIL_STDERR && line.text.len)
			last = line.text;
	}
	return last;
}

/* What each worker of the pool is doing, for whoever could not have one. */
static void pack_holders(msgpack_packer *pk, const struct pool *p, uint64_t now)
{
	const struct worker *w;
	unsigned n = 0;

	for (w = p->workers; w && n < HOLDERS_MAX; w = w->next)
		n++;
	pack_text(pk, "workers");
	msgpack_pack_array(pk, n);
	for (w = p->workers; n--; w = w->next) {
		msgpack_pack_map(pk, 5);
		pack_kv_uint(pk, "worker", w->id);
		pack_kv_uint(pk, "pid", (uint64_t)w->last_pid);
		pack_kv_text(pk, "state", worker_state_name(w->state));
		pack_kv_uint(pk, "ms", (now - w->since) / NS_PER_MS);
		pack_kv_text(pk, "target", slot_is_free(w) ? NULL : w->slot.target);
	}
}

/* " at app.py line 5 in work", or "": where a call that runs is, when somebody has looked lately. */
static const char *describe_at(const struct worker *w, char out[STACK_TEXT + 4])
{
	const struct glance *g = slot_is_free(w) ? NULL : glance_last(w, GLANCE_FRESH);
	char place[STACK_TEXT] = "";

	if (g)
		stack_place(glance_stack(g), place);
	(void)snprintf(out, STACK_TEXT + 4, "%s%s", place[0] ? " at " : "", place);
	return out;
}

/* "1 of 1 busy (pid 812: app.slow for 2.5 s)" */
static void describe_holders(const struct pool *p, uint64_t now, char *out, size_t size)
{
	unsigned busy = p->in_state[WORKER_BUSY],
		 starting = p->in_state[WORKER_STARTING] + p->in_state[WORKER_INITIALIZING];
	unsigned all = pool_living(p);
	const struct worker *eldest = pool_eldest(p);
	char time[TEXT_DURATION], place[STACK_TEXT + 4];

	if (p->paused)
		(void)snprintf(out, size, "the pool is paused");
	else if (!eldest)
		(void)snprintf(out, size, "%u of %u starting", starting, all);
	else if (eldest->is_template)
		(void)snprintf(out, size, "no worker yet, their template is still starting (pid %d: %s %s for %s)",
			       (int)eldest->last_pid, handshake_last(&eldest->hs)->name,
			       handshake_last(&eldest->hs)->module, text_duration(now - eldest->born, time));
	else if (eldest->state == WORKER_INITIALIZING)
		(void)snprintf(out, size, "%u of %u still starting (pid %d: %s %s for %s)", starting, all,
			       (int)eldest->last_pid, handshake_last(&eldest->hs)->name,
			       handshake_last(&eldest->hs)->module, text_duration(now - eldest->born, time));
	else
		(void)snprintf(out, size, "%u of %u busy (pid %d: %s for %s%s)", busy, all, (int)eldest->last_pid,
			       slot_is_free(eldest) ? "leased" : eldest->slot.target,
			       text_duration(now - eldest->since, time), describe_at(eldest, place));
}

static void describe_place(const struct request *r, char *out, size_t size)
{
	if (r->ahead)
		(void)snprintf(out, size, "%u %s ahead of you in the queue", r->ahead, r->ahead == 1 ? "was" : "were");
	else
		(void)snprintf(out, size, "you were first in the queue");
}

/* There may well be a free worker, but not for one more of its like. */
static void describe_held(struct outcome *o, enum error_code code, const struct request *r,
			  const struct poison_entry *e, uint64_t waited)
{
	char time[TEXT_DURATION];

	outcome_error(o, code,
		      "%s was held back for %s: with these arguments it has killed %u worker%s, last: %s; "
		      "no more of them run at once than may still do so",
		      r->target, text_duration(waited, time), e->kills, e->kills == 1 ? "" : "s",
		      deaths_last(&e->deaths, 0)->text);
}

/* "its session "a" is bound to worker 3 (pid 812), busy with app.slow for 2.5 s" */
static void describe_bound(const struct request *r, const struct worker *w, uint64_t now, char *out, size_t size)
{
	char time[TEXT_DURATION], place[STACK_TEXT + 4];

	if (w->adopted) {
		(void)snprintf(out, size,
			       "its session \"%s\" is bound to worker %llu (pid %d), busy with what it had when the daemon came back, %s ago",
			       r->session->name, (unsigned long long)w->id, (int)w->last_pid,
			       text_duration(now - w->born, time));
		return;
	}
	(void)snprintf(out, size, "its session \"%s\" is bound to worker %llu (pid %d), %s%s for %s%s", r->session->name,
		       (unsigned long long)w->id, (int)w->last_pid, slot_is_free(w) ? "" : "busy with ",
		       !slot_is_free(w) ? w->slot.target : w->lease ? "leased" : "free",
		       text_duration(now - (slot_is_free(w) ? w->since : w->slot.started), time), describe_at(w, place));
}

/* "worker 3 (pid 812) still runs a call of its session "a" that was answered, app.slow for 2.5 s" */
static void describe_lingering(const struct request *r, const struct worker *w, uint64_t now, char *out, size_t size)
{
	char time[TEXT_DURATION], place[STACK_TEXT + 4];

	if (w->adopted) {
		(void)snprintf(out, size,
			       "worker %llu (pid %d) still runs a call of its session \"%s\" that it had when the daemon came back, %s ago",
			       (unsigned long long)w->id, (int)w->last_pid, r->session->name,
			       text_duration(now - w->born, time));
		return;
	}
	(void)snprintf(out, size,
		       "worker %llu (pid %d) still runs a call of its session \"%s\" that was answered, %s for %s%s",
		       (unsigned long long)w->id, (int)w->last_pid, r->session->name, w->slot.target,
		       text_duration(now - w->slot.started, time), describe_at(w, place));
}

static void describe_waited(struct outcome *o, enum error_code code, const struct request *r, uint64_t waited)
{
	const struct worker *only = r->lease ? NULL : affinity_worker_of(r), *lingers = session_awaits(r);
	uint64_t now = loop_now(r->pool->loop);
	char holders[800], place[64], time[TEXT_DURATION];

	if (lingers)
		describe_lingering(r, lingers, now, holders, sizeof(holders));
	else if (only)
		describe_bound(r, only, now, holders, sizeof(holders));
	else
		describe_holders(r->pool, now, holders, sizeof(holders));
	describe_place(r, place, sizeof(place));
	outcome_error(o, code, "no free worker for %s in %s: %s; %s", r->target, text_duration(waited, time), holders,
		      place);
}

void postmortem_waited(struct postmortem *pm, struct request *r)
{
	const struct poison_entry *keeper = poison_keeper(r);
	uint64_t now = loop_now(r->pool->loop), waited = now - r->received;
	enum error_code code = r->deadline <= r->queue_deadline && r->kind == REQUEST_EXECUTE ? ERROR_DEADLINE_EXCEEDED
											      : ERROR_QUEUE_TIMEOUT;
	msgpack_packer pk;

	if (keeper)
		describe_held(&pm->outcome, code, r, keeper, waited);
	else
		describe_waited(&pm->outcome, code, r, waited);
	pm->outcome.executed = EXECUTED_NEVER;
	postmortem_begin(pm, &pk);
	msgpack_pack_map(&pk, keeper ? 5 : 3);
	pack_kv_uint(&pk, "waited_ms", waited / NS_PER_MS);
	pack_kv_uint(&pk, "ahead", r->ahead);
	pack_holders(&pk, r->pool, now);
	if (keeper) {
		pack_kv_uint(&pk, "kills", keeper->kills);
		deaths_pack(&pk, "last", &keeper->deaths);
	}
	postmortem_end(pm);
}

static void pack_times(msgpack_packer *pk, const struct request *r, uint64_t now)
{
	pack_kv_uint(pk, "waited_ms", (r->started - r->received) / NS_PER_MS);
	pack_kv_uint(pk, "run_ms", (now - r->started) / NS_PER_MS);
}

void postmortem_overdue(struct postmortem *pm, const struct request *r, const struct glance *g)
{
	const struct worker *w = r->worker;
	uint64_t now = loop_now(r->pool->loop);
	char place[STACK_TEXT], activity[GLANCE_TEXT], limit[TEXT_DURATION], grace[TEXT_DURATION];
	msgpack_packer pk;

	stack_place(glance_stack(g), place);
	glance_activity(g, activity);
	outcome_error(&pm->outcome, ERROR_DEADLINE_EXCEEDED,
		      "deadline %s exceeded in %s: %s%s%s; it is being interrupted, and worker %llu (pid %d) killed if "
		      "it goes on for %s",
		      text_duration(r->deadline - r->received, limit), r->target,
		      place[0] ? place : "it did not show its stack", activity[0] ? ", " : "", activity,
		      (unsigned long long)w->id, (int)w->last_pid,
		      text_duration(r->pool->settings->cancel_grace, grace));
	pm->outcome.worker = w->id;
	postmortem_begin(pm, &pk);
	msgpack_pack_map(&pk, 6);
	pack_times(&pk, r, now);
	pack_kv_text(&pk, "activity", activity[0] ? activity : NULL);
	pack_kv_bool(&pk, "stack_complete", g->complete);
	postmortem_pack_stack(&pk, "stack", glance_stack(g));
	postmortem_pack_lines(&pk, "output", w->proc.tail, r->tail_mark);
	postmortem_end(pm);
}

static const char *describe_retry(const struct request *r, const struct worker *w)
{
	if (!r->idempotent || w->calls.unread)
		return "";
	if (r->retried)
		return "; it was the second try";
	if (!pool_may_rerun(r->pool, r->target))
		return "; not tried again: its handler is not marked with @expose(idempotent=True)";
	return r->lease ? "; not tried again: it ran under a lease" : "";
}

/* With the worker of a strict session goes the session. */
static const char *describe_session(const struct request *r, char out[300])
{
	out[0] = '\0';
	if (r->session && session_is_strict(r->session))
		(void)snprintf(out, 300, "session \"%s\" is lost: ", r->session->name);
	return out;
}

void postmortem_died(struct postmortem *pm, const struct request *r, const struct worker *w)
{
	uint64_t now = loop_now(r->pool->loop);
	struct span last = postmortem_last_line(w->proc.tail, r->tail_mark), fatal = postmortem_fatal(w);
	char how[POSTMORTEM_TEXT], time[TEXT_DURATION], place[STACK_TEXT], quoted[300] = "", session[300];
	msgpack_packer pk;

	postmortem_exit_text(w, how);
	stack_place(fatal, place);
	if (last.len)
		envelope_quote(last, quoted, sizeof(quoted));
	describe_session(r, session);
	outcome_error(&pm->outcome,
		      w->slot.broken ? ERROR_WORKER_PROTOCOL :
		      session[0]     ? ERROR_SESSION_LOST :
				       ERROR_WORKER_DIED,
		      "%sworker %llu (pid %d) %s %s %s for %s%s%s%s%s%s",
		      session, (unsigned long long)w->id, (int)w->last_pid, how,
		      w->calls.unread ? "before it had read the call of" : "while it ran", r->target,
		      text_duration(now - r->started, time), place[0] ? ", " : "", place,
		      last.len ? "; its last words: " : "", quoted, describe_retry(r, w));
	pm->outcome.executed = w->calls.unread ? EXECUTED_NEVER : EXECUTED_MAYBE;
	pm->outcome.worker = w->id;
	postmortem_begin(pm, &pk);
	msgpack_pack_map(&pk, 3 + POSTMORTEM_EXIT_KEYS + (fatal.len != 0));
	pack_times(&pk, r, now);
	postmortem_pack_exit(&pk, w);
	if (fatal.len)
		postmortem_pack_stack(&pk, "stack", fatal);
	postmortem_pack_lines(&pk, "output", w->proc.tail, r->tail_mark);
	postmortem_end(pm);
}

static const char *describe_wait(uint64_t wait, char out[POSTMORTEM_TEXT])
{
	char time[TEXT_DURATION];

	if (wait)
		(void)snprintf(out, POSTMORTEM_TEXT, "next try in %s", text_duration(wait, time));
	else
		(void)snprintf(out, POSTMORTEM_TEXT, "the next try is on its way");
	return out;
}

void postmortem_down(struct postmortem *pm, const struct pool *p)
{
	const struct supply *s = &p->supply;
	uint64_t wait = supply_wait(p);
	char since[16], next[POSTMORTEM_TEXT];

	failure_clock(s->first_failure_wall, since);
	outcome_error(&pm->outcome, ERROR_INIT_FAILED, "no worker: init failed %u time%s since %s, last: %s; %s",
		      s->failures_in_row, s->failures_in_row == 1 ? "" : "s", since, s->failure->message,
		      describe_wait(wait, next));
	pm->outcome.retry_after_ms = wait / NS_PER_MS + 1;
	pm->outcome.phase = s->failure->phase;
	msgpack_sbuffer_init(&pm->cause);
	pm->outcome.cause =
		(struct span){ .p = (const uint8_t *)s->failure->cause.data, .len = s->failure->cause.size };
}

void postmortem_open(struct postmortem *pm, const struct pool *p)
{
	const struct breaker *b = &p->supply.breaker;
	const struct death *last = deaths_last(&b->deaths, 0);
	const struct failure *f = p->supply.failure;
	uint64_t wait = supply_wait(p);
	char since[16], next[POSTMORTEM_TEXT];
	msgpack_packer pk;

	failure_clock(b->first_wall, since);
	outcome_error(&pm->outcome, ERROR_CIRCUIT_OPEN,
		      "pool %s takes no calls: %u %s failed in a row since %s, last: %s; %s", p->settings->name,
		      breaker_failures(b), breaker_failures(b) == 1 ? "worker" : "workers", since,
		      last ? last->text : "not known", describe_wait(wait, next));
	pm->outcome.retry_after_ms = wait / NS_PER_MS + 1;
	postmortem_begin(pm, &pk);
	msgpack_pack_map(&pk, f ? 5 : 4);
	pack_kv_text(&pk, "breaker", breaker_state_name(b->state));
	pack_kv_uint(&pk, "failures", breaker_failures(b));
	pack_kv_uint(&pk, "since_ms", b->first_wall);
	deaths_pack(&pk, "last", &b->deaths);
	if (f) {
		pack_text(&pk, "init");
		pack_raw(&pk, (struct span){ .p = (const uint8_t *)f->cause.data, .len = f->cause.size });
	}
	postmortem_end(pm);
}

void postmortem_poisoned(struct postmortem *pm, const struct request *r, const struct poison_entry *e)
{
	const struct death *last = deaths_last(&e->deaths, 0);
	uint64_t wait = poison_wait(r->pool, e);
	char at[16], time[TEXT_DURATION];
	msgpack_packer pk;

	failure_clock(last->wall_ms, at);
	outcome_error(&pm->outcome, ERROR_POISONED,
		      "%s with these arguments has killed %u worker%s, last: %s at %s; refused for %s", r->target,
		      e->kills, e->kills == 1 ? "" : "s", last->text, at, text_duration(wait, time));
	pm->outcome.retry_after_ms = wait / NS_PER_MS + 1;
	postmortem_begin(pm, &pk);
	msgpack_pack_map(&pk, 2);
	pack_kv_uint(&pk, "kills", e->kills);
	deaths_pack(&pk, "last", &e->deaths);
	postmortem_end(pm);
}

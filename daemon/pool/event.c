#include "daemon/pool/event.h"

#include "daemon/base/packed.h"
#include "daemon/base/wall.h"
#include "daemon/pool/caller.h"
#include "daemon/pool/failure.h"
#include "daemon/pool/lease.h"
#include "daemon/pool/pool.h"
#include "daemon/pool/postmortem.h"
#include "daemon/pool/session.h"
#include "daemon/pool/text.h"
#include "proto/pack.h"

/* One that is being made. */
struct draft {
	struct feed *feed;
	struct event event;
	msgpack_packer pk;
};

/* --- making one --- */

static void put_text(struct draft *d, const char *key, const char *text)
{
	pack_kv_text(&d->pk, key, text);
	d->event.n++;
}

/* In words, which may hold what others wrote. */
static void put_words(struct draft *d, const char *key, const char *text)
{
	if (!text) {
		put_text(d, key, NULL);
		return;
	}
	pack_text(&d->pk, key);
	text_pack_safe(&d->pk, span_str(text), SIZE_MAX);
	d->event.n++;
}

static void put_uint(struct draft *d, const char *key, uint64_t v)
{
	pack_kv_uint(&d->pk, key, v);
	d->event.n++;
}

static void put_bool(struct draft *d, const char *key, bool v)
{
	pack_kv_bool(&d->pk, key, v);
	d->event.n++;
}

static void draft_start(struct draft *d, struct feed *f, enum event_kind kind, const char *what, uint64_t time_ms)
{
	d->feed = f;
	d->event = (struct event){ .kind = kind };
	packed_begin(&d->event.buf, &d->pk);
	put_text(d, "kind", event_kind_name(kind));
	put_text(d, "what", what);
	put_uint(d, "time_ms", time_ms);
}

/* False: nobody wants to know. */
static bool draft_begin(struct draft *d, const struct pool *p, enum event_kind kind, const char *what)
{
	struct feed *f = p->registry->feed;

	if (!feed_wants(f, kind))
		return false;
	draft_start(d, f, kind, what, wall_ms());
	d->event.pool = p;
	put_text(d, "pool", p->settings->name);
	return true;
}

static void draft_tell(struct draft *d)
{
	d->feed->ops->told(d->feed, &d->event);
	msgpack_sbuffer_destroy(&d->event.buf);
}

/* --- workers --- */

static void put_worker(struct draft *d, const struct worker *w)
{
	put_uint(d, "worker", w->id);
	put_uint(d, "pid", (uint64_t)w->last_pid);
	put_uint(d, "generation", w->generation);
	put_bool(d, "template", w->is_template);
}

void event_worker_began(const struct worker *w)
{
	struct draft d;

	if (!draft_begin(&d, w->pool, EVENT_WORKER, worker_state_name(w->state)))
		return;
	put_worker(&d, w);
	draft_tell(&d);
}

static bool is_of_a_call(enum worker_state s)
{
	return s == WORKER_IDLE || s == WORKER_BUSY;
}

void event_worker_moved(const struct worker *w, enum worker_state from, uint64_t ms)
{
	char how[POSTMORTEM_TEXT];
	struct draft d;

	if ((is_of_a_call(from) && is_of_a_call(w->state)) ||
	    !draft_begin(&d, w->pool, EVENT_WORKER, worker_state_name(w->state)))
		return;
	put_worker(&d, w);
	put_text(&d, "from", worker_state_name(from));
	put_uint(&d, "ms", ms);
	put_text(&d, "reason", w->why == WORKER_WHY_NONE ? NULL : worker_why_name(w->why));
	if (w->state == WORKER_DEAD && w->last_pid)
		put_words(&d, "exit", postmortem_exit_text(w, how));
	draft_tell(&d);
}

void event_output(const struct worker *w, const struct tail_line *line)
{
	struct feed *f = w->pool->registry->feed;
	struct draft d;

	if (!feed_wants(f, EVENT_OUTPUT))
		return;
	draft_start(&d, f, EVENT_OUTPUT, "line", line->wall_ms);
	d.event.pool = w->pool;
	put_text(&d, "pool", w->pool->settings->name);
	put_uint(&d, "worker", w->id);
	put_uint(&d, "pid", (uint64_t)w->last_pid);
	put_uint(&d, "call", w->slot.last_call);
	put_uint(&d, "number", line->number);
	put_text(&d, "source", line->source == TAIL_STDERR ? "stderr" : "stdout");
	pack_text(&d.pk, "text");
	text_pack_safe(&d.pk, line->text, TAIL_LINE_MAX);
	d.event.n++;
	draft_tell(&d);
}

void event_output_missed(const struct worker *w, uint64_t lines)
{
	struct feed *f = w->pool->registry->feed;

	if (feed_wants(f, EVENT_OUTPUT))
		f->ops->missed(f, EVENT_OUTPUT, w->pool, lines);
}

void event_workers_missed(const struct pool *p, uint64_t n)
{
	struct feed *f = p->registry->feed;

	if (n && feed_wants(f, EVENT_WORKER))
		f->ops->missed(f, EVENT_WORKER, p, n);
}

/* --- sessions and leases --- */

void event_session(const struct session *s, const char *what, const char *reason)
{
	struct draft d;

	if (!draft_begin(&d, s->pool, EVENT_SESSION, what))
		return;
	put_text(&d, "session", s->name);
	put_uint(&d, "uid", s->uid);
	put_uint(&d, "worker", s->worker ? s->worker->id : 0);
	if (reason)
		put_words(&d, "reason", reason);
	draft_tell(&d);
}

void event_lease(const struct lease *l, const char *ended)
{
	struct draft d;

	if (!draft_begin(&d, l->worker->pool, EVENT_LEASE, ended ? "ended" : "begun"))
		return;
	put_uint(&d, "lease", l->id);
	put_uint(&d, "worker", l->worker->id);
	put_uint(&d, "client", l->caller->id);
	put_uint(&d, "uid", l->caller->uid);
	put_text(&d, "session", l->session ? l->session->name : NULL);
	if (ended)
		put_text(&d, "reason", ended);
	draft_tell(&d);
}

/* --- pools --- */

void event_breaker(const struct pool *p)
{
	const struct breaker *b = &p->supply.breaker;
	const struct death *last = deaths_last(&b->deaths, 0);
	struct draft d;

	if (!draft_begin(&d, p, EVENT_BREAKER, breaker_state_name(b->state)))
		return;
	put_uint(&d, "failures", breaker_failures(b));
	put_words(&d, "reason", last ? last->text : NULL);
	draft_tell(&d);
}

/* The state that it is in by now. */
static bool begin_of_pool(struct draft *d, const struct pool *p, const char *what)
{
	if (!draft_begin(d, p, EVENT_POOL, what))
		return false;
	put_text(d, "state", pool_state_name(p));
	return true;
}

void event_pool(const struct pool *p, const char *what, const char *reason)
{
	struct draft d;

	if (!begin_of_pool(&d, p, what))
		return;
	if (reason)
		put_words(&d, "reason", reason);
	draft_tell(&d);
}

void event_pool_resized(const struct pool *p)
{
	struct draft d;

	if (!begin_of_pool(&d, p, "resized"))
		return;
	put_uint(&d, "min_workers", p->settings->min_workers);
	put_uint(&d, "max_workers", p->settings->max_workers);
	draft_tell(&d);
}

void event_reload(const struct pool *p, const struct reload_result *r)
{
	struct draft d;

	if (!begin_of_pool(&d, p, !r ? "reload_begun" : r->cut ? "reload_cut" : r->failure ? "reload_failed" : "reload_done"))
		return;
	put_bool(&d, "dry_run", r ? r->dry : p->reload.dry);
	put_uint(&d, "generation", p->generation);
	if (r) {
		put_uint(&d, "replaced", r->dry ? 0 : r->replaced);
		put_uint(&d, "ms", r->ns / NS_PER_MS);
	}
	if (r && r->failure)
		put_words(&d, "reason", r->failure->message);
	draft_tell(&d);
}

void event_config(struct feed *f, const char *reason)
{
	struct draft d;

	if (!feed_wants(f, EVENT_CONFIG))
		return;
	draft_start(&d, f, EVENT_CONFIG, reason ? "refused" : "taken", wall_ms());
	if (reason)
		put_words(&d, "reason", reason);
	draft_tell(&d);
}

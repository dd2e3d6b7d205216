#include "daemon/pool/session.h"

#include <stdio.h>
#include <utlist.h>

#include "daemon/base/cleanup.h"
#include "daemon/base/log.h"
#include "daemon/base/mem.h"
#include "daemon/pool/account.h"
#include "daemon/pool/affinity.h"
#include "daemon/pool/caller.h"
#include "daemon/pool/event.h"
#include "daemon/pool/keep.h"
#include "daemon/pool/launch.h"
#include "daemon/pool/lease.h"
#include "daemon/pool/pool.h"
#include "daemon/pool/request.h"
#include "daemon/pool/session_values.h"
#include "daemon/pool/worker.h"

#define KEY_MAX (sizeof(uid_t) + 256)
#define SENDS_AHEAD (UINT64_C(1) << 32) /* values are sent more often than that is kept */

bool session_is_strict(const struct session *s)
{
	return s->strict;
}

uint64_t session_expires(const struct session *s)
{
	return s->ttl ? s->used + s->ttl : LOOP_NEVER;
}

/* --- the table --- */

static size_t key_make(uint8_t key[KEY_MAX], uid_t uid, struct span name)
{
	memcpy(key, &uid, sizeof(uid));
	memcpy(key + sizeof(uid), name.p, name.len);
	return sizeof(uid) + name.len;
}

static struct session *table_find(struct session *table, uid_t uid, struct span name)
{
	uint8_t key[KEY_MAX];
	size_t len = key_make(key, uid, name);
	struct session *s;

	HASH_FIND(hh, table, key, len, s);
	return s;
}

struct session *session_find(const struct pool *p, uid_t uid, struct span name)
{
	return table_find(p->sessions, uid, name);
}

/* One that is closed and goes on for a while: a new one of its name waits for it. */
static void session_list_ending(struct session *s)
{
	struct pool *p = s->pool;

	if (s->before && s->before->ending) {
		HASH_DEL(p->ending, s->before);
		s->before->ending = false; /* whoever waits for s waits for that one too */
	}
	HASH_ADD_KEYPTR(hh, p->ending, s->key, s->key_len, s);
	s->ending = true;
}

static void session_follow(struct session *s, struct session *before)
{
	s->before = before;
	if (before)
		before->after = s;
}

static void session_release(struct loop_grave *g)
{
	free(container_of(g, struct session, grave));
}

static void session_unlist(struct session *s)
{
	HASH_DEL(s->pool->sessions, s);
	s->listed = false;
	keep_no_session(s);
	loop_timer_stop(&s->timer);
}

static void session_mark(struct session *s)
{
	if (!s->due) {
		s->due = true;
		DL_APPEND2(s->pool->sessions_due, s, due_prev, due_next);
	}
	pool_mark(s->pool);
}

static bool session_is_used(const struct session *s)
{
	return s->n_requests || s->lease || s->lingering;
}

/* The end of it, when nothing needs it any more. */
static void session_maybe_end(struct session *s)
{
	struct pool *p = s->pool;

	if (s->listed || !s->closed || session_is_used(s))
		return;
	if (s->ending)
		HASH_DEL(p->ending, s);
	if (s->after) {
		session_follow(s->after, s->before);
		session_mark(s->after);
	} else if (s->before) {
		s->before->after = NULL;
	}
	affinity_unbind(s);
	values_clear(&s->values);
	account_release_session(s->account);
	if (s->due)
		DL_DELETE2(p->sessions_due, s, due_prev, due_next);
	s->due = false;
	p->n_sessions--;
	LOG(DEBUG, "session.end", KV("pool", p->settings->name), KV("session", s->name), KV("uid", s->uid));
	loop_bury(p->loop, &s->grave, session_release);
}

static void session_leave(struct session *s, const char *what);

static void session_on_timer(struct loop_timer *t)
{
	struct session *s = container_of(t, struct session, timer);
	uint64_t now = loop_now(s->pool->loop);

	if (session_is_used(s)) {
		loop_timer_set(t, now + s->ttl);
	} else if (now < session_expires(s)) {
		loop_timer_set(t, session_expires(s));
	} else {
		s->pool->stats.sessions_expired++;
		session_leave(s, "expired");
	}
}

static void session_set_ttl(struct session *s, uint64_t ttl)
{
	s->ttl = ttl;
	s->used = loop_now(s->pool->loop);
	loop_timer_set(&s->timer, session_expires(s));
}

static bool session_may_be_new(struct pool *p, struct caller *c, struct outcome *o)
{
	unsigned max = p->settings->max_sessions;

	if (p->state != POOL_RUNNING)
		outcome_error(o, ERROR_DRAINING, "the daemon is shutting down; no session is opened");
	else if (max && p->n_sessions >= max)
		outcome_error(o, ERROR_QUOTA, "pool %s has %u sessions, max_sessions is %u", p->settings->name,
			      p->n_sessions, max);
	else
		return account_may_open(c->account, o);
	return false;
}

/* It can be found, and is charged to that account already. */
static struct session *session_make(struct pool *p, uint64_t id, struct account *account, struct span name)
{
	struct session *s = mem_new(sizeof(*s) + sizeof(uid_t) + name.len + 1);

	s->id = id;
	s->uid = account->uid;
	s->pool = p;
	s->strict = !p->settings->affinity_prefer;
	s->listed = true;
	s->account = account;
	s->key_len = key_make(s->key, s->uid, name);
	s->name = (const char *)s->key + sizeof(uid_t);
	loop_timer_init(&s->timer, p->loop, session_on_timer);
	HASH_ADD_KEYPTR(hh, p->sessions, s->key, s->key_len, s);
	p->n_sessions++;
	return s;
}

static struct session *session_new(struct pool *p, struct caller *c, struct span name, uint64_t ttl, struct outcome *o)
{
	struct session *s;

	if (!session_may_be_new(p, c, o))
		return NULL;
	account_charge_session(c->account);
	s = session_make(p, registry_next(p->registry, &p->registry->last_session), c->account, name);
	session_set_ttl(s, ttl ? ttl : p->settings->session_ttl);
	session_follow(s, table_find(p->ending, c->uid, name));
	p->stats.sessions++;
	keep_session(s);
	LOG(DEBUG, "session.new", KV("pool", p->settings->name), KV("session", s->name), KV("uid", s->uid));
	event_session(s, "opened", NULL);
	return s;
}

static struct session *session_refuse_lost(const struct session *s, struct outcome *o)
{
	outcome_error(o, ERROR_SESSION_LOST, "session \"%s\" is lost: %s; session.open begins it anew", s->name, s->how);
	o->session = s->name;
	return NULL;
}

bool session_is_held(const struct session *s, const struct caller *c, struct outcome *o)
{
	if (!s->lease || s->lease->caller == c)
		return false;
	outcome_error(o, ERROR_SESSION_BUSY, "session \"%s\" is leased by another connection", s->name);
	return true;
}

struct session *session_for(struct pool *p, struct caller *c, struct span name, bool open, struct outcome *o)
{
	struct session *s = session_find(p, c->uid, name);
	char quoted[300];

	if (!s && open)
		return session_new(p, c, name, 0, o);
	if (!s) {
		outcome_error(o, ERROR_SESSION_NOT_FOUND, "no session \"%s\" in pool %s",
			      envelope_quote(name, quoted, sizeof(quoted)), p->settings->name);
		return NULL;
	}
	if (s->lost)
		return session_refuse_lost(s, o);
	if (session_is_held(s, c, o))
		return NULL;
	s->used = loop_now(p->loop);
	return s;
}

struct session *session_open(struct pool *p, struct caller *c, struct span name, uint64_t ttl, bool reset, bool *fresh,
			     struct outcome *o)
{
	struct session *s = session_find(p, c->uid, name);

	*fresh = !s || s->lost;
	if (!s)
		return session_new(p, c, name, ttl, o);
	if (session_is_held(s, c, o))
		return NULL;
	if (reset && s->n_requests) {
		outcome_error(o, ERROR_SESSION_BUSY, "session \"%s\" has calls that wait or run: reset it after them", s->name);
		return NULL;
	}
	if (s->lost)
		event_session(s, "reopened", NULL);
	s->lost = false;
	if (reset) {
		values_clear(&s->values);
		s->holder = 0;
	}
	session_set_ttl(s, ttl ? ttl : s->ttl);
	keep_session(s);
	return s;
}

/* what: how that is told. */
static void session_leave(struct session *s, const char *what)
{
	struct pool *p = s->pool;
	struct request_spec spec = { .kind = REQUEST_CLOSE, .received = loop_now(p->loop), .session = s };

	session_unlist(s);
	event_session(s, what, NULL);
	if (p->state == POOL_RUNNING && (session_is_used(s) || affinity_has_hook(s))) {
		session_list_ending(s);
		spec.id = ++p->last_own;
		request_enqueue(request_new(p, &p->self, &spec));
	} else {
		s->closed = true;
	}
	session_maybe_end(s);
}

void session_close(struct session *s)
{
	session_leave(s, "closed");
}

/* --- turns --- */

void session_remove(struct request *r)
{
	struct session *s = r->session;

	DL_DELETE2(s->waiting, r, session_prev, session_next);
	s->n_waiting--;
	s->pool->n_in_sessions--;
	r->in_session = false;
}

unsigned session_ahead(const struct request *r)
{
	const struct request *head = r->session->head, *o;
	unsigned n = head != NULL, own;

	for (o = r->session->waiting; o && o != r; o = o->session_next)
		n++;
	if (head && head->lane)
		n += queue_ahead(head->lane->queue, head, &own);
	return n;
}

static void session_finish_close(struct request *r)
{
	static const uint8_t nil[] = { 0xc0 };
	struct outcome o;

	outcome_value(&o, (struct slice){ .span = { .p = nil, .len = 1 } });
	request_finish(r, &o);
}

/* Its head has its turn. */
static void session_begin(struct session *s)
{
	struct request *r = s->head;

	if (request_is_edit(r))
		session_edit(r);
	else if (r->kind == REQUEST_CLOSE && !affinity_has_hook(s))
		session_finish_close(r);
	else
		affinity_queue(r);
}

/* The queue of a worker that it is bound to keeps the order by itself; values may be written at any time. */
static bool session_is_held_up(const struct session *s)
{
	return s->lingering && !(session_is_strict(s) && s->worker == s->lingering);
}

static bool session_may_go_on(const struct session *s)
{
	return !s->head && s->waiting && !s->lease && !s->before &&
	       (!session_is_held_up(s) || request_is_edit(s->waiting));
}

static void session_advance(struct session *s)
{
	while (session_may_go_on(s)) {
		s->head = s->waiting;
		session_remove(s->head);
		session_begin(s);
	}
}

void session_push(struct session *s, struct request *r)
{
	r->state = REQUEST_QUEUED;
	r->in_session = true;
	DL_APPEND2(s->waiting, r, session_prev, session_next);
	s->n_waiting++;
	s->pool->n_in_sessions++;
	session_advance(s);
}

/* The only writer of where it lingers. w: NULL, or one whose slot has a call of s that nobody waits for any more, or had it
 * for another daemon. */
static void session_set_lingering(struct session *s, struct worker *w)
{
	if (s->lingering)
		s->lingering->slot.session = NULL;
	s->lingering = w;
	if (w)
		w->slot.session = s;
}

void session_note_slot_free(struct worker *w)
{
	struct session *s = w->slot.session;

	if (!s)
		return;
	session_set_lingering(s, NULL);
	session_mark(s);
	session_maybe_end(s);
}

struct worker *session_awaits(const struct request *r)
{
	const struct session *s;

	for (s = r->in_session ? r->session : NULL; s; s = s->before) {
		if (s == r->session ? session_is_held_up(s) : s->lingering != NULL)
			return s->lingering;
	}
	return NULL;
}

void session_note_finished(struct request *r)
{
	struct session *s = r->session;

	s->n_requests--;
	s->used = loop_now(s->pool->loop);
	if (r->kind == REQUEST_CLOSE)
		s->closed = true;
	if (r->worker && !slot_is_free(r->worker))
		s->holder = 0; /* it may yet write to its copy what is not committed */
	if (r->worker && slot_is_abandoned(r->worker))
		session_set_lingering(s, r->worker);
	if (s->head == r) {
		s->head = NULL;
		session_mark(s);
	}
	session_maybe_end(s);
}

void session_note_lease_ended(struct session *s, struct worker *w)
{
	s->lease = NULL;
	if (slot_is_abandoned(w))
		session_set_lingering(s, w);
	s->used = loop_now(s->pool->loop);
	session_mark(s);
	session_maybe_end(s);
}

void sessions_advance(struct pool *p)
{
	while (p->sessions_due) {
		struct session *s = p->sessions_due;

		DL_DELETE2(p->sessions_due, s, due_prev, due_next);
		s->due = false;
		session_advance(s);
	}
}

/* --- losing --- */

static void session_fail(struct request *r)
{
	struct outcome o;

	if (r->kind == REQUEST_CLOSE) {
		session_finish_close(r);
		return;
	}
	(void)session_refuse_lost(r->session, &o);
	request_finish(r, &o);
}

static void session_lose(struct session *s, const char *how)
{
	struct pool *p = s->pool;

	s->lost = true;
	(void)snprintf(s->how, sizeof(s->how), "%s", how); /* cut: for people */
	p->stats.sessions_lost += s->listed;
	keep_session(s);
	LOG(INFO, "session.lost", KV("pool", p->settings->name), KV("session", s->name), KV("uid", s->uid),
	    KV("reason", how), KV("waiting", s->n_waiting));
	if (s->listed)
		event_session(s, "lost", how);
	if (s->head && s->head->state == REQUEST_QUEUED)
		session_fail(s->head);
	while (s->waiting)
		session_fail(s->waiting);
}

void session_note_worker_gone(struct session *s, const char *how)
{
	if (session_is_strict(s))
		session_lose(s, how);
	else if (s->head && s->head->kind == REQUEST_CLOSE && s->head->state == REQUEST_QUEUED)
		session_finish_close(s->head);
}

/* --- where another daemon has left it --- */

/* The worker that was given a call of s by the daemon of before, and may still run it. */
static struct worker *session_find_running(const struct session *s)
{
	struct worker *w;

	DL_FOREACH (s->pool->workers, w) {
		if (w->adopted && process_noted_session(&w->proc) == s->id)
			return w;
	}
	return NULL;
}

struct session *session_take_up(struct pool *p, uint64_t id, const struct kept_session *k, struct worker *w)
{
	struct session *s = session_make(p, id, account_add_session(p->registry, (uid_t)k->uid), k->name);
	struct span none = { 0 };

	s->strict = k->strict;
	s->generation = k->generation;
	s->sends = k->sends + SENDS_AHEAD;
	session_set_ttl(s, k->ttl);
	if (values_edit(&s->values, p->blobs, k->values, none, 0, NULL)) {
		session_lose(s, "there was no memory for its values when the daemon came back");
	} else if (k->how.len) {
		s->lost = true;
		(void)snprintf(s->how, sizeof(s->how), "%.*s", (int)k->how.len, (const char *)k->how.p); /* cut: for people */
	} else if (s->strict && w) {
		affinity_bind(s, w);
	} else if (s->strict && k->worker) {
		session_lose(s, "its worker was gone when the daemon came back");
	}
	w = session_find_running(s);
	if (w) /* nobody waits for it, but the next one must */
		session_set_lingering(s, w);
	keep_session(s);
	return s;
}

/* Nothing was lost in between, so how often its values were sent is known. */
void session_take_over(struct session *s, const struct session_left *left)
{
	s->used = left->used;
	s->sends = left->sends;
	loop_timer_set(&s->timer, session_expires(s));
	if (left->worker && !s->lost) {
		affinity_bind(s, left->worker);
		s->holder = left->holds ? left->worker->id : 0;
	}
	s->generation = left->generation;
	if (left->lingering)
		session_set_lingering(s, left->lingering);
}

void session_take_over_head(struct session *s, struct request *r)
{
	s->head = r;
}

void sessions_fail_waiting(struct pool *p, void (*fail)(struct request *r))
{
	struct request *r, *next;

	DL_FOREACH_SAFE2 (p->requests, r, next, pool_next) {
		if (r->in_session)
			fail(r);
	}
}

void sessions_deinit(struct pool *p)
{
	struct session *s, *next;

	HASH_ITER(hh, p->sessions, s, next)
		session_close(s);
	if (p->n_sessions)
		LOG_BUG("a pool ends with sessions in it");
}

#include "tests/sim/listener.h"

#include <stdio.h>
#include <utlist.h>

#include "daemon/base/cleanup.h"
#include "daemon/base/mem.h"
#include "daemon/pool/lease.h"
#include "daemon/pool/session.h"
#include "proto/cursor.h"

struct heard_worker {
	uint64_t id;
	char state[16];
	UT_hash_handle hh;
};

struct heard_session {
	bool lost;
	UT_hash_handle hh;
	size_t key_len;
	char key[300]; /* uid and name */
};

/* --- events --- */

static struct span value_of(const struct event *e, const char *wanted)
{
	struct span pairs = { .p = (const uint8_t *)e->buf.data, .len = e->buf.size }, key, value;

	for (uint32_t i = 0; i < e->n && mp_read_text(&pairs, &key) && mp_read_any(&pairs, &value); i++) {
		if (span_equals(key, wanted))
			return value;
	}
	return (struct span){ 0 };
}

static struct span text_of(const struct event *e, const char *key)
{
	struct span value = value_of(e, key), text = { 0 };

	(void)mp_read_text(&value, &text); /* of another type: nothing, which nothing is equal to */
	return text;
}

static uint64_t uint_of(const struct event *e, const char *key)
{
	struct span value = value_of(e, key);
	uint64_t v = 0;

	(void)mp_read_uint(&value, &v); /* of another type: 0, which nobody has */
	return v;
}

/* Between calls and in them is the same to who hears events. */
static const char *as_heard(const char *state)
{
	return strcmp(state, "busy") == 0 ? "idle" : state;
}

static struct heard_worker *add_worker(struct listener *l, uint64_t id)
{
	struct heard_worker *w = MEM_NEW(struct heard_worker);

	w->id = id;
	HASH_ADD(hh, l->workers, id, sizeof(w->id), w);
	return w;
}

static void hear_worker(struct listener *l, const struct event *e, struct span what)
{
	struct span from = text_of(e, "from");
	uint64_t id = uint_of(e, "worker");
	struct heard_worker *w;

	HASH_FIND(hh, l->workers, &id, sizeof(id), w);
	if (!w != !from.len) {
		l->wrong = "a worker that is not the one that was";
		return;
	}
	if (!w) {
		w = add_worker(l, id);
	} else if (!span_equals(from, w->state) && !(span_equals(from, "busy") && strcmp(w->state, "idle") == 0)) {
		l->wrong = "a worker that was not in that state";
	}
	(void)snprintf(w->state, sizeof(w->state), "%.*s", (int)what.len, (const char *)what.p);
	if (span_equals(what, "dead")) {
		HASH_DEL(l->workers, w);
		free(w);
	}
}

static struct heard_session *find_session(const struct listener *l, const char *key, size_t len)
{
	struct heard_session *s;

	HASH_FIND(hh, l->sessions, key, len, s);
	return s;
}

static struct heard_session *add_session(struct listener *l, const char *key, size_t len)
{
	struct heard_session *s = MEM_NEW(struct heard_session);

	s->key_len = len;
	memcpy(s->key, key, len);
	HASH_ADD_KEYPTR(hh, l->sessions, s->key, s->key_len, s);
	return s;
}

static void hear_session(struct listener *l, const struct event *e, struct span what)
{
	struct span name = text_of(e, "session");
	char key[sizeof(((struct heard_session *)0)->key)];
	int n = snprintf(key, sizeof(key), "%llu %.*s", (unsigned long long)uint_of(e, "uid"), (int)name.len, name.p);
	struct heard_session *s = find_session(l, key, (size_t)n);

	if (!s == !span_equals(what, "opened")) {
		l->wrong = "a session that is there already, or is not";
		return;
	}
	if (!s) {
		(void)add_session(l, key, (size_t)n);
		return;
	}
	if (span_equals(what, "lost") || span_equals(what, "reopened")) {
		if (s->lost == span_equals(what, "lost"))
			l->wrong = "a session that was lost already, or was not";
		s->lost = span_equals(what, "lost");
	} else {
		HASH_DEL(l->sessions, s);
		free(s);
	}
}

static void hear_breaker(struct listener *l, struct span what)
{
	enum breaker_state to = BREAKER_CLOSED;

	while (to < BREAKER_HALF_OPEN && !span_equals(what, breaker_state_name(to)))
		to++;
	if (to == l->breaker)
		l->wrong = "a breaker that was in that state already";
	l->breaker = to;
}

static void on_told(struct feed *f, const struct event *e)
{
	struct listener *l = container_of(f, struct listener, feed);
	struct span what = text_of(e, "what");

	if (e->kind == EVENT_WORKER) {
		hear_worker(l, e, what);
	} else if (e->kind == EVENT_SESSION) {
		hear_session(l, e, what);
	} else if (e->kind == EVENT_BREAKER) {
		hear_breaker(l, what);
	} else if (e->kind == EVENT_LEASE) {
		l->n_leases += span_equals(what, "begun") ? 1 : UINT64_MAX; /* one less */
	} else if (e->kind == EVENT_POOL && (span_equals(what, "paused") || span_equals(what, "resumed"))) {
		l->paused = span_equals(what, "paused");
	}
}

static void on_missed(struct feed *f, enum event_kind kind, const struct pool *p, uint64_t n)
{
	(void)f, (void)kind, (void)p, (void)n; /* of output, which it does not want */
}

/* --- what is --- */

static bool knows(const struct listener *l, const struct worker *list, unsigned *n)
{
	const struct worker *w;
	struct heard_worker *heard;

	DL_FOREACH (list, w) {
		HASH_FIND(hh, l->workers, &w->id, sizeof(w->id), heard);
		if (!heard || strcmp(as_heard(heard->state), as_heard(worker_state_name(w->state))) != 0)
			return false;
		(*n)++;
	}
	return true;
}

static bool knows_sessions(const struct listener *l, const struct pool *p)
{
	const struct session *s;
	char key[sizeof(((struct heard_session *)0)->key)];

	for (s = p->sessions; s; s = s->hh.next) {
		int n = snprintf(key, sizeof(key), "%llu %s", (unsigned long long)s->uid, s->name);
		const struct heard_session *heard = find_session(l, key, (size_t)n);

		if (!heard || heard->lost != s->lost)
			return false;
	}
	return HASH_COUNT(l->sessions) == HASH_COUNT(p->sessions);
}

const char *listener_complaint(const struct listener *l, const struct pool *p)
{
	unsigned n = 0;

	if (l->wrong)
		return l->wrong;
	if (!knows(l, p->workers, &n) || !knows(l, p->templates, &n) || n != HASH_COUNT(l->workers))
		return "events tell of other workers";
	if (!knows_sessions(l, p))
		return "events tell of other sessions";
	if (l->n_leases != HASH_COUNT(p->registry->leases))
		return "events tell of other leases";
	if (l->breaker != p->supply.breaker.state)
		return "events tell of another breaker";
	return l->paused == p->paused ? NULL : "events do not tell whether it is paused";
}

/* --- life --- */

void listener_init(struct listener *l, struct registry *g)
{
	static const struct feed_ops ops = { .told = on_told, .missed = on_missed };

	*l = (struct listener){ .feed = { .ops = &ops, .wanted = ~EVENT_BIT(EVENT_OUTPUT) } };
	g->feed = &l->feed;
}

void listener_deinit(struct listener *l)
{
	struct heard_worker *w, *next_worker;
	struct heard_session *s, *next_session;

	HASH_ITER (hh, l->workers, w, next_worker) {
		HASH_DEL(l->workers, w);
		free(w);
	}
	HASH_ITER (hh, l->sessions, s, next_session) {
		HASH_DEL(l->sessions, s);
		free(s);
	}
}

void listener_begin_anew(struct listener *l, struct registry *g, const struct pool *p)
{
	char key[sizeof(((struct heard_session *)0)->key)];
	const struct session *s;
	const struct worker *w;

	listener_deinit(l);
	listener_init(l, g);
	DL_FOREACH (p->workers, w)
		(void)snprintf(add_worker(l, w->id)->state, sizeof(((struct heard_worker *)0)->state), "%s", worker_state_name(w->state));
	for (s = p->sessions; s; s = s->hh.next) {
		int n = snprintf(key, sizeof(key), "%llu %s", (unsigned long long)s->uid, s->name);

		add_session(l, key, (size_t)n)->lost = s->lost;
	}
}

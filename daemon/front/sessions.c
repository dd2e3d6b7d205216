/* The methods of sessions, and those that list sessions and leases. */
#include "daemon/front/client.h"
#include "daemon/front/method.h"
#include "daemon/front/reply.h"
#include "daemon/front/router.h"
#include "daemon/front/server.h"
#include "daemon/front/view.h"
#include "daemon/pool/lease.h"
#include "daemon/pool/session.h"
#include "proto/pack.h"

/* The pool and, if it is there, the session that q names. False: q is answered. */
static bool find_session(const struct query *q, struct pool **p, struct session **s)
{
	if (!params_has(&q->params, PARAM_SESSION)) {
		query_fail(q, ERROR_BAD_REQUEST, "session is missing: the name of a session");
		return false;
	}
	*p = query_choose_pool(q);
	if (*p)
		*s = session_find(*p, q->client->caller.uid, q->params.session);
	return *p != NULL;
}

/* worker, generation, expires_ms, keys, bytes of a session. */
#define STATE_KEYS 5
static void pack_state(struct view *v, const struct session *s)
{
	pack_text(&v->pk, "worker");
	if (s->worker)
		msgpack_pack_uint64(&v->pk, s->worker->id);
	else
		msgpack_pack_nil(&v->pk);
	pack_kv_uint(&v->pk, "generation", s->generation);
	view_pack_left(v, "expires_ms", session_expires(s));
	pack_kv_uint(&v->pk, "keys", s->values.n);
	pack_kv_uint(&v->pk, "bytes", values_bytes(&s->values));
}

void method_session_open(struct query *q)
{
	struct session *s = NULL;
	struct pool *p = NULL;
	struct outcome o;
	struct view v;
	bool fresh;

	if (!find_session(q, &p, &s))
		return;
	s = session_open(p, &q->client->caller, q->params.session, q->params.ttl_ms * NS_PER_MS, q->params.reset,
			 &fresh, &o);
	if (!s) {
		query_refuse(q, &o);
		return;
	}
	view_begin(&v, q);
	msgpack_pack_map(&v.pk, 3 + STATE_KEYS);
	pack_kv_text(&v.pk, "session", s->name);
	pack_kv_text(&v.pk, "pool", p->settings->name);
	pack_kv_bool(&v.pk, "opened", fresh);
	pack_state(&v, s);
	view_send(&v);
}

void method_session_close(struct query *q)
{
	struct session *s = NULL;
	struct pool *p = NULL;
	struct outcome o;
	struct view v;

	if (!find_session(q, &p, &s))
		return;
	if (s && session_is_held(s, &q->client->caller, &o)) {
		query_refuse(q, &o);
		return;
	}
	if (s)
		session_close(s);
	view_begin(&v, q);
	pack_bool(&v.pk, s != NULL);
	view_send(&v);
}

void method_session_get(struct query *q)
{
	struct session *s = NULL;
	struct pool *p = NULL;
	struct span value;
	struct view v;

	if (!find_session(q, &p, &s))
		return;
	if (!s) {
		(void)query_choose_session(q, p, false); /* which says so */
		return;
	}
	view_begin(&v, q);
	if (!params_has(&q->params, PARAM_KEY))
		values_pack(&s->values, &v.pk);
	else if (values_get(&s->values, q->params.key, &value))
		pack_raw(&v.pk, value);
	else
		msgpack_pack_nil(&v.pk);
	view_send(&v);
}

/* edit: the map of session.put, or the array of session.delete. */
static void submit_edit(struct query *q, enum request_kind kind, struct span edit)
{
	struct request_spec spec = query_spec(q, kind);
	struct session *s = NULL;
	struct pool *p = NULL;

	if (!find_session(q, &p, &s) || !query_may_submit(q, kind))
		return;
	s = query_choose_session(q, p, kind == REQUEST_PUT && query_opens(q));
	if (!s)
		return;
	spec.session = s;
	spec.args = edit;
	pool_submit(p, &q->client->caller, &spec, query_lease_of(q, s));
}

void method_session_put(struct query *q)
{
	struct span values = q->params.values;
	uint32_t n;

	if (mp_read_map(&values, &n))
		submit_edit(q, REQUEST_PUT, q->params.values);
	else
		query_fail(q, ERROR_BAD_REQUEST, "session.put needs values: a map of what to write, got %s",
			   params_has(&q->params, PARAM_VALUES) ? mp_type_name(q->params.values) : "none");
}

void method_session_delete(struct query *q)
{
	if (params_has(&q->params, PARAM_KEYS))
		submit_edit(q, REQUEST_DELETE, q->params.keys);
	else
		query_fail(q, ERROR_BAD_REQUEST, "session.delete needs keys: an array of what to remove");
}

/* --- lists --- */

#define LISTED_KEYS (5 + STATE_KEYS)
static void pack_listed(struct view *v, const struct session *s)
{
	pack_kv_text(&v->pk, "session", s->name);
	pack_kv_text(&v->pk, "pool", s->pool->settings->name);
	pack_kv_text(&v->pk, "state", s->lost ? "lost" : "open");
	pack_kv_uint(&v->pk, "waiting", s->n_waiting + (s->head && s->head->state == REQUEST_QUEUED));
	pack_kv_uint(&v->pk, "idle_ms", (v->now - s->used) / NS_PER_MS);
	pack_state(v, s);
}

static void pack_observed(struct view *v, const struct session *s)
{
	msgpack_pack_map(&v->pk, LISTED_KEYS + 3);
	pack_listed(v, s);
	pack_kv_uint(&v->pk, "uid", s->uid);
	pack_kv_text(&v->pk, "affinity", session_is_strict(s) ? "strict" : "prefer");
	pack_kv_bool(&v->pk, "leased", s->lease != NULL);
}

/* Those of one uid, or of all. */
static void list_sessions(struct query *q, bool own)
{
	struct server *srv = q->client->server;
	const struct session *s;
	unsigned n = 0;
	struct view v;

	if (params_has(&q->params, PARAM_POOL) && !query_find_pool(q))
		return;
	for (unsigned i = 0; i < srv->n_pools; i++) {
		for (s = query_concerns(q, srv->pools[i]) ? srv->pools[i]->sessions : NULL; s; s = s->hh.next)
			n += !own || s->uid == q->client->caller.uid;
	}
	view_begin(&v, q);
	msgpack_pack_array(&v.pk, n);
	for (unsigned i = 0; i < srv->n_pools; i++) {
		for (s = query_concerns(q, srv->pools[i]) ? srv->pools[i]->sessions : NULL; s; s = s->hh.next) {
			if (!own) {
				pack_observed(&v, s);
			} else if (s->uid == q->client->caller.uid) {
				msgpack_pack_map(&v.pk, LISTED_KEYS);
				pack_listed(&v, s);
			}
		}
	}
	view_send(&v);
}

void method_session_list(struct query *q)
{
	list_sessions(q, true);
}

void method_sessions(struct query *q)
{
	list_sessions(q, false);
}

static void pack_lease(struct view *v, const struct lease *l)
{
	msgpack_pack_map(&v->pk, 11);
	pack_kv_uint(&v->pk, "lease", l->id);
	pack_kv_text(&v->pk, "pool", l->worker->pool->settings->name);
	pack_kv_uint(&v->pk, "worker", l->worker->id);
	pack_kv_uint(&v->pk, "pid", (uint64_t)l->worker->last_pid);
	pack_kv_uint(&v->pk, "client", l->caller->id);
	pack_kv_uint(&v->pk, "uid", l->caller->uid);
	pack_kv_text(&v->pk, "session", l->session ? l->session->name : NULL);
	pack_kv_bool(&v->pk, "direct", l->direct);
	pack_kv_uint(&v->pk, "age_ms", (v->now - l->begun) / NS_PER_MS);
	view_pack_left(v, "expires_ms", l->expires);
	pack_kv_uint(&v->pk, "waiting", l->n_waiting);
}

void method_leases(struct query *q)
{
	struct registry *g = q->client->server->registry;
	const struct lease *l;
	unsigned n = 0;
	struct view v;

	if (params_has(&q->params, PARAM_POOL) && !query_find_pool(q))
		return;
	for (l = g->leases; l; l = l->hh.next)
		n += query_concerns(q, l->worker->pool);
	view_begin(&v, q);
	msgpack_pack_array(&v.pk, n);
	for (l = g->leases; l; l = l->hh.next) {
		if (query_concerns(q, l->worker->pool))
			pack_lease(&v, l);
	}
	view_send(&v);
}

/* The methods that use workers, and hello, ping and cancel. Those of sessions are in sessions.c, those that only look in
 * observe.c and explain.c. */
#include "daemon/front/method.h"

#include <stdio.h>

#include "daemon/base/cleanup.h"
#include "daemon/base/packed.h"
#include "daemon/front/client.h"
#include "daemon/front/reply.h"
#include "daemon/front/router.h"
#include "daemon/front/server.h"
#include "daemon/pool/lease.h"
#include "daemon/pool/session.h"
#include "proto/pack.h"

#define PROTOCOL 1

static void reply_bool(const struct query *q, bool v)
{
	uint8_t byte = v ? 0xc3 : 0xc2;

	reply_value(q->client, q->id, (struct slice){ .span = { .p = &byte, .len = 1 } });
}

void method_ping(struct query *q)
{
	static const uint8_t pong[] = { 0xa4, 'p', 'o', 'n', 'g' };

	reply_value(q->client, q->id, (struct slice){ .span = { .p = pong, .len = sizeof(pong) } });
}

static void pack_pools(msgpack_packer *pk, const struct client *c)
{
	const struct server *s = c->server;
	unsigned n = 0;

	for (unsigned i = 0; i < s->n_pools; i++)
		n += client_role_on(c, s->pools[i]) > ROLE_NONE;
	pack_text(pk, "pools");
	msgpack_pack_array(pk, n);
	for (unsigned i = 0; i < s->n_pools; i++) {
		if (client_role_on(c, s->pools[i]) > ROLE_NONE)
			pack_text(pk, s->pools[i]->settings->name);
	}
}

void method_hello(struct query *q)
{
	struct client *c = q->client;
	struct server *s = c->server;
	_cleanup_(msgpack_sbuffer_destroy) msgpack_sbuffer buf = { 0 };
	msgpack_packer pk;

	if (!params_has(&q->params, PARAM_PROTOCOL) || q->params.protocol != PROTOCOL) {
		query_fail(q, ERROR_BAD_REQUEST, "hello needs protocol: %d, the only version that this daemon speaks",
			   PROTOCOL);
		return;
	}
	c->speaks = true;
	if (params_has(&q->params, PARAM_CLIENT))
		(void)envelope_quote(q->params.client, c->name, sizeof(c->name));
	packed_begin(&buf, &pk);
	msgpack_pack_map(&pk, 6);
	pack_kv_uint(&pk, "protocol", PROTOCOL);
	pack_kv_text(&pk, "version", PYPOOL_VERSION);
	pack_kv_uint(&pk, "max_frame", s->limits.max_frame);
	pack_text(&pk, "features");
	msgpack_pack_array(&pk, 0);
	pack_kv_text(&pk, "role", role_name(c->grant.highest));
	pack_pools(&pk, c);
	reply_packed(c, q->id, &buf);
}

/* Calls under it come this way. False: q is answered. */
static bool lease_takes_calls(const struct query *q, const struct lease *l)
{
	if (l->direct)
		query_fail(q, ERROR_BAD_REQUEST, "lease %llu is direct: its calls go over the socket that came with it",
			   (unsigned long long)l->id);
	return !l->direct;
}

/* The caller's own lease. NULL: q is answered. */
static struct lease *choose_lease(const struct query *q)
{
	struct client *c = q->client;
	struct lease *l = registry_find_lease(c->server->registry, q->params.lease);
	unsigned long long id = q->params.lease;
	const char *ended;

	if (l && l->caller == &c->caller)
		return l;
	ended = caller_find_ended(&c->caller, q->params.lease, q->received);
	if (ended)
		query_fail(q, ERROR_LEASE_EXPIRED, "lease %llu has ended: %s", id, ended);
	else
		query_fail(q, ERROR_LEASE_NOT_FOUND, "this connection has no lease %llu", id);
	return NULL;
}

static bool args_are_callable(struct span args)
{
	uint32_t n;

	return !args.len || mp_read_array(&args, &n) || mp_read_map(&args, &n) || mp_read_nil(&args);
}

/* A call under a lease is one of the lease's session, if any. */
static bool lease_takes_session(const struct query *q, const struct lease *l)
{
	if (!params_has(&q->params, PARAM_SESSION) || (l->session && span_equals(q->params.session, l->session->name)))
		return true;
	query_fail(q, ERROR_BAD_REQUEST, "lease %llu is %s%s: leave out session, or name that one", (unsigned long long)l->id,
		   l->session ? "of session " : "of no session", l->session ? l->session->name : "");
	return false;
}

static void execute_leased(const struct query *q, struct request_spec *spec)
{
	struct lease *l = choose_lease(q);

	if (!l || !lease_takes_calls(q, l) || !lease_takes_session(q, l))
		return;
	spec->session = l->session;
	pool_submit(l->worker->pool, &q->client->caller, spec, l);
}

/* The session of a call; *l is the lease that this connection has on it, or NULL. False: q is answered. */
static bool choose_session(const struct query *q, struct pool *p, struct request_spec *spec, struct lease **l)
{
	*l = NULL;
	if (!params_has(&q->params, PARAM_SESSION))
		return true;
	spec->session = query_choose_session(q, p, query_opens(q));
	if (spec->session)
		*l = query_lease_of(q, spec->session);
	return spec->session != NULL;
}

static void execute_free(const struct query *q, struct request_spec *spec)
{
	struct pool *p = query_choose_pool(q);
	struct lease *l;

	if (p && choose_session(q, p, spec, &l) && (!l || lease_takes_calls(q, l)))
		pool_submit(p, &q->client->caller, spec, l);
}

void method_execute(struct query *q)
{
	struct request_spec spec = query_spec(q, REQUEST_EXECUTE);

	if (!params_has(&q->params, PARAM_TARGET)) {
		query_fail(q, ERROR_BAD_REQUEST, "execute needs target: the name of a handler");
		return;
	}
	if (!args_are_callable(q->params.args)) {
		query_fail(q, ERROR_BAD_REQUEST, "args must be an array (positional) or a map (keywords), got %s",
			   mp_type_name(q->params.args));
		return;
	}
	if (params_has(&q->params, PARAM_OPEN) && !params_has(&q->params, PARAM_SESSION)) {
		query_fail(q, ERROR_BAD_REQUEST, "open says whether a session is opened for the call: it needs session");
		return;
	}
	if (!query_may_submit(q, REQUEST_EXECUTE))
		return;
	if (params_has(&q->params, PARAM_LEASE))
		execute_leased(q, &spec);
	else
		execute_free(q, &spec);
}

/* "anonymous" or "session"; the answer to anything else costs nothing but itself. */
static bool checkout_type_is_known(const struct query *q, bool *session)
{
	struct span value = q->params.type, text = { 0 };
	char quoted[100] = "";

	if (params_has(&q->params, PARAM_TYPE) && mp_read_text(&value, &text)) {
		*session = span_equals(text, "session");
		if (*session || span_equals(text, "anonymous"))
			return true;
	}
	if (text.p)
		query_fail(q, ERROR_INVALID_CHECKOUT_TYPE,
			   "invalid checkout type \"%s\"; accepted: \"anonymous\", \"session\"",
			   envelope_quote(text, quoted, sizeof(quoted)));
	else
		query_fail(q, ERROR_INVALID_CHECKOUT_TYPE,
			   "checkout needs type, a text; got %s; accepted: \"anonymous\", \"session\"",
			   params_has(&q->params, PARAM_TYPE) ? mp_type_name(q->params.type) : "none");
	return false;
}

static bool checkout_names_session(const struct query *q, bool session)
{
	if (session == params_has(&q->params, PARAM_SESSION))
		return true;
	query_fail(q, ERROR_BAD_REQUEST, session ? "checkout of type \"session\" needs session: its name" :
						   "session goes with checkout of type \"session\", not \"anonymous\"");
	return false;
}

void method_checkout(struct query *q)
{
	struct request_spec spec = query_spec(q, REQUEST_CHECKOUT);
	struct lease *l;
	struct outcome o;
	struct pool *p;
	bool session;

	if (!checkout_type_is_known(q, &session) || !checkout_names_session(q, session) || !query_may_submit(q, REQUEST_CHECKOUT))
		return;
	p = query_choose_pool(q);
	if (!p || !choose_session(q, p, &spec, &l))
		return;
	if (spec.direct && !client_may_get_socket(q->client, &o) && !q->late)
		query_refuse(q, &o);
	else
		pool_submit(p, &q->client->caller, &spec, l);
}

void method_checkin(struct query *q)
{
	struct lease *l;

	if (!params_has(&q->params, PARAM_LEASE)) {
		query_fail(q, ERROR_BAD_REQUEST, "checkin needs lease: the number that checkout answered");
		return;
	}
	l = choose_lease(q);
	if (!l)
		return;
	lease_end(l, LEASE_END_CHECKIN);
	reply_bool(q, true);
}

void method_cancel(struct query *q)
{
	struct client *c = q->client;
	struct registry *g = c->server->registry;
	struct request *r;

	if (params_has(&q->params, PARAM_ID) == params_has(&q->params, PARAM_CALL)) {
		query_fail(q, ERROR_BAD_REQUEST,
			   "cancel needs id (of this connection) or call (a daemon-wide number), one of them");
		return;
	}
	if (params_has(&q->params, PARAM_ID)) {
		r = registry_find_by_id(g, c->caller.id, q->params.id);
	} else {
		r = registry_find_call(g, q->params.call);
		if (r && r->caller->uid != c->peer.uid && client_role_on(c, r->pool) < ROLE_ADMIN)
			r = NULL; /* another user's: the same answer as none */
	}
	if (r)
		request_cancel(r);
	reply_bool(q, r != NULL);
}

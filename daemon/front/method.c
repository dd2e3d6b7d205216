/* The methods that use workers, and hello, ping and cancel. Those that only look are in observe.c. */
#include "daemon/front/method.h"

#include <stdio.h>

#include "daemon/base/cleanup.h"
#include "daemon/base/packed.h"
#include "daemon/front/client.h"
#include "daemon/front/reply.h"
#include "daemon/front/router.h"
#include "daemon/front/server.h"
#include "daemon/pool/lease.h"
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

/* The named pool, else "default", else the only one. NULL: q is answered. */
static struct pool *choose_pool(const struct query *q)
{
	const struct client *c = q->client;
	struct pool *p;
	char list[512];

	if (params_has(&q->params, PARAM_POOL))
		return query_find_pool(q);
	p = client_find_pool(c, SPAN_LIT("default"));
	if (!p)
		p = client_only_pool(c);
	if (p)
		return query_may(q, p) ? p : NULL;
	query_fail(q, ERROR_BAD_REQUEST, "name a pool: none is called default; there are: %s",
		   client_pool_list(c, list, sizeof(list)));
	return NULL;
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

static void submit(const struct query *q, struct pool *p, const struct request_spec *spec, struct lease *l)
{
	struct client *c = q->client;
	const struct account *a = c->caller.account;
	struct outcome o;

	if (client_has_id(c, q->id)) {
		query_fail(q, ERROR_DUPLICATE_ID, "request id %llu is in flight on this connection already",
			   (unsigned long long)q->id);
	} else if (!account_may_submit(a, spec->body.span.len, &o) ||
		   (spec->kind == REQUEST_CHECKOUT && !account_may_lease(a, &o))) {
		reply_error(c, &q->id, &o);
	} else {
		pool_submit(p, &c->caller, spec, l);
	}
}

static struct request_spec spec_of(const struct query *q, enum request_kind kind)
{
	const struct params *a = &q->params;

	return (struct request_spec){
		.kind = kind,
		.id = q->id,
		.received = q->received,
		.body = *q->body,
		.target = a->target,
		.args = a->args,
		.traceparent = a->traceparent,
		.timeout = a->timeout_ms * NS_PER_MS,
		.queue_timeout = a->queue_timeout_ms * NS_PER_MS,
		.ttl = a->ttl_ms * NS_PER_MS,
		.want_meta = a->meta,
		.idempotent = a->idempotent,
		.direct = a->direct,
	};
}

static bool args_are_callable(struct span args)
{
	uint32_t n;

	return !args.len || mp_read_array(&args, &n) || mp_read_map(&args, &n) || mp_read_nil(&args);
}

void method_execute(struct query *q)
{
	struct request_spec spec = spec_of(q, REQUEST_EXECUTE);
	struct lease *l = NULL;
	struct pool *p;

	if (!params_has(&q->params, PARAM_TARGET)) {
		query_fail(q, ERROR_BAD_REQUEST, "execute needs target: the name of a handler");
		return;
	}
	if (!args_are_callable(q->params.args)) {
		query_fail(q, ERROR_BAD_REQUEST, "args must be an array (positional) or a map (keywords), got %s",
			   mp_type_name(q->params.args));
		return;
	}
	if (params_has(&q->params, PARAM_LEASE)) {
		l = choose_lease(q);
		if (l && lease_takes_calls(q, l))
			submit(q, l->worker->pool, &spec, l);
		return;
	}
	p = choose_pool(q);
	if (p)
		submit(q, p, &spec, NULL);
}

/* Only "anonymous" until there are sessions; the answer to anything else costs nothing but itself. */
static bool checkout_type_is_known(const struct query *q)
{
	struct span value = q->params.type, text = { 0 };
	char quoted[100] = "";

	if (params_has(&q->params, PARAM_TYPE) && mp_read_text(&value, &text) && span_equals(text, "anonymous"))
		return true;
	if (span_equals(text, "session"))
		query_fail(q, ERROR_INVALID_CHECKOUT_TYPE,
			   "checkout type \"session\" is not offered by this version; accepted: \"anonymous\"");
	else if (text.p)
		query_fail(q, ERROR_INVALID_CHECKOUT_TYPE,
			   "invalid checkout type \"%s\"; accepted: \"anonymous\", \"session\"",
			   envelope_quote(text, quoted, sizeof(quoted)));
	else
		query_fail(q, ERROR_INVALID_CHECKOUT_TYPE,
			   "checkout needs type, a text; got %s; accepted: \"anonymous\", \"session\"",
			   params_has(&q->params, PARAM_TYPE) ? mp_type_name(q->params.type) : "none");
	return false;
}

void method_checkout(struct query *q)
{
	struct request_spec spec = spec_of(q, REQUEST_CHECKOUT);
	struct outcome o;
	struct pool *p;

	if (!checkout_type_is_known(q))
		return;
	p = choose_pool(q);
	if (p && spec.direct && !client_may_get_socket(q->client, &o))
		reply_error(q->client, &q->id, &o);
	else if (p)
		submit(q, p, &spec, NULL);
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

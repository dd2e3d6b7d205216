#include "daemon/front/query.h"

#include <stdarg.h>
#include <stdio.h>

#include "daemon/front/client.h"
#include "daemon/front/errand.h"
#include "daemon/front/reply.h"
#include "daemon/front/server.h"
#include "daemon/pool/account.h"
#include "daemon/pool/lease.h"
#include "daemon/pool/session.h"

void query_refuse(const struct query *q, const struct outcome *why)
{
	char session[PARAM_NAME_MAX + 1];
	struct outcome o = *why;

	if (params_has(&q->params, PARAM_SESSION)) {
		memcpy(session, q->params.session.p, q->params.session.len);
		session[q->params.session.len] = '\0';
		o.session = session;
	}
	reply_error(q->client, &q->id, &o);
}

void query_fail(const struct query *q, enum error_code code, const char *format, ...)
{
	char message[sizeof(((struct outcome *)0)->message)];
	struct outcome o;
	va_list ap;

	va_start(ap, format);
	(void)vsnprintf(message, sizeof(message), format, ap); /* a cut message is still a message */
	va_end(ap);
	outcome_error(&o, code, "%s", message);
	o.executed = EXECUTED_NEVER;
	query_refuse(q, &o);
}

struct pool *query_find_pool_named(const struct query *q, struct span name)
{
	const struct client *c = q->client;
	struct pool *p = client_find_pool(c, name);
	char list[512], quoted[300];

	if (p)
		return query_may(q, p) ? p : NULL;
	query_fail(q, ERROR_UNKNOWN_POOL, "no pool \"%s\"; there are: %s",
		   envelope_quote(name, quoted, sizeof(quoted)), client_pool_list(c, list, sizeof(list)));
	return NULL;
}

struct pool *query_find_pool(const struct query *q)
{
	return query_find_pool_named(q, q->params.pool);
}

bool query_is_of_pool(const struct query *q, const struct worker *w)
{
	const struct pool *p;

	if (!params_has(&q->params, PARAM_POOL))
		return true;
	p = query_find_pool(q);
	if (p && p != w->pool)
		query_fail(q, ERROR_BAD_REQUEST, "worker %llu is of pool %s, and not of %s", (unsigned long long)w->id,
			   w->pool->settings->name, p->settings->name);
	return p && p == w->pool;
}

bool query_may(const struct query *q, const struct pool *p)
{
	enum role role = client_role_on(q->client, p);

	if (role >= q->needs)
		return true;
	query_fail(q, ERROR_DENIED, "this needs the role %s on pool %s, uid %u has %s", role_name(q->needs), p->settings->name,
		   q->client->peer.uid, role_name(role));
	return false;
}

struct pool *query_choose_pool(const struct query *q)
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

bool query_concerns(const struct query *q, const struct pool *p)
{
	if (client_role_on(q->client, p) < q->needs)
		return false;
	return !params_has(&q->params, PARAM_POOL) || span_equals(q->params.pool, p->settings->name);
}

struct session *query_choose_session(const struct query *q, struct pool *p, bool open)
{
	struct outcome o;
	struct session *taken = q->late ? session_find(p, q->client->caller.uid, q->params.session) : NULL;
	struct session *s = taken && !taken->lost ? taken : session_for(p, &q->client->caller, q->params.session, open, &o);

	if (!s)
		query_refuse(q, &o);
	return s;
}

struct lease *query_lease_of(const struct query *q, const struct session *s)
{
	return !q->late || q->late->leased ? s->lease : NULL;
}

struct request_spec query_spec(const struct query *q, enum request_kind kind)
{
	const struct params *a = &q->params;
	const struct query_late none = { 0 }, *late = q->late ? q->late : &none;

	return (struct request_spec){
		.call = late->call,
		.attempts = late->attempts,
		.retried = late->retried,
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

static bool query_is_new(const struct query *q)
{
	if (!client_has_id(q->client, q->id))
		return true;
	query_fail(q, ERROR_DUPLICATE_ID, "request id %llu is in flight on this connection already",
		   (unsigned long long)q->id);
	return false;
}

bool query_may_wait(const struct query *q)
{
	if (!query_is_new(q))
		return false;
	if (q->client->n_errands < ERRANDS_MAX)
		return true;
	query_fail(q, ERROR_QUOTA, "this connection waits for %u stacks and reloads already", q->client->n_errands);
	return false;
}

bool query_may_submit(const struct query *q, enum request_kind kind)
{
	struct client *c = q->client;
	const struct account *a = c->caller.account;
	struct outcome o;

	if (!query_is_new(q))
		return false;
	if (q->late)
		return true; /* it has been taken; the limits may be lower now */
	if (!account_may_submit(a, q->body->span.len, &o) || (kind == REQUEST_CHECKOUT && !account_may_lease(a, &o))) {
		query_refuse(q, &o);
		return false;
	}
	return true;
}

#include "daemon/front/router.h"

#include "daemon/front/client.h"
#include "daemon/front/method.h"
#include "daemon/front/reply.h"
#include "daemon/front/server.h"

static void (*const handlers[METHOD_N])(struct query *q) = {
#define X(ident, name, role, keys, doc) [METHOD_##ident] = method_##ident,
	PROTO_METHODS(X)
#undef X
};

/* A method that may name one of these concerns a pool, and looks itself at the role on that one: query_may(),
 * client_role_on(). Any other needs its role on the daemon. */
#define OF_ONE_POOL \
	(PARAM_BIT(PARAM_POOL) | PARAM_BIT(PARAM_POOLS) | PARAM_BIT(PARAM_LEASE) | PARAM_BIT(PARAM_WORKER) | PARAM_BIT(PARAM_CALL))

static void router_refuse(struct client *c, const uint64_t *id, enum error_code code, const char *message)
{
	struct outcome o;

	outcome_error(&o, code, "%s", message);
	o.executed = EXECUTED_NEVER;
	reply_error(c, id, &o);
}

static bool router_find(const struct client *c, const struct envelope *e, enum method *m, struct complaint *why)
{
	enum role has;
	char quoted[80];

	*m = method_find(e->method);
	if (*m == METHOD_N)
		return complain(why, ERROR_UNKNOWN_METHOD, "no method \"%s\"; there are: %s",
				envelope_quote(e->method, quoted, sizeof(quoted)), method_list());
	has = method_info(*m)->keys & OF_ONE_POOL ? c->grant.highest : c->grant.role;
	if (has < method_info(*m)->role)
		return complain(why, ERROR_DENIED, "%s needs the role %s, uid %u has %s", method_info(*m)->name,
				role_name(method_info(*m)->role), c->peer.uid, role_name(has));
	return true;
}

static void router_route(struct client *c, const struct slice *body, const struct query_late *late)
{
	struct query q = { .client = c, .body = body, .late = late };
	struct complaint why;
	struct envelope e;
	enum method m;

	q.received = late ? late->received : loop_now(c->server->loop);
	if (!envelope_parse(body->span, &e, &why)) {
		router_refuse(c, e.has_id ? &e.id : NULL, why.code, why.message);
		return;
	}
	if (e.type == ENVELOPE_NOTIFICATION)
		return; /* none is known, and unknown ones are ignored */
	if (e.type == ENVELOPE_RESPONSE) {
		router_refuse(c, e.has_id ? &e.id : NULL, ERROR_BAD_REQUEST,
			      "a response, but this daemon asks nothing of its clients");
		return;
	}
	q.id = e.id;
	if (!router_find(c, &e, &m, &why) ||
	    !params_parse(e.params, method_info(m)->keys, method_info(m)->name, &q.params, &why)) {
		router_refuse(c, &e.id, why.code, why.message);
		return;
	}
	q.needs = method_info(m)->role;
	handlers[m](&q); /* NOLINT(clang-analyzer-core.CallAndMessage): router_find() found it below METHOD_N */
}

void router_take(struct client *c, const struct slice *body)
{
	router_route(c, body, NULL);
}

void router_take_late(struct client *c, const struct slice *body, const struct query_late *late)
{
	router_route(c, body, late);
}

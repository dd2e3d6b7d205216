/* The methods of the protocol that have params of their own, and the generic call. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "client/blocking.h"
#include "client/handle.h"
#include "client/params.h"

static bool execute_names_fit(const char *target, const struct pypool_options *o)
{
	const char *names[] = { target, o->pool, o->session, o->traceparent };

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (names[i] && strlen(names[i]) > 255)
			return false;
	return true;
}

/* All of the params but the value of "args", which comes last. */
static void execute_pack(struct pypool *p, struct scratch *s, const char *target, bool has_args,
			 const struct pypool_options *o)
{
	uint32_t timeout_ms = params_timeout(p, o);
	msgpack_packer pk;

	msgpack_packer_init(&pk, s, scratch_write);
	msgpack_pack_map(&pk, 1u + !!o->pool + !!o->lease + !!timeout_ms + !!o->queue_timeout_ms + !!o->meta +
				      !!o->idempotent + !!o->session + (o->session && o->must_exist) +
				      !!o->traceparent + has_args);
	pack_kv_text(&pk, "target", target);
	pack_kv_given(&pk, "pool", o->pool);
	pack_kv_set(&pk, "lease", o->lease);
	pack_kv_given(&pk, "session", o->session);
	if (o->session && o->must_exist)
		pack_kv_bool(&pk, "open", false);
	pack_kv_set(&pk, "timeout_ms", timeout_ms);
	pack_kv_set(&pk, "queue_timeout_ms", o->queue_timeout_ms);
	if (o->meta)
		pack_kv_bool(&pk, "meta", true);
	if (o->idempotent)
		pack_kv_bool(&pk, "idempotent", true);
	pack_kv_given(&pk, "traceparent", o->traceparent);
	if (has_args)
		pack_text(&pk, "args");
}

/* The same for a worker itself, which knows nothing of pools, leases and queues. A call with a target and an array of
 * args is the one that it answers fastest. */
static void execute_pack_direct(struct pypool *p, struct scratch *s, const char *target, bool has_args,
				const struct pypool_options *o)
{
	uint32_t timeout_ms = params_timeout(p, o);
	msgpack_packer pk;

	msgpack_packer_init(&pk, s, scratch_write);
	msgpack_pack_map(&pk, 2u + !!timeout_ms + !!o->meta + !!o->traceparent);
	pack_kv_text(&pk, "target", target);
	pack_kv_set(&pk, "timeout_ms", timeout_ms);
	if (o->meta)
		pack_kv_bool(&pk, "meta", true);
	pack_kv_given(&pk, "traceparent", o->traceparent);
	pack_text(&pk, "args");
	if (!has_args)
		msgpack_pack_array(&pk, 0);
}

static int execute_check_lease(struct pypool *p, const struct lease *l, const struct pypool_options *o)
{
	if (o->session)
		return params_bad(p, "execute: calls under a direct lease have no session");
	if (lease_is_over(l))
		return handle_fail(p, -EREMOTEIO, "lease_expired", PYPOOL_NEVER, "lease %" PRIu64 " has ended",
				   o->lease);
	return 0;
}

/* Fills s and pieces. */
static int execute_params(struct pypool *p, const char *target, struct pypool_span args, const struct pypool_options *o,
			  const struct lease *l, struct scratch *s, struct span pieces[2])
{
	int r;

	if (!target)
		return params_bad(p, "execute: no target");
	if (!execute_names_fit(target, o))
		return params_bad(p, "execute: target, pool, session and traceparent have at most 255 bytes each");
	r = params_check(p, args, true, "args");
	if (r == 0 && l)
		r = execute_check_lease(p, l, o);
	if (r < 0)
		return r;
	s->len = 0;
	if (l)
		execute_pack_direct(p, s, target, args.size > 0, o);
	else
		execute_pack(p, s, target, args.size > 0, o);
	pieces[0] = scratch_span(s);
	pieces[1] = span_of(args);
	return 0;
}

/* The lease of o, if it is a direct one. */
static struct lease *execute_find_lease(struct pypool *p, const struct pypool_options *o)
{
	return o->lease ? lease_find(p, o->lease) : NULL;
}

static int execute_watch(struct pypool *p, struct lease *l)
{
	int r = watch_add(lease_link(l));

	if (r < 0)
		return handle_fail(p, r, "no_memory", PYPOOL_NEVER, "cannot wait for another socket: %s",
				   strerrordesc_np(-r));
	return 0;
}

int pypool_submit_execute(struct pypool *p, const char *target, struct pypool_span args,
			  const struct pypool_options *options, pypool_done *done, void *data, uint64_t *id)
{
	const struct pypool_options none = { 0 }, *o = options ? options : &none;
	struct scratch s; /* large: is not cleared */
	struct span pieces[2];
	struct lease *l;
	int r = handle_check(p);

	if (r < 0)
		return r;
	if (!done)
		return params_bad(p, "execute: no callback");
	l = execute_find_lease(p, o);
	r = execute_params(p, target, args, o, l, &s, pieces);
	if (r == 0 && l)
		r = execute_watch(p, l);
	if (r < 0)
		return r;
	return call_submit(p, l ? lease_link(l) : &p->main, "execute", pieces, 2, params_limit(params_timeout(p, o)),
			   done, data, id);
}

int pypool_execute(struct pypool *p, const char *target, struct pypool_span args, const struct pypool_options *options,
		   struct pypool_reply **reply)
{
	const struct pypool_options none = { 0 }, *o = options ? options : &none;
	struct scratch s; /* large: is not cleared */
	struct span pieces[2];
	struct lease *l;
	int r = blocking_check(p);

	if (r < 0)
		return r;
	l = execute_find_lease(p, o);
	r = execute_params(p, target, args, o, l, &s, pieces);
	if (r < 0)
		return r;
	if (l && handle_is_quiet(p))
		return lease_execute(l, pieces, 2, params_limit(params_timeout(p, o)), reply);
	if (l)
		r = execute_watch(p, l);
	if (r < 0)
		return r;
	return blocking_call(l ? lease_link(l) : &p->main, "execute", pieces, 2, params_limit(params_timeout(p, o)),
			     reply);
}

int pypool_executef(struct pypool *p, const char *target, struct pypool_reply **reply, const char *format, ...)
{
	struct pypool_span args = { 0 };
	void *packed = NULL;
	va_list ap;
	int r;

	va_start(ap, format);
	r = pypool_vpackf(&packed, &args.size, format, ap);
	va_end(ap);
	if (r == -ENOMEM)
		return handle_fail(p, r, "no_memory", PYPOOL_NEVER, "out of memory for the arguments");
	if (r < 0)
		return handle_fail(p, r, "bad_argument", PYPOOL_NEVER, "bad format \"%s\" or a bad value for its 'm'",
				   format);
	args.data = packed;
	r = pypool_execute(p, target, args, NULL, reply);
	free(packed);
	return r;
}

int pypool_submit(struct pypool *p, const char *method, struct pypool_span params, uint32_t timeout_ms,
		  pypool_done *done, void *data, uint64_t *id)
{
	struct span piece = span_of(params);
	int r = handle_check(p);

	if (r < 0)
		return r;
	if (!done)
		return params_bad(p, "submit: no callback");
	r = params_check(p, params, false, "params");
	if (r < 0)
		return r;
	return call_submit(p, &p->main, method, &piece, 1, timeout_ms ? timeout_ms : p->timeout_ms, done, data, id);
}

int pypool_call(struct pypool *p, const char *method, struct pypool_span params, uint32_t timeout_ms,
		struct pypool_reply **reply)
{
	struct span piece = span_of(params);
	int r = blocking_check(p);

	if (r < 0)
		return r;
	r = params_check(p, params, false, "params");
	if (r < 0)
		return r;
	return blocking_call(&p->main, method, &piece, 1, timeout_ms ? timeout_ms : p->timeout_ms, reply);
}

int pypool_checkout(struct pypool *p, const struct pypool_options *options, struct pypool_lease *lease)
{
	const struct pypool_options none = { 0 }, *o = options ? options : &none;
	uint32_t timeout_ms = params_timeout(p, o);
	struct pypool_reply *reply;
	struct scratch s = { 0 };
	struct span params;
	msgpack_packer pk;
	int r;

	r = blocking_check(p);
	if (r < 0)
		return r;
	if (!execute_names_fit(NULL, o))
		return params_bad(p, "checkout: names of pools and sessions have at most 255 bytes");
	msgpack_packer_init(&pk, &s, scratch_write);
	msgpack_pack_map(&pk, 1u + !!o->session + !!o->pool + !!timeout_ms + !!o->ttl_ms + !!o->direct);
	pack_kv_text(&pk, "type", o->session ? "session" : "anonymous");
	pack_kv_given(&pk, "session", o->session);
	pack_kv_given(&pk, "pool", o->pool);
	pack_kv_set(&pk, "timeout_ms", timeout_ms);
	pack_kv_set(&pk, "ttl_ms", o->ttl_ms);
	if (o->direct)
		pack_kv_bool(&pk, "direct", true);
	params = scratch_span(&s);
	r = blocking_call(&p->main, "checkout", &params, 1, params_limit(timeout_ms), &reply);
	if (r < 0)
		return r;
	*lease = (struct pypool_lease){
		.lease = answer_uint(reply->value, "lease"),
		.worker = answer_uint(reply->value, "worker"),
		.pid = answer_uint(reply->value, "pid"),
		.generation = answer_uint(reply->value, "generation"),
		.expires_ms = answer_uint(reply->value, "expires_ms"),
		.direct = o->direct && answer_uint(reply->value, "fds") > 0,
	};
	(void)pypool_reply_free(reply);
	return 0;
}

int pypool_checkin(struct pypool *p, uint64_t lease, uint32_t timeout_ms)
{
	struct pypool_reply *reply;
	struct scratch s = { 0 };
	msgpack_packer pk;
	int r;

	msgpack_packer_init(&pk, &s, scratch_write);
	msgpack_pack_map(&pk, 1);
	pack_kv_uint(&pk, "lease", lease);
	r = pypool_call(p, "checkin", span_give(scratch_span(&s)), timeout_ms, &reply);
	if (r < 0)
		return r;
	(void)pypool_reply_free(reply);
	return 0;
}

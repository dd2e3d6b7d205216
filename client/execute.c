/* The methods of the protocol that have params of their own, and the generic call. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "client/blocking.h"
#include "client/handle.h"
#include "proto/pack.h"

static int execute_bad(struct pypool *p, const char *what)
{
	return handle_fail(p, -EINVAL, "bad_argument", PYPOOL_NEVER, "%s", what);
}

/* One whole encoded value of the right kind? Sending anything else would cost the connection. */
static int execute_check(struct pypool *p, struct pypool_span s, bool array_too, const char *what)
{
	struct span check = span_of(s), head = check;
	enum cursor_status status;
	uint64_t place;
	uint32_t n;

	if (s.size == 0)
		return 0;
	status = cursor_check_place(check, &place);
	if (status != CURSOR_DONE)
		return handle_fail(p, -EINVAL, "bad_argument", PYPOOL_NEVER,
				   "%s: not one MessagePack value: %s (byte %llu of it)", what,
				   cursor_status_text(status), (unsigned long long)place);
	if (mp_read_map(&head, &n) || (array_too && mp_read_array(&head, &n)))
		return 0;
	return handle_fail(p, -EINVAL, "bad_argument", PYPOOL_NEVER, "%s: a %s, but it must be %s", what,
			   mp_type_name(check), array_too ? "an array or a map" : "a map");
}

static uint32_t execute_timeout(const struct pypool *p, const struct pypool_options *o)
{
	uint32_t ms = o->timeout_ms ? o->timeout_ms : p->timeout_ms;

	return ms > CLIENT_TIMEOUT_MAX ? CLIENT_TIMEOUT_MAX : ms;
}

/* The daemon answers a missed deadline itself, and knows more about it: our own limit is behind its. */
static uint32_t execute_limit(uint32_t timeout_ms)
{
	return timeout_ms ? timeout_ms + CLIENT_GRACE_MS : 0;
}

static void pack_kv_set(msgpack_packer *pk, const char *key, uint64_t v)
{
	if (v)
		pack_kv_uint(pk, key, v);
}

static void pack_kv_given(msgpack_packer *pk, const char *key, const char *v)
{
	if (v)
		pack_kv_text(pk, key, v);
}

static bool execute_names_fit(const char *target, const struct pypool_options *o)
{
	const char *names[] = { target, o->pool, o->traceparent };

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (names[i] && strlen(names[i]) > 255)
			return false;
	return true;
}

/* All of the params but the value of "args", which comes last. */
static void execute_pack(struct pypool *p, struct scratch *s, const char *target, bool has_args,
			 const struct pypool_options *o)
{
	uint32_t timeout_ms = execute_timeout(p, o);
	msgpack_packer pk;

	msgpack_packer_init(&pk, s, scratch_write);
	msgpack_pack_map(&pk, 1u + !!o->pool + !!o->lease + !!timeout_ms + !!o->queue_timeout_ms + !!o->meta +
				      !!o->idempotent + !!o->traceparent + has_args);
	pack_kv_text(&pk, "target", target);
	pack_kv_given(&pk, "pool", o->pool);
	pack_kv_set(&pk, "lease", o->lease);
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

/* Fills s and pieces; *n is how many pieces there are. */
static int execute_params(struct pypool *p, const char *target, struct pypool_span args, const struct pypool_options *o,
			  struct scratch *s, struct span pieces[2])
{
	int r;

	if (!target)
		return execute_bad(p, "execute: no target");
	if (!execute_names_fit(target, o))
		return execute_bad(p, "execute: target, pool and traceparent have at most 255 bytes each");
	r = execute_check(p, args, true, "args");
	if (r < 0)
		return r;
	execute_pack(p, s, target, args.size > 0, o);
	pieces[0] = scratch_span(s);
	pieces[1] = span_of(args);
	return 0;
}

int pypool_submit_execute(struct pypool *p, const char *target, struct pypool_span args,
			  const struct pypool_options *options, pypool_done *done, void *data, uint64_t *id)
{
	const struct pypool_options none = { 0 }, *o = options ? options : &none;
	struct scratch s = { 0 };
	struct span pieces[2];
	int r = handle_check(p);

	if (r < 0)
		return r;
	if (!done)
		return execute_bad(p, "execute: no callback");
	r = execute_params(p, target, args, o, &s, pieces);
	if (r < 0)
		return r;
	return call_submit(p, "execute", pieces, 2, execute_limit(execute_timeout(p, o)), done, data, id);
}

int pypool_execute(struct pypool *p, const char *target, struct pypool_span args, const struct pypool_options *options,
		   struct pypool_reply **reply)
{
	const struct pypool_options none = { 0 }, *o = options ? options : &none;
	struct scratch s = { 0 };
	struct span pieces[2];
	int r = blocking_check(p);

	if (r < 0)
		return r;
	r = execute_params(p, target, args, o, &s, pieces);
	if (r < 0)
		return r;
	return blocking_call(p, "execute", pieces, 2, execute_limit(execute_timeout(p, o)), reply);
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
		return execute_bad(p, "submit: no callback");
	r = execute_check(p, params, false, "params");
	if (r < 0)
		return r;
	return call_submit(p, method, &piece, 1, timeout_ms ? timeout_ms : p->timeout_ms, done, data, id);
}

int pypool_call(struct pypool *p, const char *method, struct pypool_span params, uint32_t timeout_ms,
		struct pypool_reply **reply)
{
	struct span piece = span_of(params);
	int r = blocking_check(p);

	if (r < 0)
		return r;
	r = execute_check(p, params, false, "params");
	if (r < 0)
		return r;
	return blocking_call(p, method, &piece, 1, timeout_ms ? timeout_ms : p->timeout_ms, reply);
}

static uint64_t lease_number(struct pypool_span map, const char *key)
{
	struct pypool_span value;
	struct span s;
	uint64_t v = 0;

	if (pypool_get_key(map, key, &value) < 0)
		return 0;
	s = span_of(value);
	return mp_read_uint(&s, &v) ? v : 0;
}

int pypool_checkout(struct pypool *p, const struct pypool_options *options, struct pypool_lease *lease)
{
	const struct pypool_options none = { 0 }, *o = options ? options : &none;
	uint32_t timeout_ms = execute_timeout(p, o);
	struct pypool_reply *reply;
	struct scratch s = { 0 };
	struct span params;
	msgpack_packer pk;
	int r;

	if (!execute_names_fit(NULL, o))
		return execute_bad(p, "checkout: a pool's name has at most 255 bytes");
	msgpack_packer_init(&pk, &s, scratch_write);
	msgpack_pack_map(&pk, 1u + !!o->pool + !!timeout_ms + !!o->ttl_ms);
	pack_kv_text(&pk, "type", "anonymous");
	pack_kv_given(&pk, "pool", o->pool);
	pack_kv_set(&pk, "timeout_ms", timeout_ms);
	pack_kv_set(&pk, "ttl_ms", o->ttl_ms);
	params = scratch_span(&s);
	r = blocking_call(p, "checkout", &params, 1, execute_limit(timeout_ms), &reply);
	if (r < 0)
		return r;
	*lease = (struct pypool_lease){
		.lease = lease_number(reply->value, "lease"),
		.worker = lease_number(reply->value, "worker"),
		.pid = lease_number(reply->value, "pid"),
		.generation = lease_number(reply->value, "generation"),
		.expires_ms = lease_number(reply->value, "expires_ms"),
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

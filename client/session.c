/* Sessions: their own methods. Calls of a session are in execute.c. */
#include <errno.h>

#include "client/blocking.h"
#include "client/handle.h"
#include "client/params.h"

/* What all of them begin with; s holds it, and pk goes on. */
struct session_params {
	struct scratch s;
	msgpack_packer pk;
	const struct pypool_options *o;
};

static bool session_name_fits(const char *name)
{
	return name && *name && strlen(name) <= 255;
}

/* more: keys that the caller packs beside session and pool. */
static int session_begin(struct pypool *p, struct session_params *a, const char *session,
			 const struct pypool_options *options, unsigned more)
{
	static const struct pypool_options none = { 0 };
	int r = blocking_check(p);

	if (r < 0)
		return r;
	a->o = options ? options : &none;
	a->s.len = 0;
	if (!session_name_fits(session) || (a->o->pool && strlen(a->o->pool) > 255))
		return params_bad(p, "names of sessions and pools have 1 to 255 bytes");
	msgpack_packer_init(&a->pk, &a->s, scratch_write);
	msgpack_pack_map(&a->pk, 1u + !!a->o->pool + more);
	pack_kv_text(&a->pk, "session", session);
	pack_kv_given(&a->pk, "pool", a->o->pool);
	return 0;
}

/* The keys of a method that takes its turn: how many, and they themselves. */
static unsigned session_count_times(const struct pypool *p, const struct pypool_options *o)
{
	return o ? !!params_timeout(p, o) + !!o->queue_timeout_ms : !!p->timeout_ms;
}

static void session_pack_times(const struct pypool *p, struct session_params *a)
{
	pack_kv_set(&a->pk, "timeout_ms", params_timeout(p, a->o));
	pack_kv_set(&a->pk, "queue_timeout_ms", a->o->queue_timeout_ms);
}

/* Answered at once: the limit is the library's alone. */
static int session_ask(struct pypool *p, const char *method, const struct session_params *a,
		       struct pypool_reply **reply)
{
	struct span params = scratch_span(&a->s);

	return blocking_call(&p->main, method, &params, 1, params_timeout(p, a->o), reply);
}

int pypool_session_open(struct pypool *p, const char *session, const struct pypool_options *options,
			struct pypool_session *state)
{
	struct pypool_reply *reply;
	struct session_params a;
	int r = session_begin(p, &a, session, options, options ? !!options->reset + !!options->ttl_ms : 0);

	if (r < 0)
		return r;
	if (a.o->reset)
		pack_kv_bool(&a.pk, "reset", true);
	pack_kv_set(&a.pk, "ttl_ms", a.o->ttl_ms);
	r = session_ask(p, "session.open", &a, &reply);
	if (r < 0)
		return r;
	if (state)
		*state = (struct pypool_session){
			.opened = answer_is_true(reply->value, "opened"),
			.worker = answer_uint(reply->value, "worker"),
			.generation = answer_uint(reply->value, "generation"),
			.expires_ms = answer_uint(reply->value, "expires_ms"),
			.keys = answer_uint(reply->value, "keys"),
			.bytes = answer_uint(reply->value, "bytes"),
		};
	(void)pypool_reply_free(reply);
	return 0;
}

int pypool_session_close(struct pypool *p, const char *session, const struct pypool_options *options, int *closed)
{
	struct pypool_reply *reply;
	struct session_params a;
	struct span value;
	bool was_there = false;
	int r = session_begin(p, &a, session, options, 0);

	if (r < 0)
		return r;
	r = session_ask(p, "session.close", &a, &reply);
	if (r < 0)
		return r;
	value = span_of(reply->value);
	if (closed)
		*closed = mp_read_bool(&value, &was_there) && was_there;
	(void)pypool_reply_free(reply);
	return 0;
}

int pypool_session_get(struct pypool *p, const char *session, const char *key, const struct pypool_options *options,
		       struct pypool_reply **reply)
{
	struct session_params a;
	int r = session_begin(p, &a, session, options, key ? 1 : 0);

	if (r < 0)
		return r;
	if (key && !session_name_fits(key))
		return params_bad(p, "keys of a session have 1 to 255 bytes");
	pack_kv_given(&a.pk, "key", key);
	return session_ask(p, "session.get", &a, reply);
}

int pypool_session_put(struct pypool *p, const char *session, struct pypool_span values,
		       const struct pypool_options *options)
{
	bool must_exist = options && options->must_exist;
	struct pypool_reply *reply;
	struct session_params a;
	struct span pieces[2];
	int r = session_begin(p, &a, session, options, 1 + must_exist + session_count_times(p, options));

	if (r < 0)
		return r;
	if (values.size == 0)
		return params_bad(p, "session_put: no values");
	r = params_check(p, values, false, "values");
	if (r < 0)
		return r;
	if (must_exist)
		pack_kv_bool(&a.pk, "open", false);
	session_pack_times(p, &a);
	pack_text(&a.pk, "values");
	pieces[0] = scratch_span(&a.s);
	pieces[1] = span_of(values);
	r = blocking_call(&p->main, "session.put", pieces, 2, params_limit(params_timeout(p, a.o)), &reply);
	if (r < 0)
		return r;
	(void)pypool_reply_free(reply);
	return 0;
}

/* The encoded array of keys, the caller's to destroy. */
static int session_pack_keys(struct pypool *p, msgpack_sbuffer *buf, const char *const *keys, size_t n)
{
	msgpack_packer pk;

	msgpack_sbuffer_init(buf);
	msgpack_packer_init(&pk, buf, msgpack_sbuffer_write);
	if (msgpack_pack_array(&pk, n) < 0)
		return handle_fail(p, -ENOMEM, "no_memory", PYPOOL_NEVER, "out of memory");
	for (size_t i = 0; i < n; i++) {
		size_t len = session_name_fits(keys[i]) ? strlen(keys[i]) : 0;

		if (len == 0)
			return params_bad(p, "keys of a session have 1 to 255 bytes");
		if (msgpack_pack_str(&pk, len) < 0 || msgpack_pack_str_body(&pk, keys[i], len) < 0)
			return handle_fail(p, -ENOMEM, "no_memory", PYPOOL_NEVER, "out of memory for %zu keys", n);
	}
	return 0;
}

static int session_delete(struct pypool *p, struct session_params *a, const msgpack_sbuffer *keys, uint64_t *deleted)
{
	struct pypool_reply *reply;
	struct span pieces[2], value;
	uint64_t n = 0;
	int r;

	session_pack_times(p, a);
	pack_text(&a->pk, "keys");
	pieces[0] = scratch_span(&a->s);
	pieces[1] = (struct span){ .p = (const uint8_t *)keys->data, .len = keys->size };
	r = blocking_call(&p->main, "session.delete", pieces, 2, params_limit(params_timeout(p, a->o)), &reply);
	if (r < 0)
		return r;
	value = span_of(reply->value);
	if (deleted)
		*deleted = mp_read_uint(&value, &n) ? n : 0;
	(void)pypool_reply_free(reply);
	return 0;
}

int pypool_session_delete(struct pypool *p, const char *session, const char *const *keys, size_t n,
			  const struct pypool_options *options, uint64_t *deleted)
{
	struct session_params a;
	msgpack_sbuffer packed;
	int r = session_begin(p, &a, session, options, 1 + session_count_times(p, options));

	if (r < 0)
		return r;
	r = session_pack_keys(p, &packed, keys, n);
	if (r == 0)
		r = session_delete(p, &a, &packed, deleted);
	msgpack_sbuffer_destroy(&packed);
	return r;
}

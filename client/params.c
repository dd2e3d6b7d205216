/* What the methods with params of their own have in common. */
#include "client/params.h"

#include <errno.h>

#include "client/handle.h"

int params_bad(struct pypool *p, const char *what)
{
	return handle_fail(p, -EINVAL, "bad_argument", PYPOOL_NEVER, "%s", what);
}

int params_check(struct pypool *p, struct pypool_span s, bool array_too, const char *what)
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

uint32_t params_timeout(const struct pypool *p, const struct pypool_options *o)
{
	uint32_t ms = o->timeout_ms ? o->timeout_ms : p->timeout_ms;

	return ms > CLIENT_TIMEOUT_MAX ? CLIENT_TIMEOUT_MAX : ms;
}

uint32_t params_limit(uint32_t timeout_ms)
{
	return timeout_ms ? timeout_ms + CLIENT_GRACE_MS : 0;
}

void pack_kv_set(msgpack_packer *pk, const char *key, uint64_t v)
{
	if (v)
		pack_kv_uint(pk, key, v);
}

void pack_kv_given(msgpack_packer *pk, const char *key, const char *v)
{
	if (v)
		pack_kv_text(pk, key, v);
}

uint64_t answer_uint(struct pypool_span map, const char *key)
{
	struct pypool_span value;
	struct span s;
	uint64_t v = 0;

	if (pypool_get_key(map, key, &value) < 0)
		return 0;
	s = span_of(value);
	return mp_read_uint(&s, &v) ? v : 0;
}

int answer_is_true(struct pypool_span map, const char *key)
{
	struct pypool_span value;
	struct span s;
	bool v = false;

	if (pypool_get_key(map, key, &value) < 0)
		return 0;
	s = span_of(value);
	return mp_read_bool(&s, &v) && v;
}

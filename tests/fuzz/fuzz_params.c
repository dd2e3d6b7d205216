/*
 * Envelope and params: what is accepted lies inside the message and is what msgpack-c sees there, what is refused is
 * refused in words that can be shown. The input is tried as a message, and as the params of every method.
 */
#include <msgpack.h>

#include "daemon/base/cleanup.h"
#include "proto/methods.h"
#include "proto/utf8.h"
#include "tests/fuzz/food.h"
#include "tests/fuzz/must.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

/* Valid UTF-8 without control characters. */
static bool is_clean(struct span s)
{
	while (s.len) {
		size_t n = utf8_char(s);

		if (!n || utf8_is_control(s))
			return false;
		s.p += n;
		s.len -= n;
	}
	return true;
}

static void check_complaint(const struct complaint *c)
{
	size_t n = strnlen(c->message, sizeof(c->message));

	MUST(n > 0 && n < sizeof(c->message), "a refusal without words");
	MUST(is_clean(span_str(c->message)), "a refusal that cannot be shown");
	MUST(c->code == ERROR_BAD_REQUEST, "a refusal with the code %s", error_name(c->code));
}

static bool is_within(struct span inner, struct span outer)
{
	return inner.p >= outer.p && inner.len <= outer.len && (size_t)(inner.p - outer.p) <= outer.len - inner.len;
}

static void check_quote(struct span s, size_t size)
{
	char *out = malloc(size); /* so that ASan sees its end */

	(void)envelope_quote(s, out, size);
	MUST(memchr(out, '\0', size), "not terminated");
	MUST(is_clean(span_str(out)), "a quote that cannot be shown");
	free(out);
}

/* A span that params_parse() has found. */
static void check_span(int key, bool is_name, struct span s, struct span map)
{
	MUST(is_within(s, map), "the value of key %d lies outside", key);
	if (is_name)
		MUST(s.len >= 1 && s.len <= PARAM_NAME_MAX && is_clean(s), "key %d is no name", key);
	else
		MUST(cursor_check(s) == CURSOR_DONE, "the value of key %d is no value", key);
}

static void check_found(const struct params *p, struct span map)
{
#define CHECK_NAME(key, field) check_span(key, true, field, map)
#define CHECK_ANY(key, field) check_span(key, false, field, map)
#define CHECK_LIST(key, field) check_span(key, false, field, map)
#define CHECK_MS(key, field) MUST(field >= 1 && field <= PARAM_MS_MAX, "key %d is %llu", key, (unsigned long long)field)
#define CHECK_UINT(key, field) (void)field
#define CHECK_BOOL(key, field) (void)field
#define X(UPPER, field, kind)                                                                                          \
	if (params_has(p, PARAM_##UPPER)) {                                                                            \
		CHECK_##kind(PARAM_##UPPER, p->field);                                                                 \
	}
	PROTO_PARAMS(X)
#undef X
}

static void check_params(struct span map, const struct method_info *m)
{
	struct complaint c = { .code = ERROR_NONE };
	struct params p;

	if (!params_parse(map, m->keys, m->name, &p, &c)) {
		check_complaint(&c);
		return;
	}
	MUST(!(p.has & ~m->keys), "%s takes keys that are not its own", m->name);
	check_found(&p, map);
}

/* An empty text of msgpack-c is at NULL. */
static bool is_same(struct span s, const char *text, size_t len)
{
	return s.len == len && (len == 0 || memcmp(s.p, text, len) == 0);
}

/* type, id and method as msgpack-c sees them. */
static void check_with_msgpack(struct span frame, const struct envelope *e)
{
	const msgpack_object *at;
	msgpack_unpacked result;

	msgpack_unpacked_init(&result);
	if (msgpack_unpack_next(&result, (const char *)frame.p, frame.len, NULL) == MSGPACK_UNPACK_SUCCESS) {
		MUST(result.data.type == MSGPACK_OBJECT_ARRAY && result.data.via.array.size >= 3, "no message");
		at = result.data.via.array.ptr;
		MUST(at->type == MSGPACK_OBJECT_POSITIVE_INTEGER && at->via.u64 == e->type, "another type");
		at++;
		if (e->type != ENVELOPE_NOTIFICATION) {
			MUST(e->has_id == (at->type == MSGPACK_OBJECT_POSITIVE_INTEGER), "an id is overlooked");
			MUST(!e->has_id || at->via.u64 == e->id, "another id");
			at++;
		}
		if (e->type != ENVELOPE_RESPONSE)
			MUST(is_same(e->method, at->via.str.ptr, at->via.str.size), "another method");
	}
	msgpack_unpacked_destroy(&result);
}

static void check_message(struct span frame)
{
	const struct span none = { 0 };
	struct complaint c = { .code = ERROR_NONE };
	struct envelope e;
	enum method m;

	if (!envelope_parse(frame, &e, &c)) {
		check_complaint(&c);
		return;
	}
	check_with_msgpack(frame, &e);
	MUST((!e.method.p || is_within(e.method, frame)) && (!e.params.len || is_within(e.params, frame)), "outside");
	if (e.type == ENVELOPE_RESPONSE) {
		MUST(cursor_check(e.error) == CURSOR_DONE && cursor_check(e.result) == CURSOR_DONE,
		     "parts are no values");
		MUST(!e.meta.len || (cursor_check(e.meta) == CURSOR_DONE && is_within(e.meta, frame)),
		     "meta is no value");
		return;
	}
	MUST(!e.params.len || cursor_check(e.params) == CURSOR_DONE, "params are no value");
	m = method_find(e.method);
	if (m < METHOD_N)
		check_params(e.params.len ? e.params : none, method_info(m));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct span all = { .p = data, .len = len };

	check_quote(all, 1 + (len ? data[0] % 64 : 0));
	if (cursor_check(all) != CURSOR_DONE)
		return 0;
	check_message(all);
	for (int m = 0; m < METHOD_N; m++)
		check_params(all, method_info((enum method)m));
	return 0;
}

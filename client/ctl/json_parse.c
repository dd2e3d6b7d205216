/* A strict parser (RFC 8259): no comments, no trailing commas, no leading zeros, no lone surrogates, no key twice. */
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>

#include "client/ctl/base64.h"
#include "client/ctl/json.h"
#include "client/pypool.h"
#include "proto/cursor.h"
#include "proto/pack.h"
#include "proto/utf8.h"

struct parser {
	const uint8_t *start;
	struct span rest;
	unsigned depth;
	msgpack_sbuffer *out; /* borrows: the caller's */
	msgpack_packer pk;
	struct json_error *error;
};

static bool parse_value(struct parser *p);

static bool parse_fail(struct parser *p, const char *format, ...) __attribute__((format(printf, 2, 3)));
static bool parse_fail(struct parser *p, const char *format, ...)
{
	va_list args;

	p->error->offset = (size_t)(p->rest.p - p->start);
	va_start(args, format);
	(void)vsnprintf(p->error->message, sizeof(p->error->message), format, args); /* cut is fine */
	va_end(args);
	return false;
}

/* The next byte, or 0 at the end (which no JSON holds). */
static uint8_t parse_peek(const struct parser *p)
{
	return p->rest.len > 0 ? p->rest.p[0] : 0;
}

static void parse_skip(struct parser *p, size_t n)
{
	p->rest.p += n;
	p->rest.len -= n;
}

static void parse_blanks(struct parser *p)
{
	while (p->rest.len > 0 && memchr(" \t\n\r", p->rest.p[0], 4))
		parse_skip(p, 1);
}

static bool parse_take(struct parser *p, const char *word)
{
	size_t n = strlen(word);

	if (p->rest.len < n || memcmp(p->rest.p, word, n) != 0)
		return false;
	parse_skip(p, n);
	return true;
}

/* ---- numbers ---- */

static size_t digits_len(struct span s, size_t at)
{
	size_t n = 0;

	while (at + n < s.len && s.p[at + n] >= '0' && s.p[at + n] <= '9')
		n++;
	return n;
}

/* Length of the number at the start of s; 0: it is none. */
static size_t number_len(struct span s, bool *whole)
{
	size_t at = s.len > 0 && s.p[0] == '-', n = digits_len(s, at);

	*whole = true;
	if (n == 0 || (n > 1 && s.p[at] == '0'))
		return 0;
	at += n;
	if (at < s.len && s.p[at] == '.') {
		n = digits_len(s, at + 1);
		if (n == 0)
			return 0;
		at += 1 + n;
		*whole = false;
	}
	if (at < s.len && (s.p[at] == 'e' || s.p[at] == 'E')) {
		at++;
		at += at < s.len && (s.p[at] == '+' || s.p[at] == '-');
		n = digits_len(s, at);
		if (n == 0)
			return 0;
		at += n;
		*whole = false;
	}
	return at;
}

static bool parse_integer(struct parser *p, const char *text)
{
	errno = 0;
	if (text[0] == '-') {
		long long v = strtoll(text, NULL, 10);

		if (errno)
			return parse_fail(p, "integer below -2^63");
		return msgpack_pack_int64(&p->pk, v) == 0;
	} else {
		unsigned long long v = strtoull(text, NULL, 10);

		if (errno)
			return parse_fail(p, "integer over 2^64-1");
		return msgpack_pack_uint64(&p->pk, v) == 0;
	}
}

static bool parse_number(struct parser *p)
{
	bool whole, ok;
	size_t n = number_len(p->rest, &whole);
	char *text;
	double d;

	if (n == 0)
		return parse_fail(p, "not a number as JSON has it");
	text = strndup((const char *)p->rest.p, n);
	if (!text)
		return parse_fail(p, "out of memory");
	if (whole) {
		ok = parse_integer(p, text);
	} else {
		d = strtod(text, NULL);
		ok = isfinite(d) ? msgpack_pack_double(&p->pk, d) == 0 : parse_fail(p, "number too large");
	}
	free(text);
	if (ok)
		parse_skip(p, n);
	return ok;
}

/* ---- text ---- */

static bool parse_hex4(struct parser *p, uint32_t *v)
{
	*v = 0;
	for (size_t i = 0; i < 4; i++) {
		uint8_t c = i < p->rest.len ? p->rest.p[i] : 0;

		if (c >= '0' && c <= '9')
			*v = *v * 16 + c - '0';
		else if ((c | 32) >= 'a' && (c | 32) <= 'f')
			*v = *v * 16 + (c | 32) - 'a' + 10;
		else
			return parse_fail(p, "\\u needs four hexadecimal digits");
	}
	parse_skip(p, 4);
	return true;
}

/* Behind \u: one character, perhaps written as a pair of surrogates. */
static bool parse_unicode(struct parser *p, uint32_t *c)
{
	uint32_t low;

	if (!parse_hex4(p, c))
		return false;
	if (*c < 0xd800 || *c > 0xdfff)
		return true;
	if (*c > 0xdbff || !parse_take(p, "\\u"))
		return parse_fail(p, "half of a surrogate pair");
	if (!parse_hex4(p, &low))
		return false;
	if (low < 0xdc00 || low > 0xdfff)
		return parse_fail(p, "half of a surrogate pair");
	*c = 0x10000 + ((*c - 0xd800) << 10) + (low - 0xdc00);
	return true;
}

static size_t utf8_put(char *to, uint32_t c)
{
	static const uint8_t mark[] = { 0, 0, 0xc0, 0xe0, 0xf0 };
	size_t n = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;

	for (size_t i = n - 1; i > 0; i--, c >>= 6)
		to[i] = (char)(0x80 | (c & 0x3f));
	to[0] = (char)(n == 1 ? c : mark[n] | c);
	return n;
}

static bool parse_escape(struct parser *p, char *to, size_t *n)
{
	static const char names[] = "\"\\/bfnrt", values[] = "\"\\/\b\f\n\r\t";
	uint8_t c = parse_peek(p);
	const char *at = c ? strchr(names, c) : NULL;
	uint32_t u;

	if (at) {
		to[(*n)++] = values[at - names];
		parse_skip(p, 1);
		return true;
	}
	if (c != 'u')
		return parse_fail(p, "unknown escape behind \\");
	parse_skip(p, 1);
	if (!parse_unicode(p, &u))
		return false;
	*n += utf8_put(to + *n, u);
	return true;
}

/* Into to, which has room: no escape is shorter than what it means. */
static bool parse_chars(struct parser *p, char *to, size_t *n)
{
	for (;;) {
		size_t len = utf8_char(p->rest);

		if (p->rest.len == 0)
			return parse_fail(p, "text without its closing \"");
		if (len == 0)
			return parse_fail(p, "invalid UTF-8");
		if (p->rest.p[0] < 0x20)
			return parse_fail(p, "a control character in text must be escaped");
		if (p->rest.p[0] == '"') {
			parse_skip(p, 1);
			return true;
		}
		if (p->rest.p[0] == '\\') {
			parse_skip(p, 1);
			if (!parse_escape(p, to, n))
				return false;
			continue;
		}
		memcpy(to + *n, p->rest.p, len);
		*n += len;
		parse_skip(p, len);
	}
}

static bool parse_text(struct parser *p)
{
	char *text = malloc(p->rest.len + 1);
	size_t n = 0;
	bool ok;

	if (!text)
		return parse_fail(p, "out of memory");
	parse_skip(p, 1);
	ok = parse_chars(p, text, &n) && msgpack_pack_str(&p->pk, n) == 0 &&
	     msgpack_pack_str_body(&p->pk, text, n) == 0;
	free(text);
	return ok;
}

/* ---- containers ---- */

/* The count is known only at the end: a header of five bytes is written first and made as small as it can be then. */
static bool container_begin(struct parser *p, size_t *at)
{
	*at = p->out->size;
	return msgpack_sbuffer_write(p->out, "\0\0\0\0", 5) == 0;
}

static void container_end(struct parser *p, size_t at, uint32_t n, bool map)
{
	uint8_t *head = (uint8_t *)p->out->data + at;
	size_t body = p->out->size - at - 5, len = n < 16 ? 1 : n < 65536 ? 3 : 5;

	memmove(head + len, head + 5, body);
	p->out->size = at + len + body;
	if (len == 1) {
		head[0] = (uint8_t)((map ? 0x80 : 0x90) | n);
		return;
	}
	head[0] = (uint8_t)((map ? 0xde : 0xdc) + (len == 5));
	for (size_t i = 1; i < len; i++)
		head[i] = (uint8_t)(n >> (8 * (len - 1 - i)));
}

/* Between two elements: a comma, or the bracket that ends. */
static bool parse_more(struct parser *p, char close, bool *more)
{
	parse_blanks(p);
	*more = parse_peek(p) == ',';
	if (!*more && parse_peek(p) != (uint8_t)close)
		return parse_fail(p, "expected ',' or '%c'", close);
	parse_skip(p, 1);
	return true;
}

static bool parse_array(struct parser *p)
{
	uint32_t n = 0;
	bool more = true;
	size_t at;

	if (!container_begin(p, &at))
		return false;
	parse_skip(p, 1);
	parse_blanks(p);
	if (parse_peek(p) == ']') {
		parse_skip(p, 1);
		more = false;
	}
	for (; more; n++)
		if (!parse_value(p) || !parse_more(p, ']', &more))
			return false;
	container_end(p, at, n, false);
	return true;
}

/* Is the key that was just written, from `key` on, in the object that began at `first` a second time? */
static bool key_is_new(const struct parser *p, size_t first, size_t key)
{
	const uint8_t *data = (const uint8_t *)p->out->data;
	struct span s = { .p = data + first, .len = key - first },
		    last = { .p = data + key, .len = p->out->size - key };
	struct span old, value;

	while (s.len > 0 && mp_read_any(&s, &old) && mp_read_any(&s, &value))
		if (old.len == last.len && memcmp(old.p, last.p, old.len) == 0)
			return false;
	return true;
}

static bool parse_member(struct parser *p, size_t first)
{
	size_t key = p->out->size;

	parse_blanks(p);
	if (parse_peek(p) != '"')
		return parse_fail(p, "a key must be text in double quotes");
	if (!parse_text(p))
		return false;
	if (!key_is_new(p, first, key))
		return parse_fail(p, "the same key twice");
	parse_blanks(p);
	if (!parse_take(p, ":"))
		return parse_fail(p, "expected ':'");
	return parse_value(p);
}

/* ---- {"$bin": ...} and the like ---- */

static bool tagged_base64(struct parser *p, struct span text, uint8_t **bytes, size_t *n)
{
	*bytes = malloc(text.len + 1);
	if (!*bytes)
		return parse_fail(p, "out of memory");
	if (base64_decode(text, *bytes, n))
		return true;
	free(*bytes);
	*bytes = NULL;
	return parse_fail(p, "malformed base64");
}

/* Replaces what was written from `at` on. value points into it, so the bytes are decoded before. */
static bool tagged_bytes(struct parser *p, size_t at, struct span value, char kind, int type)
{
	struct span text;
	uint8_t *bytes;
	size_t n;
	bool ok;

	if (!mp_read_text(&value, &text))
		return parse_fail(p, "expected base64 text");
	if (!tagged_base64(p, text, &bytes, &n))
		return false;
	p->out->size = at;
	if (kind == 's')
		ok = msgpack_pack_str(&p->pk, n) == 0;
	else if (kind == 'e')
		ok = msgpack_pack_ext(&p->pk, n, (int8_t)type) == 0;
	else
		ok = msgpack_pack_bin(&p->pk, n) == 0;
	ok = ok && msgpack_sbuffer_write(p->out, (const char *)bytes, n) == 0;
	free(bytes);
	return ok;
}

static bool tagged_ext(struct parser *p, size_t at, struct span value)
{
	struct pypool_span number = { .data = NULL };
	struct span type;
	int64_t v;
	uint32_t n;

	if (!mp_read_array(&value, &n) || n != 2 || !mp_read_any(&value, &type))
		return parse_fail(p, "\"$ext\" takes [type, base64]");
	number = (struct pypool_span){ .data = type.p, .size = type.len };
	if (pypool_get_int(number, &v) < 0 || v < INT8_MIN || v > INT8_MAX)
		return parse_fail(p, "an extension's type is a number from -128 to 127");
	return tagged_bytes(p, at, value, 'e', (int)v);
}

static bool tagged_float(struct parser *p, size_t at, struct span value)
{
	struct span text = { 0 };
	double v;

	(void)mp_read_text(&value, &text); /* of another type: none of the words */
	if (span_equals(text, "nan"))
		v = (double)NAN;
	else if (span_equals(text, "inf"))
		v = HUGE_VAL;
	else if (span_equals(text, "-inf"))
		v = -HUGE_VAL;
	else
		return parse_fail(p, "\"$float\" takes \"nan\", \"inf\" or \"-inf\"");
	p->out->size = at;
	return msgpack_pack_double(&p->pk, v) == 0;
}

static bool tagged_map(struct parser *p, size_t at, struct span value)
{
	msgpack_sbuffer copy;
	msgpack_packer pk;
	struct span pair;
	uint32_t n, two;
	bool ok = true;

	if (!mp_read_array(&value, &n))
		return parse_fail(p, "\"$map\" takes a list of pairs");
	msgpack_sbuffer_init(&copy);
	msgpack_packer_init(&pk, &copy, msgpack_sbuffer_write);
	msgpack_pack_map(&pk, n);
	for (; ok && n > 0; n--) {
		ok = mp_read_any(&value, &pair) && mp_read_array(&pair, &two) && two == 2;
		if (ok)
			pack_raw(&pk, pair);
	}
	if (ok) {
		p->out->size = at;
		ok = msgpack_sbuffer_write(p->out, copy.data, copy.size) == 0;
	} else {
		ok = parse_fail(p, "\"$map\" takes a list of pairs");
	}
	msgpack_sbuffer_destroy(&copy);
	return ok;
}

/* An object of one member was written from `at` on: does its key say that it stands for something else? */
static bool parse_tagged(struct parser *p, size_t at)
{
	struct span s = { .p = (const uint8_t *)p->out->data + at + 1, .len = p->out->size - at - 1 }, key;

	if (!mp_read_text(&s, &key) || key.len == 0 || key.p[0] != '$')
		return true;
	if (span_equals(key, "$bin"))
		return tagged_bytes(p, at, s, 'b', 0);
	if (span_equals(key, "$str"))
		return tagged_bytes(p, at, s, 's', 0);
	if (span_equals(key, "$ext"))
		return tagged_ext(p, at, s);
	if (span_equals(key, "$float"))
		return tagged_float(p, at, s);
	if (span_equals(key, "$map"))
		return tagged_map(p, at, s);
	return true;
}

static bool parse_object(struct parser *p)
{
	uint32_t n = 0;
	bool more = true;
	size_t at;

	if (!container_begin(p, &at))
		return false;
	parse_skip(p, 1);
	parse_blanks(p);
	if (parse_peek(p) == '}') {
		parse_skip(p, 1);
		more = false;
	}
	for (; more; n++)
		if (!parse_member(p, at + 5) || !parse_more(p, '}', &more))
			return false;
	container_end(p, at, n, true);
	return n == 1 ? parse_tagged(p, at) : true;
}

static bool parse_value(struct parser *p)
{
	uint8_t c;
	bool ok;

	parse_blanks(p);
	c = parse_peek(p);
	if (c == '[' || c == '{') {
		if (p->depth >= JSON_DEPTH_MAX)
			return parse_fail(p, "nested deeper than %d", JSON_DEPTH_MAX);
		p->depth++;
		ok = c == '[' ? parse_array(p) : parse_object(p);
		p->depth--;
		return ok;
	}
	if (c == '"')
		return parse_text(p);
	if (c == '-' || (c >= '0' && c <= '9'))
		return parse_number(p);
	if (parse_take(p, "null"))
		return msgpack_pack_nil(&p->pk) == 0;
	if (parse_take(p, "true"))
		return msgpack_pack_true(&p->pk) == 0;
	if (parse_take(p, "false"))
		return msgpack_pack_false(&p->pk) == 0;
	return parse_fail(p, p->rest.len ? "not a JSON value" : "the value is missing");
}

bool json_parse(struct span text, msgpack_sbuffer *out, struct json_error *error)
{
	struct parser p = { .start = text.p, .rest = text, .out = out, .error = error };
	size_t before = out->size;

	*error = (struct json_error){ .message = "out of memory" };
	msgpack_packer_init(&p.pk, out, msgpack_sbuffer_write);
	if (!parse_value(&p)) {
		out->size = before;
		return false;
	}
	parse_blanks(&p);
	if (p.rest.len > 0) {
		out->size = before;
		return parse_fail(&p, "something follows the value");
	}
	return true;
}

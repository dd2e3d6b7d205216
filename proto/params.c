#include "proto/params.h"

#include <stdio.h>

#include "proto/utf8.h"

enum kind {
	KIND_NAME,
	KIND_MS,
	KIND_UINT,
	KIND_BOOL,
	KIND_ANY,
	KIND_LIST,
};

struct param_line {
	const char *name;
	enum kind kind;
	size_t offset; /* of the field in struct params */
};

static const struct param_line lines[PARAM_N] = {
#define X(UPPER, field, kind_) [PARAM_##UPPER] = { #field, KIND_##kind_, offsetof(struct params, field) },
	PROTO_PARAMS(X)
#undef X
};

static int param_find(struct span name)
{
	int key = 0;

	while (key < PARAM_N && !span_equals(name, lines[key].name))
		key++;
	return key;
}

/* The value of a float of 4 or 8 bytes after its header byte. */
static double float_value(const uint8_t *p, size_t len)
{
	union {
		uint64_t bits;
		double value;
	} wide = { .bits = 0 };
	union {
		uint32_t bits;
		float value;
	} narrow = { .bits = 0 };

	for (size_t i = 1; i < len; i++) {
		wide.bits = wide.bits << 8 | p[i];
		narrow.bits = narrow.bits << 8 | p[i];
	}
	return len == 5 ? (double)narrow.value : wide.value;
}

/* An integer below zero, in any encoding. */
static long long negative_value(const uint8_t *p, size_t len)
{
	uint64_t v = UINT64_MAX; /* sign bits */

	if (len == 1)
		return (int8_t)p[0];
	for (size_t i = 1; i < len; i++)
		v = v << 8 | p[i];
	return (long long)v;
}

/* What was given in place of what is accepted, in a few words. */
static const char *describe(struct span value, char *out, size_t size)
{
	const char *type = mp_type_name(value);
	struct span s = value, text;
	char quoted[64];
	uint64_t v;
	bool b;

	if (mp_read_any(&s, &value))
		s = value; /* no longer what follows it */
	if (mp_read_uint(&s, &v))
		(void)snprintf(out, size, "%llu", (unsigned long long)v);
	else if (mp_read_bool(&s, &b))
		(void)snprintf(out, size, "%s", b ? "true" : "false");
	else if (mp_read_text(&s, &text))
		(void)snprintf(out, size, "%s \"%s\"", type, envelope_quote(text, quoted, sizeof(quoted)));
	else if (strcmp(type, "int") == 0)
		(void)snprintf(out, size, "%lld", negative_value(value.p, value.len));
	else if (strcmp(type, "float") == 0)
		(void)snprintf(out, size, "float %.17g", float_value(value.p, value.len));
	else
		(void)snprintf(out, size, "%s", type);
	return out;
}

static bool refuse(struct complaint *c, const char *key, const char *accepted, struct span value)
{
	char got[96];

	return complain(c, ERROR_BAD_REQUEST, "%s must be %s, got %s", key, accepted,
			describe(value, got, sizeof(got)));
}

static bool check_name(const char *key, struct span name, struct complaint *c)
{
	const char *wrong = NULL;
	char quoted[128];

	if (name.len == 0)
		return complain(c, ERROR_BAD_REQUEST, "%s must be text of 1 to 255 bytes, got an empty one", key);
	if (name.len > PARAM_NAME_MAX)
		return complain(c, ERROR_BAD_REQUEST, "%s must be text of 1 to 255 bytes, got %zu: \"%s\"", key,
				name.len, envelope_quote(name, quoted, sizeof(quoted)));
	for (struct span s = name; s.len > 0 && !wrong;) {
		size_t n = utf8_char(s);

		if (n == 0)
			wrong = "must be valid UTF-8";
		else if (utf8_is_control(s))
			wrong = "must not hold control characters";
		s.p += n;
		s.len -= n;
	}
	if (!wrong)
		return true;
	return complain(c, ERROR_BAD_REQUEST, "%s %s, got \"%s\"", key, wrong,
			envelope_quote(name, quoted, sizeof(quoted)));
}

static bool set_name(const struct param_line *line, struct span value, struct span *out, struct complaint *c)
{
	struct span rest = value;

	if (!mp_read_text(&rest, out))
		return refuse(c, line->name, "text of 1 to 255 bytes", value);
	return check_name(line->name, *out, c);
}

static bool set_number(const struct param_line *line, struct span value, uint64_t *out, struct complaint *c)
{
	struct span rest = value;
	bool read = mp_read_uint(&rest, out);

	if (line->kind == KIND_MS && (!read || *out < 1 || *out > PARAM_MS_MAX))
		return refuse(c, line->name, "an integer from 1 to 2147483648 (milliseconds)", value);
	if (!read)
		return refuse(c, line->name, "an integer from 0 to 18446744073709551615", value);
	return true;
}

static bool set_value(const struct param_line *line, struct span value, void *field, struct complaint *c)
{
	struct span rest = value;
	uint32_t n;

	switch (line->kind) {
	case KIND_NAME:
		return set_name(line, value, field, c);
	case KIND_MS:
	case KIND_UINT:
		return set_number(line, value, field, c);
	case KIND_BOOL:
		return mp_read_bool(&rest, field) || refuse(c, line->name, "true or false", value);
	case KIND_LIST:
		if (!mp_read_array(&rest, &n))
			return refuse(c, line->name, "an array", value);
		break;
	case KIND_ANY:
		break;
	}
	*(struct span *)field = value;
	return true;
}

/* Names of the accepted keys, separated by spaces. */
static const char *list_keys(uint64_t accepted, char *out, size_t size)
{
	size_t at = 0;

	out[0] = '\0';
	for (int key = 0; key < PARAM_N; key++) {
		int n;

		if (!(accepted & PARAM_BIT(key)))
			continue;
		n = snprintf(out + at, size - at, "%s%s", at > 0 ? " " : "", lines[key].name);
		if (n < 0 || (size_t)n >= size - at)
			break;
		at += (size_t)n;
	}
	return out;
}

static bool refuse_key(struct complaint *c, const char *method_name, struct span key, uint64_t accepted)
{
	char quoted[64], keys[256];

	(void)envelope_quote(key, quoted, sizeof(quoted));
	if (accepted == 0)
		return complain(c, ERROR_BAD_REQUEST, "%s takes no params, got the key \"%s\"", method_name, quoted);
	return complain(c, ERROR_BAD_REQUEST, "%s takes no key \"%s\"; accepted: %s", method_name, quoted,
			list_keys(accepted, keys, sizeof(keys)));
}

/* Takes one pair of the map. seen: keys so far, those with a nil value too. */
static bool take_pair(struct span *s, uint64_t accepted, const char *method_name, uint64_t *seen, struct params *out,
		      struct complaint *c)
{
	struct span name, value;
	int key;

	if (!mp_read_text(s, &name))
		return refuse(c, "a key of params", "text", *s);
	key = param_find(name);
	if (key == PARAM_N || !(accepted & PARAM_BIT(key)))
		return refuse_key(c, method_name, name, accepted);
	if (*seen & PARAM_BIT(key))
		return complain(c, ERROR_BAD_REQUEST, "the key \"%s\" is given twice", lines[key].name);
	*seen |= PARAM_BIT(key);
	if (!mp_read_any(s, &value))
		return complain(c, ERROR_BAD_REQUEST, "the value of \"%s\" is cut", lines[key].name);
	if (lines[key].kind != KIND_ANY && value.p[0] == 0xc0) /* nil */
		return true;
	if (!set_value(&lines[key], value, (char *)out + lines[key].offset, c))
		return false;
	out->has |= PARAM_BIT(key);
	return true;
}

bool params_parse(struct span map, uint64_t accepted, const char *method_name, struct params *out, struct complaint *c)
{
	uint64_t seen = 0;
	uint32_t n = 0;

	*out = (struct params){ .has = 0 };
	if (map.len > 0 && !mp_read_map(&map, &n))
		return refuse(c, "params", "a map", map);
	while (n-- > 0) {
		if (!take_pair(&map, accepted, method_name, &seen, out, c))
			return false;
	}
	return true;
}

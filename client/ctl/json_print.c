#include <math.h>
#include <stdlib.h>

#include "client/ctl/base64.h"
#include "client/ctl/json.h"
#include "client/pypool.h"
#include "proto/cursor.h"
#include "proto/utf8.h"

static bool json_is_valid_text(struct span s)
{
	while (s.len > 0) {
		size_t n = utf8_char(s);

		if (n == 0)
			return false;
		s.p += n;
		s.len -= n;
	}
	return true;
}

static void json_print_char(FILE *out, struct span s, size_t n)
{
	if (s.p[0] == '"' || s.p[0] == '\\')
		fprintf(out, "\\%c", s.p[0]);
	else if (s.p[0] == '\n')
		fputs("\\n", out);
	else if (s.p[0] == '\t')
		fputs("\\t", out);
	else if (s.p[0] == '\r')
		fputs("\\r", out);
	else if (utf8_is_control(s))
		fprintf(out, "\\u%04x", n == 1 ? s.p[0] : s.p[1]); /* U+0080 to U+009F end with their own number */
	else
		(void)fwrite(s.p, 1, n, out); /* a failed write shows in ferror() at the end */
}

static void json_print_text(FILE *out, struct span s)
{
	fputc('"', out);
	while (s.len > 0) {
		size_t n = utf8_char(s);

		json_print_char(out, s, n);
		s.p += n;
		s.len -= n;
	}
	fputc('"', out);
}

static void json_print_base64(FILE *out, const char *key, struct span s)
{
	fprintf(out, "{\"%s\": \"", key);
	base64_print(out, s);
	fputs("\"}", out);
}

/* The fewest digits that read back as the same number. */
static void json_print_double(FILE *out, double v, bool is_single)
{
	char text[40];

	if (isnan(v) || isinf(v)) {
		fprintf(out, "{\"$float\": \"%s\"}", isnan(v) ? "nan" : v > 0 ? "inf" : "-inf");
		return;
	}
	for (int digits = is_single ? 6 : 15; digits <= 17; digits++) {
		(void)snprintf(text, sizeof(text), "%.*g", digits, v); /* fits: 17 digits, sign, point, exponent */
		if (is_single ? strtof(text, NULL) == (float)v : strtod(text, NULL) == v)
			break;
	}
	fputs(text, out);
	if (!strpbrk(text, ".e"))
		fputs(".0", out);
}

static void json_print_number(FILE *out, struct span s)
{
	struct pypool_span value = { .data = s.p, .size = s.len };
	struct span rest = s;
	uint64_t u;
	int64_t i;
	double d;

	if (mp_read_uint(&rest, &u))
		fprintf(out, "%llu", (unsigned long long)u);
	else if (pypool_get_int(value, &i) == 0)
		fprintf(out, "%lld", (long long)i);
	else if (pypool_get_double(value, &d) == 0)
		json_print_double(out, d, s.p[0] == 0xca);
	else
		fputs("null", out); /* not reached for bytes that were checked */
}

/* fixext: type, bytes; ext: length of 1, 2 or 4 bytes, type, bytes. */
static void json_print_ext(FILE *out, struct span s)
{
	size_t at = s.p[0] >= 0xd4 && s.p[0] <= 0xd8 ? 1 : 1 + ((size_t)1 << (s.p[0] - 0xc7));

	if (s.len <= at) {
		fputs("null", out); /* not reached for bytes that were checked */
		return;
	}
	fprintf(out, "{\"$ext\": [%d, \"", (int8_t)s.p[at]);
	base64_print(out, (struct span){ .p = s.p + at + 1, .len = s.len - at - 1 });
	fputs("\"]}", out);
}

static void json_print_array(FILE *out, struct span s, uint32_t n)
{
	struct span item;

	fputc('[', out);
	for (uint32_t i = 0; i < n && mp_read_any(&s, &item); i++) {
		if (i > 0)
			fputs(", ", out);
		json_print(out, item);
	}
	fputc(']', out);
}

/* Reads a key that JSON can have as it is: str, valid. */
static bool json_read_key(struct span *s, struct span *key)
{
	return strcmp(mp_type_name(*s), "str") == 0 && mp_read_text(s, key) && json_is_valid_text(*key);
}

static int json_compare_keys(const void *a, const void *b)
{
	const struct span *x = a, *y = b;
	int r = memcmp(x->p, y->p, x->len < y->len ? x->len : y->len);

	return r ? r : (x->len > y->len) - (x->len < y->len);
}

static bool json_keys_differ(struct span *keys, uint32_t n)
{
	qsort(keys, n, sizeof(*keys), json_compare_keys);
	for (uint32_t i = 1; i < n; i++)
		if (json_compare_keys(&keys[i - 1], &keys[i]) == 0)
			return false;
	return true;
}

/* Can the map be an object, and would it be read back as the same? */
static bool json_map_is_object(struct span s, uint32_t n)
{
	struct span *keys = calloc(n + (size_t)1, sizeof(*keys)), value;
	bool ok = keys != NULL;

	for (uint32_t i = 0; ok && i < n; i++)
		ok = json_read_key(&s, &keys[i]) && mp_read_any(&s, &value);
	if (ok && n == 1 && keys[0].len > 0 && keys[0].p[0] == '$')
		ok = false;
	if (ok)
		ok = json_keys_differ(keys, n);
	free(keys);
	return ok;
}

static void json_print_map(FILE *out, struct span s, uint32_t n)
{
	bool object = json_map_is_object(s, n);
	struct span key, value;

	fputs(object ? "{" : "{\"$map\": [", out);
	for (uint32_t i = 0; i < n && mp_read_any(&s, &key) && mp_read_any(&s, &value); i++) {
		fputs(i > 0 ? ", " : "", out);
		fputs(object ? "" : "[", out);
		json_print(out, key);
		fputs(object ? ": " : ", ", out);
		json_print(out, value);
		fputs(object ? "" : "]", out);
	}
	fputs(object ? "}" : "]}", out);
}

void json_print(FILE *out, struct span value)
{
	const char *type = mp_type_name(value);
	struct span rest = value, text;
	uint32_t n;
	bool b;

	if (mp_read_nil(&rest))
		fputs("null", out);
	else if (mp_read_bool(&rest, &b))
		fputs(b ? "true" : "false", out);
	else if (mp_read_array(&rest, &n))
		json_print_array(out, rest, n);
	else if (mp_read_map(&rest, &n))
		json_print_map(out, rest, n);
	else if (mp_read_text(&rest, &text) && strcmp(type, "bin") == 0)
		json_print_base64(out, "$bin", text);
	else if (strcmp(type, "str") == 0 && !json_is_valid_text(text))
		json_print_base64(out, "$str", text);
	else if (strcmp(type, "str") == 0)
		json_print_text(out, text);
	else if (strcmp(type, "ext") == 0)
		json_print_ext(out, value);
	else
		json_print_number(out, value);
}

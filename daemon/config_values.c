#include "daemon/config_values.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>

#include "daemon/base/cleanup.h"

#define DISTANCE_MAX 32 /* letters of the longest word that is compared */

struct unit {
	const char *name;
	uint64_t factor;
};

static enum value_status read_digits(const char **text, unsigned base, uint64_t *n)
{
	const char *p = *text;
	uint64_t v = 0;

	if (!*p)
		return VALUE_EMPTY;
	if (*p == '-')
		return VALUE_NEGATIVE;
	if (!isdigit((unsigned char)*p))
		return VALUE_BAD;
	for (; isdigit((unsigned char)*p); p++) {
		unsigned digit = (unsigned)(*p - '0');

		if (digit >= base)
			return VALUE_BAD;
		if (__builtin_mul_overflow(v, base, &v) || __builtin_add_overflow(v, digit, &v))
			return VALUE_OVERFLOW;
	}
	*text = p;
	*n = v;
	return VALUE_OK;
}

static enum value_status read_with_unit(const char *text, const struct unit *units, unsigned n_units, uint64_t *out)
{
	enum value_status r;
	uint64_t v;

	r = read_digits(&text, 10, &v);
	if (r)
		return r;
	for (unsigned i = 0; i < n_units; i++) {
		if (strcmp(text, units[i].name) == 0)
			return __builtin_mul_overflow(v, units[i].factor, out) ? VALUE_OVERFLOW : VALUE_OK;
	}
	if (*text)
		return VALUE_BAD;
	if (v)
		return VALUE_NO_UNIT;
	*out = 0;
	return VALUE_OK;
}

enum value_status value_duration(const char *text, uint64_t *ns)
{
	static const struct unit units[] = {
		{ "ms", 1000000 },
		{ "s", 1000000000 },
		{ "m", 60 * 1000000000ull },
		{ "h", 3600 * 1000000000ull },
	};

	return read_with_unit(text, units, ARRAY_SIZE(units), ns);
}

enum value_status value_size(const char *text, uint64_t *bytes)
{
	static const struct unit units[] = { { "", 1 }, { "K", 1 << 10 }, { "M", 1 << 20 }, { "G", 1 << 30 } };

	return read_with_unit(text, units, ARRAY_SIZE(units), bytes);
}

static enum value_status read_whole(const char *text, unsigned base, uint64_t *n)
{
	uint64_t v;
	enum value_status r = read_digits(&text, base, &v);

	if (r)
		return r;
	if (*text)
		return VALUE_BAD;
	*n = v;
	return VALUE_OK;
}

enum value_status value_count(const char *text, uint64_t *n)
{
	return read_whole(text, 10, n);
}

enum value_status value_mode(const char *text, uint64_t *mode)
{
	return read_whole(text, 8, mode);
}

enum value_status value_yes_no(const char *text, bool *yes)
{
	static const char *const words[] = { "no", "yes", "false", "true", "off", "on" };

	for (unsigned i = 0; i < ARRAY_SIZE(words); i++) {
		if (strcasecmp(text, words[i]) == 0) {
			*yes = i % 2;
			return VALUE_OK;
		}
	}
	return *text ? VALUE_BAD : VALUE_EMPTY;
}

const char *value_status_text(enum value_status status)
{
	switch (status) {
	case VALUE_OK:
		return "fine";
	case VALUE_EMPTY:
		return "empty";
	case VALUE_NEGATIVE:
		return "negative";
	case VALUE_NO_UNIT:
		return "a bare number";
	case VALUE_BAD:
		return "not understood";
	case VALUE_OVERFLOW:
		return "too large";
	}
	return "not understood";
}

/* Python takes letters of all languages; their bytes are above 0x7f in UTF-8. */
static size_t identifier_length(const char *text)
{
	size_t n = 0;

	while (isalnum((unsigned char)text[n]) || text[n] == '_' || (unsigned char)text[n] >= 0x80)
		n++;
	return isdigit((unsigned char)text[0]) ? 0 : n;
}

/* The length of a dotted name at the beginning of text; 0: none. */
static size_t dotted_length(const char *text)
{
	size_t n = 0;

	for (;;) {
		size_t part = identifier_length(text + n);

		if (!part)
			return 0;
		n += part;
		if (text[n] != '.')
			return n;
		n++;
	}
}

bool value_is_module(const char *text)
{
	size_t n = dotted_length(text);

	return n && !text[n];
}

bool value_is_target(const char *text)
{
	size_t n = dotted_length(text);

	return n && text[n] == ':' && value_is_module(text + n + 1);
}

bool value_is_pool_name(const char *text)
{
	size_t n = strlen(text);

	return n >= 1 && n <= 64 &&
	       strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-") == n;
}

bool value_is_environment(const char *text)
{
	const char *equals = strchr(text, '=');

	if (!equals || equals == text || isdigit((unsigned char)*text))
		return false;
	for (const char *p = text; p < equals; p++) {
		if (!isalnum((unsigned char)*p) && *p != '_')
			return false;
	}
	return true;
}

static unsigned least(unsigned a, unsigned b, unsigned c)
{
	unsigned d = a < b ? a : b;

	return d < c ? d : c;
}

unsigned value_distance(const char *a, const char *b)
{
	size_t n = strlen(a), m = strlen(b);
	unsigned row[DISTANCE_MAX + 1];

	if (n > DISTANCE_MAX || m > DISTANCE_MAX)
		return DISTANCE_MAX;
	for (unsigned j = 0; j <= m; j++)
		row[j] = j;
	for (unsigned i = 1; i <= n; i++) {
		unsigned diagonal = row[0];

		row[0] = i;
		for (unsigned j = 1; j <= m; j++) {
			unsigned above = row[j];

			row[j] = least(above + 1, row[j - 1] + 1, diagonal + (a[i - 1] != b[j - 1]));
			diagonal = above;
		}
	}
	return row[m];
}

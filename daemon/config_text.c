#include "daemon/config_text.h"

#include <string.h>

#include "daemon/base/cleanup.h"
#include "daemon/base/log.h"
#include "daemon/base/mem.h"
#include "daemon/io/loop.h"
#include "daemon/pool/text.h"
#include "proto/pack.h"

#define TEXT_MAX (1 << 20) /* bytes: no file is longer */

struct unit {
	const char *name;
	uint64_t factor;
};

/* With the largest unit that loses nothing. */
static char *with_unit(uint64_t v, const struct unit *units)
{
	while (units->factor > 1 && (v == 0 || v % units->factor))
		units++;
	return v ? mem_printf("\"%llu%s\"", (unsigned long long)(v / units->factor), units->name) : mem_strdup("\"0\"");
}

static char *duration_text(uint64_t ns)
{
	static const struct unit units[] = { { "h", 3600000 }, { "m", 60000 }, { "s", 1000 }, { "ms", 1 } };

	return with_unit(ns / NS_PER_MS, units);
}

static char *size_text(uint64_t bytes)
{
	static const struct unit units[] = { { "G", 1 << 30 }, { "M", 1 << 20 }, { "K", 1 << 10 }, { "", 1 } };

	return with_unit(bytes, units);
}

char *config_text_quote(const char *s)
{
	char *quoted = mem_new(4 * strlen(s) + 3), *p = quoted;

	*p++ = '"';
	for (; *s; s++) {
		if ((unsigned char)*s < ' ' || *s == 0x7f) {
			p += sprintf(p, "\\x%02x", (unsigned char)*s); /* there is room for four */
			continue;
		}
		if (*s == '"' || *s == '\\')
			*p++ = '\\';
		*p++ = *s;
	}
	*p = '"';
	return quoted;
}

static char *list_text(char *const *list)
{
	char *text = mem_strdup("{");

	for (unsigned i = 0; list && list[i]; i++) {
		_cleanup_free_ char *quoted = config_text_quote(list[i]), *before = text;

		text = mem_printf("%s%s%s", before, i ? ", " : "", quoted);
	}
	{
		_cleanup_free_ char *before = text;

		return mem_printf("%s}", before);
	}
}

static const char *level_name(enum log_level level)
{
	static const char *const names[] = {
		[LOG_LEVEL_DEBUG] = "debug", [LOG_LEVEL_INFO] = "info", [LOG_LEVEL_WARN] = "warning", [LOG_LEVEL_ERROR] = "error"
	};

	return names[level];
}

static const char *format_name(enum log_format format)
{
	static const char *const names[] = {
		[LOG_FORMAT_AUTO] = "auto", [LOG_FORMAT_TEXT] = "text", [LOG_FORMAT_JSON] = "json"
	};

	return names[format];
}

static uint64_t number_of(const struct option_spec *spec, const void *field)
{
	switch (spec->kind) {
	case OPTION_COUNT:
	case OPTION_MODE:
		return *(const unsigned *)field;
	case OPTION_SIZE_32:
		return *(const uint32_t *)field;
	default:
		return *(const uint64_t *)field;
	}
}

static const char *word_of(const struct option_spec *spec, const void *field)
{
	switch (spec->kind) {
	case OPTION_YES_NO:
		return *(const bool *)field ? "yes" : "no";
	case OPTION_LEVEL:
		return level_name(*(const enum log_level *)field);
	default:
		return format_name(*(const enum log_format *)field);
	}
}

char *config_text(const struct option_spec *spec, const void *field)
{
	const char *text;

	switch (spec->kind) {
	case OPTION_COUNT:
	case OPTION_NUMBER:
		return mem_printf("%llu", (unsigned long long)number_of(spec, field));
	case OPTION_DURATION:
		return duration_text(number_of(spec, field));
	case OPTION_SIZE:
	case OPTION_SIZE_32:
		return size_text(number_of(spec, field));
	case OPTION_MODE:
		return mem_printf("\"%04llo\"", (unsigned long long)number_of(spec, field));
	case OPTION_LIST:
		return list_text(*(char *const *const *)field);
	case OPTION_TEXT:
		text = *(char *const *)field;
		return config_text_quote(text ? text : "");
	default:
		return mem_strdup(word_of(spec, field));
	}
}

static void pack_list(msgpack_packer *pk, char *const *list)
{
	size_t n = 0;

	while (list && list[n])
		n++;
	msgpack_pack_array(pk, n);
	for (size_t i = 0; i < n; i++)
		text_pack_safe(pk, span_str(list[i]), TEXT_MAX);
}

void config_text_pack(msgpack_packer *pk, const struct option_spec *spec, const void *field)
{
	const char *text;
	char mode[16];

	switch (spec->kind) {
	case OPTION_DURATION:
		msgpack_pack_uint64(pk, number_of(spec, field) / NS_PER_MS);
		return;
	case OPTION_COUNT:
	case OPTION_NUMBER:
	case OPTION_SIZE:
	case OPTION_SIZE_32:
		msgpack_pack_uint64(pk, number_of(spec, field));
		return;
	case OPTION_MODE:
		(void)snprintf(mode, sizeof(mode), "%04llo", (unsigned long long)number_of(spec, field)); /* fits */
		pack_text(pk, mode);
		return;
	case OPTION_YES_NO:
		pack_bool(pk, *(const bool *)field);
		return;
	case OPTION_LIST:
		pack_list(pk, *(char *const *const *)field);
		return;
	case OPTION_TEXT:
		text = *(char *const *)field;
		text_pack_safe(pk, span_str(text ? text : ""), TEXT_MAX);
		return;
	default:
		pack_text(pk, word_of(spec, field));
	}
}

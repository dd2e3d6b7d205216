#include "daemon/base/log_text.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define LINE_RESERVE 32 /* for what closes a line: a quote, the mark of a cut, a brace, the newline */

/* A piece goes in whole or not at all: no escape sequence and no UTF-8 character is ever halved. */
static bool line_put(struct log_line *line, const char *piece, size_t n)
{
	if (line->cut || line->len + n > line->limit) {
		line->cut = true;
		return false;
	}
	memcpy(line->text + line->len, piece, n);
	line->len += n;
	return true;
}

static bool line_puts(struct log_line *line, const char *piece)
{
	return line_put(line, piece, strlen(piece));
}

/* Writes into the reserve. */
static void line_close(struct log_line *line, const char *end)
{
	size_t n = strlen(end);

	memcpy(line->text + line->len, end, n);
	line->len += n;
}

static void line_begin(struct log_line *line, size_t max, bool torn)
{
	line->len = 0;
	line->cut = false;
	line->limit = max - LINE_RESERVE;
	if (torn)
		line_puts(line, "\n");
}

static const char *level_name(enum log_level level)
{
	switch (level) {
	case LOG_LEVEL_ERROR:
		return "error";
	case LOG_LEVEL_WARN:
		return "warning";
	case LOG_LEVEL_INFO:
		return "info";
	case LOG_LEVEL_DEBUG:
		return "debug";
	}
	return "error";
}

static void line_put_time(struct log_line *line)
{
	struct timespec now;
	struct tm tm;
	char text[64];

	(void)clock_gettime(CLOCK_REALTIME, &now); /* cannot fail for this clock */
	if (!gmtime_r(&now.tv_sec, &tm))
		memset(&tm, 0, sizeof(tm));
	(void)snprintf(text, sizeof(text), "%04d-%02d-%02dT%02d:%02d:%02d.%03ldZ", tm.tm_year + 1900, tm.tm_mon + 1,
		       tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec, now.tv_nsec / 1000000); /* always fits */
	line_puts(line, text);
}

/* Decodes the UTF-8 character at p; 0 when it is not one (cut, overlong, surrogate, above U+10FFFF). */
static size_t utf8_char(const uint8_t *p, size_t n, uint32_t *code)
{
	static const uint32_t smallest[] = { 0, 0, 0x80, 0x800, 0x10000 };
	size_t len = p[0] < 0x80 ? 1 : p[0] < 0xc2 ? 0 : p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : p[0] < 0xf5 ? 4 : 0;
	uint32_t c = len == 1 ? p[0] : len ? p[0] & (0x7fu >> len) : 0;

	if (len == 0 || len > n)
		return 0;
	for (size_t i = 1; i < len; i++) {
		if ((p[i] & 0xc0) != 0x80)
			return 0;
		c = c << 6 | (p[i] & 0x3f);
	}
	if (len > 1 && (c < smallest[len] || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff)))
		return 0;
	*code = c;
	return len;
}

/* Controls (C0, DEL, C1: terminals obey these), line and paragraph separators, and what turns the direction of text. */
static bool code_is_harmful(uint32_t c)
{
	return c < 0x20 || (c >= 0x7f && c <= 0x9f) || (c >= 0x2028 && c <= 0x202e) || (c >= 0x2066 && c <= 0x2069);
}

enum style {
	STYLE_BARE, /* as it is, harmful bytes as \xNN */
	STYLE_QUOTED,
	STYLE_JSON, /* as STYLE_QUOTED, written so that a JSON reader gets the same text */
};

/* Writes bytes of unknown content as \xNN. */
static bool line_put_hex(struct log_line *line, const uint8_t *p, size_t n, enum style style)
{
	for (size_t i = 0; i < n; i++) {
		char hex[8];
		int len = snprintf(hex, sizeof(hex), "%s\\x%02x", style == STYLE_JSON ? "\\" : "", p[i]);

		if (!line_put(line, hex, (size_t)len))
			return false;
	}
	return true;
}

static bool line_put_char(struct log_line *line, const uint8_t *p, size_t n, enum style style)
{
	char escaped[2] = { '\\', (char)p[0] };

	if (style != STYLE_BARE && n == 1) {
		if (p[0] == '"' || p[0] == '\\')
			return line_put(line, escaped, 2);
		if (p[0] == '\n' || p[0] == '\t') {
			escaped[1] = p[0] == '\n' ? 'n' : 't';
			return line_put(line, escaped, 2);
		}
	}
	return line_put(line, (const char *)p, n);
}

static void line_put_escaped(struct log_line *line, const char *text, size_t n, enum style style)
{
	const uint8_t *p = (const uint8_t *)text;

	for (size_t i = 0, len; i < n; i += len) {
		uint32_t code = 0;
		bool plain, ok;

		len = utf8_char(p + i, n - i, &code);
		plain = len && (!code_is_harmful(code) || (style != STYLE_BARE && (code == '\n' || code == '\t')));
		if (!len)
			len = 1;
		ok = plain ? line_put_char(line, p + i, len, style) : line_put_hex(line, p + i, len, style);
		if (!ok)
			return;
	}
}

/* Does a reader of key=value lines need quotes to see where the value ends? */
static bool text_needs_quotes(const char *text, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		uint8_t c = (uint8_t)text[i];

		if (c <= ' ' || c >= 0x7f || c == '"' || c == '\\' || c == '=')
			return true;
	}
	return n == 0;
}

/* False: not even the opening quote found room. */
static bool line_put_quoted(struct log_line *line, const char *text, size_t n, enum style style)
{
	if (!line_puts(line, "\""))
		return false;
	line_put_escaped(line, text, n, style);
	line_close(line, "\"");
	return true;
}

static bool line_put_number(struct log_line *line, const struct log_field *f)
{
	char text[24];

	if (f->kind == LOG_UINT)
		(void)snprintf(text, sizeof(text), "%" PRIu64, f->number); /* always fits */
	else
		(void)snprintf(text, sizeof(text), "%" PRId64, (int64_t)f->number); /* always fits */
	return line_puts(line, text);
}

static const char *field_text(const struct log_field *f, size_t *n)
{
	const char *text = f->text ? f->text : f->kind == LOG_TEXT ? "-" : "";

	*n = f->kind == LOG_BYTES ? (f->text ? f->len : 0) : strlen(text);
	return text;
}

static bool field_is_number(const struct log_field *f)
{
	return f->kind == LOG_UINT || f->kind == LOG_INT;
}

static bool line_put_text_field(struct log_line *line, const struct log_field *f)
{
	size_t n;
	const char *text = field_text(f, &n);

	if (!line_puts(line, " ") || !line_puts(line, f->key) || !line_puts(line, "="))
		return false;
	if (field_is_number(f))
		return line_put_number(line, f);
	if (text_needs_quotes(text, n))
		return line_put_quoted(line, text, n, STYLE_QUOTED);
	line_put_escaped(line, text, n, STYLE_BARE);
	return true;
}

/* The event and its fields, as both the text form and MESSAGE have them. */
static void line_put_record(struct log_line *line, const char *event, const struct log_field *fields, size_t n)
{
	line_puts(line, event);
	for (size_t i = 0; i < n && !line->cut; i++) {
		size_t start = line->len;

		if (fields[i].kind != LOG_ABSENT && !line_put_text_field(line, &fields[i]))
			line->len = start;
	}
	if (line->cut)
		line_close(line, " cut=true");
}

void log_line_text(struct log_line *line, bool torn, enum log_level level, const char *event,
		   const struct log_field *fields, size_t n)
{
	line_begin(line, LOG_LINE_MAX, torn);
	line_put_time(line);
	line_puts(line, " ");
	line_puts(line, level_name(level));
	line_puts(line, " ");
	line_put_record(line, event, fields, n);
	line_close(line, "\n");
}

static bool line_put_json_field(struct log_line *line, const struct log_field *f)
{
	size_t n;
	const char *text = field_text(f, &n);

	if (!line_puts(line, ",") || !line_put_quoted(line, f->key, strlen(f->key), STYLE_JSON) ||
	    !line_puts(line, ":"))
		return false;
	if (field_is_number(f))
		return line_put_number(line, f);
	return line_put_quoted(line, text, n, STYLE_JSON);
}

void log_line_json(struct log_line *line, bool torn, enum log_level level, const char *event,
		   const struct log_field *fields, size_t n)
{
	line_begin(line, LOG_LINE_MAX, torn);
	line_puts(line, "{\"time\":\"");
	line_put_time(line);
	line_puts(line, "\",\"level\":\"");
	line_puts(line, level_name(level));
	line_puts(line, "\",\"event\":");
	line_put_quoted(line, event, strlen(event), STYLE_JSON);
	for (size_t i = 0; i < n && !line->cut; i++) {
		size_t start = line->len;

		if (fields[i].kind != LOG_ABSENT && !line_put_json_field(line, &fields[i]))
			line->len = start;
	}
	line_close(line, line->cut ? ",\"cut\":true}\n" : "}\n");
}

/* NAME=value; values are escaped to one line, so the journal's binary form is not needed. */
static void line_put_variable(struct log_line *line, const struct log_field *f)
{
	char name[64] = "PYPOOL_";
	size_t n = strlen(name), start = line->len;
	size_t len;
	const char *text = field_text(f, &len);

	for (const char *p = f->key; *p && n < sizeof(name) - 2; p++) {
		char upper = *p >= 'a' && *p <= 'z' ? (char)(*p - 'a' + 'A') : *p;

		name[n++] = (upper >= 'A' && upper <= 'Z') || (upper >= '0' && upper <= '9') ? upper : '_';
	}
	name[n++] = '=';
	if (!line_put(line, name, n))
		return;
	if (!field_is_number(f))
		line_put_escaped(line, text, len, STYLE_BARE);
	else if (!line_put_number(line, f))
		line->len = start;
	if (line->len > start)
		line_close(line, "\n");
}

void log_line_journal(struct log_line *line, enum log_level level, const char *event, const struct log_field *fields,
		      size_t n)
{
	char priority[] = "PRIORITY=0\n";

	priority[sizeof(priority) - 3] = (char)('0' + level);
	line_begin(line, LOG_LINE_MAX, false);
	line_puts(line, "SYSLOG_IDENTIFIER=pypoold\n");
	line_puts(line, priority);
	line_puts(line, "MESSAGE=");
	line_put_record(line, event, fields, n);
	line_close(line, "\nPYPOOL_EVENT=");
	line->cut = false;
	line->limit = LOG_JOURNAL_MAX - LINE_RESERVE;
	line_puts(line, event);
	line_close(line, "\n");
	for (size_t i = 0; i < n && !line->cut; i++) {
		if (fields[i].kind != LOG_ABSENT)
			line_put_variable(line, &fields[i]);
	}
}

#include "client/ctl/cell.h"

#include <stdio.h>
#include <stdlib.h>

#include "client/ctl/json.h"
#include "client/ctl/text.h"
#include "client/pypool.h"
#include "proto/cursor.h"

struct span cell_of(struct span map, const char *key)
{
	struct pypool_span s = { .data = map.p, .size = map.len }, value;
	struct span v;

	if (pypool_get_key(s, key, &value) < 0)
		return (struct span){ 0 };
	v = (struct span){ .p = value.data, .len = value.size };
	if (mp_read_nil(&v))
		v.len = 0;
	return v;
}

__attribute__((format(printf, 1, 2))) static char *cell_printf(const char *format, ...)
{
	va_list args;
	char *s;
	int r;

	va_start(args, format);
	r = vasprintf(&s, format, args);
	va_end(args);
	return r < 0 ? NULL : s;
}

char *cell_any(struct span value)
{
	struct span rest = value, text;
	char *s = NULL;
	size_t n;
	FILE *out;

	if (mp_read_text(&rest, &text))
		return text_escape(text);
	out = open_memstream(&s, &n);
	if (!out)
		return NULL;
	json_print(out, value);
	if (fclose(out) != 0) {
		free(s);
		return NULL;
	}
	return s;
}

char *cell_first_line(struct span value)
{
	struct span text;
	const uint8_t *end;

	if (!mp_read_text(&value, &text))
		return cell_any(value);
	end = text.len ? memchr(text.p, '\n', text.len) : NULL;
	if (end)
		text.len = (size_t)(end - text.p);
	return text_escape(text);
}

char *cell_id(struct span value)
{
	uint64_t id;

	return mp_read_uint(&value, &id) && id > 0 ? cell_printf("%llu", (unsigned long long)id) : NULL;
}

char *cell_ms(struct span value)
{
	unsigned long long s;
	uint64_t ms;

	if (!mp_read_uint(&value, &ms))
		return NULL;
	s = ms / 1000;
	if (ms < 1000)
		return cell_printf("%llums", (unsigned long long)ms);
	if (s < 60)
		return cell_printf("%llu.%llus", s, (unsigned long long)(ms / 100 % 10));
	if (s < 3600)
		return cell_printf("%llum%02llus", s / 60, s % 60);
	if (s < 86400)
		return cell_printf("%lluh%02llum", s / 3600, s / 60 % 60);
	return cell_printf("%llud%02lluh", s / 86400, s / 3600 % 24);
}

char *cell_us(struct span value)
{
	uint64_t us;

	if (!mp_read_uint(&value, &us))
		return NULL;
	if (us < 1000)
		return cell_printf("%lluus", (unsigned long long)us);
	if (us < 1000000)
		return cell_printf("%.2fms", (double)us / 1000);
	return cell_printf("%.1fs", (double)us / 1000000);
}

char *cell_rate(struct span value)
{
	double v;

	if (pypool_get_double((struct pypool_span){ .data = value.p, .size = value.len }, &v) < 0)
		return NULL;
	return cell_printf(v < 100 ? "%.1f" : "%.0f", v);
}

static char *cell_scaled(double v, int unit)
{
	static const char units[] = " KMGTPE";

	for (; v >= 1024 && unit < 6; unit++)
		v /= 1024;
	return unit == 0 ? cell_printf("%.0f", v) : cell_printf("%.1f%c", v, units[unit]);
}

char *cell_bytes(struct span value)
{
	uint64_t v;

	return mp_read_uint(&value, &v) ? cell_scaled((double)v, 0) : NULL;
}

char *cell_kib(struct span value)
{
	uint64_t v;

	return mp_read_uint(&value, &v) ? cell_scaled((double)v, 1) : NULL;
}

static void init_print(FILE *out, struct span phase, bool first)
{
	struct span name = cell_of(phase, "phase"), module = cell_of(phase, "module"), ms = cell_of(phase, "ms"), text;
	double v;

	fputs(first ? "" : ", ", out);
	if (mp_read_text(&name, &text))
		text_write(out, text, false);
	if (mp_read_text(&module, &text)) {
		fputc(' ', out);
		text_write(out, text, false);
	}
	if (pypool_get_double((struct pypool_span){ .data = ms.p, .size = ms.len }, &v) == 0)
		fprintf(out, " %.0f", v);
}

char *cell_init(struct span value)
{
	struct span item;
	char *s = NULL;
	uint32_t n;
	size_t size;
	FILE *out;

	if (!mp_read_array(&value, &n) || n == 0)
		return NULL;
	out = open_memstream(&s, &size);
	if (!out)
		return NULL;
	for (uint32_t i = 0; i < n && mp_read_any(&value, &item); i++)
		init_print(out, item, i == 0);
	if (fclose(out) != 0) {
		free(s);
		return NULL;
	}
	return s;
}

char *cell_template(struct span value)
{
	struct span state = cell_of(value, "state"), reason = cell_of(value, "reason"), word, why;
	char *name, *text, *s;

	if (!mp_read_text(&state, &word))
		return NULL;
	name = text_escape(word);
	text = mp_read_text(&reason, &why) ? text_escape(why) : NULL;
	s = name ? cell_printf("%s%s%s", name, text ? ": " : "", text ? text : "") : NULL;
	free(name);
	free(text);
	return s;
}

/* The end of a worker that was replaced, or that somebody wanted gone. */
static bool is_meant(struct span reason)
{
	static const char *const meant[] = { "max_requests", "max_age", "rss_limit", "recycle", "operator",
					     "reload",       "surplus", "shutdown",  NULL };
	size_t i = 0;

	while (meant[i] && !span_equals(reason, meant[i]))
		i++;
	return meant[i] != NULL;
}

char *cell_deaths(struct span value)
{
	uint64_t n, sum = 0;
	struct span reason;
	uint32_t left;

	if (!mp_read_map(&value, &left))
		return NULL;
	for (; left > 0; left--) {
		if (!mp_read_text(&value, &reason) || !mp_read_uint(&value, &n))
			return NULL;
		sum += is_meant(reason) ? 0 : n;
	}
	return cell_printf("%llu", (unsigned long long)sum);
}

char *cell_call(struct span value)
{
	struct span target = cell_of(value, "target"), ms = cell_of(value, "ms"), text;
	char *name, *time, *s;

	if (!mp_read_text(&target, &text))
		return NULL;
	name = text_escape(text);
	time = cell_ms(ms);
	s = name ? cell_printf("%s%s%s", name, time ? " " : "", time ? time : "") : NULL;
	free(name);
	free(time);
	return s;
}

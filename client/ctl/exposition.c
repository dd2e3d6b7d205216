#include "client/ctl/exposition.h"

#include "client/ctl/cell.h"
#include "client/pypool.h"
#include "proto/cursor.h"
#include "proto/utf8.h"

/* --- lines --- */

static const char *metric_suffix(const struct metric *m)
{
	return m->type == METRIC_COUNTER ? "_total" : m->type == METRIC_INFO ? "_info" : "";
}

/* OpenMetrics names the family without its suffix, and knows info. */
static void write_head(struct exposition *e)
{
	static const char *const types[] = {
		[METRIC_COUNTER] = "counter",
		[METRIC_GAUGE] = "gauge",
		[METRIC_HISTOGRAM] = "histogram",
		[METRIC_INFO] = "gauge",
	};
	const struct metric *m = e->metric;
	const char *suffix = e->open ? "" : metric_suffix(m);

	if (e->headed)
		return;
	e->headed = true;
	fprintf(e->out, "# HELP %s%s %s\n", m->name, suffix, m->help);
	fprintf(e->out, "# TYPE %s%s %s\n", m->name, suffix,
		e->open && m->type == METRIC_INFO ? "info" : types[m->type]);
}

/* What is no valid text, or could act on a terminal, becomes \xNN; and a backslash is written as two. */
static void write_label_value(FILE *out, struct span s)
{
	while (s.len > 0) {
		size_t n = utf8_char(s);

		if (s.p[0] == '\n') {
			fputs("\\n", out);
		} else if (s.p[0] == '"' || s.p[0] == '\\') {
			fprintf(out, "\\%c", s.p[0]);
		} else if (n > 0 && !utf8_is_control(s)) {
			(void)fwrite(s.p, 1, n, out); /* a failed write shows in ferror() at the end */
		} else {
			fprintf(out, "\\\\x%02x", s.p[0]);
			n = 1;
		}
		s.p += n;
		s.len -= n;
	}
}

static void write_label(FILE *out, const char *between, const char *name, struct span value)
{
	fprintf(out, "%s%s=\"", between, name);
	write_label_value(out, value);
	fputc('"', out);
}

/* Name and labels of a sample; suffix: beside that of its type. label NULL: none beside the pool. */
static void write_sample(struct exposition *e, const char *suffix, const char *label, struct span value)
{
	const char *between = "{";

	write_head(e);
	fprintf(e->out, "%s%s%s", e->metric->name, metric_suffix(e->metric), suffix);
	if (e->pool.len) {
		write_label(e->out, between, "pool", e->pool);
		between = ",";
	}
	if (label)
		write_label(e->out, between, label, value);
	fputs(e->pool.len || label ? "} " : " ", e->out);
}

#define SCALED_TEXT 32

/* v * 10^-digits, exactly. whole: what stands behind a number without a fraction. */
static const char *scaled(uint64_t v, unsigned digits, const char *whole, char out[SCALED_TEXT])
{
	uint64_t unit = 1, part;
	int n;

	for (unsigned i = 0; i < digits; i++)
		unit *= 10;
	part = v % unit;
	n = snprintf(out, SCALED_TEXT, "%llu%s", (unsigned long long)(v / unit),
		     part ? "." : whole); /* fits: 20 digits */
	for (; part && part % 10 == 0; digits--)
		part /= 10;
	if (part)
		(void)snprintf(out + n, SCALED_TEXT - (size_t)n, "%0*llu", (int)digits, (unsigned long long)part);
	return out;
}

static void write_number(struct exposition *e, const char *label, struct span value, uint64_t v)
{
	char text[SCALED_TEXT];

	write_sample(e, "", label, value);
	fprintf(e->out, "%s\n", scaled(v, e->metric->digits, "", text));
}

/* --- values --- */

/* len 0: it is not there. */
static struct span find(struct span map, const char *path)
{
	char key[64];

	while (path && *path && map.len) {
		size_t n = strcspn(path, ".");

		(void)snprintf(key, sizeof(key), "%.*s", (int)n, path); /* fits: the tables are ours */
		map = cell_of(map, key);
		path += n + (path[n] == '.');
	}
	return map;
}

/* The next word of a list of them. */
static bool next_word(const char **list, struct span *word)
{
	*list += strspn(*list, " ");
	*word = (struct span){ .p = (const uint8_t *)*list, .len = strcspn(*list, " ") };
	*list += word->len;
	return word->len > 0;
}

static bool find_number(struct span map, const char *path, uint64_t *v)
{
	struct span value = find(map, path);

	return mp_read_uint(&value, v);
}

void metric_number(struct exposition *e, struct span map)
{
	uint64_t v;

	if (find_number(map, e->metric->path, &v))
		write_number(e, NULL, map, v);
}

void metric_label(struct exposition *e, struct span map)
{
	struct span value = find(map, e->metric->path), text;

	if (mp_read_text(&value, &text))
		write_number(e, e->metric->label, text, 1);
}

void metric_keys(struct exposition *e, struct span map)
{
	const char *list = e->metric->values;
	struct span word;
	char key[64];
	uint64_t v;

	map = find(map, e->metric->path);
	while (next_word(&list, &word)) {
		(void)snprintf(key, sizeof(key), "%.*s", (int)word.len, (const char *)word.p); /* fits */
		if (find_number(map, key, &v))
			write_number(e, e->metric->label, word, v);
	}
}

void metric_states(struct exposition *e, struct span map)
{
	struct span value = find(map, e->metric->path), text, word;
	const char *list = e->metric->values;

	if (!mp_read_text(&value, &text))
		return;
	while (next_word(&list, &word))
		write_number(e, e->metric->label, word, word.len == text.len && memcmp(word.p, text.p, word.len) == 0);
}

void metric_map(struct exposition *e, struct span map)
{
	struct span key;
	uint64_t v;
	uint32_t n;

	map = find(map, e->metric->path);
	if (!mp_read_map(&map, &n))
		return;
	for (; n > 0 && mp_read_text(&map, &key) && mp_read_uint(&map, &v); n--)
		write_number(e, e->metric->label, key, v);
}

/* --- histograms --- */

static void write_bucket(struct exposition *e, struct span le, uint64_t n)
{
	write_sample(e, "_bucket", "le", le);
	fprintf(e->out, "%llu\n", (unsigned long long)n);
}

static void write_buckets(struct exposition *e, struct span list)
{
	struct span pair;
	uint64_t le, count;
	uint32_t n, two;

	if (!mp_read_array(&list, &n))
		return;
	for (; n > 0 && mp_read_any(&list, &pair); n--) {
		char text[SCALED_TEXT];

		if (!mp_read_array(&pair, &two) || two != 2 || !mp_read_uint(&pair, &le) ||
		    !mp_read_uint(&pair, &count))
			return;
		write_bucket(e, span_str(scaled(le, e->metric->digits, ".0", text)), count);
	}
}

void metric_histogram(struct exposition *e, struct span map)
{
	char text[SCALED_TEXT];
	uint64_t count, sum;

	map = find(map, e->metric->path);
	if (!find_number(map, "count", &count) || !find_number(map, "sum_us", &sum))
		return;
	write_buckets(e, cell_of(map, "buckets"));
	write_bucket(e, SPAN_LIT("+Inf"), count);
	write_sample(e, "_sum", NULL, map);
	fprintf(e->out, "%s\n", scaled(sum, e->metric->digits, "", text));
	write_sample(e, "_count", NULL, map);
	fprintf(e->out, "%llu\n", (unsigned long long)count);
}

/* --- phases --- */

static bool phase_name(struct span phase, struct span *name)
{
	struct span value = cell_of(phase, "phase");

	return mp_read_text(&value, name);
}

/* ms of all phases of that name in the rest of a list. */
static double phases_sum(struct span rest, uint32_t n, struct span name)
{
	struct span phase, other;
	double sum = 0, ms;

	for (; n > 0 && mp_read_any(&rest, &phase); n--) {
		struct span value = cell_of(phase, "ms");

		if (phase_name(phase, &other) && other.len == name.len && memcmp(other.p, name.p, name.len) == 0 &&
		    pypool_get_double((struct pypool_span){ .data = value.p, .size = value.len }, &ms) == 0)
			sum += ms;
	}
	return sum;
}

static bool phases_have(struct span list, uint32_t n, struct span name)
{
	struct span phase, other;

	for (; n > 0 && mp_read_any(&list, &phase); n--)
		if (phase_name(phase, &other) && other.len == name.len && memcmp(other.p, name.p, name.len) == 0)
			return true;
	return false;
}

void metric_phases(struct exposition *e, struct span map)
{
	struct span list = find(map, e->metric->path), rest, phase, name;
	uint32_t n;

	if (!mp_read_array(&list, &n))
		return;
	rest = list;
	for (uint32_t i = 0; i < n; i++) {
		struct span from = rest;

		if (!mp_read_any(&rest, &phase) || !phase_name(phase, &name) || phases_have(list, i, name))
			continue;
		write_sample(e, "", e->metric->label, name);
		fprintf(e->out, "%.6f\n", phases_sum(from, n - i, name) / 1000);
	}
}

/* --- tables --- */

static void begin(struct exposition *e, const struct metric *m)
{
	e->metric = m;
	e->headed = false;
}

void exposition_of_map(struct exposition *e, const struct metric *m, struct span map)
{
	for (; m->name; m++) {
		begin(e, m);
		m->write(e, map);
	}
}

/* All samples of a metric stand together. */
void exposition_of_pools(struct exposition *e, const struct metric *m, struct span pools)
{
	struct span list, pool, name;
	uint32_t n;

	for (; m->name; m++) {
		begin(e, m);
		list = pools;
		if (!mp_read_array(&list, &n))
			return;
		for (; n > 0 && mp_read_any(&list, &pool); n--) {
			name = cell_of(pool, "name");
			if (mp_read_text(&name, &e->pool))
				m->write(e, pool);
		}
	}
	e->pool = (struct span){ 0 };
}

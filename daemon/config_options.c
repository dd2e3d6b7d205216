#include "daemon/config_options.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "daemon/base/cleanup.h"
#include "daemon/base/mem.h"
#include "daemon/config.h"
#include "daemon/config_values.h"

#define MS 1000000ull
#define YEAR (8760ull * 3600 * 1000 * MS)
#define KIB 1024ull
#define MIB (1024 * KIB)
#define BYTES_MAX (1ull << 50)

/* An option that no file can name carries our pointer: libconfuse gives none to its error function. */
#define CONTEXT_OPTION " "

#define AT(type, field) offsetof(struct type, field)

const struct option_spec config_top_options[] = {
	{ "socket", OPTION_SPECIAL, 0, NULL, 0, 0, NULL },
	{ "socket_mode", OPTION_MODE, AT(config, socket_mode), "0660", 1, 0777, NULL },
	{ "socket_group", OPTION_SPECIAL, 0, "", 0, 0, NULL },
	{ "log_level", OPTION_LEVEL, AT(config, log_level), "info", 0, 0, NULL },
	{ "log_format", OPTION_FORMAT, AT(config, log_format), "auto", 0, 0, NULL },
	{ "max_frame", OPTION_SIZE_32, AT(config, max_frame), "65600K", KIB, FRAME_MAX_LIMIT, NULL },
	{ "max_clients", OPTION_COUNT, AT(config, max_clients), "10000", 1, 1000000, "no limit" },
	{ "start_concurrency", OPTION_COUNT, AT(config, start_concurrency), "0", 1, 1024, "the number of cores" },
	{ "require_all", OPTION_YES_NO, AT(config, require_all), "no", 0, 0, NULL },
	{ "frame_timeout", OPTION_DURATION, AT(config, frame_timeout), "60s", MS, YEAR, "no limit" },
	{ "drain_timeout", OPTION_DURATION, AT(config, drain_timeout), "30s", MS, YEAR, "no limit" },
	{ "uid_max_connections", OPTION_COUNT, AT(config, uid_max_connections), "1000", 1, 1000000, "no limit" },
	{ "uid_max_calls", OPTION_COUNT, AT(config, account_limits.uid_max_calls), "10000", 1, 100000000, "no limit" },
	{ "uid_max_bytes", OPTION_SIZE, AT(config, account_limits.uid_max_bytes), "256M", KIB, BYTES_MAX, "no limit" },
	{ "uid_max_sessions", OPTION_COUNT, AT(config, account_limits.uid_max_sessions), "10000", 1, 100000000, "no limit" },
	{ "uid_max_leases", OPTION_COUNT, AT(config, account_limits.uid_max_leases), "64", 1, 1000000, "no limit" },
	{ 0 },
};

bool config_option_is_fixed(const char *name)
{
	static const char *const fixed[] = { "socket",            "socket_mode", "socket_group", "max_frame",
					     "start_concurrency", "require_all", "frame_timeout" };

	for (unsigned i = 0; i < ARRAY_SIZE(fixed); i++) {
		if (strcmp(fixed[i], name) == 0)
			return true;
	}
	return false;
}

const struct option_spec config_pool_options[] = {
	{ "app", OPTION_TEXT, AT(pool_settings, app), "", 0, 0, NULL },
	{ "python", OPTION_TEXT, AT(pool_settings, python), "/usr/bin/python3", 0, 0, NULL },
	{ "path", OPTION_LIST, AT(pool_settings, path), NULL, 0, 0, NULL },
	{ "modules", OPTION_LIST, AT(pool_settings, modules), NULL, 0, 0, NULL },
	{ "environment", OPTION_LIST, AT(pool_settings, environment), NULL, 0, 0, NULL },
	{ "preload", OPTION_LIST, AT(pool_settings, preload), NULL, 0, 0, NULL },
	{ "warmup", OPTION_TEXT, AT(pool_settings, warmup), "", 0, 0, NULL },
	{ "min_workers", OPTION_COUNT, AT(pool_settings, min_workers), "2", 1, 4096, "a worker starts when a call comes" },
	{ "max_workers", OPTION_COUNT, AT(pool_settings, max_workers), NULL, 1, 4096, NULL },
	{ "spare_workers", OPTION_COUNT, AT(pool_settings, spare_workers), "0", 1, 4096, "none" },
	{ "start", OPTION_SPECIAL, 0, "fork", 0, 0, NULL },
	{ "call_timeout", OPTION_DURATION, AT(pool_settings, call_timeout), "30s", MS, YEAR, "no limit" },
	{ "queue_timeout", OPTION_DURATION, AT(pool_settings, queue_timeout), "10s", MS, YEAR, "no limit" },
	{ "init_timeout", OPTION_DURATION, AT(pool_settings, init_timeout), "30s", MS, YEAR, "no limit" },
	{ "cancel_grace", OPTION_DURATION, AT(pool_settings, cancel_grace), "2s", MS, YEAR, NULL },
	{ "stop_timeout", OPTION_DURATION, AT(pool_settings, stop_timeout), "10s", MS, YEAR, NULL },
	{ "lease_ttl", OPTION_DURATION, AT(pool_settings, lease_ttl), "60s", MS, YEAR, "no limit" },
	{ "max_timeout", OPTION_DURATION, AT(pool_settings, max_timeout), "0", MS, YEAR, "no limit" },
	{ "slow_call", OPTION_DURATION, AT(pool_settings, slow_call), "0", MS, YEAR, "no slow log" },
	{ "idle_timeout", OPTION_DURATION, AT(pool_settings, idle_timeout), "60s", MS, YEAR, "never" },
	{ "max_requests", OPTION_NUMBER, AT(pool_settings, max_requests), "0", 1, 1ull << 40, "no limit" },
	{ "max_age", OPTION_DURATION, AT(pool_settings, max_age), "0", MS, YEAR, "no limit" },
	{ "max_rss", OPTION_SIZE, AT(pool_settings, max_rss), "0", MIB, BYTES_MAX, "no limit" },
	{ "replace", OPTION_SPECIAL, 0, "before", 0, 0, NULL },
	{ "ping_interval", OPTION_DURATION, AT(pool_settings, ping_interval), "30s", MS, YEAR, "never" },
	{ "breaker_failures", OPTION_COUNT, AT(pool_settings, breaker_failures), "5", 1, 1000000, "no breaker" },
	{ "breaker_reset", OPTION_DURATION, AT(pool_settings, breaker_reset), "30s", MS, YEAR, NULL },
	{ "poison_kills", OPTION_COUNT, AT(pool_settings, poison_kills), "2", 1, 1000, "no limit" },
	{ "record_failures", OPTION_TEXT, AT(pool_settings, record_failures), "", 0, 0, NULL },
	{ "drain_timeout", OPTION_DURATION, AT(pool_settings, drain_timeout), "30s", MS, YEAR, "no limit" },
	{ "affinity", OPTION_SPECIAL, 0, "strict", 0, 0, NULL },
	{ "session_ttl", OPTION_DURATION, AT(pool_settings, session_ttl), "1h", MS, YEAR, "no limit" },
	{ "max_sessions", OPTION_COUNT, AT(pool_settings, max_sessions), "10000", 1, 10000000, "no limit" },
	{ "session_reserve", OPTION_COUNT, AT(pool_settings, session_reserve), "1", 1, 4096, "none" },
	{ "session_max_bytes", OPTION_SIZE, AT(pool_settings, session_max_bytes), "1M", KIB, 64 * MIB, "no limit" },
	{ "max_queue", OPTION_COUNT, AT(pool_settings, max_queue), "1000", 1, 10000000, "no limit" },
	{ "max_reply", OPTION_SIZE, AT(pool_settings, max_reply), "64M", KIB, CONFIG_REPLY_MAX,
	  "the largest possible" },
	{ "limit_nofile", OPTION_NUMBER, AT(pool_settings, limit_nofile), "1024", 16, 1 << 30, "the daemon's own" },
	{ "limit_as", OPTION_SIZE, AT(pool_settings, limit_as), "0", MIB, BYTES_MAX, "no limit" },
	{ "limit_memory", OPTION_SIZE, AT(pool_settings, limit_memory), "0", 16 * MIB, BYTES_MAX, "no limit" },
	{ "limit_pids", OPTION_NUMBER, AT(pool_settings, limit_pids), "0", 4, 1 << 22, "no limit" },
	{ "user", OPTION_SPECIAL, 0, "", 0, 0, NULL },
	{ 0 },
};

/* ---- libconfuse */

const struct option_spec config_access_options[] = {
	{ "uid", OPTION_LIST, AT(config_access, uid), NULL, 0, 0, NULL },
	{ "gid", OPTION_LIST, AT(config_access, gid), NULL, 0, 0, NULL },
	{ "role", OPTION_SPECIAL, 0, "", 0, 0, NULL },
	{ "pools", OPTION_LIST, AT(config_access, pools), NULL, 0, 0, NULL },
	{ 0 },
};

static const struct option_spec *spec_find(const struct option_spec *table, const char *name)
{
	for (; table->name; table++) {
		if (strcmp(table->name, name) == 0)
			return table;
	}
	return NULL;
}

static const char *nearest_name(const struct option_spec *table, const char *name)
{
	const char *nearest = NULL;
	unsigned best = 4; /* more letters than 3 are another word */

	for (; table->name; table++) {
		unsigned distance = value_distance(table->name, name);

		if (distance < best && distance < strlen(name)) {
			best = distance;
			nearest = table->name;
		}
	}
	return nearest;
}

static char *all_names(const struct option_spec *table)
{
	char *names = mem_strdup(table->name);

	while ((++table)->name) {
		char *more = mem_printf("%s %s", names, table->name);

		free(names);
		names = more;
	}
	return names;
}

#define SECTIONS "pool \"NAME\" { ... } and access \"NAME\" { ... }"

/* Where an option of that name belongs; NULL: nowhere. */
static const char *place_of(const char *name)
{
	if (spec_find(config_top_options, name))
		return "outside of sections";
	if (spec_find(config_pool_options, name))
		return "into a section pool \"NAME\" { ... }";
	return spec_find(config_access_options, name) ? "into a section access \"NAME\" { ... }" : NULL;
}

static const struct option_spec *table_of(const cfg_t *cfg)
{
	if (strcmp(cfg->name, "pool") == 0)
		return config_pool_options;
	return strcmp(cfg->name, "access") == 0 ? config_access_options : config_top_options;
}

static void complain_unknown(struct config_source *src, const cfg_t *cfg, const char *name)
{
	const struct option_spec *here = table_of(cfg);
	const char *near = nearest_name(here, name), *place = place_of(name);
	_cleanup_free_ char *names = all_names(here);
	bool in_section = here != config_top_options;
	char where[64] = "here";

	if (in_section)
		(void)snprintf(where, sizeof(where), "in %s %s", *cfg->name == 'a' ? "an" : "a", cfg->name);
	if (strcmp(name, "include") == 0)
		config_source_complain(src, cfg->filename, cfg->line,
				       "no such option \"include\"; files are added by putting them into conf.d/*.conf "
				       "beside the main file");
	else if (place)
		config_source_complain(src, cfg->filename, cfg->line, "no such option \"%s\" %s; it belongs %s", name,
				       where, place);
	else if (near)
		config_source_complain(src, cfg->filename, cfg->line, "no such option \"%s\"; did you mean %s?", name,
				       near);
	else
		config_source_complain(src, cfg->filename, cfg->line, "no such option \"%s\"; there are: %s%s", name,
				       names, in_section ? "" : ", and sections " SECTIONS);
}

/* Of the section that begins on the line where cfg is. */
static const char *kind_at(const struct config_source *src, const cfg_t *cfg)
{
	for (unsigned i = 0; i < src->n_marks; i++) {
		const struct config_mark *mark = &src->marks[i];

		if (!mark->name && mark->line == cfg->line && strcmp(mark->file, cfg->filename) == 0)
			return mark->is_access ? "access" : "pool";
	}
	return "section";
}

static struct config_source *context_of(const cfg_t *cfg)
{
	const cfg_opt_t *opt = cfg->opts;

	while (opt->name && strcmp(opt->name, CONTEXT_OPTION) != 0)
		opt++;
	return (struct config_source *)opt->simple_value.ptr;
}

/* libconfuse's own words are kept, except where they say less than we know. */
static void on_error(cfg_t *cfg, const char *format, va_list ap)
{
	struct config_source *src = context_of(cfg);
	_cleanup_free_ char *text = NULL, *name = NULL;

	if (vasprintf(&text, format, ap) < 0)
		text = mem_strdup("out of memory");
	if (sscanf(text, "no such option '%m[^']'", &name) == 1)
		complain_unknown(src, cfg, name);
	else if (sscanf(text, "found duplicate title '%m[^']'", &name) == 1)
		config_source_complain(src, cfg->filename, cfg->line, "there is %s %s \"%s\" already",
				       strcmp(kind_at(src, cfg), "access") == 0 ? "an" : "a", kind_at(src, cfg), name);
	else if (strncmp(text, "missing title", strlen("missing title")) == 0)
		config_source_complain(src, cfg->filename, cfg->line, "a section needs a name: " SECTIONS);
	else
		config_source_complain(src, cfg->filename, cfg->line, "%s", text);
}

/* An unknown name with parentheses is an error already; this one cannot be written, so it is never called. */
static int on_context_call(cfg_t *cfg, cfg_opt_t *opt, int argc, const char **argv)
{
	(void)opt, (void)argc, (void)argv;
	cfg_error(cfg, "unexpected parentheses");
	return -1;
}

/* Sections are made of tables of their own; NULL: none. */
static cfg_opt_t *schema_new(const struct option_spec *table, struct config_source *src, cfg_opt_t *pool,
			     cfg_opt_t *access)
{
	cfg_opt_t pools = CFG_SEC("pool", pool, CFGF_MULTI | CFGF_TITLE | CFGF_NO_TITLE_DUPES);
	cfg_opt_t accesses = CFG_SEC("access", access, CFGF_MULTI | CFGF_TITLE | CFGF_NO_TITLE_DUPES);
	unsigned n = 0, i = 0;
	cfg_opt_t *opts;

	while (table[n].name)
		n++;
	opts = mem_new((n + 4) * sizeof(*opts));
	for (; i < n; i++) {
		cfg_opt_t text = CFG_STR(table[i].name, NULL, CFGF_NODEFAULT);
		cfg_opt_t list = CFG_STR_LIST(table[i].name, NULL, CFGF_NODEFAULT);

		opts[i] = table[i].kind == OPTION_LIST ? list : text;
	}
	if (pool)
		opts[i++] = pools;
	if (access)
		opts[i++] = accesses;
	opts[i] = (cfg_opt_t)CFG_FUNC(CONTEXT_OPTION, on_context_call);
	opts[i].simple_value.ptr = (void **)src;
	return opts; /* the zeroed last one is CFG_END() */
}

cfg_t *config_options_new(struct config_source *src)
{
	_cleanup_free_ cfg_opt_t *pool = schema_new(config_pool_options, src, NULL, NULL);
	_cleanup_free_ cfg_opt_t *access = schema_new(config_access_options, src, NULL, NULL);
	_cleanup_free_ cfg_opt_t *top = schema_new(config_top_options, src, pool, access);
	cfg_t *root = cfg_init(top, CFGF_NONE); /* makes copies */

	if (root)
		(void)cfg_set_error_function(root, on_error); /* the old one is none */
	return root;
}

void config_options_free(cfg_t **root)
{
	if (*root)
		(void)cfg_free(*root); /* fails for NULL only; resets the lexer too, which is global */
	*root = NULL;
}

void config_options_parse(cfg_t *root, const char *file, const char *text)
{
	struct config_source *src = context_of(root);
	unsigned before = src->n_complaints;
	FILE *f;
	int r;

	if (!*text)
		return; /* fmemopen refuses 0 bytes */
	free(root->filename);
	root->filename = strdup(file); /* not by cfg_parse(), which would read the file again and expand a tilde */
	f = fmemopen((void *)text, strlen(text), "r");
	if (!f || !root->filename)
		mem_exhausted(strlen(text));
	errno = 0;
	r = cfg_parse_fp(root, f);
	if (r != CFG_SUCCESS && errno == ENOMEM)
		mem_exhausted(0); /* it says nothing then, and cfg_free() would follow wild pointers */
	(void)fclose(f);          /* nothing was written */
	if (r != CFG_SUCCESS && src->n_complaints == before)
		config_source_complain(src, file, root->line, "not understood");
}

/* ---- values */

static char *accepted(const struct option_spec *spec)
{
	const char *zero = spec->zero ? spec->zero : "";
	const char * or = spec->zero ? ", or 0: " : "";

	switch (spec->kind) {
	case OPTION_DURATION:
		return mem_printf("a number with its unit ms, s, m or h, from \"1ms\" to \"8760h\"%s%s", or, zero);
	case OPTION_SIZE:
	case OPTION_SIZE_32:
		return mem_printf("bytes, or a number with K, M or G (powers of 1024), from %llu to %llu%s%s",
				  (unsigned long long)spec->min, (unsigned long long)spec->max, or, zero);
	case OPTION_MODE:
		return mem_strdup("an octal mode from 0001 to 0777, such as \"0660\"");
	case OPTION_YES_NO:
		return mem_strdup("yes or no");
	case OPTION_LEVEL:
		return mem_strdup("debug info warning error");
	case OPTION_FORMAT:
		return mem_strdup("auto text json");
	default:
		return mem_printf("a whole number from %llu to %llu%s%s", (unsigned long long)spec->min,
				  (unsigned long long)spec->max, or, zero);
	}
}

static enum value_status read_number(const struct option_spec *spec, const char *text, uint64_t *v)
{
	switch (spec->kind) {
	case OPTION_DURATION:
		return value_duration(text, v);
	case OPTION_SIZE:
	case OPTION_SIZE_32:
		return value_size(text, v);
	case OPTION_MODE:
		return value_mode(text, v);
	default:
		return value_count(text, v);
	}
}

static void complain_value(struct config_source *src, int section, const struct option_spec *spec, const char *text,
			   const char *what)
{
	_cleanup_free_ char *accept = accepted(spec);

	config_source_complain_at(src, section, spec->name, "%s = \"%s\": %s; accepted: %s", spec->name, text, what,
				  accept);
}

static void store_number(const struct option_spec *spec, void *field, uint64_t v)
{
	if (spec->kind == OPTION_COUNT || spec->kind == OPTION_MODE)
		*(unsigned *)field = (unsigned)v;
	else if (spec->kind == OPTION_SIZE_32)
		*(uint32_t *)field = (uint32_t)v;
	else
		*(uint64_t *)field = v;
}

static void option_read_number(struct config_source *src, int section, const struct option_spec *spec, const char *text,
			       void *field)
{
	_cleanup_free_ char *what = NULL;
	uint64_t v = 0;
	enum value_status r = read_number(spec, text, &v);

	if (r == VALUE_NO_UNIT)
		what = mem_printf("a bare number; write \"%ss\" for seconds", text);
	else if (r)
		what = mem_strdup(value_status_text(r));
	else if (v ? v < spec->min : !spec->zero)
		what = mem_strdup("too small");
	else if (v > spec->max)
		what = mem_strdup("too large");
	if (what)
		complain_value(src, section, spec, text, what);
	else
		store_number(spec, field, v);
}

struct word {
	const char *name;
	int value;
};

static void option_read_word(struct config_source *src, int section, const struct option_spec *spec, const char *text,
			     void *field)
{
	static const struct word levels[] = { { "debug", LOG_LEVEL_DEBUG },
					      { "info", LOG_LEVEL_INFO },
					      { "warning", LOG_LEVEL_WARN },
					      { "error", LOG_LEVEL_ERROR },
					      { 0 } };
	static const struct word formats[] = {
		{ "auto", LOG_FORMAT_AUTO }, { "text", LOG_FORMAT_TEXT }, { "json", LOG_FORMAT_JSON }, { 0 }
	};
	const struct word *w = spec->kind == OPTION_LEVEL ? levels : formats;

	while (w->name && strcmp(w->name, text) != 0)
		w++;
	if (!w->name)
		complain_value(src, section, spec, text, "not understood");
	else if (spec->kind == OPTION_LEVEL)
		*(enum log_level *)field = (enum log_level)w->value;
	else
		*(enum log_format *)field = (enum log_format)w->value;
}

static char **option_list(cfg_t *cfg, const char *name)
{
	unsigned n = cfg ? cfg_size(cfg, name) : 0;
	char **list = mem_new((n + 1) * sizeof(*list));

	for (unsigned i = 0; i < n; i++)
		list[i] = mem_strdup(cfg_getnstr(cfg, name, i));
	return list;
}

static const char *option_text(cfg_t *cfg, const struct option_spec *spec)
{
	const char *text = cfg && spec->kind != OPTION_LIST ? cfg_getstr(cfg, spec->name) : NULL;

	return text ? text : spec->fallback;
}

static void option_read(struct config_source *src, cfg_t *cfg, int section, const struct option_spec *spec, void *field)
{
	const char *text = option_text(cfg, spec);
	enum value_status r;

	switch (spec->kind) {
	case OPTION_SPECIAL:
		break;
	case OPTION_LIST:
		*(char ***)field = option_list(cfg, spec->name);
		break;
	case OPTION_TEXT:
		*(char **)field = text && *text ? mem_strdup(text) : NULL;
		break;
	case OPTION_LEVEL:
	case OPTION_FORMAT:
		option_read_word(src, section, spec, text, field);
		break;
	case OPTION_YES_NO:
		r = value_yes_no(text, field);
		if (r)
			complain_value(src, section, spec, text, value_status_text(r));
		break;
	default:
		if (text)
			option_read_number(src, section, spec, text, field);
	}
}

void config_options_read(struct config_source *src, cfg_t *cfg, int section, const struct option_spec *table,
			 void *into)
{
	for (; table->name; table++)
		option_read(src, cfg, section, table, (char *)into + table->offset);
}

const char *config_options_text(cfg_t *cfg, const struct option_spec *table, const char *name)
{
	const struct option_spec *spec = spec_find(table, name);

	assert(spec); /* names come from config.c */
	return option_text(cfg, spec);
}

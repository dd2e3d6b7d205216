#include "daemon/config_show.h"

#include <string.h>
#include <unistd.h>

#include "daemon/base/cleanup.h"
#include "daemon/base/mem.h"
#include "daemon/base/packed.h"
#include "daemon/config_text.h"
#include "daemon/pool/text.h"
#include "proto/pack.h"

#define SOURCE_MAX 4608 /* bytes: a path and a line */

static void pack_kv_safe(msgpack_packer *pk, const char *key, const char *s)
{
	pack_text(pk, key);
	text_pack_safe(pk, span_str(s), SOURCE_MAX);
}

/* ---- where it stands */

/* A name from the command line is as it was typed there; who asks is in another directory. */
static char *path_of(const char *file)
{
	_cleanup_free_ char *here = *file == '/' ? NULL : getcwd(NULL, 0);

	return here ? mem_printf("%s/%s", strcmp(here, "/") == 0 ? "" : here, file) : mem_strdup(file);
}

/* "FILE:LINE"; fallback when the key is given nowhere. key NULL: the section. */
static void pack_source(msgpack_packer *pk, const struct config_source *src, int section, const char *key, const char *fallback)
{
	const struct config_mark *mark = config_source_find(src, section, key);
	_cleanup_free_ char *file = mark ? path_of(mark->file) : NULL;
	_cleanup_free_ char *place = mark ? mem_printf("%s:%d", file, mark->line) : mem_strdup(fallback);

	pack_kv_safe(pk, "source", place);
}

/* Of an option of the pool that --app makes, which is in no file. */
static const char *source_of_argument(const struct config_view *v, const char *name)
{
	if (strcmp(name, "app") == 0 || strcmp(name, "path") == 0)
		return "--app";
	if (v->request->workers && (strcmp(name, "min_workers") == 0 || strcmp(name, "max_workers") == 0))
		return "--workers";
	return "default";
}

/* ---- options that config.c and config_pool.c make something of */

static char *number_or_nothing(bool has, unsigned n)
{
	return has ? mem_printf("%u", n) : mem_strdup("");
}

static char *special_of_top(const struct config *c, const char *name)
{
	if (strcmp(name, "socket") == 0)
		return mem_strdup(c->socket);
	return number_or_nothing(c->has_socket_group, c->socket_group);
}

static char *special_of_pool(const struct pool_settings *s, const char *name)
{
	if (strcmp(name, "start") == 0)
		return mem_strdup(s->start_fork ? "fork" : "exec");
	if (strcmp(name, "replace") == 0)
		return mem_strdup(s->replace_after ? "after" : "before");
	if (strcmp(name, "affinity") == 0)
		return mem_strdup(s->affinity_prefer ? "prefer" : "strict");
	return number_or_nothing(s->has_user, s->uid);
}

char *config_show_text(const struct config *c, const struct option_spec *spec)
{
	_cleanup_free_ char *special = NULL;

	if (spec->kind != OPTION_SPECIAL)
		return config_text(spec, (const char *)c + spec->offset);
	special = special_of_top(c, spec->name);
	return config_text_quote(special);
}

/* ---- one option: name, {value, text, …}; the source follows */

static void pack_special(msgpack_packer *pk, const struct option_spec *spec, const char *value)
{
	_cleanup_free_ char *text = config_text_quote(value);

	pack_text(pk, spec->name);
	msgpack_pack_map(pk, 3);
	pack_kv_safe(pk, "value", value);
	pack_kv_safe(pk, "text", text);
}

static void pack_plain(msgpack_packer *pk, const struct option_spec *spec, const void *base)
{
	const void *field = (const char *)base + spec->offset;
	_cleanup_free_ char *text = config_text(spec, field);

	pack_text(pk, spec->name);
	msgpack_pack_map(pk, 3);
	pack_text(pk, "value");
	config_text_pack(pk, spec, field);
	pack_text(pk, "text");
	text_pack_safe(pk, span_str(text), strlen(text));
}

static unsigned table_length(const struct option_spec *table)
{
	unsigned n = 0;

	while (table[n].name)
		n++;
	return n;
}

/* ---- the top of the files */

static void pack_top_option(msgpack_packer *pk, const struct config_view *v, const struct option_spec *spec)
{
	const struct config *c = config_option_is_fixed(spec->name) ? v->first : v->now;
	bool is_socket = strcmp(spec->name, "socket") == 0;

	if (spec->kind == OPTION_SPECIAL) {
		_cleanup_free_ char *value = special_of_top(c, spec->name);

		pack_special(pk, spec, value);
	} else {
		pack_plain(pk, spec, c);
	}
	if (is_socket && v->request->socket)
		pack_kv_text(pk, "source", "--socket");
	else
		pack_source(pk, &c->source, CONFIG_TOP, spec->name, "default");
}

static void pack_ids(msgpack_packer *pk, const char *key, const unsigned *ids, unsigned n, bool everybody)
{
	char id[16];

	pack_text(pk, key);
	msgpack_pack_array(pk, n + everybody);
	if (everybody)
		pack_text(pk, "*");
	for (unsigned i = 0; i < n; i++) {
		(void)snprintf(id, sizeof(id), "%u", ids[i]); /* fits */
		pack_text(pk, id);
	}
}

static void pack_access(msgpack_packer *pk, const struct config *c, unsigned i)
{
	const struct access_rule *rule = &c->access.rules[i];

	msgpack_pack_map(pk, 6);
	pack_kv_safe(pk, "name", rule->name);
	pack_kv_text(pk, "role", role_name(rule->role));
	pack_ids(pk, "uid", rule->uids, rule->n_uids, rule->everybody);
	pack_ids(pk, "gid", rule->gids, rule->n_gids, false);
	pack_text(pk, "pools");
	msgpack_pack_array(pk, rule->n_pools);
	for (unsigned j = 0; j < rule->n_pools; j++)
		pack_text(pk, c->pools[rule->pools[j]].name);
	pack_source(pk, &c->source, config_source_section(&c->source, true, i), NULL, "default");
}

void config_show_top(const struct config_view *v, msgpack_packer *pk)
{
	const struct config_source *src = &v->now->source;

	pack_text(pk, "files");
	msgpack_pack_array(pk, src->n_files);
	for (unsigned i = 0; i < src->n_files; i++) {
		_cleanup_free_ char *path = path_of(src->files[i]);

		text_pack_safe(pk, span_str(path), SOURCE_MAX);
	}
	pack_text(pk, "options");
	msgpack_pack_map(pk, table_length(config_top_options));
	for (const struct option_spec *spec = config_top_options; spec->name; spec++)
		pack_top_option(pk, v, spec);
	pack_text(pk, "access");
	msgpack_pack_array(pk, v->now->access.n_rules);
	for (unsigned i = 0; i < v->now->access.n_rules; i++)
		pack_access(pk, v->now, i);
}

/* ---- pools */

struct pool_place {
	const struct config *config; /* the one that holds what was given */
	int section;                 /* CONFIG_TOP: in no file */
};

static struct pool_place find_place(const struct config_view *v, const struct pool_settings *given)
{
	struct pool_place place = { .config = v->now };

	while (place.config->older && !config_holds(place.config, given))
		place.config = place.config->older;
	place.section = config_source_section(&place.config->source, false, (unsigned)(given - place.config->pools));
	return place;
}

/* By pool.resize, until the next reload. */
static bool is_resized(const struct option_spec *spec, const struct pool_settings *given, const struct pool_settings *settings)
{
	if (strcmp(spec->name, "min_workers") == 0)
		return given->min_workers != settings->min_workers;
	return strcmp(spec->name, "max_workers") == 0 && given->max_workers != settings->max_workers;
}

static void pack_pool_option(msgpack_packer *pk, const struct option_spec *spec, const struct pool_settings *settings)
{
	if (spec->kind == OPTION_SPECIAL) {
		_cleanup_free_ char *value = special_of_pool(settings, spec->name);

		pack_special(pk, spec, value);
	} else {
		pack_plain(pk, spec, settings);
	}
}

void config_show_pool(const struct config_view *v, const struct pool_settings *given, const struct pool_settings *settings,
		      msgpack_packer *pk)
{
	struct pool_place place = find_place(v, given);
	const struct config_source *src = &place.config->source;
	bool in_file = place.section != CONFIG_TOP;

	msgpack_pack_map(pk, 3);
	pack_kv_text(pk, "name", settings->name);
	if (in_file)
		pack_source(pk, src, place.section, NULL, "default");
	else
		pack_kv_text(pk, "source", "--app");
	pack_text(pk, "options");
	msgpack_pack_map(pk, table_length(config_pool_options));
	for (const struct option_spec *spec = config_pool_options; spec->name; spec++) {
		pack_pool_option(pk, spec, settings);
		if (is_resized(spec, given, settings))
			pack_kv_text(pk, "source", "pool.resize");
		else if (in_file)
			pack_source(pk, src, place.section, spec->name, "default");
		else
			pack_kv_text(pk, "source", source_of_argument(v, spec->name));
	}
}

void config_show_all(const struct config *c, const struct config_request *request, msgpack_sbuffer *buf)
{
	const struct config_view v = { .now = c, .first = c, .request = request };
	msgpack_packer pk;

	packed_begin(buf, &pk);
	msgpack_pack_map(&pk, 4);
	config_show_top(&v, &pk);
	pack_text(&pk, "pools");
	msgpack_pack_array(&pk, c->n_pools);
	for (unsigned i = 0; i < c->n_pools; i++)
		config_show_pool(&v, &c->pools[i], &c->pools[i], &pk);
}

#include "daemon/renewal.h"

#include <string.h>

#include "daemon/base/cleanup.h"
#include "daemon/base/log.h"
#include "daemon/base/mem.h"
#include "daemon/config_show.h"
#include "daemon/confine.h"
#include "daemon/pool/event.h"

/* --- old ones --- */

static bool is_used(const struct daemon *d, const struct config *c)
{
	if (c == d->first)
		return true;
	for (unsigned i = 0; i < d->n_pools; i++) {
		const struct pool *p = d->pools[i];

		if (config_holds(c, p->given) || config_holds(c, p->reload.settings) || config_holds(c, p->reload.wanted))
			return true;
	}
	return false;
}

static void drop_unused(struct daemon *d)
{
	struct config **link = &d->config->older;

	while (*link) {
		struct config *c = *link;

		if (is_used(d, c)) {
			link = &c->older;
		} else {
			*link = c->older;
			config_free(c);
		}
	}
}

/* --- what concerns the daemon as a whole --- */

static void name_what_needs_a_restart(const struct config *old, const struct config *new)
{
	for (const struct option_spec *spec = config_top_options; spec->name; spec++) {
		_cleanup_free_ char *was = NULL, *is = NULL;

		if (!config_option_is_fixed(spec->name))
			continue;
		was = config_show_text(old, spec);
		is = config_show_text(new, spec);
		if (strcmp(was, is) != 0)
			LOG(WARN, "config.needs_restart", KV("option", spec->name));
	}
}

/* Connections that are there keep the roles that they have. Access blocks know pools by their numbers, which are the same. */
static void take_over(struct daemon *d, const struct config *old, struct config *new)
{
	log_open(new->log_format, new->log_level);
	d->registry.limits = new->account_limits;
	d->server.limits.max_clients = new->max_clients;
	d->server.limits.uid_max_connections = new->uid_max_connections;
	new->access.own_is_admin = old->access.own_is_admin;
	d->server.access = &new->access;
}

static void renewal_take(struct daemon *d, struct config *new)
{
	name_what_needs_a_restart(d->first, new);
	new->older = d->config;
	take_over(d, d->config, new);
	d->config = new;
}

/* *why, owned by the caller, is freed or takes the place of what was there. */
static struct config *renewal_check(struct daemon *d, struct config *new, char **why)
{
	char limits[1024];

	if (!new)
		return NULL;
	free(*why);
	*why = NULL;
	if (!config_has_same_pools(d->config, new))
		*why = mem_strdup("pools were added, removed or moved: that needs a restart of pypoold");
	else if (!confine_prepare(d, new, limits, sizeof(limits)))
		*why = mem_strdup(limits);
	return *why ? config_free(new) : new;
}

/* NULL: refused, and *why says why. */
static struct config *renewal_load(struct daemon *d, char **why)
{
	struct config *new;
	size_t size;
	FILE *complaints = open_memstream(why, &size);

	if (!complaints) {
		*why = mem_strdup("out of memory");
		return NULL;
	}
	new = config_load(d->request, complaints);
	(void)fclose(complaints); /* makes *why, which is empty when there was no complaint */
	return renewal_check(d, new, why);
}

const struct config *renewal_read(struct daemon *d, bool dry, char **why)
{
	struct config *new = renewal_load(d, why);

	if (!dry)
		event_config(&d->server.feed, *why);
	if (!new)
		return NULL;
	drop_unused(d);
	if (dry) { /* kept for the pool that tries it */
		new->older = d->config->older;
		d->config->older = new;
	} else {
		renewal_take(d, new);
	}
	return new;
}

/* One record a line. */
static void log_complaints(char *why)
{
	char *rest = why, *line;

	while ((line = strsep(&rest, "\n"))) {
		if (*line)
			LOG(ERROR, "config.refused", KV("reason", line));
	}
}

void renewal_reload_all(struct daemon *d)
{
	_cleanup_free_ char *why = NULL;

	const struct config *c = renewal_read(d, false, &why);

	for (unsigned i = 0; c && i < d->n_pools; i++)
		reload_start(d->pools[i], config_find_pool(c, d->pools[i]->settings->name), NULL);
	if (!c)
		log_complaints(why);
}

#include "daemon/config_access.h"

#include <grp.h>
#include <pwd.h>
#include <string.h>

#include "daemon/base/cleanup.h"
#include "daemon/base/mem.h"
#include "daemon/config_values.h"

struct access_reader {
	struct config_source *src;
	const struct config *config;
	cfg_t *cfg;
	int section;
	struct access_rule *rule;
};

static unsigned list_length(char **list)
{
	unsigned n = 0;

	while (list[n])
		n++;
	return n;
}

static void list_free(char **list)
{
	for (char **p = list; *p; p++)
		free(*p);
	free(list);
}

/* Those with a number need not be in the passwd file: containers have such users. */
static void read_uids(struct access_reader *r, char **names)
{
	struct access_rule *rule = r->rule;

	rule->uids = mem_new((list_length(names) + 1) * sizeof(*rule->uids));
	for (; *names; names++) {
		const struct passwd *user = NULL;
		uint64_t uid;

		if (strcmp(*names, "*") == 0)
			rule->everybody = true;
		else if (value_count(*names, &uid) == 0 && uid < (uid_t)-1)
			rule->uids[rule->n_uids++] = (uid_t)uid;
		else if ((user = getpwnam(*names)))
			rule->uids[rule->n_uids++] = user->pw_uid;
		else
			config_source_complain_at(r->src, r->section, "uid", "uid: there is no user \"%s\"", *names);
	}
}

static void read_gids(struct access_reader *r, char **names)
{
	struct access_rule *rule = r->rule;

	rule->gids = mem_new((list_length(names) + 1) * sizeof(*rule->gids));
	for (; *names; names++) {
		const struct group *group = NULL;
		uint64_t gid;

		if (value_count(*names, &gid) == 0 && gid < (gid_t)-1)
			rule->gids[rule->n_gids++] = (gid_t)gid;
		else if ((group = getgrnam(*names)))
			rule->gids[rule->n_gids++] = group->gr_gid;
		else
			config_source_complain_at(r->src, r->section, "gid", "gid: there is no group \"%s\"", *names);
	}
}

static void read_role(struct access_reader *r)
{
	const char *text = config_options_text(r->cfg, config_access_options, "role");

	for (enum role role = ROLE_NONE; role <= ROLE_ADMIN; role++) {
		if (strcmp(text, role_name(role)) == 0) {
			r->rule->role = role;
			return;
		}
	}
	if (*text)
		config_source_complain_at(r->src, r->section, "role",
					  "role = \"%s\": not understood; accepted: none use observe admin", text);
	else
		config_source_complain_at(r->src, r->section, NULL,
					  "access \"%s\" has no role; write role = none, use, observe or admin",
					  r->rule->name);
}

/* c->n_pools: there is none of that name. */
static unsigned find_pool(const struct config *c, const char *name)
{
	unsigned i = 0;

	while (i < c->n_pools && strcmp(c->pools[i].name, name) != 0)
		i++;
	return i;
}

static void read_pools(struct access_reader *r, char **names)
{
	struct access_rule *rule = r->rule;

	rule->pools = mem_new((list_length(names) + 1) * sizeof(*rule->pools));
	for (; *names; names++) {
		unsigned pool = find_pool(r->config, *names);

		if (pool < r->config->n_pools)
			rule->pools[rule->n_pools++] = pool;
		else
			config_source_complain_at(r->src, r->section, "pools", "pools: there is no pool \"%s\"",
						  *names);
	}
	if (!rule->n_pools && config_source_find(r->src, r->section, "pools"))
		config_source_complain_at(r->src, r->section, "pools",
					  "pools: an empty list; leave it out to mean all pools and the daemon");
}

void config_access_read(struct config_source *src, const struct config *c, cfg_t *cfg, int section,
			struct access_rule *rule)
{
	struct access_reader r = { .src = src, .config = c, .cfg = cfg, .section = section, .rule = rule };
	struct config_access text = { 0 };

	rule->name = mem_strdup(cfg_title(cfg));
	config_options_read(src, cfg, section, config_access_options, &text);
	if (!text.uid[0] && !text.gid[0])
		config_source_complain_at(
			src, section, NULL,
			"access \"%s\" lists nobody; write uid = {...}, gid = {...} or both, \"*\" in uid "
			"for everybody",
			rule->name);
	read_uids(&r, text.uid);
	read_gids(&r, text.gid);
	read_role(&r);
	read_pools(&r, text.pools);
	list_free(text.uid);
	list_free(text.gid);
	list_free(text.pools);
}

void config_access_deinit(struct access_rule *rule)
{
	free(rule->name);
	free(rule->uids);
	free(rule->gids);
	free(rule->pools);
	*rule = (struct access_rule){ 0 };
}

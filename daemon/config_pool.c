#include "daemon/config_pool.h"

#include <errno.h>
#include <pwd.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/base/cleanup.h"
#include "daemon/base/mem.h"
#include "daemon/config_environment.h"
#include "daemon/config_values.h"

struct pool_reader {
	struct config_source *src;
	const struct config_request *request;
	cfg_t *cfg; /* NULL: the pool of --app */
	int section;
	struct pool_settings *s;
	struct passwd *user; /* borrows from getpwnam, whose next caller is the next pool; NULL: the daemon's own */
};

#define complain_at(r, key, ...)                                                                                       \
	((r)->cfg ? config_source_complain_at((r)->src, (r)->section, key, __VA_ARGS__)                                \
		  : config_source_complain((r)->src, "--app", 0, __VA_ARGS__))

static void check_name(struct pool_reader *r)
{
	if (!value_is_pool_name(r->s->name))
		complain_at(r, NULL, "pool \"%s\": a name is 1 to 64 of the characters A-Z a-z 0-9 _ . -", r->s->name);
}

static void check_modules(struct pool_reader *r, const char *key, char *const *modules)
{
	for (; *modules; modules++) {
		if (!value_is_module(*modules))
			complain_at(r, key, "%s: \"%s\" is not the name of a Python module, such as myapp.more", key,
				    *modules);
	}
}

static void check_app(struct pool_reader *r)
{
	if (!r->s->app)
		complain_at(r, "app",
			    "pool \"%s\" has no app; write app = \"MODULE\", the Python module with its functions",
			    r->s->name);
	else if (!value_is_module(r->s->app))
		complain_at(r, "app", "app = \"%s\": not the name of a Python module, such as myapp.handlers",
			    r->s->app);
	check_modules(r, "modules", r->s->modules);
	check_modules(r, "preload", r->s->preload);
	if (r->s->warmup && !value_is_target(r->s->warmup))
		complain_at(r, "warmup", "warmup = \"%s\": not of the form MODULE:FUNCTION", r->s->warmup);
}

static void check_workers(struct pool_reader *r)
{
	struct pool_settings *s = r->s;

	if (!r->cfg && r->request->workers)
		s->min_workers = r->request->workers;
	if (s->min_workers > 4096)
		complain_at(r, NULL, "--workers: at most 4096");
	if (!s->max_workers && !config_source_find(r->src, r->section, "max_workers"))
		s->max_workers = s->min_workers ? s->min_workers : 1;
	else if (s->max_workers && !config_source_find(r->src, r->section, "min_workers"))
		s->min_workers = s->min_workers < s->max_workers ? s->min_workers : s->max_workers;
	else if (s->max_workers && s->max_workers < s->min_workers)
		complain_at(r, "max_workers", "max_workers = %u is less than min_workers = %u", s->max_workers,
			    s->min_workers);
}

static void check_replace(struct pool_reader *r)
{
	const char *replace = config_options_text(r->cfg, config_pool_options, "replace");

	r->s->replace_after = strcmp(replace, "after") == 0;
	if (!r->s->replace_after && strcmp(replace, "before") != 0)
		complain_at(r, "replace", "replace = \"%s\": not understood; accepted: before, after", replace);
}

static void check_affinity(struct pool_reader *r)
{
	const char *affinity = config_options_text(r->cfg, config_pool_options, "affinity");

	r->s->affinity_prefer = strcmp(affinity, "prefer") == 0;
	if (!r->s->affinity_prefer && strcmp(affinity, "strict") != 0)
		complain_at(r, "affinity", "affinity = \"%s\": not understood; accepted: strict, prefer", affinity);
}

static void check_start(struct pool_reader *r)
{
	const char *start = config_options_text(r->cfg, config_pool_options, "start");

	r->s->start_fork = strcmp(start, "fork") == 0;
	if (!r->s->start_fork && strcmp(start, "exec") != 0)
		complain_at(r, "start", "start = \"%s\": not understood; accepted: fork, exec", start);
}

static struct passwd *find_user(const char *user)
{
	uint64_t uid;

	if (value_count(user, &uid) == 0)
		return uid < (uid_t)-1 ? getpwuid((uid_t)uid) : NULL;
	return getpwnam(user);
}

static void read_user(struct pool_reader *r)
{
	const char *user = config_options_text(r->cfg, config_pool_options, "user");

	if (!*user)
		return;
	r->user = find_user(user);
	if (!r->user) {
		complain_at(r, "user", "user = \"%s\": there is no such user", user);
		return;
	}
	if (geteuid() != 0 && geteuid() != r->user->pw_uid) {
		complain_at(r, "user", "user = \"%s\": only root can run workers as another user", user);
		return;
	}
	r->s->has_user = true;
	r->s->uid = r->user->pw_uid;
	r->s->gid = r->user->pw_gid;
}

static void read_environment(struct pool_reader *r)
{
	struct config_identity identity;
	char **entries = r->s->environment;

	for (char **e = entries; *e; e++) {
		if (!value_is_environment(*e))
			complain_at(r, "environment", "environment: \"%s\" is not of the form NAME=value", *e);
		else if (strncmp(*e, "PYTHONPATH=", strlen("PYTHONPATH=")) == 0)
			complain_at(r, "environment",
				    "environment: PYTHONPATH is not passed on; write path = {\"DIRECTORY\"}");
	}
	if (r->user)
		identity = (struct config_identity){ r->user->pw_name, r->user->pw_dir, r->user->pw_shell };
	r->s->environment = config_environment_new(environ, r->user ? &identity : NULL, entries);
	for (char **e = entries; *e; e++)
		free(*e);
	free(entries);
}

struct config_trust config_trust_new(const struct config_request *request)
{
	struct config_trust trust = { 0 };
	struct stat st;

	if (request->library && stat(request->library, &st) == 0)
		trust.uids[trust.n_uids++] = st.st_uid;
	return trust;
}

static void check_trusted(struct pool_reader *r, const char *key, const char *path)
{
	struct config_trust trust = config_trust_new(r->request);
	char why[512];

	if (geteuid() != 0)
		return;
	if (r->s->has_user) {
		trust.uids[trust.n_uids++] = r->s->uid;
		trust.gid = r->s->gid;
	}
	if (!config_trust_check(&trust, path, why, sizeof(why)))
		complain_at(r, key, "%s: \"%s\" is not used by root: %s", key, path, why);
}

static void check_files(struct pool_reader *r)
{
	if (r->s->record_failures && *r->s->record_failures != '/')
		complain_at(r, "record_failures", "record_failures = \"%s\" is not an absolute path",
			    r->s->record_failures);
	if (!r->s->python || *r->s->python != '/')
		complain_at(r, "python", "python = \"%s\": not an absolute path, such as /usr/bin/python3",
			    r->s->python ? r->s->python : "");
	else
		check_trusted(r, "python", r->s->python);
	for (char **p = r->s->path; *p; p++) {
		if (**p != '/')
			complain_at(r, "path", "path: \"%s\" is not an absolute path", *p);
		else
			check_trusted(r, "path", *p);
	}
}

/* Who starts a daemon by --app in a directory means the module that is there. */
static void read_command_line(struct pool_reader *r)
{
	char *here = getcwd(NULL, 0);

	r->s->app = mem_strdup(r->request->app);
	if (!here) {
		complain_at(r, NULL, "the current directory cannot be found: %s", strerror(errno));
		return;
	}
	r->s->path = mem_resize(r->s->path, 2, sizeof(*r->s->path));
	r->s->path[0] = here;
	r->s->path[1] = NULL;
}

void config_pool_read(struct config_source *src, const struct config_request *request, cfg_t *cfg, int section,
		      struct pool_settings *s)
{
	struct pool_reader r = { .src = src, .request = request, .cfg = cfg, .section = section, .s = s };

	s->name = mem_strdup(cfg ? cfg_title(cfg) : "default");
	config_options_read(src, cfg, section, config_pool_options, s);
	if (!cfg)
		read_command_line(&r);
	if (!s->max_reply)
		s->max_reply = CONFIG_REPLY_MAX;
	check_name(&r);
	check_app(&r);
	check_workers(&r);
	check_start(&r);
	check_affinity(&r);
	check_replace(&r);
	read_user(&r);
	read_environment(&r);
	check_files(&r);
}

static void free_list(char **list)
{
	for (char **p = list; p && *p; p++)
		free(*p);
	free(list);
}

void config_pool_deinit(struct pool_settings *s)
{
	free(s->name);
	free(s->app);
	free(s->python);
	free(s->warmup);
	free(s->record_failures);
	free_list(s->path);
	free_list(s->modules);
	free_list(s->preload);
	free_list(s->environment);
	*s = (struct pool_settings){ 0 };
}

#include "daemon/config.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <grp.h>
#include <sched.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "daemon/base/cleanup.h"
#include "daemon/base/mem.h"
#include "daemon/config_access.h"
#include "daemon/config_options.h"
#include "daemon/config_pool.h"
#include "daemon/config_trust.h"
#include "daemon/config_values.h"

#define CONFIG_FILE_MAX (1 << 20) /* bytes */
#define SOCKET_PATH_MAX (sizeof(((struct sockaddr_un *)0)->sun_path) - 1)

struct config_reader {
	const struct config_request *request;
	struct config_source src;
	cfg_t *root;
};

/* ---- files */

/* For root the system's, for others their own. NULL: neither XDG_CONFIG_HOME nor HOME is there. */
static char *default_file(void)
{
	const char *home = getenv("XDG_CONFIG_HOME");

	if (geteuid() == 0)
		return mem_strdup("/etc/pypoold/pypoold.conf");
	if (home && *home == '/')
		return mem_printf("%s/pypoold/pypoold.conf", home);
	home = getenv("HOME");
	return home && *home == '/' ? mem_printf("%s/.config/pypoold/pypoold.conf", home) : NULL;
}

static char *default_socket(void)
{
	const char *dir = getenv("XDG_RUNTIME_DIR");

	if (geteuid() == 0)
		return mem_strdup("/run/pypoold/pypoold.sock");
	return dir && *dir == '/' ? mem_printf("%s/pypoold/pypoold.sock", dir) : NULL;
}

static bool file_is_trusted(struct config_reader *r, const char *path)
{
	struct config_trust trust = config_trust_new(r->request);
	_cleanup_free_ char *absolute = realpath(path, NULL);
	char why[512];

	if (geteuid() != 0 || config_trust_check(&trust, *path == '/' || !absolute ? path : absolute, why, sizeof(why)))
		return true;
	config_source_complain(&r->src, path, 1, "root does not take configuration from here: %s", why);
	return false;
}

/* The whole file; -E2BIG when it is longer than a configuration can be. */
static int read_file(int fd, char **textp, size_t *lenp)
{
	_cleanup_free_ char *text = mem_new(CONFIG_FILE_MAX + 1);
	size_t len = 0;

	while (len <= CONFIG_FILE_MAX) {
		ssize_t n = read(fd, text + len, CONFIG_FILE_MAX + 1 - len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0) {
			*textp = TAKE_PTR(text);
			*lenp = len;
			return 0;
		}
		len += (size_t)n;
	}
	return -E2BIG;
}

static void parse_file(struct config_reader *r, const char *path, int fd)
{
	_cleanup_free_ char *text = NULL, *filtered = NULL;
	size_t len = 0;
	int e;

	if (!file_is_trusted(r, path))
		return;
	e = read_file(fd, &text, &len);
	if (e < 0) {
		config_source_complain(&r->src, path, 1, "cannot be read: %s",
				       e == -E2BIG ? "longer than 1 MiB" : strerror(-e));
		return;
	}
	path = config_source_file(&r->src, path);
	filtered = config_source_filter(&r->src, path, text, len);
	if (filtered)
		config_options_parse(r->root, path, filtered);
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name); /* not alphasort: that depends on the locale */
}

static int is_conf(const struct dirent *d)
{
	return fnmatch("*.conf", d->d_name, FNM_PERIOD) == 0;
}

static void parse_named(struct config_reader *r, const char *path)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);

	if (fd < 0)
		config_source_complain(&r->src, path, 0, "cannot be read: %s", strerror(errno));
	else
		parse_file(r, path, fd);
}

/* conf.d/ beside the file, in the order of names. */
static void parse_conf_d(struct config_reader *r, const char *file)
{
	const char *slash = strrchr(file, '/');
	_cleanup_free_ char *dir = mem_printf("%.*sconf.d", slash ? (int)(slash - file + 1) : 0, file);
	struct dirent **entries = NULL;
	int n = scandir(dir, &entries, is_conf, by_name);

	if (n < 0) {
		if (errno != ENOENT && errno != ENOTDIR)
			config_source_complain(&r->src, dir, 0, "cannot be read: %s", strerror(errno));
		return;
	}
	if (file_is_trusted(r, dir)) {
		for (int i = 0; i < n; i++) {
			_cleanup_free_ char *path = mem_printf("%s/%s", dir, entries[i]->d_name);

			parse_named(r, path);
		}
	}
	for (int i = 0; i < n; i++)
		free(entries[i]);
	free(entries);
}

static void parse_files(struct config_reader *r)
{
	const struct config_request *request = r->request;
	_cleanup_free_ char *file = request->file ? mem_strdup(request->file) : default_file();
	_cleanup_close_ int fd = file ? open(file, O_RDONLY | O_CLOEXEC | O_NOCTTY) : -1;
	int e = file ? errno : ENOENT;

	if (fd >= 0) {
		parse_file(r, file, fd);
		parse_conf_d(r, file);
	} else if (e == ENOENT && !request->file && request->app) {
		return;
	} else {
		config_source_complain(
			&r->src, file ? file : "configuration", 0,
			"cannot be read: %s; name a file by --config FILE, or start one pool by --app MODULE",
			strerror(e));
	}
}

/* ---- what is not a plain value */

/* On the command line a relative path is meant from here; in a file that would mean nothing. */
static char *absolute_path(const char *path)
{
	_cleanup_free_ char *here = *path == '/' || !*path ? NULL : getcwd(NULL, 0);

	return here ? mem_printf("%s/%s", here, path) : mem_strdup(path);
}

static void read_socket(struct config_reader *r, struct config *c)
{
	const char *text = config_options_text(r->root, config_top_options, "socket");
	const char *asked = r->request->socket;
	const struct config_mark *mark = asked ? NULL : config_source_find(&r->src, CONFIG_TOP, "socket");
	const char *file = mark ? mark->file : "--socket";
	int line = mark ? mark->line : 0;

	c->socket = asked ? absolute_path(asked) : text ? mem_strdup(text) : default_socket();
	if (!c->socket)
		config_source_complain(&r->src, file, line,
				       "XDG_RUNTIME_DIR is not set; write socket = \"/PATH\" or use this");
	else if (*c->socket != '/')
		config_source_complain(&r->src, file, line, "socket = \"%s\": not an absolute path", c->socket);
	else if (strlen(c->socket) > SOCKET_PATH_MAX)
		config_source_complain(&r->src, file, line,
				       "socket = \"%s\": %zu bytes long; the path of a socket has at most %zu",
				       c->socket, strlen(c->socket), SOCKET_PATH_MAX);
}

static void read_socket_group(struct config_reader *r, struct config *c)
{
	const char *name = config_options_text(r->root, config_top_options, "socket_group");
	struct group *group;
	uint64_t gid;

	if (!*name)
		return;
	c->has_socket_group = true;
	if (value_count(name, &gid) == 0 && gid < (gid_t)-1) {
		c->socket_group = (gid_t)gid;
		return;
	}
	group = getgrnam(name);
	if (group)
		c->socket_group = group->gr_gid;
	else
		config_source_complain_at(&r->src, CONFIG_TOP, "socket_group",
					  "socket_group = \"%s\": there is no such group", name);
}

static unsigned count_cores(void)
{
	cpu_set_t set;

	if (sched_getaffinity(0, sizeof(set), &set) == 0 && CPU_COUNT(&set) > 0)
		return (unsigned)CPU_COUNT(&set);
	return 1;
}

static void read_pools(struct config_reader *r, struct config *c)
{
	unsigned n = cfg_size(r->root, "pool");
	const char *app = r->request->app;

	if (n && app) {
		config_source_complain_at(&r->src, 0, NULL,
					  "--app makes a pool of its own and does not go with the pools of a file; use "
					  "--config /dev/null to leave the file out");
		return;
	}
	if (!n && !app) {
		config_source_complain_at(
			&r->src, CONFIG_TOP, NULL,
			"no pool; write one as pool \"NAME\" { app = \"MODULE\" }, or use --app MODULE");
		return;
	}
	c->n_pools = n ? n : 1;
	c->pools = mem_new(c->n_pools * sizeof(*c->pools));
	if (!n)
		config_pool_read(&r->src, r->request, NULL, CONFIG_TOP, &c->pools[0]);
	for (unsigned i = 0; i < n; i++)
		config_pool_read(&r->src, r->request, cfg_getnsec(r->root, "pool", i),
				 config_source_section(&r->src, false, i), &c->pools[i]);
}

static void read_access(struct config_reader *r, struct config *c)
{
	unsigned n = cfg_size(r->root, "access");

	c->access.rules = mem_new((n ? n : 1) * sizeof(*c->access.rules));
	c->access.n_rules = n;
	for (unsigned i = 0; i < n; i++)
		config_access_read(&r->src, c, cfg_getnsec(r->root, "access", i), config_source_section(&r->src, true, i),
				   &c->access.rules[i]);
}

static struct config *build(struct config_reader *r)
{
	struct config *c = MEM_NEW(struct config);

	config_options_read(&r->src, r->root, CONFIG_TOP, config_top_options, c);
	if (!c->start_concurrency)
		c->start_concurrency = count_cores();
	read_socket(r, c);
	read_socket_group(r, c);
	read_pools(r, c);
	read_access(r, c);
	return c;
}

struct config *config_load(const struct config_request *request, FILE *complaints)
{
	struct config_reader r = { .request = request };
	struct config *c = NULL;

	config_source_init(&r.src, complaints);
	r.root = config_options_new(&r.src);
	if (!r.root)
		config_source_complain(&r.src, "configuration", 0, "out of memory");
	else
		parse_files(&r);
	/* what follows would only complain about what a bad line has hidden */
	if (!r.src.n_complaints)
		c = build(&r);
	if (r.src.n_complaints) {
		c = config_free(c);
	} else {
		c->source = r.src;
		config_source_init(&r.src, complaints);
	}
	config_options_free(&r.root);
	config_source_deinit(&r.src);
	return c;
}

const struct pool_settings *config_find_pool(const struct config *c, const char *name)
{
	for (unsigned i = 0; i < c->n_pools; i++) {
		if (strcmp(c->pools[i].name, name) == 0)
			return &c->pools[i];
	}
	return NULL;
}

bool config_has_same_pools(const struct config *c, const struct config *other)
{
	if (c->n_pools != other->n_pools)
		return false;
	for (unsigned i = 0; i < c->n_pools; i++) {
		if (strcmp(c->pools[i].name, other->pools[i].name) != 0)
			return false;
	}
	return true;
}

bool config_holds(const struct config *c, const struct pool_settings *settings)
{
	return settings && settings >= c->pools && settings < c->pools + c->n_pools;
}

struct config *config_free(struct config *c)
{
	if (!c)
		return NULL;
	for (unsigned i = 0; i < c->n_pools; i++)
		config_pool_deinit(&c->pools[i]);
	free(c->pools);
	for (unsigned i = 0; i < c->access.n_rules; i++)
		config_access_deinit(&c->access.rules[i]);
	free(c->access.rules);
	free(c->socket);
	config_source_deinit(&c->source);
	free(c);
	return NULL;
}

/* Command line and exit codes: 0 stopped as told, 1 could not run, 64 usage, 78 configuration. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>

#include "daemon/base/cleanup.h"
#include "daemon/base/log.h"
#include "daemon/base/mem.h"
#include "daemon/config_show.h"
#include "daemon/daemon.h"
#include "daemon/io/cgroups.h"
#include "daemon/io/leftovers.h"
#include "daemon/vigil.h"

#define EXIT_USAGE 64
#define EXIT_DATA 65

static const char usage[] = "usage: pypoold [--config FILE] [--socket PATH] [--check]\n"
			    "       pypoold --app MODULE [--workers N] [--socket PATH]\n"
			    "\n"
			    "  -c, --config FILE   configuration (default: /etc/pypoold/pypoold.conf as root)\n"
			    "  -s, --socket PATH   listen here instead of where the configuration says\n"
			    "  -a, --app MODULE    without a configuration: one pool \"default\" of this module\n"
			    "  -w, --workers N     with --app: how many workers (default 2)\n"
			    "      --check         validate the configuration; exit 0 or 78\n"
			    "      --show          the same, and print it as config.show answers it (MessagePack)\n"
			    "      --sweep         for ExecStopPost=: kill what is left of the unit, unless it is to be started again\n"
			    "  -V, --version\n"
			    "  -h, --help\n";

struct command_line {
	struct config_request request;
	bool check, sweep;
	const char *handover; /* of an upgrade: the formats; NULL: it is none */
	bool show; /* what is checked */
};

/* 0: go on; else the exit code plus one. */
static int read_option(int opt, struct command_line *cl)
{
	char *end;
	unsigned long n;

	switch (opt) {
	case 'c':
		cl->request.file = optarg;
		return 0;
	case 's':
		cl->request.socket = optarg;
		return 0;
	case 'a':
		cl->request.app = optarg;
		return 0;
	case 'w':
		errno = 0;
		n = strtoul(optarg, &end, 10);
		if (errno || *end || end == optarg || n < 1 || n > 4096) {
			(void)fprintf(stderr, "pypoold: --workers takes a number from 1 to 4096, got \"%s\"\n",
				      optarg);
			return EXIT_USAGE + 1;
		}
		cl->request.workers = (unsigned)n;
		return 0;
	case 'C':
		cl->check = true;
		return 0;
	case 'S':
		cl->check = cl->show = true;
		return 0;
	case 'H':
		cl->check = true;
		cl->handover = optarg;
		return 0;
	case 'X':
		cl->sweep = true;
		return 0;
	case 'V':
		(void)puts("pypoold " PYPOOL_VERSION);
		return 1;
	case 'h':
		(void)fputs(usage, stdout);
		return 1;
	default:
		(void)fputs(usage, stderr);
		return EXIT_USAGE + 1;
	}
}

static int read_command_line(int argc, char **argv, struct command_line *cl)
{
	static const struct option options[] = {
		{ "config", required_argument, NULL, 'c' }, { "socket", required_argument, NULL, 's' },
		{ "app", required_argument, NULL, 'a' },    { "workers", required_argument, NULL, 'w' },
		{ "check", no_argument, NULL, 'C' },        { "show", no_argument, NULL, 'S' },
		{ "version", no_argument, NULL, 'V' },      { "help", no_argument, NULL, 'h' },
		{ "sweep", no_argument, NULL, 'X' },
		{ "handover", required_argument, NULL, 'H' },
		{ 0 },
	};
	int opt, r;

	while ((opt = getopt_long(argc, argv, "c:s:a:w:Vh", options, NULL)) != -1) {
		r = read_option(opt, cl);
		if (r)
			return r;
	}
	if (optind < argc) {
		(void)fprintf(stderr, "pypoold: unexpected argument \"%s\"\n%s", argv[optind], usage);
		return EXIT_USAGE + 1;
	}
	if (cl->request.workers && !cl->request.app) {
		(void)fprintf(stderr, "pypoold: --workers goes with --app; pools of a file have min_workers and max_workers\n");
		return EXIT_USAGE + 1;
	}
	return 0;
}

static bool holds_worker(const char *dir)
{
	_cleanup_free_ char *script = mem_printf("%s/python_worker/run_worker.py", dir);

	return access(script, R_OK) == 0;
}

/* Where this program lies, or lay: a newer one may take its place. NULL: it is not known. */
static char *find_program(void)
{
	char self[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self));

	return n > 0 && self[0] == '/' ? mem_strndup(self, (size_t)n) : NULL;
}

/* python_worker/ lies beside the binary in a build tree, else where it was installed. */
static char *find_library(const char *program)
{
	_cleanup_free_ char *beside = program ? mem_strndup(program, (size_t)(strrchr(program, '/') - program)) : NULL;

	if (beside && holds_worker(beside))
		return TAKE_PTR(beside);
	return holds_worker(PYPOOL_LIBDIR) ? mem_strdup(PYPOOL_LIBDIR) : NULL;
}

/* A closed stdin, stdout or stderr would be the number of the next socket, and what a library prints would go there. */
static void open_standard_fds(void)
{
	int fd;

	do
		fd = open("/dev/null", O_RDWR | O_CLOEXEC); /* the lowest number that is free */
	while (fd >= 0 && fd <= STDERR_FILENO);
	cleanup_close(&fd);
}

/* An exit code. */
static int show_config(const struct config *c, const struct config_request *request)
{
	_cleanup_(msgpack_sbuffer_destroy) msgpack_sbuffer buf = { 0 };

	config_show_all(c, request, &buf);
	if (fwrite(buf.data, 1, buf.size, stdout) == buf.size && fflush(stdout) == 0)
		return EXIT_SUCCESS;
	(void)fprintf(stderr, "pypoold: cannot write the configuration\n");
	return EXIT_FAILURE;
}

/* As a service it has workers of its own user, who are to see neither its memory nor its files. Elsewhere whoever started it may
 * want to look. */
static void hide(void)
{
	if (systemd_is_our_parent())
		(void)prctl(PR_SET_DUMPABLE, 0); /* cannot fail with valid arguments */
}

static bool spares_nobody(void *user, pid_t pid)
{
	(void)user, (void)pid;
	return false;
}

/* A daemon that crashed is started again, and goes on with its workers. */
static int sweep(void)
{
	static const char *const crashed[] = { "signal", "core-dump", "watchdog", "oom-kill" };
	const char *result = getenv("SERVICE_RESULT");

	if (!result || !systemd_is_our_parent())
		return EXIT_SUCCESS; /* whose processes would these be? Perhaps a whole session's */
	for (size_t i = 0; i < ARRAY_SIZE(crashed); i++) {
		if (strcmp(result, crashed[i]) == 0) {
			cgroups_take_back("/proc/self/cgroup", "/sys/fs/cgroup");
			vigil_begin();
			return EXIT_SUCCESS;
		}
	}
	(void)leftovers_kill(spares_nobody, NULL);
	return EXIT_SUCCESS;
}

/* Of an upgrade: could this program go on where that one stops? */
static bool can_take_over(const char *formats)
{
	if (strcmp(formats, upgrade_formats()) == 0)
		return true;
	(void)fprintf(stderr, "pypoold %s reads what is handed over in version %s, the one that runs writes %s: restart it\n",
		      PYPOOL_VERSION, upgrade_formats(), formats);
	return false;
}

int main(int argc, char **argv)
{
	_cleanup_(named_fds_deinit) struct named_fds passed = { 0 }, stored = { 0 };
	struct command_line cl = { 0 };
	char why[512];
	_cleanup_(inheritance_close) struct inheritance inheritance;
	_cleanup_free_ char *library = NULL, *program = NULL;
	bool inherits = inheritance_open(&inheritance, why, sizeof(why));
	struct config *config;
	int taken, r;

	/* first of all: they are known by their numbers, which must not be those of something that we opened */
	if (!inherits) {
		(void)fprintf(stderr, "pypoold: %s\n", why);
		return EXIT_DATA;
	}
	taken = systemd_take_fds(&passed, &stored, why, sizeof(why));
	open_standard_fds();
	r = read_command_line(argc, argv, &cl);
	if (r)
		return r - 1;
	if (cl.sweep)
		return sweep();
	if (cl.handover && !can_take_over(cl.handover))
		return EXIT_DATA;
	cl.request.argv = argv;
	cl.request.program = program = find_program();
	library = find_library(program);
	if (!library) {
		(void)fprintf(stderr, "pypoold: python_worker/run_worker.py is neither beside this program nor in %s\n",
			      PYPOOL_LIBDIR);
		return EXIT_FAILURE;
	}
	cl.request.library = library;
	config = config_load(&cl.request, stderr);
	if (!config)
		return DAEMON_EXIT_CONFIG;
	if (cl.check) {
		r = cl.show ? show_config(config, &cl.request) : EXIT_SUCCESS;
		config_free(config);
		return r;
	}
	hide();
	(void)signal(SIGPIPE, SIG_IGN); /* cannot fail for a valid signal */
	(void)signal(SIGXFSZ, SIG_IGN); /* the ledger says so when LimitFSIZE= leaves no room for it */
	log_open(config->log_format, config->log_level);
	if (taken < 0) {
		LOG(ERROR, "listener.failed", KV("reason", why));
		config_free(config);
		r = EXIT_FAILURE;
	} else {
		r = daemon_run(config, &cl.request, &passed, &stored, &inheritance);
	}
	log_close();
	return r;
}

#include <check.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/base/cleanup.h"
#include "daemon/config.h"
#include "daemon/config_options.h"
#include "daemon/config_values.h"

#define POOL "pool x { app = a }\n"

/* A directory for one configuration, and what was said about it. */
struct desk {
	char dir[32];
	char file[64];
	char *said;            /* owns */
	struct config *config; /* owns */
};

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *ftw)
{
	(void)st, (void)kind, (void)ftw;
	return remove(path);
}

static void desk_deinit(struct desk *d)
{
	config_free(d->config);
	free(d->said);
	ck_assert_int_eq(nftw(d->dir, remove_one, 8, FTW_DEPTH | FTW_PHYS), 0);
}

#define _cleanup_desk_ __attribute__((cleanup(desk_deinit)))

static void desk_put(struct desk *d, const char *name, const char *text)
{
	char path[128];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", d->dir, name);
	f = fopen(path, "w");
	ck_assert_ptr_nonnull(f);
	ck_assert_int_eq(fputs(text, f) < 0, 0);
	fclose(f);
}

static void desk_load(struct desk *d, const struct config_request *request)
{
	size_t size;
	FILE *f;

	free(d->said);
	d->config = config_free(d->config);
	f = open_memstream(&d->said, &size);
	d->config = config_load(request, f);
	fclose(f);
	ck_assert_msg(!d->config == !!*d->said, "refused in silence, or accepted with complaints: %s", d->said);
}

static void desk_load_file(struct desk *d)
{
	const struct config_request request = { .file = d->file };

	desk_load(d, &request);
}

static struct desk desk_new(const char *text)
{
	struct desk d = { .dir = "/tmp/pypool-config-XXXXXX" };

	ck_assert_ptr_nonnull(mkdtemp(d.dir));
	setenv("XDG_RUNTIME_DIR", d.dir, 1);
	snprintf(d.file, sizeof(d.file), "%s/pypoold.conf", d.dir);
	if (text) {
		desk_put(&d, "pypoold.conf", text);
		desk_load_file(&d);
	}
	return d;
}

static void check_said(const struct desk *d, const char *file, int line, const char *what)
{
	char where[96];

	snprintf(where, sizeof(where), "%s/%s:%d: ", d->dir, file, line);
	ck_assert_msg(!d->config, "accepted, instead of: %s", what);
	ck_assert_msg(strncmp(d->said, where, strlen(where)) == 0, "not at %s but: %s", where, d->said);
	ck_assert_msg(strstr(d->said, what), "not \"%s\" but: %s", what, d->said);
}

static void check_refused(const char *text, int line, const char *what)
{
	_cleanup_desk_ struct desk d = desk_new(text);

	check_said(&d, "pypoold.conf", line, what);
}

static struct desk desk_accepted(const char *text)
{
	struct desk d = desk_new(text);

	ck_assert_msg(d.config, "refused: %s", d.said);
	return d;
}

/* ---- what is accepted */

START_TEST(config_of_one_pool_has_the_defaults)
{
	_cleanup_desk_ struct desk d = desk_accepted(POOL);
	const struct config *c = d.config;
	const struct pool_settings *p = c->pools;

	ck_assert_uint_eq(c->socket_mode, 0660);
	ck_assert(!c->has_socket_group);
	ck_assert_int_eq(c->log_level, LOG_LEVEL_INFO);
	ck_assert_int_eq(c->log_format, LOG_FORMAT_AUTO);
	ck_assert_uint_eq(c->max_frame, (64 << 20) + (64 << 10));
	ck_assert_uint_eq(c->max_clients, 10000);
	ck_assert_uint_ge(c->start_concurrency, 1);
	ck_assert(!c->require_all);
	ck_assert_uint_eq(c->frame_timeout, 60000000000);
	ck_assert_uint_eq(c->drain_timeout, 30000000000);
	ck_assert_uint_eq(c->uid_max_bytes, 256 << 20);
	ck_assert_uint_eq(c->uid_max_connections, 1000);
	ck_assert_uint_eq(c->uid_max_calls, 10000);
	ck_assert_uint_eq(c->n_pools, 1);
	ck_assert_str_eq(p->name, "x");
	ck_assert_str_eq(p->app, "a");
	ck_assert_str_eq(p->python, "/usr/bin/python3");
	ck_assert_ptr_null(p->path[0]);
	ck_assert_ptr_null(p->modules[0]);
	ck_assert_ptr_null(p->warmup);
	ck_assert_uint_eq(p->min_workers, 2);
	ck_assert_uint_eq(p->max_workers, 2);
	ck_assert_uint_eq(p->call_timeout, 30000000000);
	ck_assert_uint_eq(p->queue_timeout, 10000000000);
	ck_assert_uint_eq(p->init_timeout, 30000000000);
	ck_assert_uint_eq(p->cancel_grace, 2000000000);
	ck_assert_uint_eq(p->stop_timeout, 10000000000);
	ck_assert_uint_eq(p->lease_ttl, 60000000000);
	ck_assert_uint_eq(p->max_timeout, 0);
	ck_assert_uint_eq(p->idle_timeout, 60000000000);
	ck_assert_uint_eq(p->ping_interval, 30000000000);
	ck_assert_uint_eq(p->breaker_failures, 5);
	ck_assert_uint_eq(p->breaker_reset, 30000000000);
	ck_assert_uint_eq(p->poison_kills, 2);
	ck_assert(!p->replace_after);
	ck_assert_uint_eq(p->max_queue, 1000);
	ck_assert_uint_eq(p->max_reply, 64 << 20);
	ck_assert_uint_eq(p->limit_nofile, 1024);
	ck_assert_uint_eq(p->limit_as, 0);
	ck_assert(!p->has_user);
}
END_TEST

START_TEST(config_takes_every_kind_of_value)
{
	_cleanup_desk_ struct desk d = desk_accepted(
		"socket = '/s/x'  socket_mode = 600  socket_group = 0\nlog_level = debug log_format = json\n"
		"max_frame = 1M max_clients = 5 start_concurrency = 3 require_all = YES drain_timeout = "
		"\"1h\"\n"
		"pool \"a.b_c-1\" {\n\tapp = \"m.n\" python = /opt/py path = {\"/a\", '/b',}\n modules = x.y\n"
		"warmup = \"m:f.g\" max_workers = 3 min_workers = 3 call_timeout = 250ms limit_as = 2G\n"
		"environment = {\"A=b=c\"} max_queue = 0 max_reply = 0 }\n");
	const struct pool_settings *p = d.config->pools;

	ck_assert_str_eq(d.config->socket, "/s/x");
	ck_assert_uint_eq(d.config->socket_mode, 0600);
	ck_assert(d.config->has_socket_group);
	ck_assert_uint_eq(d.config->socket_group, 0);
	ck_assert_int_eq(d.config->log_level, LOG_LEVEL_DEBUG);
	ck_assert_int_eq(d.config->log_format, LOG_FORMAT_JSON);
	ck_assert_uint_eq(d.config->max_frame, 1 << 20);
	ck_assert_uint_eq(d.config->start_concurrency, 3);
	ck_assert(d.config->require_all);
	ck_assert_uint_eq(d.config->drain_timeout, 3600000000000);
	ck_assert_str_eq(p->name, "a.b_c-1");
	ck_assert_str_eq(p->path[0], "/a");
	ck_assert_str_eq(p->path[1], "/b");
	ck_assert_ptr_null(p->path[2]);
	ck_assert_str_eq(p->modules[0], "x.y");
	ck_assert_str_eq(p->warmup, "m:f.g");
	ck_assert_uint_eq(p->max_workers, 3);
	ck_assert_uint_eq(p->call_timeout, 250000000);
	ck_assert_uint_eq(p->limit_as, 2ull << 30);
	ck_assert_uint_eq(p->max_queue, 0);
	ck_assert_uint_eq(p->max_reply, CONFIG_REPLY_MAX);
}
END_TEST

START_TEST(config_reads_conf_d_in_order_of_names_and_only_conf_files)
{
	_cleanup_desk_ struct desk d = desk_new(NULL);
	char dir[64];

	snprintf(dir, sizeof(dir), "%s/conf.d", d.dir);
	ck_assert_int_eq(mkdir(dir, 0755), 0);
	desk_put(&d, "pypoold.conf", "max_clients = 7\n");
	desk_put(&d, "conf.d/b.conf", "pool b { app = b }");
	desk_put(&d, "conf.d/B.conf", "pool big { app = b }");
	desk_put(&d, "conf.d/a.conf", "pool a { app = a }");
	desk_put(&d, "conf.d/c.txt", "not = 1");
	desk_put(&d, "conf.d/.h.conf", "not = 1");
	desk_load_file(&d);
	ck_assert_msg(d.config, "%s", d.said);
	ck_assert_uint_eq(d.config->n_pools, 3);
	ck_assert_str_eq(d.config->pools[0].name, "big");
	ck_assert_str_eq(d.config->pools[1].name, "a");
	ck_assert_str_eq(d.config->pools[2].name, "b");
	desk_put(&d, "conf.d/d.conf", "\nmax_clients = 8\n");
	desk_load_file(&d);
	check_said(&d, "conf.d/d.conf", 2, "max_clients is given twice; the first is at");
	desk_put(&d, "conf.d/d.conf", "\n\npool a {\n app = z }\n");
	desk_load_file(&d);
	check_said(&d, "conf.d/d.conf", 3, "there is a pool \"a\" already");
	desk_put(&d, "conf.d/d.conf", "\n\npool z {\n app = z queue_timeout = 1 }\n");
	desk_load_file(&d);
	check_said(&d, "conf.d/d.conf", 4, "queue_timeout = \"1\"");
}
END_TEST

START_TEST(config_comments_do_not_move_line_numbers)
{
	check_refused("# one\n// two\n/* three\n four */ # still four\nmax_clients = 1 # five\nbad = 1\n", 6,
		      "no such option \"bad\"");
	check_refused("/* a */ max_clients /**/ = /* \n */ x # y\n" POOL, 1, "max_clients = \"x\"");
}
END_TEST

START_TEST(config_environment_in_values_is_not_expanded)
{
	_cleanup_desk_ struct desk d = desk_accepted(
		"pool x { app = a environment = {\"A=${HOME}\", 'B=${HOME}', \"C=\\${HOME}\", \"D=$$${X\"} }");
	unsigned n = 0;

	for (char **e = d.config->pools[0].environment; *e; e++)
		n += strcmp(*e, "A=${HOME}") == 0 || strcmp(*e, "B=${HOME}") == 0 || strcmp(*e, "C=${HOME}") == 0 ||
		     strcmp(*e, "D=$$${X") == 0;
	ck_assert_uint_eq(n, 4);
	check_refused("pool x { app = a }\nsocket = ${HOME}/x\n", 2, "${...} is not expanded");
}
END_TEST

START_TEST(config_of_010_is_ten)
{
	_cleanup_desk_ struct desk d = desk_accepted("max_clients = 010\n" POOL);

	ck_assert_uint_eq(d.config->max_clients, 10);
}
END_TEST

START_TEST(config_can_be_read_again_after_a_broken_one)
{
	for (unsigned i = 0; i < 2; i++) {
		check_refused("socket = \"/unclosed\n", 1, "not closed");
		check_refused("pool x { app = \n", 1, "never closed");
		check_refused("max_clients =\n", 2, "end of file");
		desk_deinit(&(struct desk[]){ desk_accepted(POOL) }[0]);
	}
}
END_TEST

/* ---- what is refused */

START_TEST(fault_108_unknown_keys_are_named_with_what_was_meant)
{
	check_refused(POOL "\nmax_client = 1\n", 3, "no such option \"max_client\"; did you mean max_clients?");
	check_refused("zzz = 1\n", 1, "no such option \"zzz\"; there are: socket socket_mode");
	check_refused("pool x {\n app = a\n zzz = 1\n}\n", 3, "there are: app python");
	check_refused("app = x\n", 1, "belongs into a section pool");
	check_refused("pool x {\n max_frame = 1M }\n", 2, "belongs outside");
	check_refused("pool x {\n app = a }\npool|app = b\n", 3, "no such option \"pool|app\"");
	check_refused("\" \" = 1\n", 1, "no such option");
	check_refused("\" \"()\n", 1, "parenthes");
	check_refused("pools x { }\n", 1, "no such option \"pools\"");
}
END_TEST

START_TEST(fault_108_numbers_are_read_to_their_end)
{
	check_refused("max_frame = 10k5\n" POOL, 1, "max_frame = \"10k5\": not understood; accepted: bytes, or");
	check_refused("max_frame = 10k\n" POOL, 1, "not understood");
	check_refused("max_clients = 1x\n" POOL, 1,
		      "not understood; accepted: a whole number from 1 to 1000000, or 0: no limit");
	check_refused("max_clients = 0x10\n" POOL, 1, "not understood");
	check_refused("max_clients = \"\"\n" POOL, 1, "empty");
	check_refused("max_clients = \" 1\"\n" POOL, 1, "not understood");
	check_refused("socket_mode = 0680\n" POOL, 1, "not understood; accepted: an octal mode");
	check_refused("drain_timeout = 1.5s\n" POOL, 1, "not understood");
	check_refused("drain_timeout = \"1 s\"\n" POOL, 1, "not understood");
}
END_TEST

START_TEST(fault_108_overflow_is_seen)
{
	check_refused("max_clients = 18446744073709551616\n" POOL, 1, "too large");
	check_refused("max_clients = 4294967297\n" POOL, 1, "too large");
	check_refused("max_frame = 18014398509481984K\n" POOL, 1, "too large");
	check_refused("max_frame = 80M\n" POOL, 1,
		      "too large; accepted: bytes, or a number with K, M or G (powers of 1024), from "
		      "1024 to 83886079");
	check_refused("drain_timeout = 99999999999999999999s\n" POOL, 1, "too large");
	check_refused("drain_timeout = 5124095577h\n" POOL, 1, "too large");
	check_refused("drain_timeout = 8761h\n" POOL, 1, "too large");
}
END_TEST

START_TEST(fault_108_byte_order_mark_and_control_bytes_are_named)
{
	check_refused("\xef\xbb\xbfmax_clients = 1\n" POOL, 1, "byte order mark");
	check_refused("\xff\xfem\n", 1, "byte order mark");
	check_refused(POOL "\nmax_clients = 1\r\n", 3, "carriage return");
	check_refused("# a\n# \x01\n", 2, "byte 0x01");
	check_refused("max_clients = 1 *\n", 1, "unexpected *");
}
END_TEST

START_TEST(fault_108_nul_byte_does_not_hide_the_rest)
{
	_cleanup_desk_ struct desk d = desk_new(POOL);
	FILE *f = fopen(d.file, "a");

	ck_assert_uint_eq(fwrite("\0bad = 1\n", 1, 9, f), 9);
	fclose(f);
	desk_load_file(&d);
	check_said(&d, "pypoold.conf", 2, "byte 0x00");
}
END_TEST

START_TEST(fault_108_include_does_not_exist_so_it_cannot_loop)
{
	check_refused(POOL "include(\"pypoold.conf\")\n", 2, "conf.d");
	check_refused("include = \"pypoold.conf\"\n", 1, "conf.d");
}
END_TEST

START_TEST(config_given_twice_is_refused)
{
	check_refused("max_clients = 1\n\nmax_clients = 1\n" POOL, 3, "max_clients is given twice; the first is at");
	check_refused("pool x {\n path = {}\n app = a\n path = {\"/a\"}\n}\n", 4, "path is given twice");
	check_refused("pool x {\n path = {\"/a\"}\n path += {\"/b\"}\n}\n", 3, "+= is not accepted");
	check_refused(POOL "pool x { app = b }\n", 2, "there is a pool \"x\" already");
	desk_deinit(&(struct desk[]){ desk_accepted("pool x { app = a }\npool y { app = a }\n") }[0]);
}
END_TEST

START_TEST(config_braces_strings_and_comments_must_be_closed)
{
	check_refused(POOL "pool y {\n app = a\n\n", 2, "this { is never closed");
	check_refused("pool y {\n app = a\n path = {\"/a\"\n", 3, "this { is never closed");
	check_refused(POOL "}\n", 2, "this } closes nothing");
	check_refused("/* x\n" POOL, 1, "never closed by */");
	check_refused("socket = \"/a\n" POOL, 1, "not closed on its line");
	check_refused("socket = '/a\\\n'" POOL, 1, "not closed on its line");
	check_refused("max_clients 5\n" POOL, 1, "missing equal sign");
	check_refused("pool {\n app = a }\n", 1, "needs a name");
	check_refused("pool x {\n pool y {\n } }\n", 2, "no such option \"pool\"");
}
END_TEST

START_TEST(fault_109_bare_number_in_a_duration_says_what_to_write)
{
	check_refused("drain_timeout = 30\n" POOL, 1,
		      "drain_timeout = \"30\": a bare number; write \"30s\" for seconds; accepted: "
		      "a number with its unit ms, s, m or h");
}
END_TEST

START_TEST(fault_109_0_is_accepted_where_it_means_something_and_refused_elsewhere)
{
	_cleanup_desk_ struct desk d =
		desk_accepted("max_clients = 0 drain_timeout = 0 uid_max_bytes = 0\n"
			      "pool x { app = a call_timeout = 0s limit_as = 0 limit_nofile = 0 min_workers = 0 }\n");

	ck_assert_uint_eq(d.config->max_clients, 0);
	ck_assert_uint_eq(d.config->drain_timeout, 0);
	ck_assert_uint_eq(d.config->pools[0].call_timeout, 0);
	ck_assert_uint_eq(d.config->pools[0].min_workers, 0);
	ck_assert_uint_eq(d.config->pools[0].max_workers, 1);
	check_refused("max_frame = 0\n" POOL, 1, "too small");
	check_refused("pool x { app = a\nmax_workers = 0 }\n", 2, "too small");
	check_refused("pool x { app = a\ncancel_grace = 0 }\n", 2, "too small");
	check_refused("pool x { app = a\nstop_timeout = 0 }\n", 2, "too small");
}
END_TEST

START_TEST(fault_109_minus_1_is_refused_by_every_number)
{
	const struct option_spec *const tables[] = { config_top_options, config_pool_options };
	unsigned n = 0;

	for (unsigned i = 0; i < 2; i++) {
		for (const struct option_spec *spec = tables[i]; spec->name; spec++) {
			char text[128];

			if (!spec->max)
				continue;
			snprintf(text, sizeof(text), "%s\n%s = -1 }", i ? "pool y { app = a" : "pool y { app = a }",
				 spec->name);
			if (!i)
				text[strlen(text) - 1] = '\n';
			check_refused(text, 2, "\"-1\": negative");
			n++;
		}
	}
	ck_assert_uint_ge(n, 20);
}
END_TEST

START_TEST(fault_93_socket_path_over_107_bytes_is_refused)
{
	char path[128], text[256];
	_cleanup_desk_ struct desk d = desk_new(NULL);
	const struct config_request request = { .file = d.file, .socket = path };

	memset(path, 'a', sizeof(path));
	path[0] = '/';
	path[108] = '\0';
	snprintf(text, sizeof(text), POOL "socket = \"%s\"\n", path);
	check_refused(text, 2, "108 bytes long; the path of a socket has at most 107");
	path[107] = '\0';
	snprintf(text, sizeof(text), POOL "socket = \"%s\"\n", path);
	desk_deinit(&(struct desk[]){ desk_accepted(text) }[0]);
	desk_put(&d, "pypoold.conf", POOL);
	desk_load(&d, &request);
	ck_assert_ptr_nonnull(d.config);
	ck_assert_str_eq(d.config->socket, path);
	path[107] = 'a';
	desk_load(&d, &request);
	ck_assert_ptr_null(d.config);
	ck_assert_ptr_eq(strstr(d.said, "--socket: "), d.said);
	check_refused(POOL "socket = \"run/x\"\n", 2, "not an absolute path");
	check_refused(POOL "socket = \"\"\n", 2, "not an absolute path");
}
END_TEST

START_TEST(config_without_a_pool_is_refused)
{
	check_refused("max_clients = 1\n", 1, "no pool; write one as");
	check_refused("", 1, "no pool");
}
END_TEST

START_TEST(config_pool_is_checked)
{
	check_refused("\npool x {\n}\n", 2, "has no app");
	check_refused("\npool x {\n app = \"\"\n}\n", 3, "has no app");
	check_refused("pool x {\n app = \"a b\"\n}\n", 2, "not the name of a Python module");
	check_refused("pool x {\n app = \"a..b\"\n}\n", 2, "not the name of a Python module");
	check_refused("pool x {\n app = \"1a\"\n}\n", 2, "not the name of a Python module");
	check_refused("pool x { app = a\n modules = {a, \"b/c\"}\n}\n", 2, "\"b/c\" is not the name");
	check_refused("pool x { app = a\n warmup = f\n}\n", 2, "MODULE:FUNCTION");
	check_refused("pool x { app = a\n python = python3\n}\n", 2, "not an absolute path");
	check_refused("pool x { app = a\n path = {\"/a\", \".\"}\n}\n", 2, "\".\" is not an absolute path");
	check_refused("pool x { app = a\n environment = {\"A\"}\n}\n", 2, "NAME=value");
	check_refused("pool x { app = a\n environment = {\"PYTHONPATH=/x\"}\n}\n", 2, "PYTHONPATH");
	check_refused("pool x { app = a\n start = fork\n}\n", 2, "not there yet; accepted: exec");
	check_refused("pool x { app = a\n start = thread\n}\n", 2, "accepted: exec");
	check_refused("pool x { app = a\n max_workers = 1 min_workers = 2\n}\n", 2, "less than min_workers = 2");
	check_refused("pool x { app = a\n replace = never\n}\n", 2, "accepted: before, after");
	check_refused("pool x { app = a\n record_failures = dir\n}\n", 2, "not an absolute path");
	check_refused("pool x { app = a\n user = \"no-such-user-here\"\n}\n", 2, "no such user");
	check_refused("pool \"x y\" { app = a }\n", 1, "a name is 1 to 64");
	check_refused("pool \"\" { app = a }\n", 1, "a name is 1 to 64");
	check_refused("pool \"a1234567890123456789012345678901234567890123456789012345678901234\" { app = a }\n", 1,
		      "a name is");
	check_refused(POOL "socket_group = \"no-such-group-here\"\n", 2, "no such group");
	check_refused(POOL "log_level = loud\n", 2, "accepted: debug info warning error");
	check_refused(POOL "log_format = xml\n", 2, "accepted: auto text json");
	check_refused(POOL "require_all = 1\n", 2, "accepted: yes or no");
}
END_TEST

START_TEST(config_complaints_come_together)
{
	_cleanup_desk_ struct desk d =
		desk_new("max_clients = x\ndrain_timeout = 3\npool x { }\npool y { start = fork }\n");

	check_said(&d, "pypoold.conf", 1, "max_clients");
	ck_assert_ptr_nonnull(strstr(d.said, ".conf:2: drain_timeout"));
	ck_assert_ptr_nonnull(strstr(d.said, ".conf:3: pool \"x\" has no app"));
	ck_assert_ptr_nonnull(strstr(d.said, ".conf:4: start = \"fork\""));
}
END_TEST

START_TEST(config_complaint_has_no_terminal_escapes)
{
	check_refused(POOL "socket = \"\\e[31mx\\n\"\n", 2, "\\x1b[31mx\\x0a");
}
END_TEST

START_TEST(config_file_that_cannot_be_read_is_named)
{
	_cleanup_desk_ struct desk d = desk_new(NULL);
	const struct config_request request = { .file = d.file, .app = "m" };

	desk_load(&d, &request);
	ck_assert_ptr_null(d.config);
	ck_assert_ptr_nonnull(
		strstr(d.said, "/pypoold.conf: cannot be read: No such file or directory; name a file by --config"));
	ck_assert_int_eq(mkdir(d.file, 0755), 0);
	desk_load(&d, &request);
	ck_assert_ptr_nonnull(strstr(d.said, "cannot be read: Is a directory"));
}
END_TEST

/* ---- the command line */

START_TEST(config_of_app_is_one_pool_with_the_current_directory_in_its_path)
{
	_cleanup_desk_ struct desk d = desk_new(NULL);
	struct config_request request = { .file = "/dev/null", .app = "my.app", .workers = 4, .socket = "x.sock" };
	char socket[64];

	ck_assert_int_eq(chdir(d.dir), 0);
	desk_load(&d, &request);
	ck_assert_msg(d.config, "%s", d.said);
	ck_assert_uint_eq(d.config->n_pools, 1);
	ck_assert_str_eq(d.config->pools[0].name, "default");
	ck_assert_str_eq(d.config->pools[0].app, "my.app");
	ck_assert_str_eq(d.config->pools[0].path[0], d.dir);
	ck_assert_ptr_null(d.config->pools[0].path[1]);
	ck_assert_uint_eq(d.config->pools[0].min_workers, 4);
	ck_assert_uint_eq(d.config->pools[0].max_workers, 4);
	snprintf(socket, sizeof(socket), "%s/x.sock", d.dir);
	ck_assert_str_eq(d.config->socket, socket);
	request.workers = 0;
	desk_load(&d, &request);
	ck_assert_uint_eq(d.config->pools[0].max_workers, 2);
	request.app = "my app";
	desk_load(&d, &request);
	ck_assert_ptr_eq(strstr(d.said, "--app: app = \"my app\""), d.said);
	ck_assert_int_eq(chdir("/"), 0);
}
END_TEST

START_TEST(config_of_app_takes_options_but_no_pools_from_a_file)
{
	_cleanup_desk_ struct desk d = desk_new(NULL);
	struct config_request request = { .file = d.file, .app = "m" };

	desk_put(&d, "pypoold.conf", "max_clients = 3\n");
	desk_load(&d, &request);
	ck_assert_msg(d.config, "%s", d.said);
	ck_assert_uint_eq(d.config->max_clients, 3);
	desk_put(&d, "pypoold.conf", "\n" POOL);
	desk_load(&d, &request);
	check_said(&d, "pypoold.conf", 2, "--app");
}
END_TEST

START_TEST(config_default_file_may_be_missing_with_app)
{
	_cleanup_desk_ struct desk d = desk_new(NULL);
	struct config_request request = { .app = "m" };

	setenv("XDG_CONFIG_HOME", d.dir, 1);
	if (geteuid() == 0 && access("/etc/pypoold/pypoold.conf", F_OK) == 0)
		return; /* this machine runs the daemon */
	desk_load(&d, &request);
	ck_assert_msg(d.config, "%s", d.said);
	ck_assert_ptr_nonnull(strstr(d.config->socket, "/pypoold/pypoold.sock"));
	request.app = NULL;
	desk_load(&d, &request);
	ck_assert_ptr_null(d.config);
	ck_assert_ptr_nonnull(strstr(d.said, "--app MODULE"));
}
END_TEST

/* ---- the environment of a worker */

static const char *env_get(char *const *env, const char *name)
{
	const char *found = NULL;

	for (; *env; env++) {
		if (strncmp(*env, name, strlen(name)) == 0 && (*env)[strlen(name)] == '=') {
			ck_assert_msg(!found, "%s is there twice", name);
			found = *env + strlen(name) + 1;
		}
	}
	return found ? found : "(unset)";
}

START_TEST(config_environment_keeps_little_and_lets_the_pool_win)
{
	_cleanup_desk_ struct desk d = desk_new(NULL);
	char *const *env;

	setenv("PATH", "/bin:/usr/bin", 1);
	setenv("LC_NUMERIC", "C", 1);
	setenv("TZ", "UTC", 1);
	setenv("PYTHONPATH", "/evil", 1);
	setenv("PYTHONUNBUFFERED", "1", 1);
	setenv("SECRET", "1", 1);
	setenv("OMP_NUM_THREADS", "64", 1);
	setenv("PATHOLOGY", "1", 1);
	desk_put(&d, "pypoold.conf",
		 "pool x { app = a environment = {\"MKL_NUM_THREADS=3\", \"TZ=CET\", \"NEW=\"} }\n");
	desk_load_file(&d);
	ck_assert_msg(d.config, "%s", d.said);
	env = d.config->pools[0].environment;
	ck_assert_str_eq(env_get(env, "PATH"), "/bin:/usr/bin");
	ck_assert_str_eq(env_get(env, "LC_NUMERIC"), "C");
	ck_assert_str_eq(env_get(env, "TZ"), "CET");
	ck_assert_str_eq(env_get(env, "PYTHONPATH"), "(unset)");
	ck_assert_str_eq(env_get(env, "PYTHONUNBUFFERED"), "(unset)");
	ck_assert_str_eq(env_get(env, "SECRET"), "(unset)");
	ck_assert_str_eq(env_get(env, "PATHOLOGY"), "(unset)");
	ck_assert_str_eq(env_get(env, "XDG_RUNTIME_DIR"), "(unset)");
	ck_assert_str_eq(env_get(env, "OMP_NUM_THREADS"), "1");
	ck_assert_str_eq(env_get(env, "OPENBLAS_NUM_THREADS"), "1");
	ck_assert_str_eq(env_get(env, "MKL_NUM_THREADS"), "3");
	ck_assert_str_eq(env_get(env, "NEW"), "");
}
END_TEST

START_TEST(config_user_gives_workers_their_identity)
{
	_cleanup_desk_ struct desk d = desk_new(NULL);
	const struct pool_settings *p;

	if (geteuid() != 0)
		return; /* only root may */
	desk_put(&d, "pypoold.conf", "pool x { app = a user = nobody }\n");
	desk_load_file(&d);
	ck_assert_msg(d.config, "%s", d.said);
	p = d.config->pools;
	ck_assert(p->has_user);
	ck_assert_uint_eq(p->uid, 65534);
	ck_assert_str_eq(env_get(p->environment, "USER"), "nobody");
	ck_assert_str_ne(env_get(p->environment, "HOME"), "/root");
	desk_put(&d, "pypoold.conf", "pool x { app = a user = 65534 }\n");
	desk_load_file(&d);
	ck_assert_uint_eq(d.config->pools[0].uid, 65534);
}
END_TEST

/* ---- who may write what root reads */

START_TEST(fault_110_world_writable_configuration_is_refused_by_root)
{
	_cleanup_desk_ struct desk d = desk_new(POOL);
	char conf_d[64];

	if (geteuid() != 0)
		return; /* the rule is root's */
	ck_assert_ptr_nonnull(d.config);
	ck_assert_int_eq(chmod(d.file, 0666), 0);
	desk_load_file(&d);
	check_said(&d, "pypoold.conf", 1, "everybody can write to");
	ck_assert_int_eq(chmod(d.file, 0644), 0);
	ck_assert_int_eq(chown(d.file, 65534, 0), 0);
	desk_load_file(&d);
	check_said(&d, "pypoold.conf", 1, "belongs to uid 65534");
	ck_assert_int_eq(chown(d.file, 0, 65534), 0);
	ck_assert_int_eq(chmod(d.file, 0664), 0);
	desk_load_file(&d);
	check_said(&d, "pypoold.conf", 1, "gid 65534 can write to");
	ck_assert_int_eq(chmod(d.file, 0644), 0);
	snprintf(conf_d, sizeof(conf_d), "%s/conf.d", d.dir);
	ck_assert_int_eq(mkdir(conf_d, 0755), 0);
	desk_load_file(&d);
	ck_assert_ptr_nonnull(d.config);
	ck_assert_int_eq(chmod(conf_d, 01777), 0);
	desk_load_file(&d);
	check_said(&d, "conf.d", 1, "everybody can write to");
	ck_assert_int_eq(chmod(conf_d, 0755), 0);
	ck_assert_int_eq(chmod(d.dir, 0777), 0);
	desk_load_file(&d);
	check_said(&d, "pypoold.conf", 1, "everybody can write to");
}
END_TEST

START_TEST(fault_110_path_that_others_can_write_is_refused_by_root)
{
	_cleanup_desk_ struct desk d = desk_new(NULL);
	struct config_request request = { .file = d.file };
	char text[256], app[64], link[64];

	if (geteuid() != 0)
		return; /* the rule is root's */
	snprintf(app, sizeof(app), "%s/app", d.dir);
	snprintf(link, sizeof(link), "%s/link", d.dir);
	ck_assert_int_eq(mkdir(app, 0755), 0);
	ck_assert_int_eq(symlink(app, link), 0);
	snprintf(text, sizeof(text), "pool x { app = a\n path = {\"%s\", \"/no/such/directory\"} }\n", link);
	desk_put(&d, "pypoold.conf", text);
	desk_load(&d, &request);
	ck_assert_msg(d.config, "%s", d.said);
	ck_assert_int_eq(chmod(app, 0777), 0);
	desk_load(&d, &request);
	check_said(&d, "pypoold.conf", 2, "everybody can write to");
	ck_assert_int_eq(chmod(app, 0755), 0);
	ck_assert_int_eq(chown(app, 65534, 0), 0);
	desk_load(&d, &request);
	check_said(&d, "pypoold.conf", 2, "belongs to uid 65534");
	request.library = app; /* who owns python_worker/ is in every worker anyway */
	desk_load(&d, &request);
	ck_assert_msg(d.config, "%s", d.said);
	request.library = NULL;
	snprintf(text, sizeof(text), "pool x { app = a user = nobody\n path = {\"%s\"} }\n", link);
	desk_put(&d, "pypoold.conf", text);
	desk_load(&d, &request);
	ck_assert_msg(d.config, "%s", d.said);
	desk_put(&d, "pypoold.conf", "pool x { app = a\n path = {\"/tmp\"} }\n");
	desk_load(&d, &request);
	check_said(&d, "pypoold.conf", 2, "everybody can write to /tmp");
}
END_TEST

/* ---- docs/configuration.md */

static char *read_doc(void)
{
	char *text = NULL;
	size_t size = 0;
	FILE *f = fopen("docs/configuration.md", "r");

	ck_assert_msg(f, "run this from the root of the project");
	ck_assert_int_gt(getdelim(&text, &size, '\0', f), 0);
	fclose(f);
	return text;
}

START_TEST(config_example_of_the_documentation_loads)
{
	_cleanup_free_ char *doc = read_doc();
	char *begin = strstr(doc, "## A complete example\n```\n"), *end;
	const struct option_spec *const tables[] = { config_top_options, config_pool_options };

	ck_assert_ptr_nonnull(begin);
	begin += strlen("## A complete example\n```\n");
	end = strstr(begin, "```");
	ck_assert_ptr_nonnull(end);
	*end = '\0';
	{
		_cleanup_desk_ struct desk d = desk_accepted(begin);

		ck_assert_uint_eq(d.config->n_pools, 2);
	}
	for (unsigned i = 0; i < 2; i++) {
		for (const struct option_spec *spec = tables[i]; spec->name; spec++) {
			char key[64];

			snprintf(key, sizeof(key), "%s = ", spec->name);
			if (strcmp(spec->name, "user") != 0 &&
			    strcmp(spec->name, "socket_group") != 0) /* not on every machine */
				ck_assert_msg(strstr(begin, key), "the example is not complete: %s", spec->name);
		}
	}
}
END_TEST

/* Each option has a row with its default, and what 0 means where that is something; each row has an option. */
START_TEST(config_documentation_has_every_option_and_no_other)
{
	_cleanup_free_ char *doc = read_doc();
	const struct option_spec *const tables[] = { config_top_options, config_pool_options };
	unsigned n_options = 0, n_rows = 0;

	for (unsigned i = 0; i < 2; i++) {
		for (const struct option_spec *spec = tables[i]; spec->name; spec++) {
			bool has_default = spec->fallback && *spec->fallback;
			char row[128];
			const char *found, *zero, *end;

			if (has_default)
				snprintf(row, sizeof(row), "\n| `%s` | `%s` |", spec->name, spec->fallback);
			else
				snprintf(row, sizeof(row), "\n| `%s` | |", spec->name);
			found = strstr(doc, row);
			ck_assert_msg(found, "docs/configuration.md has no row %s", row);
			end = strchr(found + 1, '\n');
			zero = strstr(found, " 0: ");
			ck_assert_msg((zero && zero < end) == !!spec->zero, "what 0 means: %s", row);
			n_options++;
		}
	}
	for (const char *p = doc; (p = strstr(p, "\n| `")); p++)
		n_rows++;
	ck_assert_uint_eq(n_rows, n_options);
}
END_TEST

/* ---- values */

START_TEST(value_distance_counts_letters)
{
	ck_assert_uint_eq(value_distance("a", "a"), 0);
	ck_assert_uint_eq(value_distance("", "abc"), 3);
	ck_assert_uint_eq(value_distance("max_client", "max_clients"), 1);
	ck_assert_uint_eq(value_distance("kitten", "sitting"), 3);
}
END_TEST

START_TEST(value_of_the_largest_number_is_read)
{
	uint64_t n;

	ck_assert_int_eq(value_count("18446744073709551615", &n), VALUE_OK);
	ck_assert_uint_eq(n, UINT64_MAX);
	ck_assert_int_eq(value_count("18446744073709551616", &n), VALUE_OVERFLOW);
	ck_assert_int_eq(value_size("17179869183G", &n), VALUE_OK);
	ck_assert_int_eq(value_size("17179869184G", &n), VALUE_OVERFLOW);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("config");
	TCase *t = tcase_create("config");
	SRunner *r;
	int failed;

	tcase_add_test(t, config_of_one_pool_has_the_defaults);
	tcase_add_test(t, config_takes_every_kind_of_value);
	tcase_add_test(t, config_reads_conf_d_in_order_of_names_and_only_conf_files);
	tcase_add_test(t, config_comments_do_not_move_line_numbers);
	tcase_add_test(t, config_environment_in_values_is_not_expanded);
	tcase_add_test(t, config_of_010_is_ten);
	tcase_add_test(t, config_can_be_read_again_after_a_broken_one);
	tcase_add_test(t, fault_108_unknown_keys_are_named_with_what_was_meant);
	tcase_add_test(t, fault_108_numbers_are_read_to_their_end);
	tcase_add_test(t, fault_108_overflow_is_seen);
	tcase_add_test(t, fault_108_byte_order_mark_and_control_bytes_are_named);
	tcase_add_test(t, fault_108_nul_byte_does_not_hide_the_rest);
	tcase_add_test(t, fault_108_include_does_not_exist_so_it_cannot_loop);
	tcase_add_test(t, config_given_twice_is_refused);
	tcase_add_test(t, config_braces_strings_and_comments_must_be_closed);
	tcase_add_test(t, fault_109_bare_number_in_a_duration_says_what_to_write);
	tcase_add_test(t, fault_109_0_is_accepted_where_it_means_something_and_refused_elsewhere);
	tcase_add_test(t, fault_109_minus_1_is_refused_by_every_number);
	tcase_add_test(t, fault_93_socket_path_over_107_bytes_is_refused);
	tcase_add_test(t, config_without_a_pool_is_refused);
	tcase_add_test(t, config_pool_is_checked);
	tcase_add_test(t, config_complaints_come_together);
	tcase_add_test(t, config_complaint_has_no_terminal_escapes);
	tcase_add_test(t, config_file_that_cannot_be_read_is_named);
	tcase_add_test(t, config_of_app_is_one_pool_with_the_current_directory_in_its_path);
	tcase_add_test(t, config_of_app_takes_options_but_no_pools_from_a_file);
	tcase_add_test(t, config_default_file_may_be_missing_with_app);
	tcase_add_test(t, config_environment_keeps_little_and_lets_the_pool_win);
	tcase_add_test(t, config_user_gives_workers_their_identity);
	tcase_add_test(t, fault_110_world_writable_configuration_is_refused_by_root);
	tcase_add_test(t, fault_110_path_that_others_can_write_is_refused_by_root);
	tcase_add_test(t, config_example_of_the_documentation_loads);
	tcase_add_test(t, config_documentation_has_every_option_and_no_other);
	tcase_add_test(t, value_distance_counts_letters);
	tcase_add_test(t, value_of_the_largest_number_is_read);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_set_fork_status(
		r, CK_FORK); /* whatever the environment says: tests change their directory and environment */
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? 1 : 0;
}

/* Configurations that are refused, with what is said. */
#include "tests/support/desk.h"

#include <stdio.h>
#include <sys/stat.h>

#include "daemon/config_options.h"

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
		check_refused("max_frame = 10k5\n" POOL, 1,
			      "max_frame = \"10k5\": not understood; accepted: bytes, or");
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
		check_refused("max_clients = 1\n\nmax_clients = 1\n" POOL, 3,
			      "max_clients is given twice; the first is at");
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
		_cleanup_desk_ struct desk d = desk_accepted(
			"max_clients = 0 drain_timeout = 0 uid_max_bytes = 0 uid_max_sessions = 0 uid_max_leases = 0\n"
			"pool x { app = a call_timeout = 0s limit_as = 0 limit_nofile = 0 min_workers = 0 }\n");

		ck_assert_uint_eq(d.config->max_clients, 0);
		ck_assert_uint_eq(d.config->drain_timeout, 0);
		ck_assert_uint_eq(d.config->account_limits.uid_max_bytes, 0);
		ck_assert_uint_eq(d.config->account_limits.uid_max_sessions, 0);
		ck_assert_uint_eq(d.config->account_limits.uid_max_leases, 0);
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
				snprintf(text, sizeof(text), "%s\n%s = -1 }",
					 i ? "pool y { app = a" : "pool y { app = a }", spec->name);
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
		check_refused("pool x { app = a\n start = spawn\n}\n", 2, "not understood; accepted: fork, exec");
		check_refused("pool x { app = a\n start = thread\n}\n", 2, "accepted: fork, exec");
		check_refused("pool x { app = a\n max_workers = 1 min_workers = 2\n}\n", 2,
			      "less than min_workers = 2");
		check_refused("pool x { app = a\n replace = never\n}\n", 2, "accepted: before, after");
		check_refused("pool x { app = a\n record_failures = dir\n}\n", 2, "not an absolute path");
		check_refused("pool x { app = a\n user = \"no-such-user-here\"\n}\n", 2, "no such user");
		check_refused("pool \"x y\" { app = a }\n", 1, "a name is 1 to 64");
		check_refused("pool \"\" { app = a }\n", 1, "a name is 1 to 64");
		check_refused(
			"pool \"a1234567890123456789012345678901234567890123456789012345678901234\" { app = a }\n", 1,
			"a name is");
		check_refused(POOL "socket_group = \"no-such-group-here\"\n", 2, "no such group");
		check_refused(POOL "log_level = loud\n", 2, "accepted: debug info warning error");
		check_refused(POOL "log_format = xml\n", 2, "accepted: auto text json");
		check_refused(POOL "require_all = 1\n", 2, "accepted: yes or no");
	}
END_TEST

START_TEST(config_access_is_checked)
	{
		check_refused(POOL "access x { role = use }\n", 2, "access \"x\" lists nobody");
		check_refused(POOL "access x {\n uid = root }\n", 2, "access \"x\" has no role");
		check_refused(POOL "access x { uid = root\nrole = boss }\n", 3, "accepted: none use observe admin");
		check_refused(POOL "access x { role = use\nuid = {root, nobody_here} }\n", 3,
			      "there is no user \"nobody_here\"");
		check_refused(POOL "access x { role = use\ngid = nobody_here }\n", 3, "there is no group \"nobody_here\"");
		check_refused(POOL "access x { role = use uid = root\npools = {x, y} }\n", 3, "there is no pool \"y\"");
		check_refused(POOL "access x { role = use uid = root\npools = {} }\n", 3, "an empty list");
		check_refused(POOL "access x { role = use uid = root }\naccess x { role = use uid = root }\n", 3,
			      "there is an access \"x\" already");
		check_refused(POOL "access x {\nmax_queue = 1 }\n", 3,
			      "no such option \"max_queue\" in an access; it belongs into a section pool");
		check_refused(POOL "access x {\nuids = root }\n", 3, "did you mean uid?");
		check_refused("pool x { app = a\nuid = root }\n", 2,
			      "no such option \"uid\" in a pool; it belongs into a section access");
		check_refused(POOL "access {\nuid = root }\n", 2, "needs a name");
	}
END_TEST

START_TEST(config_complaints_come_together)
	{
		_cleanup_desk_ struct desk d =
			desk_new("max_clients = x\ndrain_timeout = 3\npool x { }\npool y { start = spawn }\n");

		check_said(&d, "pypoold.conf", 1, "max_clients");
		ck_assert_ptr_nonnull(strstr(d.said, ".conf:2: drain_timeout"));
		ck_assert_ptr_nonnull(strstr(d.said, ".conf:3: pool \"x\" has no app"));
		ck_assert_ptr_nonnull(strstr(d.said, ".conf:4: start = \"spawn\""));
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
		ck_assert_ptr_nonnull(strstr(
			d.said, "/pypoold.conf: cannot be read: No such file or directory; name a file by --config"));
		ck_assert_int_eq(mkdir(d.file, 0755), 0);
		desk_load(&d, &request);
		ck_assert_ptr_nonnull(strstr(d.said, "cannot be read: Is a directory"));
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

int main(void)
{
	setenv("CK_FORK", "yes", 1); /* tests change their directory and environment */
	return SUITE_RUN("config refused", NULL, NULL, fault_108_unknown_keys_are_named_with_what_was_meant,
			 fault_108_numbers_are_read_to_their_end, fault_108_overflow_is_seen,
			 fault_108_byte_order_mark_and_control_bytes_are_named,
			 fault_108_nul_byte_does_not_hide_the_rest, fault_108_include_does_not_exist_so_it_cannot_loop,
			 config_given_twice_is_refused, config_braces_strings_and_comments_must_be_closed,
			 fault_109_bare_number_in_a_duration_says_what_to_write,
			 fault_109_0_is_accepted_where_it_means_something_and_refused_elsewhere,
			 fault_109_minus_1_is_refused_by_every_number, fault_93_socket_path_over_107_bytes_is_refused,
			 config_without_a_pool_is_refused, config_pool_is_checked, config_access_is_checked,
			 config_complaints_come_together,
			 config_complaint_has_no_terminal_escapes, config_file_that_cannot_be_read_is_named,
			 fault_110_world_writable_configuration_is_refused_by_root,
			 fault_110_path_that_others_can_write_is_refused_by_root);
}

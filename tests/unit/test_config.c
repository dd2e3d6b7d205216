/* Configurations that are accepted, the command line, and what is made of both. */
#include "tests/support/desk.h"

#include <stdio.h>
#include <sys/stat.h>

#include "daemon/config_options.h"

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
		ck_assert_uint_eq(c->account_limits.uid_max_bytes, 256 << 20);
		ck_assert_uint_eq(c->uid_max_connections, 1000);
		ck_assert_uint_eq(c->account_limits.uid_max_calls, 10000);
		ck_assert_uint_eq(c->account_limits.uid_max_sessions, 10000);
		ck_assert_uint_eq(c->account_limits.uid_max_leases, 64);
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

START_TEST(config_of_access_has_numbers_for_names)
	{
		_cleanup_desk_ struct desk d = desk_accepted(
			"access first { uid = {root, 4711, \"33\"} gid = {root} role = admin pools = {b} }\n"
			"pool a { app = a }\n"
			"access 'the others' { uid = \"*\" role = none }\npool b { app = b }\n");
		const struct access *a = &d.config->access;

		ck_assert_uint_eq(a->n_rules, 2);
		ck_assert_str_eq(a->rules[0].name, "first");
		ck_assert_uint_eq(a->rules[0].n_uids, 3);
		ck_assert_uint_eq(a->rules[0].uids[0], 0);
		ck_assert_uint_eq(a->rules[0].uids[1], 4711);
		ck_assert_uint_eq(a->rules[0].uids[2], 33);
		ck_assert_uint_eq(a->rules[0].n_gids, 1);
		ck_assert_uint_eq(a->rules[0].gids[0], 0);
		ck_assert_uint_eq(a->rules[0].n_pools, 1);
		ck_assert_uint_eq(a->rules[0].pools[0], 1);
		ck_assert_int_eq(a->rules[0].role, ROLE_ADMIN);
		ck_assert(!a->rules[0].everybody);
		ck_assert(a->rules[1].everybody);
		ck_assert_int_eq(a->rules[1].role, ROLE_NONE);
		ck_assert_uint_eq(a->rules[1].n_pools, 0);
		ck_assert_str_eq(d.config->pools[1].name, "b");
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
			n += strcmp(*e, "A=${HOME}") == 0 || strcmp(*e, "B=${HOME}") == 0 ||
			     strcmp(*e, "C=${HOME}") == 0 || strcmp(*e, "D=$$${X") == 0;
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

/* ---- the command line */

START_TEST(config_of_app_is_one_pool_with_the_current_directory_in_its_path)
	{
		_cleanup_desk_ struct desk d = desk_new(NULL);
		struct config_request request = {
			.file = "/dev/null", .app = "my.app", .workers = 4, .socket = "x.sock"
		};
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

int main(void)
{
	setenv("CK_FORK", "yes", 1); /* tests change their directory and environment */
	return SUITE_RUN("config", NULL, NULL, config_of_one_pool_has_the_defaults, config_takes_every_kind_of_value,
			 config_of_access_has_numbers_for_names,
			 config_reads_conf_d_in_order_of_names_and_only_conf_files,
			 config_comments_do_not_move_line_numbers, config_environment_in_values_is_not_expanded,
			 config_of_010_is_ten, config_can_be_read_again_after_a_broken_one,
			 config_of_app_is_one_pool_with_the_current_directory_in_its_path,
			 config_of_app_takes_options_but_no_pools_from_a_file,
			 config_default_file_may_be_missing_with_app,
			 config_environment_keeps_little_and_lets_the_pool_win,
			 config_user_gives_workers_their_identity);
}

#include "daemon/pool/launch.h"

#include <errno.h>

#include "daemon/pool/failure.h"
#include "tests/unit/pool_support.h"

/* A spawner that looks at what it is asked for. */
struct spy {
	struct spawner spawner;
	bool called;
};

static int spy_start(struct spawner *sp, struct process *p, const struct process_spec *spec, int *calls_fd)
{
	container_of(sp, struct spy, spawner)->called = true;
	(void)p;
	(void)calls_fd;
	ck_assert_str_eq(spec->path, "/usr/bin/python3");
	ck_assert_str_eq(spec->argv[0], "/usr/bin/python3");
	ck_assert_str_eq(spec->argv[1], "/lib/python_worker/run_worker.py");
	ck_assert_ptr_null(spec->argv[2]); /* nothing of the configuration */
	ck_assert_str_eq(spec->envp[0], "HOME=/");
	ck_assert_int_eq(strncmp(spec->envp[1], "PYPOOL_WORKER=", 14), 0);
	ck_assert_ptr_null(spec->envp[2]);
	ck_assert_uint_eq(spec->uid, 1234);
	ck_assert_uint_eq(spec->gid, 5678);
	ck_assert_uint_eq(spec->limit_nofile, 99);
	ck_assert(spec->die_with_daemon);
	ck_assert_uint_ne(spec->worker, 0);
	return -EAGAIN;
}

START_TEST(fault_58_a_worker_is_started_with_what_its_pool_says_and_nothing_else)
	{
		char *environment[] = { (char *)"HOME=/", NULL };
		struct pool_settings s = sim_settings();
		struct spy spy = { .spawner = { .name = "spy", .start = spy_start } };
		struct scene sc;

		s.environment = environment;
		s.has_user = true;
		s.uid = 1234;
		s.gid = 5678;
		s.limit_nofile = 99;
		scene_prepare(&sc, &s);
		sc.stage.pool->spawner = &spy.spawner;
		pool_start(sc.stage.pool);
		scene_pass(&sc, 0);
		ck_assert(spy.called);
		scene_end(&sc);
	}
END_TEST

/* What the worker has been sent over control before it had the time to read. */
static void ck_sent(struct scene *sc, const char *method, uint32_t pairs)
{
	const struct sim_message *m = scene_child(sc)->inbox;
	struct complaint c;
	struct envelope e;
	struct span params;
	uint32_t n = 0;

	ck_assert_ptr_nonnull(m);
	ck_assert(m->control);
	ck_assert_int_eq(cursor_check((struct span){ .p = m->data, .len = m->len }), CURSOR_DONE);
	ck_assert(envelope_parse((struct span){ .p = m->data, .len = m->len }, &e, &c));
	ck_assert_int_eq(e.type, ENVELOPE_NOTIFICATION);
	ck_assert(span_equals(e.method, method));
	params = e.params;
	ck_assert(!params.len || mp_read_map(&params, &n));
	ck_assert_uint_eq(n, pairs);
}

START_TEST(init_says_what_to_import_and_who_the_worker_is)
	{
		char *path[] = { (char *)"/srv", (char *)"/opt", NULL };
		struct pool_settings s = sim_settings();
		struct scene sc;

		s.path = path;
		scene_prepare(&sc, &s);
		sc.stage.machine.script.hears_after = MS;
		pool_start(sc.stage.pool);
		scene_pass(&sc, 0);
		ck_sent(&sc, "init", 9);
		scene_pass(&sc, 100 * MS);
		scene_end(&sc);
	}
END_TEST

START_TEST(stop_is_sent_to_a_worker_that_is_asked_to_leave)
	{
		struct scene sc;

		scene_begin(&sc, 1);
		scene_child(&sc)->script.hears_after = MS;
		ck_assert_int_eq(launch_send_stop(scene_worker(&sc)), 0);
		ck_sent(&sc, "stop", 0);
		scene_pass(&sc, 10 * MS);
		ck_assert_int_eq(sc.stage.pool->dead->exit.exit_code, 0);
		scene_end(&sc);
	}
END_TEST

START_TEST(nothing_can_be_sent_to_a_worker_that_is_gone)
	{
		struct scene sc;

		scene_begin(&sc, 1);
		sim_child_die(scene_child(&sc), 0, 0);
		ck_assert_int_eq(launch_send_stop(scene_worker(&sc)), -EPIPE);
		scene_end(&sc);
	}
END_TEST

/* Nothing was prepared: the worker must not run without its limits. */
START_TEST(a_worker_that_cannot_be_limited_is_not_started)
	{
		struct pool_settings s = sim_settings();
		struct scene sc;

		s.limit_memory = 64 << 20;
		scene_prepare(&sc, &s);
		pool_start(sc.stage.pool);
		scene_pass(&sc, 0);
		ck_assert_uint_eq(sc.stage.machine.n_attempts, 0);
		ck_assert_int_eq(sc.stage.pool->dead->why, WORKER_WHY_SPAWN_FAILED);
		ck_assert_str_eq(sc.stage.pool->supply.failure->message,
				 "the cgroup that limit_memory and limit_pids need cannot be made: No such device");
		scene_end(&sc);
	}
END_TEST

RUN_SUITE("launch", a_worker_that_cannot_be_limited_is_not_started,
	  fault_58_a_worker_is_started_with_what_its_pool_says_and_nothing_else,
	  init_says_what_to_import_and_who_the_worker_is, stop_is_sent_to_a_worker_that_is_asked_to_leave,
	  nothing_can_be_sent_to_a_worker_that_is_gone)

#include "daemon/pool/recorder.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>

#include "tests/unit/pool_support.h"

static char dir[64];
static char *const environment[] = { (char *)"LANG=C", (char *)"SECRET=x=y", NULL };
static char *const path[] = { (char *)"/srv/app", NULL };

/* A scene whose pool records, or not. */
static void recording_begin(struct scene *sc, bool on)
{
	struct pool_settings s = sim_settings();

	strcpy(dir, "/tmp/test_recorder.XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
	s.record_failures = on ? dir : NULL;
	s.environment = (char **)environment;
	s.path = (char **)path;
	s.warmup = (char *)"app:warm";
	scene_prepare(sc, &s);
	sc->stage.machine.script.call = SIM_CALL_MANUAL;
	sim_stage_start(&sc->stage);
}

static void recording_end(struct scene *sc)
{
	char command[80];

	scene_end(sc);
	(void)snprintf(command, sizeof(command), "rm -r %s", dir);
	ck_assert_int_eq(system(command), 0);
}

/* The number of records; *data: of the last one looked at. */
static unsigned records(uint8_t *data, size_t size, size_t *len)
{
	DIR *d = opendir(dir);
	struct dirent *e;
	unsigned n = 0;

	ck_assert_ptr_nonnull(d);
	while ((e = readdir(d))) {
		_cleanup_close_ int fd = -1;

		if (e->d_name[0] == '.')
			continue;
		n++;
		fd = openat(dirfd(d), e->d_name, O_RDONLY | O_CLOEXEC);
		*len = (size_t)read(fd, data, size);
	}
	(void)closedir(d);
	return n;
}

static struct span value_of(const uint8_t *data, size_t len, const char *key)
{
	struct span map = { .p = data, .len = len }, k, v;
	uint32_t n;

	ck_assert(mp_read_map(&map, &n));
	while (n--) {
		ck_assert(mp_read_text(&map, &k) && mp_read_any(&map, &v));
		if (span_equals(k, key))
			return v;
	}
	ck_abort_msg("no key %s", key);
}

static void ck_text(const uint8_t *data, size_t len, const char *key, const char *expected)
{
	struct span v = value_of(data, len, key), text = { 0 };

	ck_assert_msg(mp_read_text(&v, &text) && span_equals(text, expected), "%s is %.*s", key, (int)text.len,
		      (const char *)text.p);
}

START_TEST(a_call_whose_worker_died_is_one_map_with_all_that_a_worker_is_given)
	{
		static const uint8_t args[] = { 0x91, 0x01 };
		uint8_t data[4096];
		struct span map, v;
		struct scene sc;
		size_t len = 0;
		uint32_t n;
		uint64_t u;

		recording_begin(&sc, true);
		sim_execute(&sc.one, 1, 0, 0);
		scene_pass(&sc, 0);
		sim_child_die(scene_child(&sc), 0, SIGSEGV);
		scene_pass(&sc, 10 * MS);
		ck_told(&sc.one, 1, ERROR_WORKER_DIED, EXECUTED_MAYBE);
		ck_assert_uint_eq(records(data, sizeof(data), &len), 1);
		map = v = (struct span){ .p = data, .len = len };
		ck_assert(mp_read_any(&v, &map) && v.len == 0); /* one value, no more */
		v = value_of(data, len, "format");
		ck_assert(mp_read_uint(&v, &u) && u == 1);
		ck_text(data, len, "pool", "sim");
		ck_text(data, len, "app", "app");
		ck_text(data, len, "target", "app.work");
		ck_text(data, len, "code", "worker_died");
		ck_text(data, len, "python", "/usr/bin/python3");
		ck_text(data, len, "warmup", "app:warm");
		v = value_of(data, len, "environment");
		ck_assert(mp_read_array(&v, &n) && n == 2);
		v = value_of(data, len, "args");
		ck_assert_uint_eq(v.len, sizeof(args));
		ck_assert_mem_eq(v.p, args, sizeof(args));
		recording_end(&sc);
	}
END_TEST

START_TEST(what_a_handler_raised_is_recorded_and_what_succeeds_or_never_ran_is_not)
	{
		uint8_t data[4096];
		struct scene sc;
		size_t len;

		recording_begin(&sc, true);
		sim_execute(&sc.one, 1, 0, 0);
		sim_execute(&sc.one, 2, 20 * MS, 0);
		scene_pass(&sc, 30 * MS);
		ck_told(&sc.one, 2, ERROR_DEADLINE_EXCEEDED, EXECUTED_NEVER);
		sim_child_reply(scene_child(&sc), scene_child(&sc)->call);
		scene_pass(&sc, 0);
		sim_execute(&sc.one, 3, 0, 0);
		scene_pass(&sc, 0);
		sim_child_reply_error(scene_child(&sc), scene_child(&sc)->call, "unknown_target", "no such handler");
		scene_pass(&sc, 0);
		ck_assert_uint_eq(records(data, sizeof(data), &len), 0);
		sim_execute(&sc.one, 4, 0, 0);
		scene_pass(&sc, 0);
		sim_child_reply_error(scene_child(&sc), scene_child(&sc)->call, "app_error", "ValueError: no");
		scene_pass(&sc, 0);
		ck_assert_uint_eq(records(data, sizeof(data), &len), 1);
		ck_text(data, len, "code", "app_error");
		ck_text(data, len, "message", "ValueError: no");
		recording_end(&sc);
	}
END_TEST

START_TEST(a_deadline_while_it_runs_is_recorded)
	{
		uint8_t data[4096];
		struct scene sc;
		size_t len;

		recording_begin(&sc, true);
		sim_execute(&sc.one, 1, 20 * MS, 0);
		scene_pass(&sc, 200 * MS);
		ck_told(&sc.one, 1, ERROR_DEADLINE_EXCEEDED, EXECUTED_MAYBE);
		ck_assert_uint_eq(records(data, sizeof(data), &len), 1);
		ck_text(data, len, "code", "deadline_exceeded");
		recording_end(&sc);
	}
END_TEST

START_TEST(nothing_is_recorded_when_it_is_off)
	{
		uint8_t data[64];
		struct scene sc;
		size_t len;

		recording_begin(&sc, false);
		ck_assert(!recorder_is_on(sc.stage.pool));
		sim_execute(&sc.one, 1, 0, 0);
		scene_pass(&sc, 0);
		sim_child_die(scene_child(&sc), 0, SIGSEGV);
		scene_pass(&sc, 10 * MS);
		ck_assert_uint_eq(records(data, sizeof(data), &len), 0);
		recording_end(&sc);
	}
END_TEST

START_TEST(a_storm_of_failures_is_sampled)
	{
		uint8_t data[4096];
		struct scene sc;
		unsigned n;
		size_t len;

		recording_begin(&sc, true);
		for (unsigned i = 1; i <= 50; i++) {
			sim_execute(&sc.one, i, 0, 0);
			scene_pass(&sc, 0);
			sim_child_reply_error(scene_child(&sc), scene_child(&sc)->call, "app_error", "again");
			scene_pass(&sc, 0);
			ck_told(&sc.one, i, ERROR_APP_ERROR, EXECUTED_YES);
		}
		n = records(data, sizeof(data), &len);
		ck_assert_uint_eq(n, 20);
		scene_pass(&sc, S);
		sim_execute(&sc.one, 60, 0, 0);
		scene_pass(&sc, 0);
		sim_child_reply_error(scene_child(&sc), scene_child(&sc)->call, "app_error", "again");
		scene_pass(&sc, 0);
		ck_assert_uint_eq(records(data, sizeof(data), &len), n + 1);
		recording_end(&sc);
	}
END_TEST

START_TEST(a_directory_that_cannot_be_used_hurts_no_call)
	{
		struct scene sc;

		recording_begin(&sc, true);
		ck_assert_int_eq(rmdir(dir), 0);
		close(sc.stage.pool->recorder.archive.fd);
		sc.stage.pool->recorder.archive.fd = -1; /* as if it could not be opened at the start */
		ck_assert_int_eq(symlink("/tmp", dir), 0);
		sim_execute(&sc.one, 1, 0, 0);
		scene_pass(&sc, 0);
		sim_child_reply_error(scene_child(&sc), scene_child(&sc)->call, "app_error", "again");
		scene_pass(&sc, 0);
		ck_told(&sc.one, 1, ERROR_APP_ERROR, EXECUTED_YES);
		recording_end(&sc);
	}
END_TEST

/* A call that fails. */
static void fail_one(struct scene *sc, uint64_t id)
{
	sim_execute(&sc->one, id, 0, 0);
	scene_pass(sc, 0);
	sim_child_reply_error(scene_child(sc), scene_child(sc)->call, "app_error", "again");
	scene_pass(sc, 0);
	ck_told(&sc->one, id, ERROR_APP_ERROR, EXECUTED_YES);
}

START_TEST(an_unusable_directory_turns_it_off_and_is_tried_again_a_minute_later)
	{
		uint8_t data[4096];
		struct scene sc;
		struct pool *p;
		size_t len;

		recording_begin(&sc, true);
		p = sc.stage.pool;
		ck_assert_str_eq(recorder_state_name(p), "on");
		close(p->recorder.archive.fd);
		p->recorder.archive.fd = -1;
		ck_assert_int_eq(chmod(dir, 0777), 0); /* others may write to it */
		fail_one(&sc, 1);
		ck_assert(!recorder_is_on(p));
		ck_assert_str_eq(recorder_state_name(p), "unusable");
		ck_assert_uint_eq(p->recorder.archive.n_failures, 0); /* told in the log */
		ck_assert_int_eq(chmod(dir, 0700), 0);
		scene_pass(&sc, 59 * S);
		fail_one(&sc, 2);
		ck_assert(!recorder_is_on(p));
		ck_assert_uint_eq(records(data, sizeof(data), &len), 0);
		scene_pass(&sc, S);
		fail_one(&sc, 3);
		ck_assert_str_eq(recorder_state_name(p), "on");
		ck_assert_uint_eq(records(data, sizeof(data), &len), 1);
		recording_end(&sc);
	}
END_TEST

START_TEST(a_call_whose_arguments_were_dropped_while_it_was_off_is_not_recorded)
	{
		uint8_t data[4096];
		struct scene sc;
		struct request *r;
		size_t len;

		recording_begin(&sc, true);
		sim_execute(&sc.one, 1, 0, 0);
		scene_pass(&sc, 0);
		r = scene_worker(&sc)->slot.request;
		ck_assert_uint_gt(r->body_bytes, 0);
		r->args = (struct span){ 0 };
		slice_clear(&r->body); /* as slot_start() does with a large one */
		sim_child_reply_error(scene_child(&sc), scene_child(&sc)->call, "app_error", "again");
		scene_pass(&sc, 0);
		ck_assert_uint_eq(records(data, sizeof(data), &len), 0);
		recording_end(&sc);
	}
END_TEST

RUN_SUITE("recorder", a_call_whose_worker_died_is_one_map_with_all_that_a_worker_is_given,
	  what_a_handler_raised_is_recorded_and_what_succeeds_or_never_ran_is_not, a_deadline_while_it_runs_is_recorded,
	  nothing_is_recorded_when_it_is_off, a_storm_of_failures_is_sampled,
	  a_directory_that_cannot_be_used_hurts_no_call,
	  an_unusable_directory_turns_it_off_and_is_tried_again_a_minute_later,
	  a_call_whose_arguments_were_dropped_while_it_was_off_is_not_recorded)

#include "daemon/pool/postmortem.h"

#include <signal.h>

#include "tests/unit/pool_support.h"

/* The value of a key in a packed map. */
static struct span find(struct span map, const char *name)
{
	uint32_t pairs;

	ck_assert(mp_read_map(&map, &pairs));
	while (pairs--) {
		struct span key, value;

		ck_assert(mp_read_text(&map, &key) && mp_read_any(&map, &value));
		if (span_equals(key, name))
			return value;
	}
	ck_abort_msg("no key %s", name);
}

static void ck_exit(enum worker_why why, struct process_exit how, const char *text)
{
	struct worker w = { .why = why, .exit = how };
	char out[POSTMORTEM_TEXT];

	ck_assert_str_eq(postmortem_exit_text(&w, out), text);
}

START_TEST(fault_33_34_an_exit_is_told_in_words_and_ours_apart_from_others)
	{
		ck_exit(WORKER_WHY_CRASHED, (struct process_exit){ .known = true }, "exited with status 0");
		ck_exit(WORKER_WHY_CRASHED, (struct process_exit){ .known = true, .exit_code = 3 },
			"exited with status 3");
		ck_exit(WORKER_WHY_CRASHED,
			(struct process_exit){ .known = true, .signal = SIGSEGV, .core_dumped = true },
			"was killed by signal 11 (SIGSEGV), core dumped");
		ck_exit(WORKER_WHY_DEADLINE, (struct process_exit){ .known = true, .signal = SIGKILL },
			"was killed by pypoold (deadline, SIGKILL)");
		ck_exit(WORKER_WHY_DEADLINE, (struct process_exit){ .known = true, .signal = SIGSEGV },
			"was killed by signal 11 (SIGSEGV)");
		ck_exit(WORKER_WHY_CRASHED, (struct process_exit){ .known = true, .signal = SIGKILL },
			"was killed by signal 9 (SIGKILL) from outside of pypoold");
		ck_exit(WORKER_WHY_OOM,
			(struct process_exit){ .known = true, .signal = SIGKILL, .max_rss_kib = 300 * 1024 },
			"was killed by the kernel for want of memory (OOM killer, SIGKILL; its peak was 300 MiB)");
		ck_exit(WORKER_WHY_OOM,
			(struct process_exit){ .known = true, .signal = SIGKILL, .max_rss_kib = 1600 * 1024 },
			"was killed by the kernel for want of memory (OOM killer, SIGKILL; its peak was 1.5 GiB)");
		ck_exit(WORKER_WHY_CRASHED, (struct process_exit){ 0 }, "ended, its exit status is not known");
	}
END_TEST

START_TEST(a_death_by_the_limit_of_its_own_memory_names_the_limit)
	{
		struct pool_settings s = sim_settings();
		struct scene sc;
		struct worker *w;
		char out[POSTMORTEM_TEXT];

		s.limit_memory = 64 << 20;
		scene_prepare(&sc, &s);
		w = worker_new(sc.stage.pool, 1, false);
		w->why = WORKER_WHY_OOM;
		w->exit = (struct process_exit){ .known = true, .signal = SIGKILL, .oom = true, .max_rss_kib = 60 * 1024 };
		ck_assert_str_eq(postmortem_exit_text(w, out),
				 "was killed by the kernel for want of memory (OOM killer, SIGKILL; its peak was 60 MiB, "
				 "limit_memory of the pool allows 64 MiB)");
		w->exit = (struct process_exit){ .oom = true }; /* adopted: its cgroup alone can tell */
		ck_assert_str_eq(postmortem_exit_text(w, out),
				 "was killed by the kernel for want of memory (OOM killer, limit_memory of the pool allows 64 MiB)");
		w->exit = (struct process_exit){ 0 };
		w->why = WORKER_WHY_CRASHED;
		sc.stage.pool->in_state[WORKER_STARTING]--;
		worker_free(w);
		scene_end(&sc);
	}
END_TEST

static unsigned packed_lines(const struct tail *t, uint64_t from)
{
	msgpack_sbuffer buf;
	msgpack_packer pk;
	struct span s, key;
	uint32_t n = 0;

	msgpack_sbuffer_init(&buf);
	msgpack_packer_init(&pk, &buf, msgpack_sbuffer_write);
	postmortem_pack_lines(&pk, "output", t, from);
	s = (struct span){ .p = (const uint8_t *)buf.data, .len = buf.size };
	ck_assert(mp_read_text(&s, &key) && span_equals(key, "output") && mp_read_array(&s, &n));
	for (uint32_t i = 0; i < n; i++)
		ck_assert(mp_read_text(&s, &key));
	ck_assert_uint_eq(s.len, 0); /* as many as were promised */
	msgpack_sbuffer_destroy(&buf);
	return n;
}

START_TEST(the_last_50_lines_from_the_mark_on_are_packed)
	{
		struct tail *t = tail_new(64 * 1024, 500);

		ck_assert_uint_eq(packed_lines(NULL, 0), 0);
		ck_assert_uint_eq(packed_lines(t, 0), 0);
		for (unsigned i = 0; i < 60; i++)
			tail_add(t, TAIL_STDERR, "line\xff\n", 6, 0);
		ck_assert_uint_eq(packed_lines(t, 0), 50);
		ck_assert_uint_eq(packed_lines(t, 57), 3);
		ck_assert_uint_eq(packed_lines(t, 60), 0);
		tail_free(t);
	}
END_TEST

START_TEST(the_last_words_are_the_last_line_on_stderr_that_says_something)
	{
		struct tail *t = tail_new(64 * 1024, 500);
		struct span last;

		ck_assert_uint_eq(postmortem_last_line(t, 0).len, 0);
		tail_add(t, TAIL_STDERR, "one\ntwo\n\n", 9, 0);
		tail_add(t, TAIL_STDOUT, "three\n", 6, 0);
		last = postmortem_last_line(t, 0);
		ck_assert(span_equals(last, "two"));
		ck_assert_uint_eq(postmortem_last_line(t, 2).len, 0);
		tail_free(t);
	}
END_TEST

START_TEST(fault_34_a_death_is_told_with_the_signal_and_the_last_words_of_this_call)
	{
		struct scene sc;
		struct request *r;
		struct postmortem pm;

		scene_begin(&sc, 1);
		sim_child_print(scene_child(&sc), "of an earlier call\n");
		scene_pass(&sc, 0);
		scene_child(&sc)->script.call = SIM_CALL_MANUAL;
		sim_execute(&sc.one, 1, 0, 0);
		scene_pass(&sc, 100 * MS);
		sim_child_print(scene_child(&sc), "free(): invalid pointer\n");
		scene_pass(&sc, 0);
		r = registry_find_by_id(&sc.stage.registry, sc.one.caller.id, 1);
		scene_worker(&sc)->exit = (struct process_exit){ .known = true, .exit_code = -1, .signal = SIGABRT };
		postmortem_died(&pm, r, scene_worker(&sc));
		ck_assert_int_eq(pm.outcome.code, ERROR_WORKER_DIED);
		ck_assert_int_eq(pm.outcome.executed, EXECUTED_MAYBE);
		ck_assert_ptr_nonnull(strstr(pm.outcome.message, "SIGABRT"));
		ck_assert_ptr_nonnull(strstr(pm.outcome.message, "while it ran app.work for 100 ms"));
		ck_assert_ptr_nonnull(strstr(pm.outcome.message, "free(): invalid pointer"));
		ck_assert_ptr_null(strstr(pm.outcome.message, "earlier"));
		ck_assert_int_eq(cursor_check(pm.outcome.cause), CURSOR_DONE);
		ck_assert_uint_eq(find(pm.outcome.cause, "signal").p[find(pm.outcome.cause, "signal").len - 1],
				  SIGABRT);
		postmortem_deinit(&pm);
		scene_end(&sc);
	}
END_TEST

START_TEST(fault_34_a_crash_is_told_with_the_place_of_the_stack_that_the_signal_left)
	{
		struct scene sc;
		const struct sim_answer *a;

		scene_begin(&sc, 1);
		scene_child(&sc)->script.call = SIM_CALL_MANUAL;
		sim_execute(&sc.one, 1, 0, 0);
		scene_pass(&sc, 12 * MS);
		sim_child_write_dump(scene_child(&sc), "Fatal Python error: Segmentation fault\n\n"
						       "Current thread 0x1 (most recent call first):\n"
						       "  File \"/srv/app.py\", line 7 in crash\n");
		sim_child_print(scene_child(&sc), "going down\n");
		sim_child_die(scene_child(&sc), 0, SIGSEGV);
		scene_pass(&sc, MS);
		a = told(&sc.one, 1);
		ck_assert_str_eq(a->message,
				 "worker 1 (pid 1001) was killed by signal 11 (SIGSEGV) while it ran app.work for "
				 "12 ms, app.py line 7 in crash; its last words: going down");
		ck_assert_ptr_nonnull(strstr(sc.stage.pool->dead->proc.fatal, "Segmentation fault"));
		ck_assert(span_equals(postmortem_last_line(sc.stage.pool->dead->proc.tail, 0),
				      "  File \"/srv/app.py\", line 7 in crash")); /* for the logs */
		scene_end(&sc);
	}
END_TEST

START_TEST(who_waited_in_vain_is_told_who_held_the_workers)
	{
		struct scene sc;
		struct request *r;
		struct postmortem pm;
		uint32_t n;
		struct span workers;

		scene_begin(&sc, 1);
		scene_child(&sc)->script.call = SIM_CALL_MANUAL;
		for (uint64_t id = 1; id < 4; id++)
			sim_execute(&sc.one, id, 0, 0);
		scene_pass(&sc, 1500 * MS);
		r = registry_find_by_id(&sc.stage.registry, sc.one.caller.id, 3);
		postmortem_waited(&pm, r);
		ck_assert_int_eq(pm.outcome.executed, EXECUTED_NEVER);
		ck_assert_ptr_nonnull(strstr(pm.outcome.message, "1 of 1 busy (pid 1001: app.work for 1.5 s)"));
		ck_assert_ptr_nonnull(strstr(pm.outcome.message, "ahead of you"));
		ck_assert_int_eq(cursor_check(pm.outcome.cause), CURSOR_DONE);
		workers = find(pm.outcome.cause, "workers");
		ck_assert(mp_read_array(&workers, &n) && n == 1);
		postmortem_deinit(&pm);
		scene_end(&sc);
	}
END_TEST

START_TEST(fault_35_a_deadline_is_told_with_the_place_in_the_code)
	{
		struct scene sc;
		struct postmortem pm;
		struct glance g = { .stack = (char *)"  File \"/srv/app.py\", line 5 in slow\n",
				    .complete = true,
				    .pinged = true,
				    .look = { .state = 'R' } };

		scene_begin(&sc, 1);
		scene_child(&sc)->script.call = SIM_CALL_MANUAL;
		sim_execute(&sc.one, 1, 2 * S, 0);
		scene_pass(&sc, MS);
		postmortem_overdue(&pm, scene_worker(&sc)->slot.request, &g);
		ck_assert_int_eq(pm.outcome.code, ERROR_DEADLINE_EXCEEDED);
		ck_assert_str_eq(pm.outcome.message,
				 "deadline 2.0 s exceeded in app.work: app.py line 5 in slow, in C code that holds the GIL; it is "
				 "being interrupted, and worker 1 (pid 1001) killed if it goes on for 500 ms");
		ck_assert_int_eq(cursor_check(pm.outcome.cause), CURSOR_DONE);
		postmortem_deinit(&pm);
		postmortem_overdue(&pm, scene_worker(&sc)->slot.request, &(struct glance){ 0 });
		ck_assert_ptr_nonnull(strstr(pm.outcome.message, "did not show its stack; it is"));
		ck_assert_int_eq(cursor_check(pm.outcome.cause), CURSOR_DONE);
		postmortem_deinit(&pm);
		scene_end(&sc);
	}
END_TEST

RUN_SUITE("postmortem", fault_34_a_crash_is_told_with_the_place_of_the_stack_that_the_signal_left,
	  fault_33_34_an_exit_is_told_in_words_and_ours_apart_from_others,
	  a_death_by_the_limit_of_its_own_memory_names_the_limit,
	  the_last_50_lines_from_the_mark_on_are_packed, the_last_words_are_the_last_line_on_stderr_that_says_something,
	  fault_34_a_death_is_told_with_the_signal_and_the_last_words_of_this_call,
	  who_waited_in_vain_is_told_who_held_the_workers, fault_35_a_deadline_is_told_with_the_place_in_the_code)

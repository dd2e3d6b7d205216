#include "daemon/pool/failure.h"

#include <ctype.h>
#include <errno.h>

#include "tests/unit/pool_support.h"

/* The pool's failure after its first start has gone wrong in this way. */
static void ck_failure(enum sim_init init, int spawn_error, const char *phase, const char *const *words)
{
	struct pool_settings s = sim_settings();
	struct scene sc;
	const struct failure *f;
	struct span cause;

	s.init_timeout = 500 * MS;
	scene_prepare(&sc, &s);
	sc.stage.machine.script.init = init;
	sc.stage.machine.spawn_error = spawn_error;
	pool_start(sc.stage.pool);
	scene_pass(&sc, 600 * MS);
	f = sc.stage.pool->supply.failure;
	ck_assert_ptr_nonnull(f);
	ck_assert_str_eq(f->phase, phase);
	for (; *words; words++)
		ck_assert_msg(strstr(f->message, *words) != NULL, "no \"%s\" in: %s", *words, f->message);
	cause = (struct span){ .p = (const uint8_t *)f->cause.data, .len = f->cause.size };
	ck_assert_int_eq(cursor_check(cause), CURSOR_DONE);
	scene_end(&sc);
}

#define WORDS(...) ((const char *const[]){ __VA_ARGS__, NULL })

START_TEST(fault_51_a_program_that_is_not_there_is_named_with_the_reason)
	{
		ck_failure(SIM_INIT_READY, -ENOENT, "exec", WORDS("/usr/bin/python3", "No such file or directory"));
		ck_failure(SIM_INIT_READY, -EACCES, "exec", WORDS("Permission denied"));
	}
END_TEST

START_TEST(fault_52_an_exception_in_init_is_told_with_file_and_line)
	{
		ck_failure(SIM_INIT_FAILED, 0, "library",
			   WORDS("RuntimeError: licence server refused, app.py line 5"));
	}
END_TEST

START_TEST(fault_53_an_init_that_hangs_is_told_with_its_phase_module_and_frame)
	{
		ck_failure(SIM_INIT_HANG_LATE, 0, "imports",
			   WORDS("500 ms", "imports of app", "app.py line 5 in slow"));
	}
END_TEST

START_TEST(fault_42_a_control_channel_that_is_closed_in_init_is_told_at_once)
	{
		ck_failure(SIM_INIT_CLOSE, 0, "library",
			   WORDS("the worker closed its control channel; it was killed by pypoold (protocol, SIGKILL)",
				 "in phase library", "its last words: the app closes all fds"));
	}
END_TEST

START_TEST(a_control_message_that_is_too_large_is_told_at_once)
	{
		ck_failure(SIM_INIT_OVERSIZED, 0, "library",
			   WORDS("the worker sent a control message of over 64 KiB; it was killed by pypoold"));
	}
END_TEST

START_TEST(what_breaks_the_handshake_is_told)
	{
		ck_failure(SIM_INIT_READY_FIRST, 0, "interpreter", WORDS("the worker said ready before hello; it was"));
		ck_failure(SIM_INIT_EARLY_REPLY, 0, "library", WORDS("the worker answered a call before it was ready"));
	}
END_TEST

START_TEST(fault_55_a_death_in_init_is_told_with_its_status_and_its_last_words)
	{
		ck_failure(SIM_INIT_EXIT_EARLY, 0, "interpreter", WORDS("exited with status 3", "something broke"));
	}
END_TEST

START_TEST(a_clock_has_hours_minutes_and_seconds)
	{
		char out[16];

		failure_clock(1700000000000, out);
		ck_assert_uint_eq(strlen(out), 8);
		ck_assert(isdigit(out[0]) && out[2] == ':' && out[5] == ':' &&
			  out[7] == '0'); /* in any zone of whole minutes */
	}
END_TEST

START_TEST(nothing_is_freed_as_nothing)
	{
		ck_assert_ptr_null(failure_free(NULL));
	}
END_TEST

RUN_SUITE("failure", fault_51_a_program_that_is_not_there_is_named_with_the_reason,
	  fault_52_an_exception_in_init_is_told_with_file_and_line,
	  fault_53_an_init_that_hangs_is_told_with_its_phase_module_and_frame,
	  fault_42_a_control_channel_that_is_closed_in_init_is_told_at_once,
	  a_control_message_that_is_too_large_is_told_at_once, what_breaks_the_handshake_is_told,
	  fault_55_a_death_in_init_is_told_with_its_status_and_its_last_words, a_clock_has_hours_minutes_and_seconds,
	  nothing_is_freed_as_nothing)

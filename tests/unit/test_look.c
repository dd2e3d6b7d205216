#include "daemon/io/look.h"

#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "daemon/base/cleanup.h"
#include "daemon/io/process.h"
#include "tests/support/suite.h"

static pid_t child;

static void spin(void)
{
	for (;;)
		__asm__ volatile("");
}

static void sleep_long(void)
{
	for (;;)
		(void)nanosleep(&(struct timespec){ .tv_sec = 100 }, NULL);
}

static void read_nothing(void)
{
	int fds[2];
	char c;

	(void)!pipe(fds);
	(void)!read(fds[0], &c, 1);
}

static void stop_itself(void)
{
	(void)raise(SIGSTOP);
	spin();
}

static void begin(void (*what)(void))
{
	child = fork();
	ck_assert_int_ge(child, 0);
	if (child == 0) {
		what();
		_exit(1);
	}
}

static void finish(void)
{
	(void)kill(child, SIGKILL);
	(void)waitpid(child, NULL, 0);
}

/* Looks until the state is one of those wanted and holds for two looks, so that it is past its fork. */
static struct process_look look_for(char state, const char *name)
{
	struct process p = { .pid = child };
	struct process_look look = { 0 };
	time_t end = time(NULL) + 20;

	while (time(NULL) < end) {
		process_look(&p, &look);
		if (look.state == state && (!name || (look.syscall && strcmp(look.syscall, name) == 0)))
			return look;
		(void)sched_yield();
	}
	ck_abort_msg("state %c in %s, wanted %c", look.state, look.syscall ? look.syscall : "-", state);
}

START_TEST(a_process_that_computes_is_seen_running)
	{
		struct process_look look;

		begin(spin);
		look = look_for('R', NULL);
		ck_assert_uint_gt(process_rss(&(struct process){ .pid = child }), 0);
		ck_assert_str_eq(look.wchan, "");
		finish();
	}
END_TEST

START_TEST(a_process_that_sleeps_is_seen_in_its_system_call)
	{
		begin(sleep_long);
		ck_assert_str_eq(look_for('S', "clock_nanosleep").syscall, "clock_nanosleep");
		finish();
		begin(read_nothing);
		ck_assert_str_eq(look_for('S', "read").syscall, "read");
		finish();
	}
END_TEST

START_TEST(a_process_that_is_stopped_or_dead_is_seen_so)
	{
		begin(stop_itself);
		ck_assert_int_eq(look_for('T', NULL).state, 'T');
		(void)kill(child, SIGKILL);
		ck_assert_int_eq(look_for('Z', NULL).state, 'Z');
		finish();
	}
END_TEST

START_TEST(of_no_process_nothing_is_known)
	{
		struct process p = { 0 };
		struct process_look look = { .state = 'R' };

		process_look(&p, &look);
		ck_assert_int_eq(look.state, 0);
		ck_assert_str_eq(look.wchan, "");
		ck_assert_ptr_null(look.syscall);
		ck_assert_uint_eq(process_rss(&p), 0);
	}
END_TEST

RUN_SUITE("look", a_process_that_computes_is_seen_running,
	  a_process_that_sleeps_is_seen_in_its_system_call,
	  a_process_that_is_stopped_or_dead_is_seen_so,
	  of_no_process_nothing_is_known)

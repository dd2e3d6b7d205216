#include "daemon/front/descent.h"

#include <check.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/pidfd.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/base/cleanup.h"
#include "tests/support/child.h"
#include "tests/support/suite.h"

#define DEADLINE_MS 10000

enum { SOMEBODY = 1002 };

/* A process that waits to be killed, and whose parent has gone: none of ours, as this process is no subreaper. */
static pid_t new_stranger(void)
{
	int told[2], status;
	pid_t middle, stranger = 0;

	ck_assert_int_eq(pipe2(told, O_CLOEXEC), 0);
	middle = fork();
	if (middle == 0) {
		stranger = fork();
		if (stranger == 0) {
			(void)pause();
			_exit(0);
		}
		_exit(write(told[1], &stranger, sizeof(stranger)) == sizeof(stranger) ? 0 : 1);
	}
	ck_assert_int_eq(waitpid(middle, &status, 0), middle);
	ck_assert_int_eq(status, 0);
	ck_assert_int_eq(read(told[0], &stranger, sizeof(stranger)), sizeof(stranger));
	close(told[0]);
	close(told[1]);
	return stranger;
}

static void end_stranger(pid_t pid)
{
	_cleanup_close_ int pidfd = pidfd_open(pid, 0);
	struct pollfd ended = { .fd = pidfd, .events = POLLIN };

	ck_assert_int_ge(pidfd, 0);
	ck_assert_int_eq(kill(pid, SIGKILL), 0);
	ck_assert_int_eq(poll(&ended, 1, DEADLINE_MS), 1);
}

/* Twice, so that it is remembered. */
static void meet_stranger(struct descent *d, pid_t pid, uid_t uid)
{
	ck_assert(!descent_is_ours(d, pid, uid));
	ck_assert_int_eq(d->pidfd, -1);
	ck_assert(!descent_is_ours(d, pid, uid));
	ck_assert_int_ge(d->pidfd, 0);
	ck_assert_int_eq(d->pid, pid);
	ck_assert_uint_eq(d->uid, uid);
}

START_TEST(a_stranger_that_comes_again_is_remembered)
	{
		struct descent d = DESCENT_INIT;
		int pidfd;

		meet_stranger(&d, getppid(), 0);
		pidfd = d.pidfd;
		ck_assert_int_eq(fcntl(pidfd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
		ck_assert(!descent_is_ours(&d, getppid(), 0));
		ck_assert_int_eq(d.pidfd, pidfd);
		descent_deinit(&d);
		ck_assert_int_eq(d.pidfd, -1);
		ck_assert_int_eq(fcntl(pidfd, F_GETFD), -1);
	}
END_TEST

START_TEST(another_process_takes_the_place_of_the_one_before)
	{
		struct descent d = DESCENT_INIT;
		pid_t stranger = new_stranger();

		meet_stranger(&d, getppid(), 0);
		meet_stranger(&d, stranger, 0);
		meet_stranger(&d, getppid(), 0);
		end_stranger(stranger);
		descent_deinit(&d);
	}
END_TEST

/* Its number may be anybody's. /proc has it until it is reaped. */
START_TEST(a_stranger_that_has_ended_is_known_no_more)
	{
		struct descent d = DESCENT_INIT;
		pid_t stranger = new_stranger();

		meet_stranger(&d, stranger, SOMEBODY);
		end_stranger(stranger);
		ck_assert(descent_is_ours(&d, stranger, SOMEBODY) || d.pidfd == -1);
		descent_deinit(&d);
	}
END_TEST

START_TEST(as_another_user_it_is_looked_at_again)
	{
		struct descent d = DESCENT_INIT;

		meet_stranger(&d, getppid(), 0);
		meet_stranger(&d, getppid(), SOMEBODY);
		descent_deinit(&d);
	}
END_TEST

START_TEST(descendants_are_not_remembered_and_leave_who_is)
	{
		struct descent d = DESCENT_INIT;
		pid_t child = fork();
		int pidfd;

		if (child == 0) {
			(void)pause();
			_exit(0);
		}
		for (int i = 0; i < 3; i++)
			ck_assert(descent_is_ours(&d, child, 0));
		ck_assert_int_eq(d.pidfd, -1);
		meet_stranger(&d, getppid(), 0);
		pidfd = d.pidfd;
		ck_assert(descent_is_ours(&d, child, 0));
		ck_assert_int_eq(d.pidfd, pidfd);
		ck_assert_int_eq(d.pid, getppid());
		ck_assert_int_eq(kill(child, SIGKILL), 0);
		ck_assert_int_eq(waitpid(child, NULL, 0), child);
		descent_deinit(&d);
	}
END_TEST

/* The one that is left is enough to look at it, as a listener leaves one. */
START_TEST(fault_23_with_one_descriptor_left_it_is_a_stranger_each_time)
	{
		struct descent d = DESCENT_INIT;
		struct rlimit limit;
		int last = -1, fd;

		ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
		limit.rlim_cur = 64;
		ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
		while ((fd = open("/dev/null", O_RDONLY | O_CLOEXEC)) >= 0)
			last = fd;
		ck_assert_int_eq(close(last), 0);
		for (int i = 0; i < 4; i++)
			ck_assert(!descent_is_ours(&d, getppid(), 0));
		ck_assert_int_eq(d.pidfd, -1);
	}
END_TEST

START_TEST(outside_of_our_pid_namespace_there_is_none_of_ours)
	{
		struct descent d = DESCENT_INIT;

		for (int i = 0; i < 3; i++)
			ck_assert(!descent_is_ours(&d, 0, 0));
		ck_assert_int_eq(d.pidfd, -1);
	}
END_TEST

int main(int argc, char **argv)
{
	static const struct child_helper none[] = { { 0 } };

	if (!child_main(argc, argv, none))
		return 0;
	return SUITE_RUN("descent", NULL, NULL, a_stranger_that_comes_again_is_remembered,
			 another_process_takes_the_place_of_the_one_before, a_stranger_that_has_ended_is_known_no_more,
			 as_another_user_it_is_looked_at_again, descendants_are_not_remembered_and_leave_who_is,
			 fault_23_with_one_descriptor_left_it_is_a_stranger_each_time,
			 outside_of_our_pid_namespace_there_is_none_of_ours);
}

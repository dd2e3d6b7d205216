/* What a child starts with, and starts that fail. */
#include "tests/support/child.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

/* Every open file, as "0 1 2", without the one that reads the folder. */
static void helper_fds(void)
{
	char line[256] = "";

	for (int fd = 0; fd < 1000; fd++) {
		if (fcntl(fd, F_GETFD) >= 0)
			snprintf(line + strlen(line), sizeof(line) - strlen(line), "%d ", fd);
	}
	strcat(line, "\n");
	child_say(line);
	snprintf(line, sizeof(line), "nonblock %d %d %d %d\n", !!(fcntl(1, F_GETFL) & O_NONBLOCK),
		 !!(fcntl(3, F_GETFL) & O_NONBLOCK), !!(fcntl(4, F_GETFL) & O_NONBLOCK),
		 !!(fcntl(5, F_GETFL) & O_NONBLOCK));
	child_say(line);
}

static void check_start_fails(const char *path, uint64_t nofile, int want)
{
	char *argv[] = { (char *)path, NULL };
	struct process_spec spec = child_spec(argv);
	struct child c;
	unsigned before = io_count_fds();

	spec.limit_nofile = nofile;
	spec.die_with_daemon = true;
	ck_assert_int_eq(child_start(&c, &spec), want);
	ck_assert(!process_is_running(&c.process));
	ck_assert_int_eq(c.calls, -1);
	ck_assert_uint_eq(io_count_fds(), before);
	ck_assert_int_eq(waitpid(-1, NULL, WNOHANG), -1);
	child_deinit(&c);
}

START_TEST(fault_51_failed_exec_is_known_at_once_with_its_errno)
	{
		check_start_fails("/nonexistent/python3", 0, -ENOENT);
		check_start_fails("/etc/passwd", 0, -EACCES);
		check_start_fails("/", 0, -EACCES);
	}
END_TEST

START_TEST(fault_51_failure_before_the_exec_is_known_too)
	{
		struct rlimit limit;

		if (geteuid() == 0) /* root may raise limits, not above the kernel's */
			return;
		getrlimit(RLIMIT_NOFILE, &limit);
		check_start_fails("/bin/true", limit.rlim_max + 1, -EPERM);
	}
END_TEST

/* Each file of the plumbing in turn is the one that cannot be had. */
START_TEST(fault_61_spawn_that_fails_midway_leaks_nothing)
	{
		char *argv[] = { "/bin/true", NULL };
		struct process_spec spec = child_spec(argv);
		unsigned failed = 0, before = io_count_fds();
		struct rlimit old, limit;
		int top = open("/dev/null", O_RDONLY);
		struct child c;

		getrlimit(RLIMIT_NOFILE, &old);
		close(top);
		for (int room = 0; room < 20; room++) {
			int r;

			limit = old;
			limit.rlim_cur = (rlim_t)(top + room);
			setrlimit(RLIMIT_NOFILE, &limit);
			r = child_start(&c, &spec);
			setrlimit(RLIMIT_NOFILE, &old);
			if (r == 0) {
				io_run(child_loop);
				child_deinit(&c);
				break;
			}
			ck_assert_int_eq(r, -EMFILE);
			ck_assert(!process_is_running(&c.process));
			ck_assert_int_eq(waitpid(-1, NULL, WNOHANG), -1);
			child_deinit(&c);
			ck_assert_uint_eq(io_count_fds(), before);
			failed++;
		}
		ck_assert_uint_ge(failed, 12);
	}
END_TEST

START_TEST(fault_58_child_has_the_expected_files_and_environment)
	{
		int stray = fcntl(2, F_DUPFD, 50); /* a library's, without O_CLOEXEC */
		struct child c;

		child_start_helper(&c, "fds");
		io_run(child_loop);
		child_line_check(&c, 0, "0 1 2 3 4 5 6 ");
		child_line_check(&c, 1, "nonblock 0 0 0 1");
		child_deinit(&c);
		child_start_shell(&c, "/usr/bin/env");
		io_run(child_loop);
		for (uint64_t i = 0; i < tail_mark(c.process.tail); i++) {
			char line[300];

			child_line(&c, i, line, sizeof(line));
			ck_assert_msg(strcmp(line, "LANG=C") == 0 || strncmp(line, "PWD=", 4) == 0 ||
					      strncmp(line, "_=", 2) == 0 || strncmp(line, "OLDPWD=", 7) == 0 ||
					      strncmp(line, "SHLVL=", 6) == 0,
				      "%s", line);
		}
		child_deinit(&c);
		close(stray);
	}
END_TEST

/* The places of the child's files are taken by the daemon's own, in any order. */
START_TEST(process_starts_when_the_daemon_has_closed_its_stdio)
	{
		int saved[3];
		struct child c;

		for (int i = 0; i < 3; i++) {
			saved[i] = fcntl(i, F_DUPFD_CLOEXEC, 100);
			close(i);
		}
		child_start_helper(&c, "fds");
		io_run(child_loop);
		for (int i = 0; i < 3; i++) {
			dup2(saved[i], i);
			close(saved[i]);
		}
		child_line_check(&c, 0, "0 1 2 3 4 5 6 ");
		child_deinit(&c);
	}
END_TEST

START_TEST(process_has_default_signals_and_its_own_group)
	{
		struct child c;
		sigset_t set, old;
		char line[300];

		signal(SIGPIPE, SIG_IGN);
		signal(SIGUSR1, SIG_IGN);
		sigemptyset(&set);
		sigaddset(&set, SIGTERM);
		sigprocmask(SIG_BLOCK, &set, &old);
		/* 32 and 33 are glibc's own: its posix_spawn (make's) leaves them ignored, and nobody can set them */
		/* the mask is read by the shell itself: it blocks signals for a moment whenever it starts something */
		child_start_shell(
			&c, "while read -r line; do case $line in SigBlk*) echo \"$line\";; esac; done </proc/$$/status; "
			    "ignored=$(sed -n 's/^SigIgn:.//p' /proc/$$/status); "
			    "echo ignored $((0x$ignored & ~0x180000000)); ps -o pgid= -p $$ | tr -d ' '; echo $$");
		io_run(child_loop);
		sigprocmask(SIG_SETMASK, &old, NULL);
		child_line_check(&c, 0, "SigBlk:\t0000000000000000");
		child_line_check(&c, 1, "ignored 0");
		child_line(&c, 3, line, sizeof(line));
		child_line_check(&c, 2, line);
		child_deinit(&c);
	}
END_TEST

START_TEST(process_has_its_limits)
	{
		char *argv[] = { "/bin/sh", "-c", "ulimit -n; ulimit -v", NULL };
		struct process_spec spec = child_spec(argv);
		struct child c;

		spec.limit_nofile = 77;
		spec.limit_as = UINT64_C(1) << 32;
		ck_assert_int_eq(child_start(&c, &spec), 0);
		io_run(child_loop);
		child_line_check(&c, 0, "77");
		child_line_check(&c, 1, "4194304");
		child_deinit(&c);
	}
END_TEST

START_TEST(process_runs_as_its_user_alone)
	{
		char *argv[] = { "/bin/sh", "-c", "id -u; id -g; id -G; grep PDEATH /dev/null; exit 0", NULL };
		struct process_spec spec = child_spec(argv);
		struct child c;

		if (geteuid() != 0)
			return;
		spec.uid = 65534;
		spec.gid = 65534;
		spec.die_with_daemon = true;
		ck_assert_int_eq(child_start(&c, &spec), 0);
		io_run(child_loop);
		ck_assert_int_eq(c.how.exit_code, 0);
		child_line_check(&c, 0, "65534");
		child_line_check(&c, 1, "65534");
		child_line_check(&c, 2, "65534");
		child_deinit(&c);
	}
END_TEST

static void helper_dying_daemon(void)
{
	/* the end of its sockets comes before the signal of its parent's death: it must not leave for that */
	char *argv[] = { "/bin/sleep", "60", NULL };
	struct process_spec spec = child_spec(argv);
	struct child *c = calloc(1, sizeof(*c));

	spec.die_with_daemon = true;
	child_loop = loop_new();
	if (child_start(c, &spec) < 0)
		_exit(1);
	(void)!send(4, &c->process.pid, sizeof(pid_t), 0);
	_exit(0);
}

static pid_t killed_pid;

static void on_pid(struct process *p, struct span message)
{
	(void)p;
	memcpy(&killed_pid, message.p, sizeof(killed_pid));
}

START_TEST(fault_59_child_dies_with_the_daemon)
	{
		static const struct process_ops pid_ops = { .exited = child_on_exited,
							    .control = on_pid,
							    .control_closed = child_on_control_closed,
							    .output = child_on_output };
		struct child c;
		int status;

		prctl(PR_SET_CHILD_SUBREAPER, 1);
		child_start_helper(&c, "dying-daemon");
		c.process.ops = &pid_ops;
		io_run(child_loop);
		ck_assert_int_gt(killed_pid, 0);
		ck_assert_int_eq(waitpid(killed_pid, &status, 0), killed_pid);
		ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
		child_deinit(&c);
	}
END_TEST

int main(int argc, char **argv)
{
	static const struct child_helper helpers[] = {
		{ "fds", helper_fds },
		{ "dying-daemon", helper_dying_daemon },
		{ NULL, NULL },
	};

	if (!child_main(argc, argv, helpers))
		return 0;
	return SUITE_RUN("spawn", child_setup, child_teardown, fault_51_failed_exec_is_known_at_once_with_its_errno,
			 fault_51_failure_before_the_exec_is_known_too, fault_61_spawn_that_fails_midway_leaks_nothing,
			 fault_58_child_has_the_expected_files_and_environment,
			 process_starts_when_the_daemon_has_closed_its_stdio,
			 process_has_default_signals_and_its_own_group, process_has_its_limits,
			 process_runs_as_its_user_alone, fault_59_child_dies_with_the_daemon);
}

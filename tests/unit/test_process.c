/* The life of a child, its output and its end. */
#include "tests/support/child.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

static void helper_nonblocking_stdio(void)
{
	fcntl(1, F_SETFL, fcntl(1, F_GETFL) | O_NONBLOCK);
	fcntl(2, F_SETFL, fcntl(2, F_GETFL) | O_NONBLOCK);
	child_say("still here\n");
}

START_TEST(process_tells_exit_code_and_last_lines)
	{
		struct child c;

		child_start_shell(&c, "echo out; echo err >&2; printf open; exit 7");
		ck_assert(process_is_running(&c.process));
		ck_assert_uint_ge(c.process.exec_ns, c.process.spawned_ns);
		io_run(child_loop);
		ck_assert_uint_eq(c.exits, 1);
		ck_assert(c.how.known);
		ck_assert_int_eq(c.how.exit_code, 7);
		ck_assert_int_eq(c.how.signal, 0);
		ck_assert_uint_ne(c.how.max_rss_kib, 0);
		ck_assert_uint_eq(tail_mark(c.process.tail), 3); /* the open line too */
		ck_assert_uint_eq(c.told, 3);
		child_deinit(&c);
	}
END_TEST

START_TEST(process_tells_the_signal_that_killed_it)
	{
		struct child c;

		child_start_helper(&c, "wait");
		ck_assert_int_eq(process_signal(&c.process, SIGTERM), 0);
		io_run(child_loop);
		ck_assert_int_eq(c.how.exit_code, -1);
		ck_assert_int_eq(c.how.signal, SIGTERM);
		child_deinit(&c);
	}
END_TEST

START_TEST(process_can_be_started_again)
	{
		char *argv[] = { "/bin/true", NULL };
		struct process_spec spec = child_spec(argv);
		struct child c;

		ck_assert_int_eq(child_start(&c, &spec), 0);
		io_run(child_loop);
		cleanup_close(&c.calls);
		ck_assert_int_eq(process_start(&c.process, spawner_exec(), &spec, &c.calls), 0);
		io_run(child_loop);
		ck_assert_uint_eq(c.exits, 2);
		child_deinit(&c);
	}
END_TEST

static unsigned n_started, n_reaped, n_wanted;
static struct child crowd[8];
static struct loop_task restart;

static void on_crowd_exited(struct process *p, const struct process_exit *how)
{
	ck_assert(how->known && how->exit_code == 0);
	(void)p;
	n_reaped++;
	loop_defer(child_loop, &restart);
}

static const struct process_ops crowd_ops = { .exited = on_crowd_exited, .control_closed = child_on_control_closed };

static void on_restart(struct loop_task *t)
{
	char *argv[] = { "/bin/true", NULL };
	struct process_spec spec = child_spec(argv);

	(void)t;
	for (unsigned i = 0; i < ARRAY_SIZE(crowd) && n_started < n_wanted; i++) {
		if (process_is_running(&crowd[i].process))
			continue;
		cleanup_close(&crowd[i].calls);
		ck_assert_int_eq(process_start(&crowd[i].process, spawner_exec(), &spec, &crowd[i].calls), 0);
		n_started++;
	}
	if (n_reaped == n_wanted)
		loop_stop(child_loop);
}

START_TEST(fault_56_process_that_exits_before_it_is_watched_is_reaped)
	{
		n_wanted = 2000;
		restart.run = on_restart;
		for (unsigned i = 0; i < ARRAY_SIZE(crowd); i++) {
			child_init(&crowd[i]);
			crowd[i].process.ops = &crowd_ops;
		}
		loop_defer(child_loop, &restart);
		io_run(child_loop);
		ck_assert_uint_eq(n_reaped, 2000);
		for (unsigned i = 0; i < ARRAY_SIZE(crowd); i++)
			child_deinit(&crowd[i]);
	}
END_TEST

START_TEST(fault_40_ten_mebibytes_of_stderr_are_drained)
	{
		struct child c;

		child_start_shell(
			&c, "yes 0123456789012345678901234567890123456789012345678901234567890 | head -c 10485760 "
			    ">&2; echo >&2; echo done >&2");
		io_run(child_loop);
		ck_assert_int_eq(c.how.exit_code, 0);
		ck_assert_uint_gt(tail_mark(c.process.tail), 160000);
		child_line_check(&c, tail_mark(c.process.tail) - 1, "done");
		child_deinit(&c);
	}
END_TEST

static uint64_t n_seen; /* lines */

static void on_output_seen(struct process *p)
{
	struct tail_line line;

	while (n_seen < tail_mark(p->tail)) {
		ck_assert(tail_next(p->tail, n_seen, &line) && line.number == n_seen);
		n_seen++;
	}
}

START_TEST(no_line_is_pushed_out_before_it_is_seen)
	{
		static const struct process_ops ops = { .exited = child_on_exited,
							.output = on_output_seen,
							.control_closed = child_on_control_closed };
		char *argv[] = { "/bin/sh", "-c", "yes | head -n 100000; yes $(seq 2000) | head -n 100", NULL };
		struct process_spec spec = child_spec(argv);
		struct child c;

		n_seen = 0;
		ck_assert_int_eq(child_start(&c, &spec), 0);
		c.process.ops = &ops;
		io_run(child_loop);
		ck_assert_uint_eq(n_seen, tail_mark(c.process.tail));
		ck_assert_uint_gt(n_seen, 100000);
		child_deinit(&c);
	}
END_TEST

static pid_t line_pid(const struct child *c, uint64_t number)
{
	char line[32];

	child_line(c, number, line, sizeof(line));
	ck_assert_int_gt(atoi(line), 1);
	return atoi(line);
}

START_TEST(fault_43_grandchild_that_keeps_the_pipes_does_not_delay_the_exit)
	{
		struct child c;
		pid_t orphan;
		int status;

		prctl(PR_SET_CHILD_SUBREAPER, 1);
		child_start_shell(&c, "setsid sleep 20 & echo $!; exit 3");
		io_run(child_loop);
		ck_assert_int_eq(c.how.exit_code, 3);
		orphan = line_pid(&c, 0);
		child_deinit(&c);
		ck_assert_int_eq(kill(orphan, SIGKILL), 0); /* it was alive: it is not in the group */
		ck_assert_int_eq(waitpid(orphan, &status, 0), orphan);
	}
END_TEST

START_TEST(process_takes_its_group_with_it)
	{
		struct child c;
		pid_t orphan;
		int status;

		prctl(PR_SET_CHILD_SUBREAPER, 1);
		child_start_shell(&c, "sleep 20 & echo $!; exit 0");
		io_run(child_loop);
		orphan = line_pid(&c, 0);
		ck_assert_int_eq(waitpid(orphan, &status, 0), orphan);
		ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
		child_deinit(&c);
	}
END_TEST

START_TEST(process_group_is_signalled_as_a_whole)
	{
		struct child c;
		int status;

		prctl(PR_SET_CHILD_SUBREAPER, 1);
		child_start_shell(&c, "sleep 20 & echo $!; echo >&4; wait");
		c.stop_at_packet = true;
		io_run(child_loop);
		ck_assert_int_eq(process_signal_group(&c.process, SIGTERM), 0);
		io_run(child_loop);
		ck_assert_int_eq(c.how.signal, SIGTERM);
		ck_assert_int_gt(waitpid(line_pid(&c, 0), &status, 0), 0);
		ck_assert_int_eq(WTERMSIG(status), SIGTERM);
		child_deinit(&c);
	}
END_TEST

START_TEST(fault_44_nonblocking_stdio_of_the_child_changes_nothing)
	{
		struct child c;

		child_start_helper(&c, "nonblocking-stdio");
		io_run(child_loop);
		ck_assert_int_eq(c.how.exit_code, 0);
		child_line_check(&c, 0, "still here");
		child_deinit(&c);
	}
END_TEST

START_TEST(process_that_closes_its_output_lives_on)
	{
		struct child c;

		child_start_shell(&c, "exec >&- 2>&-; echo x >&4; read x <&3; exit 5");
		c.stop_at_packet = true;
		io_run(child_loop);
		ck_assert(process_is_running(&c.process));
		shutdown(c.calls, SHUT_RDWR);
		io_run(child_loop);
		ck_assert_int_eq(c.how.exit_code, 5);
		child_deinit(&c);
	}
END_TEST

int main(int argc, char **argv)
{
	static const struct child_helper helpers[] = {
		{ "nonblocking-stdio", helper_nonblocking_stdio },
		{ NULL, NULL },
	};

	if (!child_main(argc, argv, helpers))
		return 0;
	return SUITE_RUN("process", child_setup, child_teardown, process_tells_exit_code_and_last_lines,
			 process_tells_the_signal_that_killed_it, process_can_be_started_again,
			 fault_56_process_that_exits_before_it_is_watched_is_reaped,
			 fault_40_ten_mebibytes_of_stderr_are_drained, no_line_is_pushed_out_before_it_is_seen,
			 fault_43_grandchild_that_keeps_the_pipes_does_not_delay_the_exit,
			 process_takes_its_group_with_it, process_group_is_signalled_as_a_whole,
			 fault_44_nonblocking_stdio_of_the_child_changes_nothing,
			 process_that_closes_its_output_lives_on);
}

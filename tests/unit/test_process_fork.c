/* Processes that another process of ours forks, which is a C program here: it does with each packet what its text says. */
#include "tests/support/child.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define N_FDS 6 /* stdout, stderr, calls, control, dump, page */

/* --- the template --- */

static void block_signals(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigaddset(&set, SIGUSR2);
	sigprocmask(SIG_BLOCK, &set, NULL);
}

/* Tells of the page at SIGUSR1, dumps at SIGUSR2, and gives back what it reads. */
static void serve(void)
{
	const volatile uint64_t *page = mmap(NULL, 4096, PROT_READ, MAP_SHARED, 6, 0);
	sigset_t set;
	char c;
	int sig;

	sigprocmask(SIG_SETMASK, NULL, &set);
	dprintf(1, "out\n");
	dprintf(2, "err\n");
	(void)!send(4, "hello", 5, 0);
	sigwait(&set, &sig);
	dprintf(1, "signal %d, call %d, reason %d\n", sig, (int)page[0], (int)page[1]);
	sigwait(&set, &sig);
	(void)!write(5, "a stack\n\f", 9);
	while (read(3, &c, 1) == 1)
		(void)!write(3, &c, 1);
}

static void do_as_told(const char *text)
{
	char packet[16];

	if (strcmp(text, "serve") == 0)
		serve();
	else if (strcmp(text, "crash") == 0)
		raise(SIGKILL);
	else if (strcmp(text, "await") == 0)
		_exit(recv(4, packet, sizeof(packet), 0) == 0 ? 5 : 6);
	_exit(7);
}

static void be_child(const int *fds, const char *text)
{
	int high[N_FDS];

	setpgid(0, 0);
	for (int i = 0; i < N_FDS; i++)
		high[i] = fcntl(fds[i], F_DUPFD, 100);
	for (int i = 0; i < N_FDS; i++) {
		dup2(high[i], i + 1);
		close(high[i]);
		close(fds[i]);
	}
	do_as_told(text);
}

static void fork_child(const int *fds, const char *text)
{
	long pid = syscall(SYS_clone, CLONE_PARENT | SIGCHLD, 0, 0, 0, 0);
	char answer[16];
	int n;

	if (pid == 0)
		be_child(fds, text);
	n = snprintf(answer, sizeof(answer), "%ld", pid);
	(void)!send(4, answer, (size_t)n, 0);
}

static void helper_template(void)
{
	char text[16], control[CMSG_SPACE(2 * N_FDS * sizeof(int))];

	block_signals();
	for (;;) {
		struct iovec iov = { .iov_base = text, .iov_len = sizeof(text) - 1 };
		struct msghdr m = {
			.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)
		};
		ssize_t n = recvmsg(4, &m, 0);
		const struct cmsghdr *c = CMSG_FIRSTHDR(&m);
		int fds[N_FDS];

		if (n <= 0 || !c || c->cmsg_len != CMSG_LEN(sizeof(fds)))
			return;
		text[n] = '\0';
		memcpy(fds, CMSG_DATA(c), sizeof(fds));
		fork_child(fds, text);
		for (int i = 0; i < N_FDS; i++)
			close(fds[i]);
	}
}

/* --- the tests --- */

static struct child template;

static void template_begin(void)
{
	child_start_helper(&template, "template");
	template.stop_at_packet = true;
}

static void template_end(void)
{
	cleanup_close(&template.calls);
	(void)process_signal(&template.process, SIGKILL);
	while (!template.exits)
		io_run(child_loop);
	child_deinit(&template);
}

static int ask(struct child *c, const char *text)
{
	child_init(c);
	return process_fork(&c->process, &template.process, text, strlen(text), &c->calls);
}

/* What the template answers. */
static pid_t answer(void)
{
	unsigned before = template.packets;

	while (template.packets == before)
		io_run(child_loop);
	ck_assert_int_gt(atoi(template.packet), 1);
	return (pid_t)atoi(template.packet);
}

static void run_to_exit(const struct child *c)
{
	while (!c->exits)
		io_run(child_loop);
}

/* It is dead, and not reaped. */
static void await_zombie(pid_t pid)
{
	siginfo_t si;

	ck_assert_int_eq(waitid(P_PID, (id_t)pid, &si, WEXITED | WNOWAIT), 0);
}

static void on_usr1_told(struct process *p)
{
	child_on_output(p);
	loop_stop(child_loop);
}

static void run_until_lines(const struct child *c, uint64_t n)
{
	while (tail_mark(c->process.tail) < n)
		io_run(child_loop);
}

START_TEST(process_that_was_forked_has_the_plumbing_of_one_that_was_started)
	{
		struct process_ops ops;
		struct child c;
		char byte = 'x', line[64];

		template_begin();
		ck_assert_int_eq(ask(&c, "serve"), 0);
		ops = *c.process.ops;
		ops.output = on_usr1_told;
		c.process.ops = &ops;
		ck_assert(!process_is_running(&c.process));
		ck_assert_int_eq(process_signal(&c.process, SIGKILL), -ESRCH);
		ck_assert_int_eq(process_born(&c.process, answer()), 0);
		ck_assert(process_is_running(&c.process));
		ck_assert_uint_ge(c.process.exec_ns, c.process.spawned_ns);

		run_until_lines(&c, 2); /* "out" and "err", one after the other on two pipes */
		c.stop_at_packet = true;
		while (!c.packets)
			io_run(child_loop);
		ck_assert_str_eq(c.packet, "hello");

		ck_assert_int_eq(process_interrupt(&c.process, 12, 3), 0);
		run_until_lines(&c, 3);
		child_line(&c, 2, line, sizeof(line));
		ck_assert_int_eq(strncmp(line, "signal 10, call 12, reason 3", 28), 0);
		c.stop_at_dump = true;
		process_dump(&c.process, 20 * NS_PER_S);
		while (!c.dumps)
			io_run(child_loop);
		ck_assert(c.dump_complete);
		ck_assert_str_eq(c.dump, "a stack\n");

		ck_assert_int_eq(write(c.calls, &byte, 1), 1);
		byte = 0;
		ck_assert_int_eq(fcntl(c.calls, F_SETFL, 0), 0);
		ck_assert_int_eq(read(c.calls, &byte, 1), 1);
		ck_assert_int_eq(byte, 'x');
		cleanup_close(&c.calls);
		c.calls = -1;
		run_to_exit(&c);
		ck_assert_int_eq(c.how.exit_code, 7);
		child_deinit(&c);
		template_end();
	}
END_TEST

START_TEST(fault_87_its_exit_status_is_known)
	{
		static const struct {
			const char *text;
			int exit_code, signal;
		} ends[] = { { "exit", 7, 0 }, { "crash", -1, SIGKILL } };

		template_begin();
		for (unsigned i = 0; i < 2 * ARRAY_SIZE(ends); i++) {
			struct child c;
			pid_t pid;

			ck_assert_int_eq(ask(&c, ends[i / 2].text), 0);
			pid = answer();
			if (i % 2)
				await_zombie(pid); /* also when it is dead before we look for it */
			ck_assert_int_eq(process_born(&c.process, pid), 0);
			run_to_exit(&c);
			ck_assert(c.how.known);
			ck_assert_int_eq(c.how.exit_code, ends[i / 2].exit_code);
			ck_assert_int_eq(c.how.signal, ends[i / 2].signal);
			ck_assert_int_eq(waitpid(pid, NULL, WNOHANG), -1); /* reaped */
			child_deinit(&c);
		}
		template_end();
	}
END_TEST

START_TEST(it_outlives_the_process_that_has_forked_it)
	{
		struct child c;

		template_begin();
		ck_assert_int_eq(ask(&c, "await"), 0);
		ck_assert_int_eq(process_born(&c.process, answer()), 0);
		template_end();
		ck_assert_uint_eq(c.exits, 0);
		ck_assert_int_eq(process_control_send(&c.process, "x", 1), 0);
		run_to_exit(&c);
		ck_assert_int_eq(c.how.exit_code, 6);
		child_deinit(&c);
	}
END_TEST

START_TEST(a_pid_that_is_no_child_of_ours_is_refused_and_nothing_is_left)
	{
		const pid_t strangers[] = { getpid(), getppid(), 1, 0, -1, 0x7fffffff };
		unsigned before;
		struct child c;
		pid_t pid;

		template_begin();
		before = io_count_fds();
		for (unsigned i = 0; i < ARRAY_SIZE(strangers); i++) {
			ck_assert_int_eq(ask(&c, "await"), 0);
			pid = answer();
			ck_assert_int_eq(process_born(&c.process, strangers[i]), -ECHILD);
			ck_assert(!process_is_running(&c.process));
			ck_assert_int_eq(process_control_send(&c.process, "x", 1), -EPIPE);
			child_deinit(&c);
			ck_assert_uint_eq(io_count_fds(), before);
			ck_assert_int_eq(waitpid(pid, NULL, 0), pid); /* the true one finds its control at its end */
		}
		template_end();
	}
END_TEST

START_TEST(when_it_cannot_be_watched_for_want_of_files_that_is_said)
	{
		struct rlimit limit, few;
		struct child c;
		pid_t pid;

		template_begin();
		ck_assert_int_eq(ask(&c, "await"), 0);
		pid = answer();
		ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
		few = (struct rlimit){ .rlim_cur = 3, .rlim_max = limit.rlim_max };
		ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &few), 0);
		ck_assert_int_eq(process_born(&c.process, pid), -EMFILE);
		ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
		ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
		child_deinit(&c);
		template_end();
	}
END_TEST

START_TEST(one_that_nobody_wants_any_more_finds_its_control_channel_at_its_end)
	{
		unsigned before;
		struct child c;
		int status;
		pid_t pid;

		template_begin();
		before = io_count_fds();
		ck_assert_int_eq(ask(&c, "await"), 0);
		ck_assert_uint_gt(io_count_fds(), before);
		process_unborn(&c.process);
		cleanup_close(&c.calls);
		c.calls = -1;
		ck_assert_uint_eq(io_count_fds(), before);
		process_unborn(&c.process); /* again: nothing to do */
		pid = answer();
		ck_assert_int_eq(waitpid(pid, &status, 0), pid);
		ck_assert_int_eq(WEXITSTATUS(status), 5);
		child_deinit(&c);
		template_end();
	}
END_TEST

START_TEST(what_is_sent_to_it_before_it_is_born_waits_for_it)
	{
		struct child c;

		template_begin();
		ck_assert_int_eq(process_signal(&template.process, SIGSTOP), 0);
		ck_assert_int_eq(ask(&c, "await"), 0);
		ck_assert_int_eq(process_control_send(&c.process, "init", 4), 0);
		ck_assert_int_eq(process_signal(&template.process, SIGCONT), 0);
		ck_assert_int_eq(process_born(&c.process, answer()), 0);
		run_to_exit(&c);
		ck_assert_int_eq(c.how.exit_code, 6);
		child_deinit(&c);
		template_end();
	}
END_TEST

START_TEST(nobody_can_be_asked_when_the_template_is_gone)
	{
		unsigned before;
		struct child c;

		template_begin();
		before = io_count_fds();
		ck_assert_int_eq(process_signal(&template.process, SIGKILL), 0);
		await_zombie(template.process.pid); /* which we have not seen */
		ck_assert_int_eq(ask(&c, "await"), -EPIPE);
		ck_assert_uint_eq(io_count_fds(), before);
		child_deinit(&c);
		template_end();
		ck_assert_int_eq(ask(&c, "await"), -EPIPE);
		child_deinit(&c);
	}
END_TEST

START_TEST(fault_61_a_fork_that_cannot_be_asked_for_leaves_nothing)
	{
		static struct child many[1000];
		struct rlimit limit, few;
		unsigned n = 0, before;
		int r;

		template_begin();
		ck_assert_int_eq(process_signal(&template.process, SIGSTOP), 0); /* it does not read */
		ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
		few = (struct rlimit){ .rlim_cur = 100, .rlim_max = limit.rlim_max };
		ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &few), 0);
		before = io_count_fds();
		while ((r = ask(&many[n], "await")) == 0)
			n++;
		ck_assert_int_eq(r, -EMFILE);
		ck_assert_uint_gt(n, 5);
		child_deinit(&many[n]);
		for (unsigned i = 0; i < n; i++)
			child_deinit(&many[i]);
		ck_assert_uint_eq(io_count_fds(), before);

		ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
		for (n = 0; n < ARRAY_SIZE(many) && (r = ask(&many[n], "await")) == 0; n++) {
			cleanup_close(&many[n].calls);
			many[n].calls = -1;
			process_unborn(&many[n].process); /* its other ends lie in the socket */
			child_deinit(&many[n]);
		}
		ck_assert_int_lt(r, 0);
		ck_assert(r == -EAGAIN || r == -ETOOMANYREFS);
		child_deinit(&many[n]);
		ck_assert_uint_eq(io_count_fds(), before);
		template_end();
	}
END_TEST

int main(int argc, char **argv)
{
	static const struct child_helper helpers[] = {
		{ "template", helper_template },
		{ NULL, NULL },
	};

	if (!child_main(argc, argv, helpers))
		return 0;
	return SUITE_RUN("process_fork", child_setup, child_teardown,
			 process_that_was_forked_has_the_plumbing_of_one_that_was_started,
			 fault_87_its_exit_status_is_known, it_outlives_the_process_that_has_forked_it,
			 a_pid_that_is_no_child_of_ours_is_refused_and_nothing_is_left,
			 when_it_cannot_be_watched_for_want_of_files_that_is_said,
			 one_that_nobody_wants_any_more_finds_its_control_channel_at_its_end,
			 what_is_sent_to_it_before_it_is_born_waits_for_it,
			 nobody_can_be_asked_when_the_template_is_gone,
			 fault_61_a_fork_that_cannot_be_asked_for_leaves_nothing);
}

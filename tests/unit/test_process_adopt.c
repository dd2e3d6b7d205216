/* Processes that another daemon has started. That daemon is this program itself: it forgets them, and finds what was stored. */
#include "tests/support/child.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/base/cleanup.h"
#include "daemon/io/remains.h"

#define NAME "kept-w1"

/* --- what runs --- */

/* Says something on each of its ways out, and then does what its control socket says. */
static void helper_serve(void)
{
	const volatile uint64_t *page = mmap(NULL, 4096, PROT_READ, MAP_SHARED, 6, 0);
	char text[32];
	ssize_t n;

	(void)!send(4, "before", 6, 0);
	while ((n = recv(4, text, sizeof(text) - 1, 0)) > 0) {
		text[n] = '\0';
		if (strcmp(text, "exit") == 0)
			_exit(9);
		dprintf(1, "%s %d\n", text, (int)page[2]);
		(void)!send(4, text, (size_t)n, 0);
	}
	_exit(n == 0 ? 5 : 6);
}

/* --- a daemon that is gone --- */

static void store(struct named_fds *left, const int *fds, unsigned n)
{
	for (unsigned i = n; i-- > 0;) /* in another order than they went */
		named_fds_add(left, NAME, fcntl(fds[i], F_DUPFD_CLOEXEC, 3));
}

/* Of one that runs; what it has said has not been read. */
static pid_t leave(struct remains *r, struct named_fds *left)
{
	struct child c;
	pid_t pid;
	int fds[PROCESS_FDS];
	unsigned n;

	child_start_helper(&c, "serve");
	remains_of(r, &c.process, fds, &n);
	ck_assert_uint_eq(n, PROCESS_FDS);
	store(left, fds, n);
	pid = c.process.pid;
	c.process.pid = 0; /* nobody has reaped it */
	child_deinit(&c);
	return pid;
}

static void await_readable(int fd)
{
	char byte;

	ck_assert_int_eq(fcntl(fd, F_SETFL, 0), 0);
	ck_assert_int_gt(recv(fd, &byte, 1, MSG_PEEK), 0);
	ck_assert_int_eq(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
}

static int adopt(struct child *c, pid_t pid, int fds[PROCESS_FDS])
{
	int old_calls[PROCESS_OLD_CALLS];

	memset(old_calls, -1, sizeof(old_calls));
	return process_adopt(&c->process, pid, fds, old_calls, &c->calls);
}

static void run_to_packet(struct child *c)
{
	c->stop_at_packet = true;
	for (unsigned before = c->packets; c->packets == before;)
		io_run(child_loop);
}

static void run_to_exit(const struct child *c)
{
	while (!c->exits)
		io_run(child_loop);
}

START_TEST(it_is_gone_on_with_as_if_it_had_been_started)
	{
		struct named_fds left = { 0 };
		struct remains r;
		int fds[PROCESS_FDS];
		struct child c;
		pid_t pid = leave(&r, &left);
		char line[64], byte = 'x';

		ck_assert(remains_find(&r, &left, NAME, fds));
		await_readable(fds[PROCESS_FD_CONTROL]);
		child_init(&c);
		ck_assert_int_eq(adopt(&c, r.pid, fds), 0);
		ck_assert_int_eq(c.process.pid, pid);
		ck_assert(!c.process.foreign);
		ck_assert_uint_eq(process_noted_call(&c.process), 0);
		process_note_call(&c.process, 77, 1234, 0);
		ck_assert_uint_eq(process_noted_call(&c.process), 77);
		ck_assert_uint_eq(process_noted_deadline(&c.process), 1234);

		ck_assert_int_eq(process_control_send(&c.process, "again", 5), 0);
		run_to_packet(&c);
		ck_assert_uint_eq(c.packets, 1);
		ck_assert_str_eq(c.packet, "again"); /* what it had said before is thrown away */
		process_drain_output(&c.process);
		child_line(&c, 0, line, sizeof(line));
		ck_assert_int_eq(strncmp(line, "again 77", 8), 0);

		ck_assert_int_eq(write(c.calls, &byte, 1), 1);
		ck_assert_int_eq(read(c.process.new_calls, &byte, 1), 1); /* the two ends of one socket */
		ck_assert_int_eq(process_control_send(&c.process, "exit", 4), 0);
		run_to_exit(&c);
		ck_assert(c.how.known);
		ck_assert_int_eq(c.how.exit_code, 9);
		child_deinit(&c);
		named_fds_deinit(&left);
	}
END_TEST

START_TEST(the_call_sockets_that_it_may_have_are_held_until_it_has_the_new_one)
	{
		struct named_fds left = { 0 };
		struct remains r;
		int fds[PROCESS_FDS], old_calls[PROCESS_OLD_CALLS], pair[2];
		struct child c;
		pid_t pid = leave(&r, &left);
		char byte;

		memset(old_calls, -1, sizeof(old_calls));
		ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair), 0);
		old_calls[3] = pair[0];
		ck_assert(remains_find(&r, &left, NAME, fds));
		child_init(&c);
		ck_assert_int_eq(process_adopt(&c.process, pid, fds, old_calls, &c.calls), 0);
		ck_assert_int_eq(read(pair[1], &byte, 1), -1);
		ck_assert_int_eq(errno, EAGAIN);
		ck_assert_int_eq(process_send_calls(&c.process, "new", 3), 0);
		ck_assert_int_eq(c.process.new_calls, -1); /* it is the process's alone */
		ck_assert_int_eq(read(pair[1], &byte, 1), -1);
		process_drop_old_calls(&c.process);
		ck_assert_int_eq(read(pair[1], &byte, 1), 0);
		close(pair[1]);
		ck_assert_int_eq(process_control_send(&c.process, "exit", 4), 0);
		run_to_exit(&c);
		child_deinit(&c);
		named_fds_deinit(&left);
	}
END_TEST

/* It is stopped, and told of a new channel when there is no room for that. Its pid. A worker's control socket is as full when it
 * was deep in C code while many of its sessions ended. */
static pid_t adopt_full(struct child *c, struct named_fds *left)
{
	struct remains r;
	int fds[PROCESS_FDS];
	siginfo_t si;
	pid_t pid = leave(&r, left);

	ck_assert_int_eq(kill(pid, SIGSTOP), 0);
	ck_assert_int_eq(waitid(P_PID, (id_t)pid, &si, WSTOPPED | WNOWAIT), 0);
	ck_assert(remains_find(&r, left, NAME, fds));
	while (send(fds[PROCESS_FD_CONTROL], "old", 3, MSG_DONTWAIT) == 3)
		;
	ck_assert_int_eq(errno, EAGAIN);
	child_init(c);
	ck_assert_int_eq(adopt(c, r.pid, fds), 0);
	ck_assert_int_eq(process_send_calls(&c->process, "new", 3), 0);
	return pid;
}

START_TEST(one_whose_control_socket_is_full_is_sent_the_new_one_when_there_is_room)
	{
		struct named_fds left = { 0 };
		struct child c;
		pid_t pid = adopt_full(&c, &left);

		ck_assert_int_eq(kill(pid, SIGCONT), 0);
		while (strcmp(c.packet, "new") != 0)
			run_to_packet(&c);
		ck_assert_int_eq(c.process.new_calls, -1);
		ck_assert_int_eq(c.process.control.events, LOOP_READ);
		ck_assert_int_eq(process_control_send(&c.process, "exit", 4), 0);
		run_to_exit(&c);
		child_deinit(&c);
		named_fds_deinit(&left);
	}
END_TEST

START_TEST(one_that_dies_with_its_control_socket_full_leaves_nothing)
	{
		struct named_fds left = { 0 };
		struct child c;
		pid_t pid = adopt_full(&c, &left);

		ck_assert_int_eq(kill(pid, SIGKILL), 0);
		run_to_exit(&c);
		child_deinit(&c);
		named_fds_deinit(&left);
	}
END_TEST

START_TEST(one_that_died_meanwhile_ends_at_once)
	{
		struct named_fds left = { 0 };
		struct remains r;
		int fds[PROCESS_FDS];
		struct child c;
		siginfo_t si;
		pid_t pid = leave(&r, &left);

		ck_assert_int_eq(kill(pid, SIGKILL), 0);
		ck_assert_int_eq(waitid(P_PID, (id_t)pid, &si, WEXITED | WNOWAIT), 0);
		ck_assert(remains_find(&r, &left, NAME, fds));
		child_init(&c);
		ck_assert_int_eq(adopt(&c, r.pid, fds), 0);
		run_to_exit(&c);
		ck_assert_int_eq(c.how.signal, SIGKILL);
		child_deinit(&c);
		named_fds_deinit(&left);
	}
END_TEST

/* Another process has its number perhaps. */
START_TEST(fault_57_one_that_was_reaped_meanwhile_is_refused_and_nothing_is_left)
	{
		unsigned before = io_count_fds();
		struct named_fds left = { 0 };
		struct remains r;
		int fds[PROCESS_FDS];
		struct child c;
		pid_t pid = leave(&r, &left);

		ck_assert_int_eq(kill(pid, SIGKILL), 0);
		ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
		ck_assert(remains_find(&r, &left, NAME, fds));
		child_init(&c);
		ck_assert_int_eq(adopt(&c, r.pid, fds), -ESRCH);
		ck_assert(!process_is_running(&c.process));
		child_deinit(&c);
		named_fds_deinit(&left);
		ck_assert_uint_eq(io_count_fds(), before);
	}
END_TEST

/* Its pidfd has been ours all the time: who else has reaped it is its parent. */
START_TEST(one_that_was_reaped_during_an_upgrade_ends_at_once)
	{
		struct named_fds left = { 0 };
		struct remains r;
		int fds[PROCESS_FDS];
		struct child c;
		pid_t pid = leave(&r, &left);

		ck_assert_int_eq(kill(pid, SIGKILL), 0);
		ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
		ck_assert(remains_find(&r, &left, NAME, fds));
		child_init(&c);
		ck_assert_int_eq(process_go_on(&c.process, r.pid, fds), 0);
		ck_assert(c.process.foreign);
		run_to_exit(&c);
		ck_assert(!c.how.known);
		child_deinit(&c);
		named_fds_deinit(&left);
	}
END_TEST

START_TEST(a_pidfd_of_another_process_is_refused)
	{
		struct named_fds left = { 0 };
		struct remains r;
		int fds[PROCESS_FDS];
		struct child c;
		pid_t pid = leave(&r, &left);

		ck_assert(remains_find(&r, &left, NAME, fds));
		child_init(&c);
		ck_assert_int_eq(adopt(&c, getpid(), fds), -ESRCH);
		child_deinit(&c);
		named_fds_deinit(&left);
		ck_assert_int_eq(waitpid(pid, NULL, 0), pid); /* it finds its control socket at its end */
	}
END_TEST

START_TEST(a_page_that_is_none_is_refused)
	{
		struct named_fds left = { 0 };
		struct remains r;
		int fds[PROCESS_FDS];
		struct child c;
		pid_t pid = leave(&r, &left);

		ck_assert(remains_find(&r, &left, NAME, fds));
		cleanup_close(&fds[PROCESS_FD_PAGE]);
		fds[PROCESS_FD_PAGE] = eventfd(0, EFD_CLOEXEC);
		child_init(&c);
		ck_assert_int_lt(adopt(&c, r.pid, fds), 0);
		child_deinit(&c);
		named_fds_deinit(&left);
		ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
	}
END_TEST

/* --- a child of another process: its exit status is its parent's --- */

struct stranger {
	pid_t parent, pid;
	int control; /* its end */
	int member;  /* of its group: gives back what it reads */
};

static void be_member(int fd, int report)
{
	pid_t leader = getppid();
	char byte;

	(void)!write(report, &leader, sizeof(leader));
	while (read(fd, &byte, 1) == 1)
		(void)!write(fd, &byte, 1);
	_exit(0);
}

static struct stranger stranger_new(int fds[PROCESS_FDS])
{
	struct stranger s;
	int report[2], control[2], member[2];

	for (unsigned i = 0; i < PROCESS_FDS; i++)
		fds[i] = -1;
	ck_assert_int_eq(pipe2(report, O_CLOEXEC), 0);
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, control), 0);
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, member), 0);
	s.parent = fork();
	if (s.parent == 0) {
		pid_t pid;

		close(member[0]); /* the test's alone: its end is theirs */
		pid = fork();

		if (pid == 0) {
			setpgid(0, 0);
			if (fork() == 0)
				be_member(member[1], report[1]);
			close(member[1]);
			for (;;)
				pause();
		}
		close(member[1]);
		for (;;)
			pause();
	}
	ck_assert_int_eq(read(report[0], &s.pid, sizeof(s.pid)), sizeof(s.pid));
	close(report[0]);
	close(report[1]);
	close(member[1]);
	s.member = member[0];
	s.control = control[1];
	fds[PROCESS_FD_CONTROL] = control[0];
	fds[PROCESS_FD_PIDFD] = pidfd_open(s.pid, 0);
	fds[PROCESS_FD_PAGE] = memfd_create("page", MFD_CLOEXEC);
	ck_assert_int_eq(ftruncate(fds[PROCESS_FD_PAGE], 4096), 0);
	return s;
}

START_TEST(how_another_ones_child_ends_is_not_known_and_its_group_is_left_alone)
	{
		int fds[PROCESS_FDS];
		struct stranger s = stranger_new(fds);
		struct child c;
		char byte = 'x';

		child_init(&c);
		ck_assert_int_eq(adopt(&c, s.pid, fds), 0);
		ck_assert(c.process.foreign);
		ck_assert_int_eq(process_signal(&c.process, SIGKILL), 0);
		run_to_exit(&c);
		ck_assert(!c.how.known);
		ck_assert_int_eq(c.how.exit_code, -1);
		ck_assert_int_eq(send(s.member, &byte, 1, MSG_NOSIGNAL), 1); /* the number may be another's by now */
		ck_assert_int_eq(read(s.member, &byte, 1), 1);
		close(s.member);
		(void)kill(s.parent, SIGKILL);
		ck_assert_int_eq(waitpid(s.parent, NULL, 0), s.parent);
		child_deinit(&c);
		close(s.control);
	}
END_TEST

/* --- what is left --- */

START_TEST(remains_are_told_apart_whatever_their_order)
	{
		struct named_fds left = { 0 };
		struct remains one, two;
		int fds[PROCESS_FDS];
		pid_t pids[2];

		pids[0] = leave(&one, &left);
		pids[1] = leave(&two, &left); /* under the same name: the files decide */
		ck_assert_uint_eq(left.n, 2 * PROCESS_FDS);
		ck_assert(remains_find(&two, &left, NAME, fds));
		for (unsigned i = PROCESS_FD_CONTROL; i < PROCESS_FDS; i++) {
			struct stat st;

			ck_assert_int_eq(fstat(fds[i], &st), 0);
			ck_assert_uint_eq(st.st_ino, two.files[i].inode);
		}
		for (unsigned i = 0; i < PROCESS_FDS; i++)
			close(fds[i]);
		ck_assert(!remains_find(&two, &left, NAME, fds)); /* taken */
		ck_assert(!remains_find(&one, &left, "kept-w2", fds));
		for (unsigned i = 0; i < PROCESS_FDS; i++)
			ck_assert_int_eq(fds[i], -1);
		ck_assert(remains_find(&one, &left, NAME, fds));
		for (unsigned i = 0; i < PROCESS_FDS; i++)
			close(fds[i]);
		named_fds_deinit(&left);
		for (unsigned i = 0; i < 2; i++)
			ck_assert_int_eq(waitpid(pids[i], NULL, 0), pids[i]);
	}
END_TEST

START_TEST(without_its_output_a_process_goes_on_and_without_its_control_not)
	{
		unsigned before = io_count_fds();

		for (unsigned missing = 0; missing < PROCESS_FDS; missing++) {
			struct named_fds left = { 0 };
			struct remains r;
			int fds[PROCESS_FDS];
			pid_t pid = leave(&r, &left);

			/* stored in reverse order */
			cleanup_close(&left.all[PROCESS_FDS - 1 - missing].fd);
			left.all[PROCESS_FDS - 1 - missing].fd = -1;
			ck_assert_int_eq(remains_find(&r, &left, NAME, fds), missing >= PROCESS_FD_OUT);
			ck_assert_int_eq(fds[missing], -1);
			for (unsigned i = 0; i < PROCESS_FDS; i++)
				cleanup_close(&fds[i]);
			named_fds_deinit(&left);
			ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
			ck_assert_uint_eq(io_count_fds(), before);
		}
	}
END_TEST

static const struct child_helper helpers[] = { { "serve", helper_serve }, { NULL, NULL } };

int main(int argc, char **argv)
{
	if (!child_main(argc, argv, helpers))
		return 0;
	return SUITE_RUN("process_adopt", child_setup, child_teardown, it_is_gone_on_with_as_if_it_had_been_started,
			 the_call_sockets_that_it_may_have_are_held_until_it_has_the_new_one,
			 one_whose_control_socket_is_full_is_sent_the_new_one_when_there_is_room,
			 one_that_dies_with_its_control_socket_full_leaves_nothing,
			 one_that_died_meanwhile_ends_at_once,
			 fault_57_one_that_was_reaped_meanwhile_is_refused_and_nothing_is_left,
			 one_that_was_reaped_during_an_upgrade_ends_at_once, a_pidfd_of_another_process_is_refused, a_page_that_is_none_is_refused,
			 how_another_ones_child_ends_is_not_known_and_its_group_is_left_alone,
			 remains_are_told_apart_whatever_their_order,
			 without_its_output_a_process_goes_on_and_without_its_control_not);
}

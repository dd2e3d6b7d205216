/* Beside the calls: the control socket, and the page of interrupts. */
#include "tests/support/child.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static void helper_echo_control(void)
{
	char buf[256];
	ssize_t n = recv(4, buf, sizeof(buf), 0);

	if (n > 0)
		(void)!send(4, buf, (size_t)n, 0);
	(void)!recv(4, buf, sizeof(buf), 0);
}

/* Says "hello" into the fd that comes with a packet. */
static void helper_use_fd(void)
{
	char buf[16], control[CMSG_SPACE(sizeof(int))];
	struct iovec iov = { .iov_base = buf, .iov_len = sizeof(buf) };
	struct msghdr m = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)
	};
	ssize_t n = recvmsg(4, &m, 0);
	int fd = -1;

	if (n > 0 && CMSG_FIRSTHDR(&m))
		memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof(int));
	(void)!write(fd, buf, n > 0 ? (size_t)n : 0);
}

/* Dies with a packet unread: the daemon's socket reports a reset before the last word. */
static void helper_last_word(void)
{
	char c;

	(void)!recv(4, &c, 1, MSG_PEEK);
	(void)!send(4, "last word", 9, 0);
}

static void helper_many_words(void)
{
	for (unsigned i = 0; i < 100; i++)
		(void)!send(4, "word", 4, 0);
}

static void helper_large_word(void)
{
	static const char word[PROCESS_CONTROL_MAX + 1];
	char c;

	(void)!send(4, word, sizeof(word) - 1, 0);
	(void)!send(4, word, sizeof(word), 0);
	(void)!read(3, &c, 1);
}

static void helper_close_control(void)
{
	char c;

	close(4);
	(void)!read(3, &c, 1);
}

static volatile uint64_t *page;

static void on_interrupt(int signo)
{
	char line[64];

	(void)signo;
	snprintf(line, sizeof(line), "wanted %llu reason %llu\n", (unsigned long long)page[0],
		 (unsigned long long)page[1]);
	child_say(line);
	_exit(0);
}

static void helper_page(void)
{
	page = mmap(NULL, 4096, PROT_READ, MAP_SHARED, 6, 0);
	signal(SIGUSR1, on_interrupt);
	child_say(page[0] == 0 && ftruncate(6, 0) < 0 && errno == EPERM ? "sealed\n" : "not sealed\n");
	(void)!send(4, "ready", 5, 0);
	for (;;)
		pause();
}

START_TEST(process_control_packets_go_both_ways)
	{
		struct child c;

		child_start_helper(&c, "echo-control");
		c.stop_at_packet = true;
		ck_assert_int_eq(process_control_send(&c.process, "hello", 5), 0);
		io_run(child_loop);
		ck_assert_str_eq(c.packet, "hello");
		ck_assert_int_eq(process_control_send(&c.process, "bye", 3), 0);
		io_run(child_loop);
		ck_assert_int_eq(c.how.exit_code, 0);
		ck_assert_int_eq(process_control_send(&c.process, "x", 1), -EPIPE);
		child_deinit(&c);
	}
END_TEST

START_TEST(a_control_packet_may_bring_a_copy_of_an_fd)
	{
		struct child c;
		int fds[2];
		char got[16];

		child_start_helper(&c, "use-fd");
		ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
		ck_assert_int_eq(process_control_send_fd(&c.process, "hello", 5, fds[1]), 0);
		ck_assert_int_eq(close(fds[1]), 0); /* ours is still ours */
		ck_assert_int_eq(recv(fds[0], got, sizeof(got), MSG_WAITALL), 5);
		ck_assert_mem_eq(got, "hello", 5);
		io_run(child_loop);
		ck_assert_int_eq(process_control_send_fd(&c.process, "x", 1, fds[0]), -EPIPE);
		close(fds[0]);
		child_deinit(&c);
	}
END_TEST

START_TEST(process_control_that_nobody_reads_is_full_one_day)
	{
		struct child c;
		char packet[1000] = "";
		int r = 0;

		child_start_helper(&c, "wait");
		for (unsigned i = 0; r == 0 && i < 10000; i++)
			r = process_control_send(&c.process, packet, sizeof(packet));
		ck_assert_int_eq(r, -EAGAIN);
		process_signal(&c.process, SIGKILL);
		io_run(child_loop);
		child_deinit(&c);
	}
END_TEST

START_TEST(process_last_word_is_read_although_a_packet_was_left_unread)
	{
		for (unsigned i = 0; i < 20; i++) {
			struct child c;

			child_start_helper(&c, "last-word");
			ck_assert_int_eq(process_control_send(&c.process, "unread", 6), 0);
			io_run(child_loop);
			ck_assert_uint_eq(c.packets, 1);
			ck_assert_str_eq(c.packet, "last word");
			child_deinit(&c);
		}
	}
END_TEST

START_TEST(process_is_heard_to_the_end_before_its_exit)
	{
		struct child c;
		siginfo_t si;

		child_start_helper(&c, "many-words");
		ck_assert_int_eq(waitid(P_PID, (id_t)c.process.pid, &si, WEXITED | WNOWAIT), 0);
		io_run(child_loop);
		ck_assert_uint_eq(c.packets, 100);
		child_deinit(&c);
	}
END_TEST

START_TEST(process_whose_control_is_closed_may_live_on)
	{
		struct child c;

		child_start_helper(&c, "close-control");
		c.stop_at_control_end = true;
		io_run(child_loop);
		ck_assert_uint_eq(c.control_ends, 1);
		ck_assert(process_is_running(&c.process));
		cleanup_close(&c.calls);
		c.calls = -1;
		io_run(child_loop);
		ck_assert_uint_eq(c.control_ends, 1);
		child_deinit(&c);
	}
END_TEST

START_TEST(process_that_sends_a_packet_that_is_too_large_is_not_heard_any_more)
	{
		struct child c;

		child_start_helper(&c, "large-word");
		c.stop_at_control_end = true;
		io_run(child_loop);
		ck_assert_uint_eq(c.packets, 1); /* that of the largest size */
		ck_assert(c.process.oversized);
		cleanup_close(&c.calls);
		c.calls = -1;
		io_run(child_loop);
		ck_assert_int_eq(c.how.exit_code, 0);
		child_deinit(&c);
	}
END_TEST

START_TEST(process_interrupt_brings_call_and_reason)
	{
		struct child c;

		child_start_helper(&c, "page");
		c.stop_at_packet = true;
		io_run(child_loop);
		ck_assert_int_eq(process_interrupt(&c.process, UINT64_C(1) << 40, 2), 0);
		io_run(child_loop);
		child_line_check(&c, 0, "sealed");
		child_line_check(&c, 1, "wanted 1099511627776 reason 2");
		ck_assert_int_eq(process_interrupt(&c.process, 1, 1), -ESRCH);
		child_deinit(&c);
	}
END_TEST

int main(int argc, char **argv)
{
	static const struct child_helper helpers[] = {
		{ "echo-control", helper_echo_control },
		{ "use-fd", helper_use_fd },
		{ "last-word", helper_last_word },
		{ "many-words", helper_many_words },
		{ "large-word", helper_large_word },
		{ "close-control", helper_close_control },
		{ "page", helper_page },
		{ NULL, NULL },
	};

	if (!child_main(argc, argv, helpers))
		return 0;
	return SUITE_RUN("process control", child_setup, child_teardown, process_control_packets_go_both_ways,
			 a_control_packet_may_bring_a_copy_of_an_fd, process_control_that_nobody_reads_is_full_one_day,
			 process_last_word_is_read_although_a_packet_was_left_unread,
			 process_is_heard_to_the_end_before_its_exit, process_whose_control_is_closed_may_live_on,
			 process_that_sends_a_packet_that_is_too_large_is_not_heard_any_more,
			 process_interrupt_brings_call_and_reason);
}

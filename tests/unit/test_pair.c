#include "daemon/io/pair.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include "tests/support/suite.h"
#include "tests/unit/io_support.h"

static struct loop *loop;
static unsigned fds_before, hang_ups;

static void setup(void)
{
	fds_before = io_count_fds();
	loop = loop_new();
	hang_ups = 0;
}

static void teardown(void)
{
	loop = loop_free(loop);
	ck_assert_uint_eq(io_count_fds(), fds_before);
}

static void on_hung_up(struct pair *p)
{
	(void)p;
	hang_ups++;
	loop_stop(loop);
}

/* The pair, and the copies that a worker and a client have. */
static void open_pair(struct pair *p, int *worker, int *client)
{
	ck_assert_int_eq(pair_open(p, loop, on_hung_up), 0);
	*worker = fcntl(p->worker, F_DUPFD_CLOEXEC, 0);
	*client = TAKE_FD(p->client);
}

static void say(int fd, const char *text)
{
	ck_assert_int_eq(send(fd, text, strlen(text), MSG_NOSIGNAL), (ssize_t)strlen(text));
}

static void hear(int fd, const char *text)
{
	char got[64];

	ck_assert_int_eq(recv(fd, got, sizeof(got), MSG_DONTWAIT), (ssize_t)strlen(text));
	ck_assert_mem_eq(got, text, strlen(text));
}

static void ck_cannot_say(int fd)
{
	ck_assert_int_eq(send(fd, "x", 1, MSG_NOSIGNAL | MSG_DONTWAIT), -1);
	ck_assert_int_eq(errno, EPIPE);
}

START_TEST(both_ends_are_connected_blocking_and_not_inherited)
	{
		struct pair p;
		int worker, client;

		open_pair(&p, &worker, &client);
		say(client, "call");
		hear(worker, "call");
		say(worker, "reply");
		hear(client, "reply");
		for (unsigned i = 0; i < 2; i++) {
			ck_assert_int_eq(fcntl(i ? client : p.worker, F_GETFD), FD_CLOEXEC);
			ck_assert_int_eq(fcntl(i ? client : p.worker, F_GETFL) & O_NONBLOCK, 0);
		}
		close(worker);
		close(client);
		pair_close(&p);
	}
END_TEST

START_TEST(fault_77_after_its_end_nobody_reads_or_writes_a_byte)
	{
		struct pair p;
		int worker, client, second;

		open_pair(&p, &worker, &client);
		second = dup(client);
		say(worker, "reply");
		pair_close(&p);
		pair_close(&p);
		hear(client, "reply"); /* of before */
		hear(client, "");
		hear(second, "");
		hear(worker, "");
		ck_cannot_say(client);
		ck_cannot_say(worker);
		close(worker);
		close(client);
		close(second);
		io_run_for(loop, NS_PER_MS);
		ck_assert_uint_eq(hang_ups, 0);
	}
END_TEST

START_TEST(input_that_is_shut_lets_what_was_sent_be_answered)
	{
		struct pair p;
		int worker, client;

		open_pair(&p, &worker, &client);
		say(client, "call");
		pair_shut_input(&p);
		ck_cannot_say(client);
		hear(worker, "call");
		hear(worker, "");
		say(worker, "reply");
		hear(client, "reply");
		io_run_for(loop, NS_PER_MS);
		ck_assert_uint_eq(hang_ups, 0);
		close(worker);
		close(client);
		pair_close(&p);
	}
END_TEST

START_TEST(a_client_that_has_closed_is_noticed_once)
	{
		struct pair p;
		int worker, client, second;

		open_pair(&p, &worker, &client);
		second = dup(client);
		close(client);
		io_run_for(loop, NS_PER_MS);
		ck_assert_uint_eq(hang_ups, 0);
		close(second);
		io_run(loop);
		io_run_for(loop, NS_PER_MS);
		ck_assert_uint_eq(hang_ups, 1);
		close(worker);
		pair_close(&p);
	}
END_TEST

START_TEST(a_worker_that_has_shut_its_end_is_noticed_too)
	{
		struct pair p;
		int worker, client;

		open_pair(&p, &worker, &client);
		shutdown(worker, SHUT_RDWR);
		close(worker);
		io_run(loop);
		ck_assert_uint_eq(hang_ups, 1);
		hear(client, "");
		close(client);
		pair_close(&p);
	}
END_TEST

START_TEST(a_client_that_says_no_more_still_hears)
	{
		struct pair p;
		int worker, client;

		open_pair(&p, &worker, &client);
		say(client, "call");
		shutdown(client, SHUT_WR);
		io_run_for(loop, NS_PER_MS);
		ck_assert_uint_eq(hang_ups, 0);
		hear(worker, "call");
		say(worker, "reply");
		hear(client, "reply");
		close(worker);
		close(client);
		pair_close(&p);
	}
END_TEST

START_TEST(an_end_that_nobody_took_is_closed)
	{
		struct pair p;

		ck_assert_int_eq(pair_open(&p, loop, on_hung_up), 0);
		pair_close(&p);
	}
END_TEST

START_TEST(without_a_free_fd_there_is_no_pair_and_nothing_is_left)
	{
		struct rlimit old, low;
		struct pair p;
		int ends[2];

		ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &old), 0);
		low = (struct rlimit){ .rlim_cur = 0, .rlim_max = old.rlim_max };
		ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &low), 0);
		if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0) /* valgrind 3.19 */
			printf("skipped, the limit of fds is none here\n");
		else
			ck_assert_int_eq(pair_open(&p, loop, on_hung_up), -EMFILE);
		ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &old), 0);
	}
END_TEST

int main(void)
{
	return SUITE_RUN("pair", setup, teardown, both_ends_are_connected_blocking_and_not_inherited,
			 fault_77_after_its_end_nobody_reads_or_writes_a_byte,
			 input_that_is_shut_lets_what_was_sent_be_answered, a_client_that_has_closed_is_noticed_once,
			 a_worker_that_has_shut_its_end_is_noticed_too, a_client_that_says_no_more_still_hears,
			 an_end_that_nobody_took_is_closed, without_a_free_fd_there_is_no_pair_and_nothing_is_left);
}

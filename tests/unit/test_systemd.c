#include "tests/unit/io_support.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/io/systemd.h"

static struct loop *loop;
static unsigned fds_before;

static void setup(void)
{
	fds_before = io_count_fds();
	loop = loop_new();
}

static void teardown(void)
{
	loop = loop_free(loop);
	ck_assert_uint_eq(io_count_fds(), fds_before);
}

/* --- notification --- */

static int notify_open(void)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	char name[64];
	socklen_t len;

	snprintf(name, sizeof(name), "@pypoold-test-%d", getpid());
	len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(name));
	memcpy(a.sun_path, name, strlen(name));
	a.sun_path[0] = '\0';
	ck_assert_int_eq(bind(fd, (struct sockaddr *)&a, len), 0);
	setenv("NOTIFY_SOCKET", name, 1);
	return fd;
}

static bool notify_is(int fd, const char *want)
{
	char got[256];
	ssize_t n = recv(fd, got, sizeof(got) - 1, 0);

	if (n < 0)
		return false;
	got[n] = '\0';
	return strcmp(got, want) == 0;
}

START_TEST(systemd_notify_formats_its_state)
	{
		int fd = notify_open();

		systemd_notify("STATUS=%u of %s", 3, "four");
		ck_assert(notify_is(fd, "STATUS=3 of four"));
		close(fd);
	}
END_TEST

START_TEST(systemd_notify_without_systemd_does_nothing)
	{
		unsetenv("NOTIFY_SOCKET");
		systemd_notify("READY=1");
		setenv("NOTIFY_SOCKET", "/nonexistent/notify", 1);
		systemd_notify("READY=1");
	}
END_TEST

/* --- watchdog --- */

struct pings {
	struct loop_io io;
	unsigned n;
};

static void on_ping(struct loop_io *io, int events)
{
	struct pings *p = container_of(io, struct pings, io);

	(void)events;
	while (notify_is(io->fd, "WATCHDOG=1"))
		p->n++;
	if (p->n >= 4)
		loop_stop(io->loop);
}

START_TEST(systemd_watchdog_pings_twice_an_interval)
	{
		struct systemd_watchdog w;
		struct pings pings = { 0 };
		char pid[32];
		uint64_t began;

		snprintf(pid, sizeof(pid), "%d", getpid());
		setenv("WATCHDOG_PID", pid, 1);
		setenv("WATCHDOG_USEC", "20000", 1);
		loop_io_init(&pings.io, loop, notify_open(), LOOP_PRIO_NORMAL, on_ping);
		loop_io_watch(&pings.io, LOOP_READ);
		began = loop_now(loop);
		ck_assert_int_eq(systemd_watchdog_start(&w, loop), 1);
		ck_assert_uint_eq(w.interval, 10 * NS_PER_MS);
		io_run(loop);
		ck_assert_uint_ge(loop_now(loop) - began, 30 * NS_PER_MS); /* the first comes at once */
		ck_assert_ptr_null(getenv("WATCHDOG_USEC"));
		ck_assert_ptr_null(getenv("WATCHDOG_PID"));
		systemd_watchdog_stop(&w);
		loop_io_close(&pings.io);
	}
END_TEST

START_TEST(systemd_watchdog_that_is_not_wanted_is_off)
	{
		struct systemd_watchdog w;

		unsetenv("WATCHDOG_USEC");
		ck_assert_int_eq(systemd_watchdog_start(&w, loop), 0);
		ck_assert_uint_eq(w.timer.at, LOOP_NEVER);
		systemd_watchdog_stop(&w);
		setenv("WATCHDOG_USEC", "soon", 1);
		ck_assert_int_lt(systemd_watchdog_start(&w, loop), 0);
		ck_assert_uint_eq(w.timer.at, LOOP_NEVER);
		systemd_watchdog_stop(&w);
	}
END_TEST

/* --- sockets --- */

enum passed {
	PASS_NOTHING,
	PASS_LISTENING,
	PASS_CONNECTED,
	PASS_DATAGRAM,
	PASS_FILE,
};

static int make_passed(enum passed what)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX }; /* the kernel chooses a name */
	int fd = -1, pair[2];

	if (what == PASS_FILE)
		return open("/dev/null", O_RDONLY);
	if (what == PASS_CONNECTED) {
		(void)!socketpair(AF_UNIX, SOCK_STREAM, 0, pair);
		return pair[0];
	}
	fd = socket(AF_UNIX, what == PASS_DATAGRAM ? SOCK_DGRAM : SOCK_STREAM, 0);
	(void)!bind(fd, (struct sockaddr *)&a, sizeof(sa_family_t));
	if (what == PASS_LISTENING)
		(void)!listen(fd, 5);
	return fd;
}

struct outcome {
	int r;
	size_t n;
	char why[256], names[256], stored[256];
	bool env_gone, ready;
};

/* In a process of its own, for it needs the numbers from 3 on. */
static struct outcome take(const char *fds, const char *names, const enum passed *what, int n)
{
	struct outcome o = { 0 };
	int result[2];
	pid_t pid;

	ck_assert_int_eq(pipe(result), 0);
	pid = fork();
	if (pid == 0) {
		struct named_fds s = { 0 }, stored = { 0 };
		int report = fcntl(result[1], F_DUPFD, 100);
		char text[32];

		for (int i = 0; i < n; i++) {
			int fd = what[i] == PASS_NOTHING ? -1 : fcntl(make_passed(what[i]), F_DUPFD, 50);

			close(3 + i);
			if (fd >= 0)
				dup2(fd, 3 + i);
		}
		snprintf(text, sizeof(text), "%d", getpid());
		setenv("LISTEN_PID", text, 1);
		setenv("LISTEN_FDS", fds, 1);
		if (names)
			setenv("LISTEN_FDNAMES", names, 1);
		o.r = systemd_take_fds(&s, &stored, o.why, sizeof(o.why));
		o.n = s.n;
		o.env_gone = !getenv("LISTEN_FDS") && !getenv("LISTEN_PID") && !getenv("LISTEN_FDNAMES");
		o.ready = true;
		for (size_t i = 0; i < s.n; i++) {
			strcat(o.names, s.all[i].name);
			strcat(o.names, " ");
			o.ready &= (fcntl(s.all[i].fd, F_GETFL) & O_NONBLOCK) &&
				   (fcntl(s.all[i].fd, F_GETFD) & FD_CLOEXEC);
		}
		for (size_t i = 0; i < stored.n; i++)
			strcat(strcat(o.stored, stored.all[i].name), " ");
		named_fds_deinit(&s);
		named_fds_deinit(&stored);
		(void)!write(report, &o, sizeof(o));
		_exit(0);
	}
	close(result[1]);
	ck_assert_int_eq(read(result[0], &o, sizeof(o)), sizeof(o));
	close(result[0]);
	ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
	return o;
}

START_TEST(systemd_sockets_are_taken_by_name)
	{
		const enum passed two[] = { PASS_LISTENING, PASS_LISTENING };
		struct outcome o = take("2", "pypoold.socket:other", two, 2);

		ck_assert_int_eq(o.r, 0);
		ck_assert_uint_eq(o.n, 2);
		ck_assert_str_eq(o.names, "pypoold.socket other ");
		ck_assert(o.env_gone);
		ck_assert(o.ready);
	}
END_TEST

START_TEST(what_was_stored_is_no_socket)
	{
		const enum passed three[] = { PASS_FILE, PASS_LISTENING, PASS_FILE };
		struct outcome o = take("3", "kept-w1:rpc:kept-w1", three, 3);

		ck_assert_int_eq(o.r, 0);
		ck_assert_str_eq(o.names, "rpc ");
		ck_assert_str_eq(o.stored, "kept-w1 kept-w1 ");
	}
END_TEST

/* The message that comes next, and how many fds with it, which are closed. */
static unsigned receive_with_fds(int fd, char *text, size_t size)
{
	_Alignas(struct cmsghdr) char room[CMSG_SPACE(SYSTEMD_STORE_MAX * sizeof(int)) + CMSG_SPACE(sizeof(struct ucred))];
	struct iovec iov = { .iov_base = text, .iov_len = size - 1 };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = room, .msg_controllen = sizeof(room) };
	ssize_t n = recvmsg(fd, &m, MSG_CMSG_CLOEXEC);
	unsigned found = 0;

	ck_assert_int_gt(n, 0);
	text[n] = '\0';
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c)) {
		if (c->cmsg_type != SCM_RIGHTS)
			continue;
		found = (unsigned)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
		for (unsigned i = 0; i < found; i++)
			close(((int *)(void *)CMSG_DATA(c))[i]);
	}
	return found;
}

START_TEST(files_are_stored_under_a_name_and_removed)
	{
		int fd = notify_open();
		const int fds[] = { 0, fd };
		char text[256];

		systemd_store("kept-x", fds, 2);
		ck_assert_uint_eq(receive_with_fds(fd, text, sizeof(text)), 2);
		ck_assert_str_eq(text, "FDSTORE=1\nFDPOLL=0\nFDNAME=kept-x");
		systemd_unstore("kept-x");
		ck_assert_uint_eq(receive_with_fds(fd, text, sizeof(text)), 0);
		ck_assert_str_eq(text, "FDSTOREREMOVE=1\nFDNAME=kept-x");
		close(fd);
	}
END_TEST

START_TEST(systemd_sockets_are_none_without_systemd)
	{
		struct named_fds s, stored = { 0 };
		char why[100];

		unsetenv("LISTEN_FDS");
		unsetenv("LISTEN_PID");
		ck_assert_int_eq(systemd_take_fds(&s, &stored, why, sizeof(why)), 0);
		ck_assert_uint_eq(s.n, 0);
		named_fds_deinit(&s);
		setenv("LISTEN_PID", "1", 1); /* for somebody else */
		setenv("LISTEN_FDS", "1", 1);
		ck_assert_int_eq(systemd_take_fds(&s, &stored, why, sizeof(why)), 0);
		ck_assert_uint_eq(s.n, 0);
	}
END_TEST

START_TEST(fault_95_wrong_listen_fds_are_refused_with_a_reason)
	{
		static const struct {
			const char *fds;
			enum passed what;
			const char *why;
		} cases[] = {
			{ "many", PASS_LISTENING, "LISTEN_FDS" },
			{ "-1", PASS_LISTENING, "LISTEN_FDS" },
			{ "1", PASS_NOTHING, "LISTEN_FDS" },
			{ "1", PASS_CONNECTED, "fd 3 (one) from LISTEN_FDS is not a listening stream socket" },
			{ "1", PASS_DATAGRAM, "fd 3 (one) from LISTEN_FDS is not a listening stream socket" },
			{ "1", PASS_FILE, "fd 3 (one) from LISTEN_FDS is not a listening stream socket" },
		};

		for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
			struct outcome o = take(cases[i].fds, "one", &cases[i].what, 1);

			ck_assert_msg(o.r < 0, "case %u", i);
			ck_assert_msg(strstr(o.why, cases[i].why), "case %u: %s", i, o.why);
			ck_assert(o.env_gone);
			ck_assert_uint_eq(o.n, 0);
		}
	}
END_TEST

int main(void)
{
	Suite *s = suite_create("systemd");
	TCase *c = tcase_create("systemd");
	SRunner *r = srunner_create(s);
	int failed;

	tcase_set_timeout(c, 60);
	tcase_add_checked_fixture(c, setup, teardown);
	tcase_add_test(c, systemd_notify_formats_its_state);
	tcase_add_test(c, systemd_notify_without_systemd_does_nothing);
	tcase_add_test(c, systemd_watchdog_pings_twice_an_interval);
	tcase_add_test(c, systemd_watchdog_that_is_not_wanted_is_off);
	tcase_add_test(c, systemd_sockets_are_taken_by_name);
	tcase_add_test(c, what_was_stored_is_no_socket);
	tcase_add_test(c, files_are_stored_under_a_name_and_removed);
	tcase_add_test(c, systemd_sockets_are_none_without_systemd);
	tcase_add_test(c, fault_95_wrong_listen_fds_are_refused_with_a_reason);
	suite_add_tcase(s, c);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? 1 : 0;
}

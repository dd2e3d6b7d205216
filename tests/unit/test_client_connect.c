/* How libpypool gets a connection. */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "client/pypool.h"
#include "tests/unit/client_world.h"

struct place {
	char dir[64];
	char path[80];
	int fd;
};

static struct place place_new(int backlog)
{
	struct place l = { .dir = "/tmp/test_client.XXXXXX" };
	struct sockaddr_un address = { .sun_family = AF_UNIX };

	ck_assert_ptr_nonnull(mkdtemp(l.dir));
	snprintf(l.path, sizeof(l.path), "%s/s", l.dir);
	snprintf(address.sun_path, sizeof(address.sun_path), "%s", l.path);
	l.fd = socket(AF_UNIX, SOCK_STREAM, 0);
	ck_assert_int_ge(l.fd, 0);
	ck_assert_int_eq(bind(l.fd, (struct sockaddr *)&address, sizeof(address)), 0);
	if (backlog >= 0)
		ck_assert_int_eq(listen(l.fd, backlog), 0);
	return l;
}

static void place_free(struct place *l)
{
	close(l->fd);
	unlink(l->path);
	rmdir(l->dir);
}

START_TEST(fault_22_full_backlog_is_tried_again_until_the_deadline)
	{
		struct place l = place_new(0);
		struct pypool *first, *p;
		struct outcome o = { 0 };
		struct world w = { .daemon = -1 };

		ck_assert_int_eq(pypool_new(&first), 0);
		ck_assert_int_eq(pypool_new(&p), 0);
		ck_assert_int_eq(pypool_connect(first, l.path, 0), 0); /* fills it */
		ck_assert_int_eq(pypool_connect(p, l.path, 30), -ETIMEDOUT);
		ck_assert_str_eq(pypool_error_code(pypool_last_error(p)), "cannot_connect");
		ck_assert_ptr_nonnull(strstr(pypool_error_message(pypool_last_error(p)), "backlog"));

		ck_assert_int_eq(pypool_connect_start(p, l.path, WAIT_MS), 0);
		ck_assert_int_eq(pypool_fd(p), -EAGAIN);
		ck_assert_int_eq(pypool_submit(p, "ping", (struct pypool_span){ 0 }, 0, outcome_on_done, &o, NULL), 0);
		close(accept(l.fd, NULL, NULL)); /* room */
		while (pypool_fd(p) == -EAGAIN) {
			(void)poll(NULL, 0, pypool_timeout_ms(p));
			ck_assert_int_eq(pypool_dispatch(p), 0);
		}
		w.p = p;
		w.daemon = accept(l.fd, NULL, NULL);
		fake_expect(&w, "hello", NULL);
		fake_expect(&w, "ping",
			    NULL); /* submitted before there was a connection; ids go on from the first attempt */
		ck_assert_int_eq(o.n, 0);
		world_free(&w);
		ck_assert_int_eq(o.n, 1);
		ck_assert_ptr_null(pypool_free(first));
		place_free(&l);
	}
END_TEST

START_TEST(nobody_listening_is_refused_after_the_timeout_and_no_socket_at_once)
	{
		struct place l = place_new(-1);
		struct pypool *p;
		char path[200];

		ck_assert_int_eq(pypool_new(&p), 0);
		ck_assert_int_eq(pypool_ping(p, 10), -ENOTCONN);
		ck_assert_int_eq(pypool_connect(p, l.path, 20), -ECONNREFUSED);
		ck_assert_int_eq(pypool_connect(p, "/nonexistent/socket", 60000), -ENOENT);
		ck_assert_ptr_nonnull(strstr(pypool_error_message(pypool_last_error(p)), "/nonexistent/socket"));
		memset(path, 'x', sizeof(path));
		path[199] = '\0';
		ck_assert_int_eq(pypool_connect(p, path, 0), -ENAMETOOLONG);
		ck_assert_int_eq(listen(l.fd, 5), 0);
		ck_assert_int_eq(pypool_connect(p, l.path, 0), 0);
		ck_assert_int_eq(pypool_connect(p, l.path, 0), -EISCONN);
		pypool_disconnect(p);
		ck_assert_int_eq(pypool_connect(p, l.path, 0), 0); /* a handle can be used again */
		ck_assert_ptr_null(pypool_free(p));
		place_free(&l);
	}
END_TEST

START_TEST(path_comes_from_the_environment)
	{
		struct pypool *p;

		ck_assert_int_eq(pypool_new(&p), 0);
		ck_assert_int_eq(setenv("PYPOOL_SOCKET", "/nonexistent/from-env", 1), 0);
		ck_assert_int_eq(pypool_connect(p, NULL, 0), -ENOENT);
		ck_assert_str_eq(pypool_path(p), "/nonexistent/from-env");
		ck_assert_int_eq(unsetenv("PYPOOL_SOCKET"), 0);
		ck_assert_int_eq(setenv("XDG_RUNTIME_DIR", "/nonexistent/xdg", 1), 0);
		(void)pypool_connect(p, NULL, 0);
		ck_assert_str_eq(pypool_path(p), geteuid() == 0 ? "/run/pypoold/pypoold.sock"
								: "/nonexistent/xdg/pypoold/pypoold.sock");
		ck_assert_ptr_null(pypool_free(p));
	}
END_TEST

static void add_connect(Suite *s)
{
	TCase *t = tcase_create("connect");

	tcase_set_timeout(t, 20);
	tcase_add_test(t, fault_22_full_backlog_is_tried_again_until_the_deadline);
	tcase_add_test(t, nobody_listening_is_refused_after_the_timeout_and_no_socket_at_once);
	tcase_add_test(t, path_comes_from_the_environment);
	suite_add_tcase(s, t);
}

int main(void)
{
	Suite *s = suite_create("client_connect");
	SRunner *r = srunner_create(s);
	int failed;

	add_connect(s);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? 1 : 0;
}

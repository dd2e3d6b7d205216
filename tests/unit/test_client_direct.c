/* Calls under a direct lease of libpypool, against a daemon and workers that the test plays itself. */
#include <check.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/support/suite.h"
#include "tests/unit/client_lease.h"

START_TEST(calls_of_a_direct_lease_go_over_its_own_socket)
	{
		struct world w = world_greeted(), worker;
		uint64_t lease = world_lease(&w, 7, &worker), id;
		struct span params;
		struct outcome o;

		id = world_execute(&w, lease, 2000, &o);
		ck_assert_int_eq(pypool_dispatch(w.p), 0);
		ck_assert_uint_eq(fake_expect(&worker, "execute", &params), id);
		ck_assert(fake_has_key(params, "target") && fake_has_key(params, "timeout_ms"));
		ck_assert(!fake_has_key(params, "lease") && !fake_has_key(params, "pool") &&
			  !fake_has_key(params, "session"));
		fake_answer_int(&worker, id, 42);
		world_wait(&w, &o);
		ck_assert_int_eq(o.number, 0);
		ck_assert_int_eq(o.value, 42);
		ck_assert_int_eq(recv(w.daemon, &(char){ 0 }, 1, MSG_DONTWAIT),
				 -1); /* the daemon has heard of nothing */
		world_free_both(&w, &worker);
	}
END_TEST

/* A worker that answers each call with its id until the end. */
static pid_t worker_fork(int fd, int other)
{
	pid_t pid = fork();

	if (pid == 0) {
		struct world w = world_of(NULL, fd);
		struct pollfd pfd = { .fd = fd, .events = POLLIN };

		close(other);
		while (poll(&pfd, 1, WAIT_MS) == 1 && recv(fd, &(char){ 0 }, 1, MSG_PEEK) == 1) {
			uint64_t id = fake_expect(&w, "execute", NULL);

			fake_answer_int(&w, id, (int)id);
		}
		_exit(0);
	}
	ck_assert_int_gt(pid, 0);
	return pid;
}

START_TEST(blocking_calls_go_there_and_back)
	{
		struct world w = world_greeted();
		const struct pypool_options checkout = { .direct = 1 };
		struct world_pair pair = world_socketpair();
		struct pypool_lease lease;
		pid_t pid = worker_fork(pair.worker, pair.client);
		int status;

		close(pair.worker);
		fake_answer_checkout(&w, 2, 7, &pair.client, 1);
		close(pair.client);
		ck_assert_int_eq(pypool_checkout(w.p, &checkout, &lease), 0);
		ck_assert(lease.lease == 7 && lease.direct && lease.worker == 3);
		for (int i = 3; i < 40; i++) {
			const struct pypool_options o = { .lease = lease.lease, .timeout_ms = i % 2 ? 5000 : 0 };
			struct pypool_reply *reply = NULL;
			int64_t v = 0;

			ck_assert_int_eq(pypool_execute(w.p, "work", (struct pypool_span){ 0 }, &o, &reply), 0);
			ck_assert_int_eq(pypool_get_int(pypool_reply_value(reply), &v), 0);
			ck_assert_int_eq(v, i);
			pypool_reply_free(reply);
		}
		fake_answer_int(&w, 40, 0);
		ck_assert_int_eq(pypool_checkin(w.p, lease.lease, 1000), 0);
		ck_assert_int_eq(waitpid(pid, &status, 0), pid);
		ck_assert_int_eq(status, 0);
		world_free(&w);
	}
END_TEST

START_TEST(a_blocking_call_waits_for_the_others_too)
	{
		struct world w = world_greeted(), worker;
		const struct pypool_options o = { .lease = world_lease(&w, 7, &worker) };
		struct pypool_reply *reply = NULL;
		struct outcome other;
		int64_t v;

		world_submit(&w, 0, &other);
		fake_answer_int(&w, 3, 5);
		fake_answer_int(&worker, 4, 6);
		ck_assert_int_eq(pypool_execute(w.p, "work", (struct pypool_span){ 0 }, &o, &reply), 0);
		ck_assert_int_eq(pypool_get_int(pypool_reply_value(reply), &v), 0);
		ck_assert_int_eq(v, 6);
		pypool_reply_free(reply);
		world_wait(&w, &other);
		ck_assert_int_eq(other.value, 5);
		world_free_both(&w, &worker);
	}
END_TEST

START_TEST(one_fd_stands_for_all_sockets_while_direct_calls_are_in_flight)
	{
		struct world w = world_greeted(), one, two;
		uint64_t first = world_lease(&w, 1, &one), second = world_lease(&w, 2, &two), id[3];
		int plain = pypool_fd(w.p);
		struct pollfd pfd = { .events = POLLIN };
		struct outcome o[3];

		id[0] = world_execute(&w, first, 0, &o[0]);
		id[1] = world_execute(&w, second, 0, &o[1]);
		id[2] = world_submit(&w, 0, &o[2]);
		ck_assert_int_eq(pypool_dispatch(w.p), 0);
		for (int i = 0; i < 3; i++) {
			struct world *who = i == 0 ? &one : i == 1 ? &two : &w;

			pfd.fd = pypool_fd(w.p);
			ck_assert_int_eq(pypool_events(w.p), POLLIN);
			ck_assert_int_ne(pfd.fd, -EAGAIN);
			ck_assert_int_eq(poll(&pfd, 1, 0), 0);
			fake_answer_int(who, id[i], i);
			ck_assert_int_eq(poll(&pfd, 1, WAIT_MS), 1);
			ck_assert_int_eq(pypool_dispatch(w.p), 0);
			ck_assert_int_eq(o[i].value, i);
		}
		ck_assert_int_eq(pypool_fd(w.p), plain);
		close(two.daemon);
		world_free_both(&w, &one);
	}
END_TEST

START_TEST(a_large_call_is_sent_as_the_worker_takes_it)
	{
		enum { SIZE = 900000 };
		struct world w = world_greeted(), worker;
		const struct pypool_options options = { .lease = world_lease(&w, 7, &worker) };
		uint8_t *args = calloc(1, SIZE + 10), buffer[65536];
		struct outcome o = { .value = -1 };
		size_t seen = 0;
		uint64_t id;

		ck_assert_ptr_nonnull(args);
		memcpy(args, "\x91\xc6\x00\x0d\xbb\xa0", 6); /* an array of one bin, of 900000 bytes */
		ck_assert_int_eq(pypool_submit_execute(w.p, "work", (struct pypool_span){ args, SIZE + 6 }, &options,
						       outcome_on_done, &o, &id),
				 0);
		while (seen < SIZE) {
			struct pollfd pfd = { .fd = pypool_fd(w.p), .events = pypool_events(w.p) };
			ssize_t n;

			ck_assert_int_ge(poll(&pfd, 1, 0), 0);
			ck_assert_int_eq(pypool_dispatch(w.p), 0);
			n = recv(worker.daemon, buffer, sizeof(buffer), MSG_DONTWAIT);
			ck_assert_int_gt(n, 0);
			seen += (size_t)n;
		}
		fake_answer_int(&worker, id, 1);
		world_wait(&w, &o);
		ck_assert_int_eq(o.value, 1);
		free(args);
		world_free_both(&w, &worker);
	}
END_TEST

START_TEST(a_direct_lease_has_no_session)
	{
		struct world w = world_greeted(), worker;
		const struct pypool_options o = { .lease = world_lease(&w, 7, &worker), .session = "cart" };
		struct pypool_reply *reply = NULL;

		ck_assert_int_eq(pypool_execute(w.p, "work", (struct pypool_span){ 0 }, &o, &reply), -EINVAL);
		world_free_both(&w, &worker);
	}
END_TEST

START_TEST(a_forked_child_leaves_the_lease_of_its_parent_alone)
	{
		struct world w = world_greeted(), worker;
		const struct pypool_options options = { .lease = world_lease(&w, 7, &worker) };
		struct outcome o;
		uint64_t id = world_execute(&w, options.lease, 0, &o);
		int status;
		pid_t pid;

		ck_assert_int_eq(pypool_dispatch(w.p), 0);
		pid = fork();
		if (pid == 0) {
			struct pypool_reply *reply;
			int r = pypool_execute(w.p, "work", (struct pypool_span){ 0 }, &options, &reply);

			pypool_free(w.p);
			_exit(r == -EPERM ? 0 : 1);
		}
		ck_assert_int_eq(waitpid(pid, &status, 0), pid);
		ck_assert_int_eq(status, 0);
		ck_assert_uint_eq(fake_expect(&worker, "execute", NULL), id);
		ck_assert(!fake_sees_end(&worker));
		fake_answer_int(&worker, id, 8);
		world_wait(&w, &o);
		ck_assert_int_eq(o.value, 8);
		world_free_both(&w, &worker);
	}
END_TEST

RUN_SUITE("client_direct", calls_of_a_direct_lease_go_over_its_own_socket, blocking_calls_go_there_and_back,
	  a_blocking_call_waits_for_the_others_too, one_fd_stands_for_all_sockets_while_direct_calls_are_in_flight,
	  a_large_call_is_sent_as_the_worker_takes_it, a_direct_lease_has_no_session,
	  a_forked_child_leaves_the_lease_of_its_parent_alone)

/* A listener in trouble. What it does with paths and locks is tested with the whole daemon. */
#include "daemon/front/listener.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "tests/support/suite.h"
#include "tests/unit/io_support.h"

static int refused_fd = -1; /* what epoll will not watch */

/* In the place of libc's, for libev. */
int epoll_ctl(int epfd, int op, int fd, struct epoll_event *event)
{
	if (fd == refused_fd && op != EPOLL_CTL_DEL) {
		errno = ENOSPC; /* fs.epoll.max_user_watches */
		return -1;
	}
	return (int)syscall(SYS_epoll_ctl, epfd, op, fd, event);
}

struct scene {
	struct loop *loop;
	struct listener listener;
	struct sockaddr_un address;
	int peers[8];
	unsigned n_peers, n_accepted, stop_at;
};

static void on_accepted(struct listener *l, int fd, const struct listener_peer *peer)
{
	struct scene *s = container_of(l, struct scene, listener);

	ck_assert_uint_eq(peer->uid, geteuid());
	(void)close(fd);
	if (++s->n_accepted == s->stop_at)
		loop_stop(l->loop);
}

static const struct listener_ops ops = { .accepted = on_accepted };

static void scene_begin(struct scene *s, bool refused)
{
	socklen_t len = sizeof(s->address);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	*s = (struct scene){ .loop = loop_new(), .address = { .sun_family = AF_UNIX } };
	ck_assert_int_eq(bind(fd, (struct sockaddr *)&s->address, sizeof(sa_family_t)), 0); /* the kernel finds a name */
	ck_assert_int_eq(listen(fd, 16), 0);
	ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&s->address, &len), 0);
	refused_fd = refused ? fd : -1;
	listener_adopt(&s->listener, s->loop, fd, &ops);
}

static void scene_connect(struct scene *s)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	ck_assert_int_eq(connect(fd, (struct sockaddr *)&s->address, sizeof(sa_family_t) + 6), 0);
	s->peers[s->n_peers++] = fd;
}

static void scene_end(struct scene *s)
{
	while (s->n_peers)
		(void)close(s->peers[--s->n_peers]);
	listener_close(&s->listener);
	loop_free(s->loop);
}

START_TEST(a_listener_that_epoll_refuses_still_serves_who_comes)
	{
		struct scene s;

		scene_begin(&s, true);
		scene_connect(&s);
		scene_connect(&s);
		s.stop_at = 2;
		io_run(s.loop);
		scene_connect(&s);
		s.stop_at = 3;
		io_run(s.loop);
		ck_assert_uint_ge(s.listener.paused_times, 2); /* it tries to listen properly each time */
		scene_end(&s);
	}
END_TEST

START_TEST(a_listener_that_was_refused_by_epoll_listens_when_it_may)
	{
		struct scene s;
		uint64_t times;

		scene_begin(&s, true);
		io_run_for(s.loop, 10 * NS_PER_MS);
		times = s.listener.paused_times;
		ck_assert_uint_ge(times, 1); /* a busy machine may have let it try again already */
		refused_fd = -1;
		io_run_for(s.loop, 300 * NS_PER_MS);
		ck_assert_uint_eq(s.listener.paused_times, times);
		ck_assert_int_eq(s.listener.io.events, LOOP_READ);
		scene_connect(&s);
		s.stop_at = 1;
		io_run(s.loop);
		ck_assert_uint_eq(s.listener.paused_times, times);
		scene_end(&s);
	}
END_TEST

START_TEST(a_listener_that_is_refused_does_not_spin)
	{
		struct scene s;

		scene_begin(&s, true);
		io_run_for(s.loop, 350 * NS_PER_MS);
		ck_assert_uint_le(s.listener.paused_times, 4);
		scene_end(&s);
	}
END_TEST

int main(void)
{
	return SUITE_RUN("listener", NULL, NULL, a_listener_that_epoll_refuses_still_serves_who_comes,
			 a_listener_that_was_refused_by_epoll_listens_when_it_may,
			 a_listener_that_is_refused_does_not_spin);
}

/*
 * One fd for several sockets: an epoll, which itself can be waited for. It exists from the first direct call that was
 * submitted until the connection ends, and stands for the handle only while direct calls are in flight: a handle
 * without them has no need of it, and is watched through its socket itself.
 */
#include <errno.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "client/handle.h"

#define WATCH_EVENTS 32

static uint64_t watch_key(const struct link *link)
{
	return link->lease ? lease_id(link->lease) : 0; /* the daemon's numbers begin with 1 */
}

static uint32_t watch_wish(const struct link *link)
{
	return link->out && !link->send_error ? EPOLLIN | EPOLLOUT : EPOLLIN;
}

static int watch_control(struct link *link, int op)
{
	struct epoll_event event = { .events = watch_wish(link), .data.u64 = watch_key(link) };

	if (epoll_ctl(link->p->epoll, op, link->fd, &event) < 0)
		return -errno;
	link->watched = event.events;
	return 0;
}

int watch_add(struct link *link)
{
	struct pypool *p = link->p;
	int r = 0;

	if (p->epoll < 0) {
		p->epoll = epoll_create1(EPOLL_CLOEXEC);
		if (p->epoll < 0)
			return -errno;
	}
	if (!p->main.watched)
		r = watch_control(&p->main, EPOLL_CTL_ADD);
	if (r == 0 && !link->watched)
		r = watch_control(link, EPOLL_CTL_ADD);
	return r;
}

void watch_update(struct link *link)
{
	if (link->watched && link->watched != watch_wish(link))
		(void)watch_control(link, EPOLL_CTL_MOD); /* of an fd that it has: cannot fail */
}

void watch_remove(struct link *link)
{
	/* Closing is not enough while another process has a copy: a child that was forked, the daemon that sent it. */
	if (link->watched)
		(void)epoll_ctl(link->p->epoll, EPOLL_CTL_DEL, link->fd, NULL);
	link->watched = 0;
}

void watch_read(struct pypool *p)
{
	struct epoll_event events[WATCH_EVENTS];
	int n;

	do {
		n = epoll_wait(p->epoll, events, WATCH_EVENTS, 0);
	} while (n < 0 && errno == EINTR);
	for (int i = 0; i < n; i++) {
		struct lease *l = lease_find(p, events[i].data.u64);

		if (l)
			transport_read(lease_link(l));
		else if (events[i].data.u64 == 0)
			transport_read(&p->main);
	}
}

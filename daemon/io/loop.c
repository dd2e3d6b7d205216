/*
 * The loop over libev. The rules it must keep: a timer never fires early, work marked for the end of a turn runs before
 * the loop waits, and the default loop of libev is never made (it would reap every child).
 */
#include "daemon/io/loop.h"

#include <assert.h>
#include <errno.h>
#include <ev.h>
#include <stddef.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#include "daemon/base/cleanup.h"
#include "daemon/base/log.h"
#include "daemon/base/mem.h"
#include "daemon/io/tasks.h"

/* libev's macros reach watchers of all types through ev_watcher. */
#pragma GCC diagnostic ignored "-Wstrict-aliasing"

#define HUPS_PER_TURN 64

struct loop {
	struct ev_loop *ev; /* owns */
	ev_prepare prepare;
	ev_check check;
	ev_idle idle; /* active: the next poll does not block */
	struct tasks tasks;
	uint64_t cached;     /* what libev holds for now: when it last read its clock */
	uint64_t turn_began; /* 0: not in a turn */
	uint64_t worst_stall;
	bool stopped;
	int hup_fd; /* owns: epoll of half-closed peers */
	ev_io hup_io;
};

struct timer_store {
	ev_timer ev;
	uint64_t armed; /* when libev will fire: at or before loop_timer.at */
};

_Static_assert(sizeof(ev_io) <= sizeof(((struct loop_io *)0)->store), "room for ev_io");
_Static_assert(sizeof(struct timer_store) <= sizeof(((struct loop_timer *)0)->store), "room for ev_timer");
_Static_assert(sizeof(ev_signal) <= sizeof(((struct loop_signal *)0)->store), "room for ev_signal");
_Static_assert(EV_READ == LOOP_READ && EV_WRITE == LOOP_WRITE, "events are passed through");

static ev_io *io_ev(struct loop_io *io)
{
	return (ev_io *)(void *)io->store;
}

static struct timer_store *timer_store(struct loop_timer *t)
{
	return (struct timer_store *)(void *)t->store;
}

static ev_signal *signal_ev(struct loop_signal *s)
{
	return (ev_signal *)(void *)s->store;
}

/* --- tasks --- */

struct tasks *loop_tasks(struct loop *l)
{
	return &l->tasks;
}

void loop_next_turn(struct loop *l, struct loop_task *t)
{
	tasks_mark_next(&l->tasks, t);
	if (l->tasks.next.head)
		ev_idle_start(l->ev, &l->idle);
}

/* --- the loop --- */

uint64_t loop_now(const struct loop *l)
{
	struct timespec ts;

	(void)l;
	(void)clock_gettime(CLOCK_MONOTONIC, &ts); /* cannot fail for this clock */
	return (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec;
}

uint64_t loop_worst_stall(const struct loop *l)
{
	return l->worst_stall;
}

/* Runs before the loop waits. */
static void loop_on_prepare(struct ev_loop *ev, ev_prepare *w, int revents)
{
	struct loop *l = w->data;

	(void)ev;
	(void)revents;
	tasks_end_turn(&l->tasks);
	if (l->turn_began) {
		uint64_t took = loop_now(l) - l->turn_began;

		if (took > l->worst_stall)
			l->worst_stall = took;
		l->turn_began = 0;
	}
}

/* Runs first after the wait. */
static void loop_on_check(struct ev_loop *ev, ev_check *w, int revents)
{
	struct loop *l = w->data;

	(void)revents;
	l->turn_began = l->cached = loop_now(l);
	tasks_begin_turn(&l->tasks);
	ev_idle_stop(ev, &l->idle);
}

/* Its being active is all that is wanted of it. */
static void loop_on_idle(struct ev_loop *ev, ev_idle *w, int revents)
{
	(void)ev;
	(void)w;
	(void)revents;
}

/* One event a call: a callback may stop any other watch, and its event must not be in our hands then. */
static void hup_on_event(struct ev_loop *ev, ev_io *w, int revents)
{
	struct loop *l = w->data;

	(void)ev;
	(void)revents;
	for (unsigned n = 0; n < HUPS_PER_TURN; n++) {
		struct epoll_event e;
		struct loop_hup *h;

		if (epoll_wait(l->hup_fd, &e, 1, 0) <= 0)
			return;
		h = e.data.ptr;
		loop_hup_stop(h);
		h->hung_up(h);
	}
}

/* At the start, not with the first half-closed peer: then there may be no fd left, and that peer would lose its replies. */
static int loop_open_hup(struct loop *l)
{
	l->hup_fd = epoll_create1(EPOLL_CLOEXEC);
	if (l->hup_fd < 0)
		return -errno;
	ev_io_init(&l->hup_io, hup_on_event, l->hup_fd, EV_READ);
	l->hup_io.data = l;
	ev_io_start(l->ev, &l->hup_io);
	return 0;
}

/* libev's tables: without memory for them it would abort with a line of its own; this way it is ours. */
static void *loop_resize(void *p, long size)
{
	if (size)
		return mem_resize(p, (size_t)size, 1);
	free(p);
	return NULL;
}

struct loop *loop_new(void)
{
	struct loop *l = MEM_NEW(struct loop);

	ev_set_allocator(loop_resize);
	l->ev = ev_loop_new(EVBACKEND_EPOLL | EVFLAG_NOENV);
	if (!l->ev || loop_open_hup(l) < 0) {
		if (l->ev)
			ev_loop_destroy(l->ev);
		free(l);
		return NULL;
	}
	tasks_init(&l->tasks);
	ev_prepare_init(&l->prepare, loop_on_prepare);
	ev_check_init(&l->check, loop_on_check);
	ev_idle_init(&l->idle, loop_on_idle);
	ev_set_priority(&l->check, EV_MAXPRI);
	l->prepare.data = l->check.data = l;
	ev_prepare_start(l->ev, &l->prepare);
	ev_check_start(l->ev, &l->check);
	l->cached = loop_now(l);
	return l;
}

struct loop *loop_free(struct loop *l)
{
	if (!l)
		return NULL;
	tasks_empty_graves(&l->tasks);
	ev_io_stop(l->ev, &l->hup_io);
	(void)close(l->hup_fd); /* an epoll has nothing to lose */
	ev_loop_destroy(l->ev);
	free(l);
	return NULL;
}

void loop_run(struct loop *l)
{
	while (!l->stopped)
		(void)ev_run(l->ev, 0); /* whether watchers are left does not matter: ours always are */
	l->stopped = false;
	tasks_end_turn(&l->tasks); /* of the turn that was broken off */
	l->turn_began = 0;
}

void loop_turn_once(struct loop *l)
{
	(void)ev_run(l->ev, EVRUN_NOWAIT); /* whether watchers are left does not matter */
	tasks_end_turn(&l->tasks);
	l->turn_began = 0;
}

void loop_stop(struct loop *l)
{
	l->stopped = true;
	ev_break(l->ev, EVBREAK_ALL);
}

/* --- fds --- */

static void io_on_event(struct ev_loop *ev, ev_io *w, int revents)
{
	struct loop_io *io = w->data;

	(void)ev;
	if (revents & EV_ERROR) { /* epoll_ctl refused it (ENOSPC, EBADF); libev has stopped the watcher */
		LOG(ERROR, "loop.unwatchable", KV("fd", io->fd));
		io->events = 0;
		io->ready(io, LOOP_BROKEN);
		return;
	}
	io->ready(io, revents & (LOOP_READ | LOOP_WRITE));
}

void loop_io_init(struct loop_io *io, struct loop *l, int fd, enum loop_priority prio,
		  void (*ready)(struct loop_io *io, int events))
{
	ev_io *w = io_ev(io);

	io->loop = l;
	io->fd = fd;
	io->events = 0;
	io->ready = ready;
	ev_io_init(w, io_on_event, fd, 0);
	ev_set_priority(w, (int)prio);
	w->data = io;
}

void loop_io_watch(struct loop_io *io, int events)
{
	ev_io *w = io_ev(io);

	if (io->events == events)
		return;
	/* libev compares what it had with what it has before it waits: stop and start in one turn cost no system call */
	ev_io_stop(io->loop->ev, w);
	io->events = events;
	if (!events)
		return;
	assert(io->fd >= 0);
	ev_io_modify(w, events);
	ev_io_start(io->loop->ev, w);
	/* epoll is told just before the wait, and libev would wait before it tells us that epoll refused */
	ev_idle_start(io->loop->ev, &io->loop->idle);
}

void loop_io_close(struct loop_io *io)
{
	if (io->fd < 0)
		return;
	loop_io_watch(io, 0);
	assert(!ev_is_active(io_ev(io))); /* else the next owner of the number would get its events */
	(void)close(io->fd);              /* released also when it fails */
	io->fd = -1;
}

/* --- timers --- */

/* libev adds what it is given to the time that it read at the start of the turn, so count from there: then a timer that is
 * armed late in a long callback is right too. */
static void timer_arm(struct loop_timer *t)
{
	struct timer_store *s = timer_store(t);
	struct loop *l = t->loop;

	ev_timer_stop(l->ev, &s->ev);
	ev_timer_set(&s->ev, t->at > l->cached ? (double)(t->at - l->cached) / (double)NS_PER_S : 0., 0.);
	ev_timer_start(l->ev, &s->ev);
	s->armed = t->at;
}

static void timer_on_event(struct ev_loop *ev, ev_timer *w, int revents)
{
	struct loop_timer *t = w->data;

	(void)ev;
	(void)revents;
	if (loop_now(t->loop) < t->at) { /* moved since it was armed, or libev's clock was behind */
		timer_arm(t);
		return;
	}
	t->at = LOOP_NEVER;
	t->fired(t);
}

void loop_timer_init(struct loop_timer *t, struct loop *l, void (*fired)(struct loop_timer *t))
{
	struct timer_store *s = timer_store(t);

	t->loop = l;
	t->at = LOOP_NEVER;
	t->fired = fired;
	ev_timer_init(&s->ev, timer_on_event, 0., 0.);
	s->ev.data = t;
	s->armed = LOOP_NEVER;
}

void loop_timer_set(struct loop_timer *t, uint64_t at)
{
	struct timer_store *s = timer_store(t);

	t->at = at;
	if (at == LOOP_NEVER) {
		ev_timer_stop(t->loop->ev, &s->ev);
		return;
	}
	/* Moved to later: it is armed anew when the old time comes, most such timers are stopped before. */
	if (ev_is_active(&s->ev) && s->armed <= at)
		return;
	timer_arm(t);
}

void loop_timer_stop(struct loop_timer *t)
{
	loop_timer_set(t, LOOP_NEVER);
}

/* --- signals --- */

static void signal_on_event(struct ev_loop *ev, ev_signal *w, int revents)
{
	struct loop_signal *s = w->data;

	(void)ev;
	(void)revents;
	s->received(s, w->signum);
}

void loop_signal_start(struct loop_signal *s, struct loop *l, int signo,
		       void (*received)(struct loop_signal *s, int signo))
{
	ev_signal *w = signal_ev(s);

	s->loop = l;
	s->received = received;
	ev_signal_init(w, signal_on_event, signo);
	w->data = s;
	ev_signal_start(l->ev, w);
}

void loop_signal_stop(struct loop_signal *s)
{
	if (s->loop)
		ev_signal_stop(s->loop->ev, signal_ev(s));
	s->loop = NULL;
}

/* --- half-closed peers --- */

int loop_hup_start(struct loop_hup *h, struct loop *l, int fd, void (*hung_up)(struct loop_hup *h))
{
	/* no events asked for: EPOLLHUP and EPOLLERR come anyway, EPOLLRDHUP does not */
	struct epoll_event e = { .data.ptr = h };

	h->loop = l;
	h->fd = -1;
	h->hung_up = hung_up;
	if (epoll_ctl(l->hup_fd, EPOLL_CTL_ADD, fd, &e) < 0)
		return -errno;
	h->fd = fd;
	return 0;
}

void loop_hup_stop(struct loop_hup *h)
{
	if (h->fd < 0)
		return;
	(void)epoll_ctl(h->loop->hup_fd, EPOLL_CTL_DEL, h->fd, NULL); /* an open fd that was added: cannot fail */
	h->fd = -1;
}

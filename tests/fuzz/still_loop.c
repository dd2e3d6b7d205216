#include "tests/fuzz/still_loop.h"

#include <poll.h>
#include <unistd.h>

#include "daemon/base/cleanup.h"
#include "daemon/base/mem.h"
#include "daemon/io/tasks.h"
#include "tests/fuzz/must.h"
#include "tests/sim/sim_timers.h"

#define WATCHES_MAX 64
#define TURNS_AT_ONCE 20000 /* more than this at one moment is a loop that spins */

struct loop {
	uint64_t now;
	struct loop_io *ios[WATCHES_MAX]; /* borrows: watched */
	int due[WATCHES_MAX];             /* what each may be told in this turn */
	unsigned n_ios;
	struct loop_hup *hups[WATCHES_MAX];
	unsigned n_hups;
	struct sim_timers timers;
	struct tasks tasks;
};

/* What loop_io.store holds. */
struct io_store {
	enum loop_priority prio;
};

static struct io_store *io_store(struct loop_io *io)
{
	return (struct io_store *)(void *)io->store;
}

/* --- tasks and timers --- */

struct tasks *loop_tasks(struct loop *l)
{
	return &l->tasks;
}

void loop_next_turn(struct loop *l, struct loop_task *t)
{
	tasks_mark_next(&l->tasks, t);
}

struct sim_timers *loop_timers(struct loop *l)
{
	return &l->timers;
}

/* --- birth --- */

struct loop *loop_new(void)
{
	struct loop *l = MEM_NEW(struct loop);

	l->now = 1000 * NS_PER_S; /* as after some uptime: what compares with 0 would show */
	tasks_init(&l->tasks);
	return l;
}

struct loop *loop_free(struct loop *l)
{
	if (l)
		tasks_end_turn(&l->tasks);
	free(l);
	return NULL;
}

uint64_t loop_now(const struct loop *l)
{
	return l->now;
}

uint64_t loop_worst_stall(const struct loop *l)
{
	(void)l;
	return 0;
}

unsigned still_loop_leftovers(const struct loop *l)
{
	return l->n_ios + l->n_hups + sim_timers_count(&l->timers) + tasks_are_marked(&l->tasks) + (l->tasks.graves != NULL);
}

/* --- fds --- */

void loop_io_init(struct loop_io *io, struct loop *l, int fd, enum loop_priority prio,
		  void (*ready)(struct loop_io *io, int events))
{
	*io = (struct loop_io){ .loop = l, .fd = fd, .ready = ready };
	io_store(io)->prio = prio;
}

static void io_remove(struct loop *l, const struct loop_io *io)
{
	for (unsigned i = 0; i < l->n_ios; i++) {
		if (l->ios[i] != io)
			continue;
		l->n_ios--;
		l->ios[i] = l->ios[l->n_ios];
		l->due[i] = l->due[l->n_ios];
		return;
	}
}

void loop_io_watch(struct loop_io *io, int events)
{
	struct loop *l = io->loop;

	if (io->events == events)
		return;
	MUST(io->fd >= 0, "a closed fd is watched");
	if (io->events)
		io_remove(l, io);
	io->events = events;
	if (!events)
		return;
	MUST(l->n_ios < WATCHES_MAX, "too many fds");
	l->due[l->n_ios] = 0;
	l->ios[l->n_ios++] = io;
}

void loop_io_close(struct loop_io *io)
{
	if (io->fd < 0)
		return;
	loop_io_watch(io, 0);
	MUST(close(io->fd) == 0, "fd %d closed by somebody else", io->fd);
	io->fd = -1;
}

int loop_hup_start(struct loop_hup *h, struct loop *l, int fd, void (*hung_up)(struct loop_hup *h))
{
	MUST(l->n_hups < WATCHES_MAX, "too many fds");
	*h = (struct loop_hup){ .loop = l, .fd = fd, .hung_up = hung_up };
	l->hups[l->n_hups++] = h;
	return 0;
}

void loop_hup_stop(struct loop_hup *h)
{
	struct loop *l = h->loop;

	if (h->fd < 0)
		return;
	for (unsigned i = 0; i < l->n_hups; i++) {
		if (l->hups[i] == h)
			l->hups[i--] = l->hups[--l->n_hups];
	}
	h->fd = -1;
}

/* --- turns --- */

static unsigned poll_ios(struct loop *l)
{
	struct pollfd p[WATCHES_MAX];
	unsigned n = 0;

	for (unsigned i = 0; i < l->n_ios; i++) {
		int events = l->ios[i]->events;

		p[i] = (struct pollfd){ .fd = l->ios[i]->fd };
		p[i].events = (short)((events & LOOP_READ ? POLLIN : 0) | (events & LOOP_WRITE ? POLLOUT : 0));
	}
	(void)poll(p, l->n_ios, 0); /* with a timeout of 0 nothing interrupts it */
	for (unsigned i = 0; i < l->n_ios; i++) {
		int events = l->ios[i]->events;
		bool broken = p[i].revents & (POLLHUP | POLLERR); /* libev reports these as both */

		MUST(!(p[i].revents & POLLNVAL), "a watched fd was closed");
		l->due[i] = (p[i].revents & POLLIN || broken ? events & LOOP_READ : 0) |
			    (p[i].revents & POLLOUT || broken ? events & LOOP_WRITE : 0);
		n += l->due[i] != 0;
	}
	return n;
}

static void deliver_ios(struct loop *l, enum loop_priority prio)
{
	for (unsigned i = 0; i < l->n_ios;) {
		struct loop_io *io = l->ios[i];
		int due = l->due[i];

		if (!due || io_store(io)->prio != prio) {
			i++;
			continue;
		}
		l->due[i] = 0;
		io->ready(io, due);
		i = 0; /* the array may have changed */
	}
}

static unsigned deliver_hups(struct loop *l)
{
	for (unsigned i = 0; i < l->n_hups; i++) {
		struct loop_hup *h = l->hups[i];
		struct pollfd p = { .fd = h->fd };

		if (poll(&p, 1, 0) < 1)
			continue;
		loop_hup_stop(h);
		h->hung_up(h);
		return 1; /* the array may have changed */
	}
	return 0;
}

static bool turn(struct loop *l)
{
	unsigned n = tasks_are_marked(&l->tasks) || l->tasks.graves;

	tasks_begin_turn(&l->tasks);
	n += poll_ios(l);
	deliver_ios(l, LOOP_PRIO_OUTPUT);
	deliver_ios(l, LOOP_PRIO_WORKER);
	n += sim_timers_fire(&l->timers, l->now);
	deliver_ios(l, LOOP_PRIO_NORMAL);
	n += deliver_hups(l);
	tasks_end_turn(&l->tasks);
	return n > 0;
}

void still_loop_settle(struct loop *l)
{
	unsigned n = 0;

	while (turn(l))
		MUST(++n < TURNS_AT_ONCE, "the loop spins");
}

void still_loop_pass(struct loop *l, uint64_t ns)
{
	uint64_t until = l->now + ns;
	uint64_t at;

	still_loop_settle(l);
	while ((at = sim_timers_next(&l->timers)) <= until) {
		l->now = at > l->now ? at : l->now;
		still_loop_settle(l);
	}
	l->now = until;
	still_loop_settle(l);
}

void still_loop_freeze(struct loop *l, uint64_t ns)
{
	l->now += ns;
}

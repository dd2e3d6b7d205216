#include "tests/fuzz/still_loop.h"

#include <poll.h>
#include <unistd.h>
#include <utlist.h>

#include "daemon/base/cleanup.h"
#include "daemon/base/mem.h"
#include "tests/fuzz/must.h"

#define WATCHES_MAX 64
#define TURNS_AT_ONCE 20000 /* more than this at one moment is a loop that spins */

struct task_list {
	struct loop_task *head, **end;
};

struct loop {
	uint64_t now;
	struct loop_io *ios[WATCHES_MAX]; /* borrows: watched */
	int due[WATCHES_MAX];             /* what each may be told in this turn */
	unsigned n_ios;
	struct loop_hup *hups[WATCHES_MAX];
	unsigned n_hups;
	struct loop_timer *timers; /* armed: list through their stores */
	struct task_list deferred, flushes, next;
	struct loop_grave *graves;
};

/* What loop_io.store and loop_timer.store hold. */
struct io_store {
	enum loop_priority prio;
};
struct timer_store {
	struct loop_timer *prev, *next;
};

static struct io_store *io_store(struct loop_io *io)
{
	return (struct io_store *)(void *)io->store;
}

static struct timer_store *timer_store(const struct loop_timer *t)
{
	return (struct timer_store *)(void *)t->store;
}

/* --- tasks --- */

static void list_push(struct task_list *q, struct loop_task *t)
{
	if (t->marked)
		return;
	t->marked = true;
	t->next = NULL;
	*q->end = t;
	q->end = &t->next;
}

static struct loop_task *list_pop(struct task_list *q)
{
	struct loop_task *t = q->head;

	if (!t)
		return NULL;
	q->head = t->next;
	if (!q->head)
		q->end = &q->head;
	t->marked = false;
	return t;
}

static bool list_remove(struct task_list *q, struct loop_task *t)
{
	for (struct loop_task **at = &q->head; *at; at = &(*at)->next) {
		if (*at != t)
			continue;
		*at = t->next;
		if (!t->next)
			q->end = at;
		t->marked = false;
		return true;
	}
	return false;
}

static void list_run(struct task_list *q)
{
	struct loop_task *t;

	while ((t = list_pop(q)))
		t->run(t);
}

void loop_defer(struct loop *l, struct loop_task *t)
{
	list_push(&l->deferred, t);
}

void loop_flush_later(struct loop *l, struct loop_task *t)
{
	list_push(&l->flushes, t);
}

void loop_next_turn(struct loop *l, struct loop_task *t)
{
	list_push(&l->next, t);
}

void loop_task_cancel(struct loop *l, struct loop_task *t)
{
	if (!t->marked)
		return;
	MUST(list_remove(&l->deferred, t) || list_remove(&l->flushes, t) || list_remove(&l->next, t), "a lost task");
}

void loop_bury(struct loop *l, struct loop_grave *g, void (*release)(struct loop_grave *g))
{
	g->release = release;
	g->next = l->graves;
	l->graves = g;
}

static void end_turn(struct loop *l)
{
	do {
		do {
			list_run(&l->deferred);
			list_run(&l->flushes);
		} while (l->deferred.head);
		while (l->graves) {
			struct loop_grave *g = l->graves;

			l->graves = g->next;
			g->release(g);
		}
	} while (l->deferred.head || l->flushes.head);
}

/* --- birth --- */

struct loop *loop_new(void)
{
	struct loop *l = MEM_NEW(struct loop);

	l->now = 1000 * NS_PER_S; /* as after some uptime: what compares with 0 would show */
	l->deferred.end = &l->deferred.head;
	l->flushes.end = &l->flushes.head;
	l->next.end = &l->next.head;
	return l;
}

struct loop *loop_free(struct loop *l)
{
	if (l)
		end_turn(l);
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
	const struct loop_timer *t;
	unsigned n = l->n_ios + l->n_hups;

	for (t = l->timers; t; t = timer_store(t)->next)
		n++;
	return n + (l->deferred.head != NULL) + (l->flushes.head != NULL) + (l->next.head != NULL) +
	       (l->graves != NULL);
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

/* --- timers --- */

void loop_timer_init(struct loop_timer *t, struct loop *l, void (*fired)(struct loop_timer *t))
{
	*t = (struct loop_timer){ .loop = l, .at = LOOP_NEVER, .fired = fired };
}

void loop_timer_set(struct loop_timer *t, uint64_t at)
{
	struct loop *l = t->loop;
	struct timer_store *s = timer_store(t);

	if (t->at != LOOP_NEVER) {
		if (s->prev)
			timer_store(s->prev)->next = s->next;
		else
			l->timers = s->next;
		if (s->next)
			timer_store(s->next)->prev = s->prev;
	}
	t->at = at;
	if (at == LOOP_NEVER)
		return;
	*s = (struct timer_store){ .next = l->timers };
	if (l->timers)
		timer_store(l->timers)->prev = t;
	l->timers = t;
}

void loop_timer_stop(struct loop_timer *t)
{
	loop_timer_set(t, LOOP_NEVER);
}

static struct loop_timer *timer_first(const struct loop *l)
{
	struct loop_timer *t, *first = l->timers;

	for (t = l->timers; t; t = timer_store(t)->next) {
		if (t->at < first->at)
			first = t;
	}
	return first;
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

static unsigned deliver_timers(struct loop *l)
{
	struct loop_timer *t;
	unsigned n = 0;

	while ((t = timer_first(l)) && t->at <= l->now) {
		MUST(++n < TURNS_AT_ONCE, "a timer that fires for ever");
		loop_timer_stop(t);
		t->fired(t);
	}
	return n;
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
	unsigned n = l->next.head || l->deferred.head || l->flushes.head || l->graves;

	if (l->next.head) { /* before what was deferred outside of a turn */
		*l->next.end = l->deferred.head;
		if (l->deferred.head)
			l->next.end = l->deferred.end;
		l->deferred = l->next;
		l->next = (struct task_list){ .head = NULL };
		l->next.end = &l->next.head;
	}
	n += poll_ios(l);
	deliver_ios(l, LOOP_PRIO_OUTPUT);
	deliver_ios(l, LOOP_PRIO_WORKER);
	n += deliver_timers(l);
	deliver_ios(l, LOOP_PRIO_NORMAL);
	n += deliver_hups(l);
	end_turn(l);
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
	struct loop_timer *t;

	still_loop_settle(l);
	while ((t = timer_first(l)) && t->at <= until) {
		l->now = t->at > l->now ? t->at : l->now;
		still_loop_settle(l);
	}
	l->now = until;
	still_loop_settle(l);
}

void still_loop_freeze(struct loop *l, uint64_t ns)
{
	l->now += ns;
}

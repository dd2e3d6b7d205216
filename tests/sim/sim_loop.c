#include "tests/sim/sim_loop.h"

#include <assert.h>
#include <stdlib.h>
#include <utlist.h>

#include "daemon/base/cleanup.h"
#include "daemon/base/mem.h"

#define TURNS_AT_ONCE 10000 /* more than this at one moment of time is a loop that spins */

struct sim_fd {
	bool open, readable, due;
	void *owner;
	void (*closed)(void *owner, int fd);
	struct loop_io *io; /* borrows: while it is watched */
};

struct task_list {
	struct loop_task *head, **end;
};

struct loop {
	uint64_t now, order, turns;
	struct sim_event *events;
	struct sim_fd *fds;
	unsigned n_fds;
	struct loop_timer *timers;
	struct task_list deferred, flushes, next;
	struct loop_grave *graves;
};

/* What loop_io.store and loop_timer.store hold. */
struct io_store {
	enum loop_priority prio;
};
struct timer_store {
	struct loop_timer *prev, *next;
	uint64_t order;
	bool listed;
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
	if (t->marked && !list_remove(&l->deferred, t) && !list_remove(&l->flushes, t))
		(void)list_remove(&l->next, t); /* marked, so it is here */
}

void loop_bury(struct loop *l, struct loop_grave *g, void (*release)(struct loop_grave *g))
{
	g->release = release;
	g->next = l->graves;
	l->graves = g;
}

static void empty_graves(struct loop *l)
{
	while (l->graves) {
		struct loop_grave *g = l->graves;

		l->graves = g->next;
		g->release(g);
	}
}

static void end_turn(struct loop *l)
{
	do {
		do {
			list_run(&l->deferred);
			list_run(&l->flushes);
		} while (l->deferred.head);
		empty_graves(l);
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
	if (!l)
		return NULL;
	empty_graves(l);
	free(l->fds);
	free(l);
	return NULL;
}

uint64_t loop_now(const struct loop *l)
{
	return l->now;
}

/* --- fds --- */

int sim_fd_new(struct loop *l, void *owner, void (*closed)(void *owner, int fd))
{
	unsigned fd = 0;

	while (fd < l->n_fds && l->fds[fd].open)
		fd++;
	if (fd == l->n_fds)
		l->fds = mem_resize(l->fds, ++l->n_fds, sizeof(*l->fds));
	l->fds[fd] = (struct sim_fd){ .open = true, .owner = owner, .closed = closed };
	return (int)fd;
}

void *sim_fd_owner(const struct loop *l, int fd)
{
	return fd >= 0 && (unsigned)fd < l->n_fds && l->fds[fd].open ? l->fds[fd].owner : NULL;
}

void sim_fd_set_readable(struct loop *l, int fd, bool readable)
{
	if (sim_fd_owner(l, fd))
		l->fds[fd].readable = readable;
}

unsigned sim_fds_open(const struct loop *l)
{
	unsigned n = 0;

	for (unsigned i = 0; i < l->n_fds; i++)
		n += l->fds[i].open;
	return n;
}

void loop_io_init(struct loop_io *io, struct loop *l, int fd, enum loop_priority prio,
		  void (*ready)(struct loop_io *io, int events))
{
	*io = (struct loop_io){ .loop = l, .fd = fd, .ready = ready };
	io_store(io)->prio = prio;
}

void loop_io_watch(struct loop_io *io, int events)
{
	if (io->events == events)
		return;
	assert(io->fd >= 0 && io->loop->fds[io->fd].open);
	io->events = events;
	io->loop->fds[io->fd].io = events ? io : NULL;
	io->loop->fds[io->fd].due = false;
}

void loop_io_close(struct loop_io *io)
{
	struct loop *l = io->loop;
	int fd = io->fd;
	struct sim_fd old;

	if (fd < 0)
		return;
	loop_io_watch(io, 0);
	old = l->fds[fd];
	assert(old.open);
	l->fds[fd] = (struct sim_fd){ 0 };
	io->fd = -1;
	old.closed(old.owner, fd);
}

static bool fd_is_ready(const struct sim_fd *f)
{
	return f->open && f->readable && f->io && f->io->events & LOOP_READ;
}

static bool any_fd_ready(const struct loop *l)
{
	for (unsigned i = 0; i < l->n_fds; i++) {
		if (fd_is_ready(&l->fds[i]))
			return true;
	}
	return false;
}

/* What was ready when the wait ended is told, also when it has been read meanwhile: as epoll does. */
static void run_ready(struct loop *l, enum loop_priority prio)
{
	for (unsigned i = 0; i < l->n_fds; i++) {
		unsigned at = (unsigned)((i + l->turns) % l->n_fds);
		struct sim_fd *f = &l->fds[at];

		if (!f->due || !f->io || io_store(f->io)->prio != prio)
			continue;
		f->due = false;
		f->io->ready(f->io, LOOP_READ);
	}
}

/* --- timers --- */

void loop_timer_init(struct loop_timer *t, struct loop *l, void (*fired)(struct loop_timer *t))
{
	*t = (struct loop_timer){ .loop = l, .at = LOOP_NEVER, .fired = fired };
}

static void timer_unlist(struct loop_timer *t)
{
	struct timer_store *s = timer_store(t);

	if (!s->listed)
		return;
	if (s->prev)
		timer_store(s->prev)->next = s->next;
	else
		t->loop->timers = s->next;
	if (s->next)
		timer_store(s->next)->prev = s->prev;
	*s = (struct timer_store){ 0 };
}

void loop_timer_set(struct loop_timer *t, uint64_t at)
{
	struct timer_store *s = timer_store(t);
	struct loop *l = t->loop;

	timer_unlist(t);
	t->at = at;
	if (at == LOOP_NEVER)
		return;
	*s = (struct timer_store){ .next = l->timers, .order = ++l->order, .listed = true };
	if (l->timers)
		timer_store(l->timers)->prev = t;
	l->timers = t;
}

void loop_timer_stop(struct loop_timer *t)
{
	loop_timer_set(t, LOOP_NEVER);
}

/* The one that is due first, of those armed before `order`. */
static struct loop_timer *first_timer(const struct loop *l, uint64_t order)
{
	struct loop_timer *first = NULL;

	for (struct loop_timer *t = l->timers; t; t = timer_store(t)->next) {
		if (timer_store(t)->order >= order)
			continue;
		if (!first || t->at < first->at ||
		    (t->at == first->at && timer_store(t)->order < timer_store(first)->order))
			first = t;
	}
	return first;
}

static void run_timers(struct loop *l)
{
	uint64_t order = ++l->order; /* what is armed now for a time that has passed fires in the next turn */
	struct loop_timer *t;

	while ((t = first_timer(l, order)) && t->at <= l->now) {
		loop_timer_stop(t);
		t->fired(t);
	}
}

unsigned sim_timers_armed(const struct loop *l)
{
	unsigned n = 0;

	for (struct loop_timer *t = l->timers; t; t = timer_store(t)->next)
		n++;
	return n;
}

/* --- events --- */

void sim_event_init(struct sim_event *e, void (*happen)(struct sim_event *e))
{
	*e = (struct sim_event){ .happen = happen };
}

void sim_event_set(struct loop *l, struct sim_event *e, uint64_t at)
{
	struct sim_event *before = NULL, *i;

	sim_event_cancel(l, e);
	e->at = at;
	e->order = ++l->order;
	e->pending = true;
	for (i = l->events; i && i->at <= at; i = i->next)
		before = i;
	if (before)
		DL_APPEND_ELEM(l->events, before, e);
	else
		DL_PREPEND(l->events, e);
}

void sim_event_cancel(struct loop *l, struct sim_event *e)
{
	if (!e->pending)
		return;
	DL_DELETE(l->events, e);
	e->pending = false;
}

unsigned sim_events_pending(const struct loop *l)
{
	unsigned n = 0;

	for (struct sim_event *e = l->events; e; e = e->next)
		n++;
	return n;
}

static void run_events(struct loop *l)
{
	while (l->events && l->events->at <= l->now) {
		struct sim_event *e = l->events;

		sim_event_cancel(l, e);
		e->happen(e);
	}
}

/* --- turns --- */

unsigned sim_tasks_marked(const struct loop *l)
{
	return (l->deferred.head != NULL) + (l->flushes.head != NULL) + (l->next.head != NULL);
}

uint64_t sim_turns(const struct loop *l)
{
	return l->turns;
}

static void run_turn(struct loop *l)
{
	struct loop_task *t;

	l->turns++;
	while ((t = list_pop(&l->next)))
		list_push(&l->deferred, t);
	for (unsigned i = 0; i < l->n_fds; i++)
		l->fds[i].due = fd_is_ready(&l->fds[i]);
	run_ready(l, LOOP_PRIO_OUTPUT);
	run_ready(l, LOOP_PRIO_WORKER);
	run_timers(l);
	run_ready(l, LOOP_PRIO_NORMAL);
	end_turn(l);
}

static bool has_work(const struct loop *l)
{
	const struct loop_timer *t = first_timer(l, UINT64_MAX);

	return sim_tasks_marked(l) || any_fd_ready(l) || (t && t->at <= l->now);
}

bool sim_settle(struct loop *l)
{
	for (unsigned n = 0; n < TURNS_AT_ONCE; n++) {
		run_events(l);
		if (!has_work(l))
			return true;
		run_turn(l);
	}
	return false;
}

static uint64_t next_time(const struct loop *l)
{
	const struct loop_timer *t = first_timer(l, UINT64_MAX);
	uint64_t at = t ? t->at : LOOP_NEVER;

	return l->events && l->events->at < at ? l->events->at : at;
}

bool sim_pass(struct loop *l, uint64_t ns)
{
	uint64_t end = l->now + ns;

	while (sim_settle(l)) {
		uint64_t at = next_time(l);

		if (at > end) {
			l->now = end;
			return true;
		}
		l->now = at > l->now ? at : l->now;
	}
	return false;
}

void sim_freeze(struct loop *l, uint64_t ns)
{
	uint64_t end = l->now + ns;

	while (l->events && l->events->at <= end) {
		l->now = l->events->at > l->now ? l->events->at : l->now;
		run_events(l);
	}
	l->now = end;
}

#include "tests/sim/sim_loop.h"

#include <assert.h>
#include <stdlib.h>
#include <utlist.h>

#include "daemon/base/cleanup.h"
#include "daemon/base/mem.h"
#include "daemon/io/tasks.h"
#include "tests/sim/sim_timers.h"

#define TURNS_AT_ONCE 10000 /* more than this at one moment of time is a loop that spins */

struct sim_fd {
	bool open, readable, due;
	struct sim_file file;
	struct loop_io *io; /* borrows: while it is watched */
};

struct loop {
	uint64_t now, order, turns, last_inode;
	uint64_t fuse; /* effects until the daemon dies; 0: it does not */
	bool dead;
	enum sim_gait gait; /* of this turn */
	struct sim_event *events;
	struct sim_fd *fds;
	unsigned n_fds;
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

unsigned sim_timers_armed(const struct loop *l)
{
	return sim_timers_count(&l->timers);
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
	if (!l)
		return NULL;
	tasks_empty_graves(&l->tasks);
	free(l->fds);
	free(l);
	return NULL;
}

uint64_t loop_now(const struct loop *l)
{
	return l->now;
}

/* --- fds --- */

int sim_fd_open(struct loop *l, const struct sim_file *file)
{
	unsigned fd = 0;

	while (fd < l->n_fds && l->fds[fd].open)
		fd++;
	if (fd == l->n_fds)
		l->fds = mem_resize(l->fds, ++l->n_fds, sizeof(*l->fds));
	l->fds[fd] = (struct sim_fd){ .open = true, .file = *file };
	if (!file->inode)
		l->fds[fd].file.inode = ++l->last_inode;
	return (int)fd;
}

int sim_fd_new(struct loop *l, void *owner, void (*closed)(void *owner, int fd))
{
	return sim_fd_open(l, &(struct sim_file){ .owner = owner, .closed = closed });
}

const struct sim_file *sim_fd_file(const struct loop *l, int fd)
{
	return fd >= 0 && (unsigned)fd < l->n_fds && l->fds[fd].open ? &l->fds[fd].file : NULL;
}

void *sim_fd_owner(const struct loop *l, int fd)
{
	const struct sim_file *file = sim_fd_file(l, fd);

	return file ? file->owner : NULL;
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
	old.file.closed(old.file.owner, fd);
}

static bool fd_is_ready(const struct sim_fd *f)
{
	return f->open && f->readable && f->io && f->io->events & LOOP_READ;
}

unsigned sim_fds_ready(const struct loop *l, enum loop_priority prio)
{
	unsigned n = 0;

	for (unsigned i = 0; i < l->n_fds; i++)
		n += fd_is_ready(&l->fds[i]) && io_store(l->fds[i].io)->prio == prio;
	return n;
}

static bool any_fd_ready(const struct loop *l)
{
	for (unsigned i = 0; i < l->n_fds; i++) {
		if (fd_is_ready(&l->fds[i]))
			return true;
	}
	return false;
}

static unsigned place_in_turn(const struct loop *l, unsigned i)
{
	if (l->gait == SIM_GAIT_DRAWN)
		return (unsigned)((i + l->turns) % l->n_fds);
	return l->gait == SIM_GAIT_BACKWARD ? l->n_fds - 1 - i : i;
}

/* What was ready when the wait ended is told, also when it has been read meanwhile: as epoll does. */
static void run_ready(struct loop *l, enum loop_priority prio)
{
	for (unsigned i = 0; i < l->n_fds; i++) {
		struct sim_fd *f = &l->fds[place_in_turn(l, i)];

		if (!f->due || !f->io || io_store(f->io)->prio != prio)
			continue;
		f->due = false;
		f->io->ready(f->io, LOOP_READ);
	}
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

struct sim_event *sim_events_first(const struct loop *l)
{
	return l->events;
}

void sim_event_happen(struct loop *l, struct sim_event *e)
{
	sim_event_cancel(l, e);
	e->happen(e);
}

static void run_events(struct loop *l)
{
	while (l->events && l->events->at <= l->now)
		sim_event_happen(l, l->events);
}

/* --- turns --- */

unsigned sim_tasks_marked(const struct loop *l)
{
	return tasks_are_marked(&l->tasks);
}

uint64_t sim_turns(const struct loop *l)
{
	return l->turns;
}

static void run_turn(struct loop *l)
{
	l->turns++;
	tasks_begin_turn(&l->tasks);
	for (unsigned i = 0; i < l->n_fds; i++)
		l->fds[i].due = fd_is_ready(&l->fds[i]);
	run_ready(l, LOOP_PRIO_OUTPUT);
	run_ready(l, LOOP_PRIO_WORKER);
	(void)sim_timers_fire(&l->timers, l->now);
	run_ready(l, LOOP_PRIO_NORMAL);
	tasks_end_turn(&l->tasks);
}

bool sim_has_work(const struct loop *l)
{
	return sim_tasks_marked(l) || any_fd_ready(l) || sim_timers_next(&l->timers) <= l->now;
}

bool sim_settle(struct loop *l)
{
	for (unsigned n = 0; n < TURNS_AT_ONCE; n++) {
		run_events(l);
		if (l->dead || !sim_has_work(l))
			return true;
		run_turn(l);
		if (l->gait == SIM_GAIT_SLOW)
			l->gait = SIM_GAIT_FORWARD;
	}
	return false;
}

bool sim_look(struct loop *l, enum sim_gait gait)
{
	bool ends;

	l->gait = gait;
	ends = sim_settle(l);
	l->gait = SIM_GAIT_DRAWN;
	return ends;
}

enum sim_gait sim_gait(const struct loop *l)
{
	return l->gait;
}

static uint64_t next_time(const struct loop *l)
{
	uint64_t at = sim_timers_next(&l->timers);

	return l->events && l->events->at < at ? l->events->at : at;
}

bool sim_pass(struct loop *l, uint64_t ns)
{
	uint64_t end = l->now + ns;

	while (sim_settle(l)) {
		if (l->dead)
			return true;
		uint64_t at = next_time(l);

		if (at > end) {
			l->now = end;
			return true;
		}
		l->now = at > l->now ? at : l->now;
	}
	return false;
}

void sim_set_fuse(struct loop *l, uint64_t effects)
{
	l->fuse = effects;
	l->dead = false;
}

bool sim_is_dead(const struct loop *l)
{
	return l->dead;
}

bool sim_takes_effect(struct loop *l)
{
	if (l->fuse && --l->fuse == 0)
		l->dead = true;
	return !l->dead;
}

void sim_bury(struct loop *l)
{
	while (sim_tasks_marked(l)) {
		tasks_begin_turn(&l->tasks);
		tasks_end_turn(&l->tasks);
	}
	tasks_empty_graves(&l->tasks);
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

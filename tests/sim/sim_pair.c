#include "tests/sim/sim_pair.h"

#include <errno.h>
#include <stdlib.h>

#include "daemon/base/cleanup.h"
#include "daemon/base/mem.h"
#include "tests/sim/sim_child.h"

int sim_pair_error;

struct sim_pair {
	struct pair *pair;             /* borrows: the daemon's, until it closes it */
	struct loop_io worker, client; /* the daemon's fds; a client has taken the second over, perhaps */
	struct sim_child *child;       /* borrows; NULL: has no copy */
	bool input_over, over;
};

static void pair_free_if_unused(struct sim_pair *p)
{
	if (p->worker.fd < 0 && p->client.fd < 0 && !p->child)
		free(p);
}

/* Somebody's read may find something else now. */
static void pair_tell(struct sim_pair *p)
{
	if (p->child)
		sim_child_notice(p->child);
}

static void pair_on_fd_closed(void *owner, int fd)
{
	(void)owner;
	(void)fd; /* whoever closes it says what becomes of that */
}

static void pair_on_hup(struct loop_io *io, int events)
{
	struct sim_pair *p = container_of(io, struct sim_pair, worker);

	(void)events;
	loop_io_watch(io, 0);
	p->pair->hung_up(p->pair);
}

int pair_open(struct pair *pair, struct loop *l, void (*hung_up)(struct pair *p))
{
	struct sim_pair *p;

	if (sim_pair_error)
		return sim_pair_error;
	p = MEM_NEW(struct sim_pair);
	p->pair = pair;
	loop_io_init(&p->worker, l, sim_fd_new(l, p, pair_on_fd_closed), LOOP_PRIO_NORMAL, pair_on_hup);
	loop_io_init(&p->client, l, sim_fd_new(l, p, pair_on_fd_closed), LOOP_PRIO_NORMAL, NULL);
	loop_io_watch(&p->worker, LOOP_READ);
	*pair = (struct pair){ .worker = p->worker.fd, .client = p->client.fd, .hung_up = hung_up, .hup.loop = l };
	return 0;
}

static struct sim_pair *pair_of(struct loop *l, int fd)
{
	return sim_fd_owner(l, fd);
}

int pair_take(struct pair *p, struct loop *l, int worker, void (*hung_up)(struct pair *p))
{
	(void)p, (void)l, (void)worker, (void)hung_up;
	return -ENOSYS;
}

void pair_shut_input(struct pair *pair)
{
	struct sim_pair *p = pair_of(pair->hup.loop, pair->worker);

	if (sim_is_dead(pair->hup.loop))
		return;
	p->input_over = true;
	pair_tell(p);
}

void sim_pair_cut(struct pair *pair)
{
	struct sim_pair *p = pair_of(pair->hup.loop, pair->worker);

	p->pair = NULL;
	if (pair->client >= 0)
		loop_io_close(&p->client);
	loop_io_close(&p->worker);
	p->over |= !p->child;
	pair->worker = pair->client = -1;
	pair_free_if_unused(p);
}

void pair_close(struct pair *pair)
{
	struct sim_pair *p = pair_of(pair->hup.loop, pair->worker);

	if (!p)
		return;
	if (sim_is_dead(pair->hup.loop)) {
		sim_pair_cut(pair);
		return;
	}
	p->over = true;
	pair_tell(p);
	if (pair->client >= 0)
		loop_io_close(&p->client);
	loop_io_close(&p->worker);
	pair->worker = pair->client = -1;
	pair_free_if_unused(p);
}

/* --- the others --- */

void sim_pair_shut(struct sim_pair *p)
{
	p->over = true;
}

struct sim_pair *sim_pair_receive(struct loop *l, int fd, struct sim_child *c)
{
	struct sim_pair *p = pair_of(l, fd);

	p->child = c;
	return p;
}

void sim_pair_drop(struct sim_pair *p)
{
	p->child = NULL;
	p->over |= p->worker.fd < 0; /* nobody has the worker's end any more */
	pair_free_if_unused(p);
}

bool sim_pair_is_over(const struct sim_pair *p)
{
	return p->over || p->input_over || p->client.fd < 0;
}

bool sim_pair_client_is_over(struct loop *l, int fd)
{
	return pair_of(l, fd)->over;
}

void sim_pair_client_close(struct loop *l, int fd)
{
	struct sim_pair *p = pair_of(l, fd);

	loop_io_close(&p->client);
	sim_fd_set_readable(l, p->worker.fd, true);
	pair_tell(p);
	pair_free_if_unused(p);
}

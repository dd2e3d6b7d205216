/* The call channels of a simulated child: the one that it has, and those that other daemons give it in its place. */
#include <stdlib.h>
#include <utlist.h>

#include "daemon/base/cleanup.h"
#include "daemon/base/mem.h"
#include "proto/cursor.h"
#include "tests/sim/sim_child_parts.h"
#include "tests/sim/sim_pair.h"

/* --- the daemon's ends --- */

/* After so many in their place one may be let go. */
static void channel_leave(struct sim_child *c)
{
	const struct sim_pipe *p;
	unsigned n;

	DL_COUNT(c->channels, p, n);
	c->cut_off = n <= PROCESS_OLD_CALLS;
	sim_child_leave(c);
}

/* With the last of them it reads an end, and for one that has heard of no other channel this is the end. */
static void channel_lose(struct sim_pipe *channel)
{
	struct sim_child *c = channel->child;

	if (!c->dead && !c->unborn && c->calls == channel && !c->new_calls && !channel->over)
		channel_leave(c);
}

static void channel_on_fd_closed(void *owner, int fd)
{
	struct sim_pipe *channel = owner;

	if (channel->fd == fd)
		channel->fd = -1;
	if (--channel->n_fds == 0)
		channel_lose(channel);
	sim_child_drop(channel->child);
}

static void channel_on_fd_copied(void *owner)
{
	struct sim_pipe *channel = owner;

	channel->n_fds++;
	channel->child->n_fds++;
}

struct sim_pipe *sim_child_open_channel(struct sim_child *c)
{
	struct sim_pipe *channel = MEM_NEW(struct sim_pipe);
	const struct sim_file file = { .owner = channel, .closed = channel_on_fd_closed, .copied = channel_on_fd_copied };

	channel->child = c;
	channel_on_fd_copied(channel);
	channel->fd = sim_fd_open(c->machine->loop, &file);
	DL_APPEND(c->channels, channel);
	return channel;
}

/* --- the child's --- */

void sim_channel_end(struct sim_pipe *channel)
{
	channel->over = true;
	sim_pipe_update(channel->child->machine->loop, channel);
}

void sim_channels_end(struct sim_child *c)
{
	struct sim_pipe *channel;

	DL_FOREACH (c->channels, channel)
		sim_channel_end(channel);
}

void sim_channels_free(struct sim_child *c)
{
	struct sim_pipe *channel, *next;

	DL_FOREACH_SAFE (c->channels, channel, next) {
		sim_messages_free(channel->messages);
		free(channel);
	}
}

bool sim_channel_is_heard(const struct sim_child *c, const struct sim_pipe *channel)
{
	return channel == c->calls && !c->new_calls;
}

/* Whoever it served directly is cut off, at once or when its handler has ended. */
static void channel_end_direct(struct sim_child *c)
{
	if (!c->channel)
		return;
	sim_pair_shut(c->channel);
	if (c->direct)
		sim_child_look_at_channel(c);
	else
		sim_child_drop_channel(c); /* its call has not come */
}

static uint64_t read_seq(struct span params)
{
	struct span key;
	uint32_t pairs;
	uint64_t seq = 0;

	if (!mp_read_map(&params, &pairs) || pairs != 1 || !mp_read_text(&params, &key) || !span_equals(key, "seq") ||
	    !mp_read_uint(&params, &seq))
		return 0;
	return seq;
}

void sim_channel_offer(struct sim_child *c, struct span params, struct sim_pipe *channel)
{
	uint64_t seq = read_seq(params);

	if (!seq || !channel || c->is_template || !c->said_ready) {
		TELL(c, wronged, "an adoption that cannot be");
		return;
	}
	if (c->stopping || (c->calls->over && !c->new_calls)) { /* it leaves, or can be told nothing any more */
		sim_channel_end(channel);
		return;
	}
	sim_channel_end(c->new_calls ? c->new_calls : c->calls);
	c->new_calls = channel;
	c->adopted = seq;
	channel_end_direct(c);
	sim_child_say_hello(c);
	if (!c->call)
		sim_channel_change(c);
}

void sim_channel_change(struct sim_child *c)
{
	if (!c->new_calls)
		return;
	c->calls = TAKE_PTR(c->new_calls);
	if (!c->calls->n_fds)
		channel_leave(c); /* that daemon is gone too, and its keeper does not hold it */
	else
		sim_child_say_ready(c);
}

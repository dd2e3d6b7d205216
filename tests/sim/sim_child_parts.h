/*
 * What the files of a simulated child, and its machine, need of one another; nobody else includes it, sim_pipe.c aside.
 * sim_child.c has its birth and its end, sim_child_start.c what it does until it is ready, sim_child_hear.c how it
 * takes what the daemon sends, sim_channel.c its call channels, sim_child_call.c its calls and replies, sim_child_say.c the rest of what it writes.
 */
#pragma once

#include "tests/sim/sim_child.h"

/* The machine's observer, when it wants to know. */
#define TELL(c, what, ...)                                                                                             \
	do {                                                                                                           \
		const struct sim_machine_ops *ops_ = (c)->machine->ops;                                                \
		if (ops_ && ops_->what)                                                                                \
			ops_->what((c)->machine, c, ##__VA_ARGS__);                                                    \
	} while (0)

static inline uint64_t sim_child_now(const struct sim_child *c)
{
	return loop_now(c->machine->loop);
}

/* One of its own events. */
static inline void sim_child_after(struct sim_child *c, struct sim_event *e, uint64_t ns)
{
	sim_event_set(c->machine->loop, e, sim_child_now(c) + ns);
}

/* --- sim_child.c --- */

/* By the machine's script, with all of its plumbing but the pidfd; nothing is on its way yet. */
struct sim_child *sim_child_new(struct sim_machine *m);
/* A kill that is on its way already stays. */
void sim_child_leave_after(struct sim_child *c, uint64_t ns, int exit_code, int signal);
/* The daemon, or its keeper, holds it less. May free it. */
void sim_child_drop(struct sim_child *c);
/* It leaves when its call, if it has one, has ended. */
void sim_child_leave(struct sim_child *c);
/* As its script says. */
void sim_child_die_of_itself(struct sim_child *c);
/* With whoever was to give it life, or with the wish for it, its ends of the plumbing are gone. May free it. */
void sim_child_release_unborn(struct sim_message *m);

/* --- sim_channel.c --- */

void sim_channels_free(struct sim_child *c);
/* It is dead: all are at their end. */
void sim_channels_end(struct sim_child *c);
void sim_channel_end(struct sim_pipe *channel);
/* The message `adopt`. */
void sim_channel_offer(struct sim_child *c, struct span params, struct sim_pipe *channel);
/* Between two calls: takes the new one, if there is one. */
void sim_channel_change(struct sim_child *c);
/* A message that came on that one counts. */
bool sim_channel_is_heard(const struct sim_child *c, const struct sim_pipe *channel);

/* --- sim_child_start.c --- */

void sim_child_on_init(struct sim_event *e);
void sim_child_on_close(struct sim_event *e);

/* --- sim_child_hear.c --- */

void sim_child_on_hear(struct sim_event *e);

/* --- sim_child_call.c --- */

void sim_child_begin_call(struct sim_child *c, uint64_t call);
/* The call is of a session whose values it does not have. */
void sim_child_miss_values(struct sim_child *c, uint64_t call);
/* It serves its channel until that is over; by its script it is busy with a handler until then, or for a while. */
void sim_child_begin_direct(struct sim_child *c, uint64_t call);
/* A handler that ran for the client of a direct lease has ended; between two of them it sees the end of the channel. */
void sim_child_look_at_channel(struct sim_child *c);
void sim_child_drop_channel(struct sim_child *c);
void sim_child_on_work(struct sim_event *e);
void sim_child_on_interrupt(struct sim_event *e);

/* --- sim_child_say.c --- */

void sim_child_say_pong(struct sim_child *c, uint64_t seq);
/* More than a control packet may have. */
void sim_child_say_too_much(struct sim_child *c);

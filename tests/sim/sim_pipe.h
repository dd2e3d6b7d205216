/* One way between the daemon and a simulated child: messages that have been written and not read. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct loop;
struct sim_child;
struct sim_pair;

struct sim_message {
	struct sim_message *prev, *next;
	bool control;             /* came over control, not over a call channel */
	struct sim_pipe *channel; /* borrows: the call channel over which it came, or whose other end comes with it; or NULL */
	struct sim_pair *pair;    /* owns a copy: an fd that came with it */
	struct sim_child *unborn; /* holds: whom it asks to fork */
	size_t len;
	uint8_t data[];
};

/* What the child has written and the daemon has not read. */
struct sim_pipe {
	struct sim_message *messages; /* list; owns */
	bool over;                    /* no more will come */
	int fd;                       /* the daemon's end; -1: closed */
	/* of a call channel */
	struct sim_child *child; /* borrows: it outlives its channels */
	unsigned n_fds;          /* that the daemon and its keeper have of it */
	struct sim_pipe *prev, *next;
};

struct sim_message *sim_message_new(const void *data, size_t len);
/* Lets go of what came with it. */
void sim_message_free(struct sim_message *m);
void sim_messages_free(struct sim_message *list);

/* Nobody hears it when the pipe is over, or closed by the daemon. */
void sim_pipe_write(struct loop *l, struct sim_pipe *p, const void *data, size_t len);
/* The daemon's end is readable, or not any more: after a change of `over`. */
void sim_pipe_update(struct loop *l, struct sim_pipe *p);
/* The first message, NULL when there is none; freed by the caller. */
struct sim_message *sim_pipe_take(struct loop *l, struct sim_pipe *p);

/*
 * A simulated worker process, as the daemon's kernel would show it: it acts at its own times, what it has written lies
 * ready whether the daemon looks or not, and its exit is told by a pidfd. What it does is its script; a test may also
 * play it by hand.
 */
#pragma once

#include "daemon/io/process.h"
#include "daemon/io/stream.h"
#include "proto/cursor.h"
#include "tests/sim/sim_copies.h"
#include "tests/sim/sim_loop.h"
#include "tests/sim/sim_machine.h"
#include "tests/sim/sim_pipe.h"
#include "tests/sim/sim_script.h"

struct sim_pair;

struct sim_child {
	struct sim_machine *machine; /* borrows */
	struct sim_child *prev, *next;
	struct sim_script script;
	pid_t pid;
	int pidfd;
	struct sim_pipe control, output, dump;
	struct sim_pipe *calls;     /* borrows: its call channel */
	struct sim_pipe *new_calls; /* borrows: the one that comes in its place; NULL: none */
	struct sim_pipe *channels;  /* list; owns: all that it ever had */
	uint64_t adopted;           /* of the last `adopt`: seq */
	struct sim_message *inbox; /* list; owns: what the daemon has sent */
	unsigned n_fds;
	bool is_template;
	bool unborn;         /* waits for its template; its plumbing is there */
	bool goes;           /* no hello is expected of it, and no init will come: it was forked with that */
	bool asked_for;      /* by a daemon that has not heard that it lives */
	bool refused;        /* its template has told why it is not born */
	bool forking;        /* a template that is at it */
	uint64_t generation; /* of the code that it has imported; 0: not yet */
	bool cut_off;        /* its call channel is at its end, and it leaves for that */
	bool got_init, said_hello, said_ready, dead, stopping;
	struct process_exit how;  /* when dead */
	uint64_t call;            /* in hand; 0: none */
	bool running;             /* its handler was begun */
	bool direct;              /* the call is that of a direct lease: it lasts as long as the channel */
	bool busy;                /* with a handler that was called over the channel */
	struct sim_pair *channel; /* owns a copy; NULL: none */
	struct sim_copies copies;
	uint64_t wanted, reason, page[PROCESS_PAGE_WORDS];         /* the page; in [2] and [3] what a daemon has noted */
	unsigned n_closed;                                         /* sessions that it was told the end of */
	unsigned n_calls, n_interrupts, n_terms, n_stops, n_dumps; /* that it got */
	struct sim_event init, hear, work, interrupt, leave, close;
	int leave_code, leave_signal;
};

/* By hand, as the child. */
void sim_child_say_hello(struct sim_child *c);
void sim_child_say_phase(struct sim_child *c, const char *phase, const char *module);
void sim_child_say_ready(struct sim_child *c);
void sim_child_say_failed(struct sim_child *c);
void sim_child_reply(struct sim_child *c, uint64_t call); /* with the call's number as the value */
/* To the call of a direct lease. */
void sim_child_reply_counts(struct sim_child *c, uint64_t call, uint64_t calls, uint64_t errors);
void sim_child_reply_error(struct sim_child *c, uint64_t call, const char *code, const char *message);
void sim_child_write_calls(struct sim_child *c, const void *data, size_t len); /* one frame's body */
void sim_child_write_control(struct sim_child *c, const void *data, size_t len);
void sim_child_show_stack(struct sim_child *c, const char *function); /* as if it had been asked */
void sim_child_print(struct sim_child *c, const char *text);          /* on stderr */
void sim_child_write_dump(struct sim_child *c, const char *text); /* one stack; "Fatal...": of a signal that kills */
void sim_child_close_calls(struct sim_child *c);
void sim_child_close_control(struct sim_child *c);
void sim_child_die(struct sim_child *c, int exit_code, int signal);

/* Of what the daemon has sent and not flushed yet: its bytes, told apart. */
uint64_t sim_stream_sum(const struct stream *s);

/* For sim_stream.c and sim_process.c: the kernel's side. */
/* channel: NULL for control. */
void sim_child_receive(struct sim_child *c, struct sim_pipe *channel, const void *data, size_t len);
/* Control, with the other end of a call channel. */
void sim_child_receive_calls(struct sim_child *c, const void *data, size_t len, struct sim_pipe *channel);
void sim_child_receive_fd(struct sim_child *c, const void *data, size_t len, int fd);
void sim_child_signal(struct sim_child *c, int signo);
/* Whom a template may give life; held until it has, or until nobody can any more. Its plumbing is open, but for its pidfd. */
int sim_child_conceive(struct sim_machine *m, struct sim_child **c);
void sim_child_receive_fork(struct sim_child *c, const void *data, size_t len, struct sim_child *unborn);
/* The daemon looks for it by its pid. */
int sim_child_open_pidfd(struct sim_child *c);
/* Its channel may be at its end. */
void sim_child_notice(struct sim_child *c);
/* It lives from now on: t has forked it. */
void sim_child_bear(struct sim_child *c, const struct sim_child *t);
/* A call lies in that channel that it has not looked at. */
bool sim_child_has_unread(const struct sim_child *c, const struct sim_pipe *channel);
/* The daemon's end of a new call channel, which nobody has the other end of yet. */
struct sim_pipe *sim_child_open_channel(struct sim_child *c);
/* Another daemon goes on with it. -ESRCH: it has been reaped. */
int sim_child_take_over(struct sim_child *c, const struct process *p);

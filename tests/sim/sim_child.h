/*
 * A simulated worker process, as the daemon's kernel would show it: it acts at its own times, what it has written lies
 * ready whether the daemon looks or not, and its exit is told by a pidfd. What it does is its script; a test may also
 * play it by hand. The machine is where the children live; it is the spawner that the pool is given.
 */
#pragma once

#include "daemon/io/process.h"
#include "daemon/io/stream.h"
#include "proto/cursor.h"
#include "tests/sim/sim_copies.h"
#include "tests/sim/sim_loop.h"

enum sim_init {
	SIM_INIT_READY,
	SIM_INIT_MANUAL,     /* says nothing: the test speaks */
	SIM_INIT_EXIT_EARLY, /* before hello */
	SIM_INIT_EXIT_LATE,  /* between hello and ready */
	SIM_INIT_HANG_EARLY,
	SIM_INIT_HANG_LATE,
	SIM_INIT_FAILED,      /* says so, and exits 1 */
	SIM_INIT_READY_FIRST, /* ready before hello */
	SIM_INIT_READY_TWICE,
	SIM_INIT_WRONG_PROTOCOL,
	SIM_INIT_GARBAGE,
	SIM_INIT_EARLY_REPLY, /* a reply on the call channel before ready */
	SIM_INIT_EARLY_REPLY_AND_EXIT,
	SIM_INIT_CLOSE, /* closes its control channel and lives on */
	SIM_INIT_OVERSIZED,
	SIM_INIT_N,
};

/* What a template does when it is asked for a fork. */
enum sim_fork {
	SIM_FORK_ANSWER,
	SIM_FORK_ERRNO,  /* as fork_errno says */
	SIM_FORK_IGNORE, /* takes the message, and says nothing */
	SIM_FORK_DIE_BEFORE,
	SIM_FORK_DIE_UNTOLD, /* the child is there, and nobody was told */
	SIM_FORK_DIE_AFTER,
	SIM_FORK_TWICE, /* answers so */
	SIM_FORK_NO_CHILD, /* a pid of nobody */
	SIM_FORK_NOBODY,   /* an answer for a worker that there is not, and none for the one that was asked for */
	SIM_FORK_GARBAGE,
	SIM_FORK_N,
};

enum sim_call {
	SIM_CALL_REPLY,
	SIM_CALL_MANUAL,
	SIM_CALL_ERROR,   /* app_error */
	SIM_CALL_UNKNOWN, /* unknown_target: the handler is not run */
	SIM_CALL_HANG,
	SIM_CALL_DIE,
	SIM_CALL_REPLY_AND_DIE, /* the reply lies ready when it is dead */
	SIM_CALL_WRONG_ID,
	SIM_CALL_DOUBLE,
	SIM_CALL_DOUBLE_AND_DIE,
	SIM_CALL_GARBAGE,
	SIM_CALL_CLOSE, /* closes its call channel and lives on */
	SIM_CALL_REPLY_AND_CLOSE,
	SIM_CALL_N,
};

struct sim_script {
	enum sim_init init;
	uint64_t hello_after, ready_after; /* ns: from the start, from hello and init */
	enum sim_call call;
	uint64_t call_after;  /* ns: how long a call takes */
	uint64_t hears_after; /* ns: how long a message or signal is on its way */
	enum sim_fork fork; /* of a template */
	int fork_errno;
	uint64_t fork_after;  /* ns: how long a fork takes; one after the other */
	const char *unfit;    /* borrows: why it says that it must not be forked; NULL: it may */
	bool stopped;         /* the same: by SIGSTOP, from when it is ready */
	bool ignores_interrupt, ignores_term, ignores_stop, ignores_ping, shows_stack;
	bool session_close; /* says that it wants to know of the ends of sessions */
	bool idempotent;  /* says that its handlers may be run again */
	bool closes_idle; /* closes its call channel some time after ready, and lives on */
	uint64_t closes_after;
	int exit_code, signal; /* how it dies by itself */
	char state;            /* of its process in /proc; 0: R while a call runs, S while not */
};

enum sim_attempt {
	SIM_ATTEMPT_EXEC,
	SIM_ATTEMPT_TEMPLATE,
	SIM_ATTEMPT_FORK,
};

struct sim_machine;
struct sim_child;
struct sim_message;
struct sim_pair;

struct sim_machine_ops {
	/* What the new child will do, and what it will do with the call that it has just been sent. May be NULL. */
	void (*born)(struct sim_machine *m, struct sim_child *c);
	void (*called)(struct sim_machine *m, struct sim_child *c);
	/* News for an observer: it has read a call; its handler began; its handler ended; what it may not be sent. */
	void (*saw)(struct sim_machine *m, struct sim_child *c, uint64_t call);
	void (*began)(struct sim_machine *m, struct sim_child *c, uint64_t call);
	void (*ended)(struct sim_machine *m, struct sim_child *c, uint64_t call);
	void (*replied)(struct sim_machine *m, struct sim_child *c, uint64_t call); /* a value lies ready */
	/* It was sent a call of a session whose values it does not have, and answers `internal`. */
	void (*missed)(struct sim_machine *m, struct sim_child *c, uint64_t call);
	void (*ready)(struct sim_machine *m, struct sim_child *c);
	void (*died)(struct sim_machine *m, struct sim_child *c);
	/* A start or a fork, before it is known whether it fails. */
	void (*attempted)(struct sim_machine *m, enum sim_attempt what);
	/* The template begins to fork it: what will it do? */
	void (*forks)(struct sim_machine *m, struct sim_child *t, struct sim_child *c);
	/* It was asked for, and the daemon has never heard that it lives; nor of an error. */
	void (*miscarried)(struct sim_machine *m, struct sim_child *c);
	void (*wronged)(struct sim_machine *m, struct sim_child *c, const char *what);
};

struct sim_machine {
	struct spawner spawner;
	struct loop *loop; /* borrows */
	const struct sim_machine_ops *ops;
	struct sim_script script;   /* of the next child */
	int spawn_error;            /* negative errno of the next start or fork; 0: it succeeds */
	int fd_error;               /* the same of a control packet with an fd */
	struct sim_child *children; /* list; owns: until the daemon has closed all of their fds */
	pid_t last_pid;
	unsigned n_spawned, n_forked, n_attempts;
};

/* What the child has written and the daemon has not read. */
struct sim_pipe {
	struct sim_message *messages; /* list; owns */
	bool over;                    /* no more will come */
	int fd;                       /* the daemon's end; -1: closed */
};

struct sim_child {
	struct sim_machine *machine; /* borrows */
	struct sim_child *prev, *next;
	struct sim_script script;
	pid_t pid;
	int pidfd;
	struct sim_pipe calls, control, output, dump;
	struct sim_message *inbox; /* list; owns: what the daemon has sent */
	unsigned n_fds;
	bool is_template;
	bool unborn; /* waits for its template; its plumbing is there */
	bool asked_for; /* by a daemon that has not heard that it lives */
	bool refused; /* its template has told why it is not born */
	bool forking; /* a template that is at it */
	uint64_t generation; /* of the code that it has imported; 0: not yet */
	bool got_init, said_hello, said_ready, dead, stopping;
	struct process_exit how;                                   /* when dead */
	uint64_t call;                                             /* in hand; 0: none */
	bool running;                                              /* its handler was begun */
	bool direct;               /* the call is that of a direct lease: it lasts as long as the channel */
	bool busy;                 /* with a handler that was called over the channel */
	struct sim_pair *channel;  /* owns a copy; NULL: none */
	struct sim_copies copies;
	uint64_t wanted, reason;                                   /* the page */
	unsigned n_closed;                                         /* sessions that it was told the end of */
	unsigned n_calls, n_interrupts, n_terms, n_stops, n_dumps; /* that it got */
	struct sim_event init, hear, work, interrupt, leave, close;
	int leave_code, leave_signal;
};

struct sim_message {
	struct sim_message *prev, *next;
	bool control; /* came over control, not over the call channel */
	struct sim_pair *pair; /* owns a copy: an fd that came with it */
	struct sim_child *unborn; /* holds: whom it asks to fork */
	size_t len;
	uint8_t data[];
};

void sim_machine_init(struct sim_machine *m, struct loop *l, const struct sim_machine_ops *ops);
/* Without those that are not born. */
unsigned sim_machine_living(const struct sim_machine *m);
struct sim_child *sim_machine_find(const struct sim_machine *m, pid_t pid); /* a living one, or NULL */

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
void sim_child_print(struct sim_child *c, const char *text); /* on stderr */
void sim_child_write_dump(struct sim_child *c, const char *text); /* one stack; "Fatal...": of a signal that kills */
void sim_child_close_calls(struct sim_child *c);
void sim_child_close_control(struct sim_child *c);
void sim_child_die(struct sim_child *c, int exit_code, int signal);

/* Of what the daemon has sent and not flushed yet: its bytes, told apart. */
uint64_t sim_stream_sum(const struct stream *s);

/* For sim_stream.c and sim_process.c: the kernel's side. */
void sim_child_receive(struct sim_child *c, bool control, const void *data, size_t len);
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
/* A call lies in its socket that it has not looked at. */
bool sim_child_has_unread(const struct sim_child *c);
/* The first message, NULL when there is none; freed by the caller. */
struct sim_message *sim_pipe_take(struct loop *l, struct sim_pipe *p);

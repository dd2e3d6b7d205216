/* What a simulated worker does, and when: drawn or chosen before it is born, and changed as it goes on. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

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
	SIM_FORK_TWICE,    /* answers so */
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
	enum sim_fork fork;   /* of a template */
	int fork_errno;
	uint64_t fork_after; /* ns: how long a fork takes; one after the other */
	const char *unfit;   /* borrows: why it says that it must not be forked; NULL: it may */
	bool stopped;        /* the same: by SIGSTOP, from when it is ready */
	unsigned misses_interrupts; /* the first so many come right before a system call */
	bool ignores_interrupt, ignores_term, ignores_stop, ignores_ping, shows_stack;
	bool ignores_go; /* a forked one is of the version before that */
	bool session_close; /* says that it wants to know of the ends of sessions */
	bool idempotent;    /* says that its handlers may be run again */
	bool closes_idle;   /* closes its call channel some time after ready, and lives on */
	uint64_t closes_after;
	int exit_code, signal; /* how it dies by itself */
	char state;            /* of its process in /proc; 0: R while a call runs, S while not */
};

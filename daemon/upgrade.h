/*
 * A live upgrade: the daemon executes its program, which may be a newer one by now, in its own process. Workers, connections, leases and
 * calls go on: what the new program needs to know is in a memfd whose number is in its environment, and the fds stay open.
 *
 *   TRYING the program says whether it could → WAITING until nothing is on that cannot be handed over → execve
 *
 * Until then everything can be taken back; whoever asked is told why.
 */
#pragma once

#include "daemon/io/loop.h"
#include "daemon/io/process.h"

struct daemon;

enum upgrade_state {
	UPGRADE_NONE,
	UPGRADE_TRYING,
	UPGRADE_WAITING,
};

struct upgrade {
	struct daemon *daemon; /* borrows: it is part of it */
	enum upgrade_state state;
	bool go;            /* the loop has been left for it */
	bool late;          /* the trial has had its time, and was killed */
	struct process trial;
	struct loop_timer timer; /* TRYING: the trial has had its time; WAITING: the next look */
	uint64_t deadline;  /* ns, of WAITING */
	uint64_t stopped;   /* ns, since when nothing is read */
};

void upgrade_init(struct upgrade *up, struct daemon *d);
void upgrade_deinit(struct upgrade *up);
/* Begins one; nothing, when one is on. */
void upgrade_begin(struct upgrade *up);
/* Executes the program, after the loop was left with `go`. Returns when that cannot be: the daemon goes on. */
void upgrade_go(struct upgrade *up);

/* The number of the memfd, in the environment of the next program. */
#define HANDOVER_VARIABLE "PYPOOL_HANDOVER"
/* "1.1.1": what two programs must agree on. */
const char *upgrade_formats(void);

/*
 * A live upgrade: the daemon executes its program, which may be a newer one by now, in its own process. Workers, connections, leases and
 * calls go on: what the new program needs to know is in a memfd whose number is in its environment, and the fds stay open.
 *
 *   TRYING the program says whether it could → WAITING until nothing is on that cannot be handed over → execve
 *
 * Until then everything can be taken back; whoever asked is told why.
 */
#pragma once

#include "daemon/base/unpack.h"
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
	struct process trial;
	struct loop_timer timer; /* TRYING: the trial has had its time; WAITING: the next look */
	uint64_t deadline;  /* ns, of WAITING */
	uint64_t stopped;   /* ns, since when nothing is read */
};

/* What the program before this one has handed over. */
struct inheritance {
	void *memory;  /* owns: mapping; NULL: nothing */
	size_t size;
	struct unpacker u;
	char from[32]; /* its version */
	uint64_t stopped; /* ns, since when it has read nothing */
};

void upgrade_init(struct upgrade *up, struct daemon *d);
void upgrade_deinit(struct upgrade *up);
/* Begins one; nothing, when one is on. */
void upgrade_begin(struct upgrade *up);
/* Executes the program, after the loop was left with `go`. Returns when that cannot be: the daemon goes on. */
void upgrade_go(struct upgrade *up);

/* "1.1.1": what two programs must agree on. */
const char *upgrade_formats(void);
/* First of all in main(): what there is, from the environment. False: it is not what this program reads; *why says so. */
bool inheritance_open(struct inheritance *in, char *why, size_t why_size);
void inheritance_close(struct inheritance *in);
/* Everything into d, which has been made and has not begun. False: it is damaged. */
bool inheritance_take(struct inheritance *in, struct daemon *d);

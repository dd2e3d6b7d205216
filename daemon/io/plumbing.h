/*
 * What connects a process with the daemon: pipes, sockets and the shared page, each with two ends. The numbers are those that
 * the process has them under, see docs/worker-protocol.md.
 */
#pragma once

#include "daemon/io/process.h"

enum plumb {
	PLUMB_STDIN,
	PLUMB_STDOUT,
	PLUMB_STDERR,
	PLUMB_CALLS,
	PLUMB_CONTROL,
	PLUMB_DUMP,
	PLUMB_PAGE,
	PLUMB_N,
};

struct plumbing {
	int ours[PLUMB_N];   /* owns; -1 where there is none */
	int theirs[PLUMB_N]; /* owns */
	void *page;          /* owns: mapping, or NULL */
};

#define PLUMBING_NONE { .ours = { -1, -1, -1, -1, -1, -1, -1 }, .theirs = { -1, -1, -1, -1, -1, -1, -1 } }
#define PLUMBING_PAGE_BYTES 4096

/* Into PLUMBING_NONE. 0 or a negative errno; then plumbing_close() is still due. */
int plumbing_open(struct plumbing *pl);
void plumbing_close(struct plumbing *pl);
/* Hands our ends and the page over to *p, which closes them. Returns our end of the call socket, the caller's. */
int plumbing_connect(struct plumbing *pl, struct process *p);
/* A call socket alone. Into PLUMBING_NONE. 0 or a negative errno; then plumbing_close() is still due. */
int plumbing_open_calls(struct plumbing *pl);
/* The page of a process that has it already. NULL and errno. */
void *plumbing_map(int page_fd);

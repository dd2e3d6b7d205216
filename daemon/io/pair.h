/*
 * A connected pair of stream sockets, for one worker and one client alone. The worker's end is kept here too: through it the
 * connection is ended for everybody who holds an end, with nobody's help. tests/sim has a second implementation of this header.
 */
#pragma once

#include "daemon/io/loop.h"

struct pair {
	int worker; /* owns; the worker has a copy. -1: closed */
	int client; /* owns, until TAKE_FD */
	void (*hung_up)(struct pair *p);
	struct loop_hup hup;
};

/* Both are close-on-exec, and blocking. hung_up: nobody has the client's end open any more, or both directions were shut at
 * either end; at most once, and not after pair_close(). 0 or a negative errno. */
int pair_open(struct pair *p, struct loop *l, void (*hung_up)(struct pair *p));
/* The same with the worker's end of one that there is already; takes it. */
int pair_take(struct pair *p, struct loop *l, int worker, void (*hung_up)(struct pair *p));
/* The client can send no more. What it has sent is still read, and the answers still arrive. */
void pair_shut_input(struct pair *p);
/* Both directions are over for all who hold an end, whatever lies in between; closes what is owned. Again: nothing. */
void pair_close(struct pair *p);

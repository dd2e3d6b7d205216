/*
 * Under a service manager that stores fds, a daemon that is killed loses neither workers nor sessions: what the next one needs is kept
 * outside this process all the time. Records are in a ledger, in memory that is stored too. Elsewhere nothing is kept, and workers
 * die with their daemon.
 */
#pragma once

#include "daemon/io/ledger.h"
#include "daemon/io/named_fds.h"
#include "daemon/pool/keep.h"

struct daemon;

struct keeping {
	struct keeper keeper;
	struct ledger *ledger;  /* owns; NULL: nothing is kept */
	bool is_void;           /* it has been said so */
	int lock;               /* owns: see vigil.h; -1: there is none */
	struct named_fds *left; /* borrows: what is not taken up yet, while keeping_begin() runs */
};

/* Begins to keep. Takes up what the daemon of before has left, its fds out of left, in d's pools, which have not begun. What cannot be
 * taken up is said in the log, and is ended. */
void keeping_begin(struct keeping *k, struct daemon *d, struct named_fds *left);
/* The same for what the program before this one has kept in this ledger (-1: nothing); takes the fds. */
void keeping_go_on(struct keeping *k, struct daemon *d, int a, int b);
/* This is the orderly end: nothing is left behind. */
void keeping_end(struct keeping *k);

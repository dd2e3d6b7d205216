/* What the kernel tells of a process at this moment, read from /proc: nothing is stopped or traced for it. */
#pragma once

#include <stdint.h>

struct process;

struct process_look {
	char state;          /* of its main thread: R S D T t Z; 0: not known */
	char wchan[48];      /* the kernel's function that it sleeps in, "" when it does not or that cannot be read */
	const char *syscall; /* name of the system call that it is in; NULL: none, or not known */
};

/* tests/sim has an implementation of its own. */
void process_look(const struct process *p, struct process_look *look);
/* Resident memory of p now, bytes; 0 when it cannot be had. */
uint64_t process_rss(const struct process *p);

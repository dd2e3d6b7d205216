/* Signals as something to poll for: they are blocked and wait in a signalfd, so that a command ends, or looks again, between
 * two things that it does. */
#pragma once

#include <signal.h>
#include <stdbool.h>

struct signals {
	int fd; /* owns; -1: not open */
	sigset_t before;
};

/* SIGINT and SIGTERM, and those of `more` (ended by 0; NULL: none). False: there is no fd for it, and errno says why. */
bool signals_open(struct signals *s, const int *more);
void signals_close(struct signals *s);
/* The next one that has come; 0: none. */
int signals_take(struct signals *s);
static inline bool signals_is_end(int signo)
{
	return signo == SIGINT || signo == SIGTERM;
}

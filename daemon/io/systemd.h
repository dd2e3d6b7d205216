/*
 * What systemd gives to a service and wants from it: listening sockets, the watchdog, the notification socket. Without
 * systemd every function here does nothing and succeeds.
 */
#pragma once

#include <stddef.h>

#include "daemon/io/loop.h"

/* One state for sd_notify, such as "STATUS=%u workers". Errors are not told: nobody could act on them. */
void systemd_notify(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* This process is what a unit of systemd has started, not something that was started within one. */
bool systemd_is_our_parent(void);

struct systemd_socket {
	char *name; /* owns: FileDescriptorName= of the socket unit */
	int fd;     /* owns: listening, non-blocking, close-on-exec; TAKE_FD() it */
};

struct systemd_sockets {
	struct systemd_socket *all; /* owns */
	size_t n;
};

/* Takes the sockets that were passed to this process and removes LISTEN_* from the environment. 0 (perhaps with none), or a
 * negative errno and a sentence in why: the variables are wrong, or something else than a listening stream socket of
 * AF_UNIX was passed. */
int systemd_take_sockets(struct systemd_sockets *s, char *why, size_t why_size);
/* Closes what is still there. */
void systemd_sockets_deinit(struct systemd_sockets *s);

struct systemd_watchdog {
	struct loop_timer timer;
	uint64_t interval; /* ns between two pings; 0: not wanted */
};

/* Pings from the loop twice as often as WATCHDOG_USEC demands; removes WATCHDOG_* from the environment. Returns whether it
 * is wanted, or a negative errno when the variables are wrong (then it does not ping). */
int systemd_watchdog_start(struct systemd_watchdog *w, struct loop *l);
void systemd_watchdog_stop(struct systemd_watchdog *w);

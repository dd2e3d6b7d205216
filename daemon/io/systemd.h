/*
 * What systemd gives to a service and wants from it: listening sockets, the fd store, the watchdog, the notification socket. Without
 * systemd every function here does nothing and succeeds.
 */
#pragma once

#include <stddef.h>

#include "daemon/io/loop.h"
#include "daemon/io/named_fds.h"

/* One state for sd_notify, such as "STATUS=%u workers". Errors are not told: nobody could act on them. */
void systemd_notify(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* This process is what a unit of systemd has started, not something that was started within one. */
bool systemd_is_our_parent(void);

/* Names in the fd store begin with it, and those of sockets do not. */
#define SYSTEMD_STORED "kept-"

/* Takes the files that were passed to this process and removes LISTEN_* from the environment: listening sockets, non-blocking,
 * with FileDescriptorName= of their units as names, and what systemd_store() of a process before this one has put away. 0 (perhaps
 * with none), or a negative errno and a sentence in why: the variables are wrong, or something else than a listening stream socket
 * of AF_UNIX was passed. */
int systemd_take_fds(struct named_fds *sockets, struct named_fds *stored, char *why, size_t why_size);

/* Files can be put away so that the next process of this unit gets them, also when this one is killed. */
bool systemd_has_store(void);
/* Copies of n fds, at most SYSTEMD_STORE_MAX, under one name. Errors are not told: those that do not arrive are missed when they are
 * taken up. */
void systemd_store(const char *name, const int *fds, unsigned n);
#define SYSTEMD_STORE_MAX 8
/* All of that name. */
void systemd_unstore(const char *name);

struct systemd_watchdog {
	struct loop_timer timer;
	uint64_t interval; /* ns between two pings; 0: not wanted */
};

/* Pings from the loop twice as often as WATCHDOG_USEC demands; removes WATCHDOG_* from the environment. Returns whether it
 * is wanted, or a negative errno when the variables are wrong (then it does not ping). */
int systemd_watchdog_start(struct systemd_watchdog *w, struct loop *l);
/* For the next program of this process: the variables are as they were. */
void systemd_watchdog_hand_over(const struct systemd_watchdog *w);
void systemd_watchdog_stop(struct systemd_watchdog *w);

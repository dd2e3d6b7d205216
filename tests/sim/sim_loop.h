/*
 * The second implementation of daemon/io/loop.h: a simulated clock that stands still while the daemon works, and file
 * descriptors that are numbers in a table. A turn runs as the real one does: ready I/O of high priority, expired
 * timers, other I/O, deferred tasks, flushes, graveyard. Events are what the world outside does, whether the daemon
 * looks or not.
 */
#pragma once

#include "daemon/io/loop.h"

/* Something that happens in the world at a time. Embedded in its owner. */
struct sim_event {
	uint64_t at;
	uint64_t order; /* of events at the same time */
	void (*happen)(struct sim_event *e);
	struct sim_event *prev, *next;
	bool pending;
};

void sim_event_init(struct sim_event *e, void (*happen)(struct sim_event *e));
void sim_event_set(struct loop *l, struct sim_event *e, uint64_t at); /* again: moves it */
void sim_event_cancel(struct loop *l, struct sim_event *e);

/* What an fd is of. */
struct sim_file {
	void *owner;
	void (*closed)(void *owner, int fd); /* by the daemon; -1: a copy that was no fd of it */
	void (*copied)(void *owner);         /* there is one more; NULL: never */
	uint64_t inode;                      /* tells it from all others */
};

/* The lowest free number. Copies are never made of it. */
int sim_fd_new(struct loop *l, void *owner, void (*closed)(void *owner, int fd));
/* One of a file that there is already, as when a copy comes back; inode 0: of a new one. */
int sim_fd_open(struct loop *l, const struct sim_file *file);
/* NULL when it is not open. */
const struct sim_file *sim_fd_file(const struct loop *l, int fd);
void *sim_fd_owner(const struct loop *l, int fd); /* NULL when it is not open */
void sim_fd_set_readable(struct loop *l, int fd, bool readable);

/* Turns at the present time until nothing is ready any more. False: it never ends (the loop spins). */
bool sim_settle(struct loop *l);
/* Time passes: every event and timer has its turn at its time. */
bool sim_pass(struct loop *l, uint64_t ns);
/* What is marked for the end of this turn and the next ones is done; no time passes, and nobody hears or does anything else. */
void sim_bury(struct loop *l);
/* The daemon is stopped: the world goes on, and no turn is run. */
void sim_freeze(struct loop *l, uint64_t ns);

/* --- a daemon that dies in the midst of what it does --- */

/* After so many effects, as sim_takes_effect() counts them, nothing that the daemon does has one, nor does it find anything: it is dead,
 * and does not know yet. No further turn is run. 0: it lives. */
void sim_set_fuse(struct loop *l, uint64_t effects);
bool sim_is_dead(const struct loop *l);
/* For whatever the daemon does to the world: false: it has not come to that. */
bool sim_takes_effect(struct loop *l);

/* --- for whoever chooses what happens next --- */

enum sim_gait {
	SIM_GAIT_DRAWN,    /* differs from turn to turn, by its number */
	SIM_GAIT_FORWARD,  /* what is ready is told in the order of the fds, and read to its end */
	SIM_GAIT_BACKWARD, /* the other way round */
	SIM_GAIT_SLOW,     /* in the first turn no message on a call channel is whole yet: it is a large one */
};

/* The events that are still to come, by time and age; the next one is in e->next. */
struct sim_event *sim_events_first(const struct loop *l);
/* It happens now, whatever time it was set for. */
void sim_event_happen(struct loop *l, struct sim_event *e);
/* The daemon has something to do now. */
bool sim_has_work(const struct loop *l);
unsigned sim_fds_ready(const struct loop *l, enum loop_priority prio);
/* sim_settle() in a gait of one's choice. */
bool sim_look(struct loop *l, enum sim_gait gait);
enum sim_gait sim_gait(const struct loop *l);

/* What is left: all must be 0 at the end. */
unsigned sim_fds_open(const struct loop *l);
unsigned sim_timers_armed(const struct loop *l);
unsigned sim_events_pending(const struct loop *l);
unsigned sim_tasks_marked(const struct loop *l);
uint64_t sim_turns(const struct loop *l);

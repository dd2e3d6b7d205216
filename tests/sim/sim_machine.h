/* The machine is where simulated children live; it is the spawner that the pool is given. */
#pragma once

#include "daemon/io/process.h"
#include "tests/sim/sim_loop.h"
#include "tests/sim/sim_script.h"

enum sim_attempt {
	SIM_ATTEMPT_EXEC,
	SIM_ATTEMPT_TEMPLATE,
	SIM_ATTEMPT_FORK,
};

struct sim_child;
struct sim_machine;

struct sim_machine_ops {
	/* What the new child will do, and what it will do with the call that it has just been sent. May be NULL. */
	void (*born)(struct sim_machine *m, struct sim_child *c);
	void (*called)(struct sim_machine *m, struct sim_child *c);
	/* News for an observer: it has read a call; its handler began; its handler ended; what it may not be sent. */
	void (*saw)(struct sim_machine *m, struct sim_child *c, uint64_t call);
	void (*began)(struct sim_machine *m, struct sim_child *c, uint64_t call);
	void (*ended)(struct sim_machine *m, struct sim_child *c, uint64_t call);
	void (*replied)(struct sim_machine *m, struct sim_child *c, uint64_t call); /* a value lies ready */
	/* It was sent a call of a session whose values it does not have, and answers `internal`. */
	void (*missed)(struct sim_machine *m, struct sim_child *c, uint64_t call);
	void (*ready)(struct sim_machine *m, struct sim_child *c);
	void (*died)(struct sim_machine *m, struct sim_child *c);
	/* A start or a fork, before it is known whether it fails. */
	void (*attempted)(struct sim_machine *m, enum sim_attempt what);
	/* The template begins to fork it: what will it do? */
	void (*forks)(struct sim_machine *m, struct sim_child *t, struct sim_child *c);
	/* It was asked for, and the daemon has never heard that it lives; nor of an error. */
	void (*miscarried)(struct sim_machine *m, struct sim_child *c);
	void (*wronged)(struct sim_machine *m, struct sim_child *c, const char *what);
};

struct sim_machine {
	struct spawner spawner;
	struct loop *loop; /* borrows */
	const struct sim_machine_ops *ops;
	struct sim_script script;   /* of the next child */
	int spawn_error;            /* negative errno of the next start or fork; 0: it succeeds */
	int fd_error;               /* the same of a control packet with an fd */
	struct sim_child *children; /* list; owns: until the daemon has closed all of their fds */
	pid_t last_pid;
	unsigned n_spawned, n_forked, n_attempts;
};

void sim_machine_init(struct sim_machine *m, struct loop *l, const struct sim_machine_ops *ops);
/* Without those that are not born. */
unsigned sim_machine_living(const struct sim_machine *m);
struct sim_child *sim_machine_find(const struct sim_machine *m, pid_t pid); /* a living one, or NULL */
/* Before each start or fork: what comes of it, 0 or a negative errno. */
int sim_machine_attempt(struct sim_machine *m, enum sim_attempt what);

/*
 * A listening Unix socket. A lock file beside the path makes sure that one daemon owns it; only a stale socket of our own is
 * ever removed. Running out of fds pauses accepting instead of spinning; so does a kernel that cannot watch the socket.
 */
#pragma once

#include <sys/stat.h>
#include <sys/types.h>

#include "daemon/io/loop.h"

struct listener_peer {
	uid_t uid;
	gid_t gid;
	pid_t pid;
};

struct listener;

struct listener_ops {
	/* A new connection; takes the fd (non-blocking, close-on-exec). */
	void (*accepted)(struct listener *l, int fd, const struct listener_peer *peer);
};

struct listener {
	struct loop *loop;
	const struct listener_ops *ops;
	struct loop_io io;
	struct loop_timer pause;
	char *path; /* owns: to be unlinked at the end; NULL for a socket that was passed in */
	int lock_fd;
	dev_t dev; /* of the socket file that we made */
	ino_t ino;
	uint64_t paused_times;
};

struct listener_spec {
	const char *path;
	mode_t mode;
	gid_t group; /* (gid_t)-1: as created */
};

/* Makes the socket and listens. False: *why says what is wrong, for people. */
bool listener_open(struct listener *l, struct loop *loop, const struct listener_spec *spec,
		   const struct listener_ops *ops, char why[512]);
/* Listens on an fd that systemd has passed. Takes it. */
void listener_adopt(struct listener *l, struct loop *loop, int fd, const struct listener_ops *ops);
/* Removes our socket file, if it is still ours. Safe on a zeroed listener. */
void listener_close(struct listener *l);

/*
 * A listening Unix socket. A lock file beside the path makes sure that one daemon owns it; only a stale socket of our own is
 * ever removed. Running out of fds pauses accepting instead of spinning; so does a kernel that cannot watch the socket.
 *
 * A few fds are kept for admins. Nobody knows who waits in the backlog, so while the want of fds lasts the others are turned
 * away: an admin may be behind them.
 */
#pragma once

#include <msgpack.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "daemon/base/unpack.h"
#include "daemon/io/loop.h"

#define LISTENER_SPARES 9 /* fds: for 8 connections, and one to look at who they are */

struct listener_peer {
	uid_t uid;
	gid_t gid;
	pid_t pid;
};

struct listener;

struct listener_ops {
	/* A new connection; takes the fd (non-blocking, close-on-exec). */
	void (*accepted)(struct listener *l, int fd, const struct listener_peer *peer);
	/* The same with one of the fds that are kept for admins. False: it is not taken; it may be written to, and is closed
	 * afterwards. */
	bool (*accepted_spare)(struct listener *l, int fd, const struct listener_peer *peer);
};

struct listener {
	struct loop *loop;
	const struct listener_ops *ops;
	struct loop_io io;
	struct loop_timer pause;
	char *path; /* owns: to be unlinked at the end; NULL for a socket that was passed in */
	int lock_fd;
	int spares[LISTENER_SPARES]; /* own: the first n_spares */
	unsigned n_spares;
	uint64_t short_since; /* ns; 0: there are fds */
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
/* What listener_take_over() of the next program reads; a closed one too. */
void listener_pack(const struct listener *l, msgpack_packer *pk);
void listener_take_over(struct listener *l, struct loop *loop, struct unpacker *u, const struct listener_ops *ops);
/* Removes our socket file, if it is still ours. Safe on a zeroed listener. */
void listener_close(struct listener *l);

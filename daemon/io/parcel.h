/*
 * A message that brings an fd, framed and whole, and the message that is sent in its place when the kernel does not take the
 * fd. A stream owns it until it is written.
 */
#pragma once

#include "proto/frame.h"

struct parcel {
	int fd;             /* owns; -1: it is on its way, or was given up */
	size_t len;         /* of the message */
	size_t instead_len; /* of the other, which follows it */
	uint8_t bytes[];
};

/* Takes the fd. mode: FRAME_PREFIXED puts a length before each of the two. */
struct parcel *parcel_new(enum frame_mode mode, int fd, struct span message, struct span instead);
/* The fd too, if it was not sent. NULL in, NULL out. */
struct parcel *parcel_free(struct parcel *p);
/* The fd has been sent, or never will be. */
void parcel_close_fd(struct parcel *p);

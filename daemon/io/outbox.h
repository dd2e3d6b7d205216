/*
 * What a stream has to write: a queue of references to blobs, with small parts copied, so that many small messages are one piece
 * of one write. It knows bytes and messages, and nothing of sockets but what sendmsg() is given.
 */
#pragma once

#include <sys/socket.h>

#include "daemon/base/blob.h"
#include "daemon/io/parcel.h"
#include "proto/frame.h"

#define OUTBOX_IOV 64 /* pieces of one write */

struct outbox_segment;

struct outbox {
	struct blob_pool *blobs; /* borrows */
	struct outbox_segment *segments; /* owns: a ring */
	size_t head, count, room;
	size_t bytes; /* that wait */
	size_t *sum;  /* borrows: bytes of several of these together; may be set after outbox_init(); NULL: none */
	struct blob *small; /* ref: small parts are copied here; NULL while nothing waits */
	size_t small_used;
};

void outbox_init(struct outbox *o, struct blob_pool *blobs);
/* Forgets all that waits. */
void outbox_clear(struct outbox *o);
/* The same, and frees. It may be used again. */
void outbox_deinit(struct outbox *o);

/* Queues one message made of the given parts, in that framing. Takes its own references; parts without a blob are copied, small
 * ones always. False: there is no memory, and what waits may end in the midst of a message. */
bool outbox_put(struct outbox *o, enum frame_mode mode, const struct slice *parts, size_t n);
/* Queues a message that brings an fd; takes it. */
void outbox_put_parcel(struct outbox *o, struct parcel *p);

/* A piece of what waits, borrowed. */
struct outbox_piece {
	struct span bytes;
	int fd;              /* goes with the first of them; -1: none */
	struct span instead; /* with an fd: what is sent in the place of bytes when the kernel does not take it */
};
/* The i-th; it has no bytes behind the last. */
struct outbox_piece outbox_look(const struct outbox *o, size_t i);

/* What goes into the next write: fills m->msg_iov, which has OUTBOX_IOV places. An fd goes with the first byte of its message, so no
 * write goes over the beginning of one. Returns how many bytes; 0: nothing waits. */
size_t outbox_gather(const struct outbox *o, struct msghdr *m);
/* The parcel that goes out with the next byte, if its fd has not gone; else NULL. */
struct parcel *outbox_parcel(const struct outbox *o);
/* The kernel does not take the fd of that parcel, and has taken no byte: its other message goes in its place. */
void outbox_send_instead(struct outbox *o);
/* The first n bytes have been written. */
void outbox_advance(struct outbox *o, size_t n);

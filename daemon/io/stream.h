/*
 * A non-blocking stream socket that speaks frames, for clients and for the call channel of workers. Input goes into blobs
 * and is handed up as slices; output is a queue of references that is written once, at the end of the turn.
 * tests/sim has a second implementation of this header.
 */
#pragma once

#include "daemon/base/blob.h"
#include "daemon/io/loop.h"
#include "daemon/io/outbox.h"
#include "proto/frame.h"

enum stream_end {
	STREAM_END_CLOSED,  /* the peer closed both ways, or the connection broke */
	STREAM_END_FRAME,   /* input that is no frame: stream->bad says how */
	STREAM_END_TIMEOUT, /* a message was begun and not finished in time */
	STREAM_END_MEMORY,  /* no memory for a message */
	STREAM_END_OUTPUT,  /* the peer does not read: output is over its hard cap */
};

struct stream;

/* News for the owner. A callback may call any stream function, stream_close() too. */
struct stream_ops {
	/* One message. The slice is the callee's to keep (slice_ref) or not; it is dropped after the call. */
	void (*frame)(struct stream *s, struct slice *body);
	/* May it deliver one more message in this turn? It counts as one. False: the next turn asks again. NULL: always. */
	bool (*may_deliver)(struct stream *s);
	/* The peer will send no more but still reads (SHUT_WR). Not called for workers. May be NULL. */
	void (*half_closed)(struct stream *s);
	/* No more input will come; once (and once more when stream_close_flushed() has closed). After STREAM_END_FRAME,
	 * _TIMEOUT and _MEMORY output may still be sent before stream_close_flushed(). */
	void (*ended)(struct stream *s, enum stream_end why);
	/* Output fell below half of the soft cap after it had been over it. May be NULL. */
	void (*drained)(struct stream *s);
};

struct stream_limits {
	uint32_t max_frame;       /* bytes of one message */
	size_t out_soft;          /* bytes of waiting output above which stream_is_full() */
	size_t out_hard;          /* bytes above which the stream ends with STREAM_END_OUTPUT */
	uint64_t frame_timeout;   /* ns from the first byte of a message to its last; 0: none */
	unsigned frames_per_turn; /* then others get their turn */
	bool impatient;           /* ends with STREAM_END_OUTPUT when the socket does not take all at once */
};

struct stream {
	const struct stream_ops *ops;
	const struct stream_limits *limits; /* borrows: outlives the stream */
	struct loop *loop;
	struct blob_pool *blobs;
	struct loop_io io;
	struct loop_hup hup;
	struct loop_timer frame_timer;
	struct loop_task flush;
	struct loop_task resume;
	struct frame_reader reader;
	enum frame_status bad; /* of STREAM_END_FRAME */
	struct blob *in;       /* ref; NULL while nothing is buffered */
	size_t in_start, in_end;
	struct outbox out;     /* what is to be written */
	bool unread; /* the peer went away without having read all that was sent */
	uint64_t bytes_in, bytes_out, frames_in, frames_out;
	bool paused, ended, half, was_full, closing;
	bool mute;   /* output goes nowhere any more */
	bool doomed; /* to be ended at the end of the turn, for this reason: stream_send() calls nobody back */
	enum stream_end doom;
};

/* Takes the fd (non-blocking). mode: FRAME_UNKNOWN for clients, FRAME_PREFIXED for workers. Starts reading. */
void stream_open(struct stream *s, struct loop *l, struct blob_pool *blobs, int fd, enum frame_mode mode,
		 enum loop_priority prio, const struct stream_limits *limits, const struct stream_ops *ops);
bool stream_is_open(const struct stream *s);
/* Drops everything at once; callable inside a callback of s. Safe on a closed stream. */
void stream_close(struct stream *s);
/* Writes what waits, for at most timeout ns (LOOP_NEVER: as long as the peer is there), then closes and calls
 * ended(CLOSED), never before the end of the turn. No more input is read. Again: the time may only become shorter. */
void stream_close_flushed(struct stream *s, uint64_t timeout);

/* Sends one message made of the given parts, in the framing of the connection. Takes its own references; parts without a
 * blob are copied, small ones always. Nothing is sent on a closed stream or to a peer that is gone. Never calls back: what
 * goes wrong is told at the end of the turn. */
void stream_send(struct stream *s, const struct slice *parts, size_t n);
/* Sends a message with an fd, which comes with its first byte and is closed here when it has gone, or when the stream ends
 * before. Takes the fd; copies both messages. instead: sent in its place when the kernel does not take the fd. */
void stream_send_fd(struct stream *s, struct span message, int fd, struct span instead);
/* Stop and go on reading; frames that are already buffered wait too. */
void stream_pause(struct stream *s);
void stream_resume(struct stream *s);
bool stream_is_full(const struct stream *s);
/* Output waits for the peer to read. */
bool stream_is_blocked(const struct stream *s);
/* So many bytes of bytes_out, at least, has the peer received. */
uint64_t stream_received(const struct stream *s);
/* Drops what waits; ends for that reason at the end of the turn. */
void stream_give_up(struct stream *s, enum stream_end why);
/* What has come and has not been delivered, from the start of a message on. */
struct span stream_undelivered(const struct stream *s);
/* Goes on where another program has stopped, whose fd this is: with what it had not delivered. Nothing has been sent or read yet. False:
 * there is no memory. */
bool stream_go_on(struct stream *s, enum frame_mode mode, struct span in);
/* And with the next piece of what it had not written; takes the fd. The same. */
bool stream_put_back(struct stream *s, const struct outbox_piece *piece);
/* Reads and delivers all that lies ready now, whatever the loop is doing. May end the stream. */
void stream_drain_input(struct stream *s);

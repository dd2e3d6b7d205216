/* A stream under test and the other end of its socket, with what was told. */
#pragma once

#include "daemon/io/stream.h"
#include "tests/support/suite.h"
#include "tests/unit/io_support.h"

#define REQUEST "\x94\x00\x01\xa4ping\x90" /* [0, 1, "ping", []] */
#define REQUEST_BYTES (sizeof(REQUEST) - 1)

struct peer {
	struct stream stream;
	int fd;
	unsigned frames, ends, halves, drains;
	size_t bytes;
	enum stream_end why;
	bool close_in_frame, pause_in_frame, stop_at_end, keep;
	unsigned stop_at_frames;
	unsigned echo; /* bytes to answer each frame with */
	struct slice kept;
	struct peer *other;
	unsigned others_frames; /* of other, at the end of our own */
};

/* Of the running test. */
extern struct loop *peer_loop;
extern struct blob_pool peer_blobs;
extern struct stream_limits peer_limits;

extern const struct stream_ops peer_client_ops, peer_worker_ops;

void peer_setup(void);
void peer_teardown(void);

void peer_open(struct peer *p, enum frame_mode mode, const struct stream_ops *ops);
void peer_close(struct peer *p);
void peer_write(struct peer *p, const void *data, size_t len);

struct slice peer_text(const char *p, size_t len);
void peer_send_text(struct stream *s, const char *p, size_t len);
/* A prefixed frame that holds one bin of len bytes. */
uint8_t *peer_big_frame(size_t len, size_t *total);

/* Writes while the loop reads. */
struct peer_writer {
	struct loop_io io;
	const uint8_t *p;
	size_t len, at_once;
};

void peer_writer_start(struct peer_writer *w, struct peer *p, const uint8_t *data, size_t len, size_t at_once);

/* Reads all and compares with a repeating pattern, a turn at a time. */
struct peer_reader {
	struct loop_io io;
	uint8_t *data;
	size_t len, want, at_once;
};

void peer_on_reader(struct loop_io *io, int events);
void peer_reader_start(struct peer_reader *r, struct peer *p, size_t want, size_t at_once);

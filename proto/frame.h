/*
 * Finds messages in a stream of bytes, in the two framings of the protocol: bare MessagePack back to back, or a 4-byte
 * big-endian length before each message. The first byte of the connection decides and holds for its life.
 * The reader sees bytes, never a socket; whoever owns the buffer passes the bytes from the start of the current message
 * and advances by what is taken.
 */
#pragma once

#include "proto/cursor.h"

#define FRAME_PREFIX 4
#define FRAME_MAX_LIMIT 0x04FFFFFFu /* so that the first byte of a prefixed stream is 0x00..0x04 */

enum frame_mode {
	FRAME_UNKNOWN,
	FRAME_BARE,
	FRAME_PREFIXED,
};

enum frame_status {
	FRAME_READY = 0,
	FRAME_MORE,
	FRAME_FOREIGN,   /* the first byte is of another protocol (HTTP, TLS, ...): close in silence */
	FRAME_EMPTY,     /* a length of 0 */
	FRAME_TOO_LARGE, /* known from the header alone */
	FRAME_BAD,       /* not MessagePack, or more or less than one value; reader->why says what */
	FRAME_NO_MEMORY, /* bare framing: no memory to remember a partial message */
};

struct frame_reader {
	enum frame_mode mode;
	uint32_t max_frame;     /* bytes of one message */
	enum cursor_status why; /* of FRAME_BAD */
	uint64_t place;         /* of FRAME_BAD: the byte of the message at which it is wrong */
	struct cursor *partial; /* owns: bare framing only, while a message is cut */
	size_t scanned;         /* bytes of the current message that `partial` has seen */
};

struct frame {
	struct span body; /* one complete MessagePack value, checked */
	size_t taken;     /* bytes to advance by: prefix and body */
	size_t need;      /* on FRAME_MORE: bytes that the message has at least, from its start, prefix included */
};

/* mode: FRAME_UNKNOWN lets the first byte decide. max_frame is at most FRAME_MAX_LIMIT. */
void frame_reader_init(struct frame_reader *r, enum frame_mode mode, uint32_t max_frame);
void frame_reader_deinit(struct frame_reader *r);
/* data: all bytes received from the start of the current message on. Calls again with more bytes must repeat the old. */
enum frame_status frame_next(struct frame_reader *r, const uint8_t *data, size_t len, struct frame *out);
#define FRAME_TEXT 128
/* A sentence for people about the last FRAME_EMPTY, FRAME_TOO_LARGE or FRAME_BAD. Returns out. */
const char *frame_status_text(const struct frame_reader *r, enum frame_status status, char out[FRAME_TEXT]);
/* Writes the prefix of a message of len bytes. */
void frame_put_prefix(uint8_t out[FRAME_PREFIX], uint32_t len);

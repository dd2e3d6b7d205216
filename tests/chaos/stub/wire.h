/* Where replies go: the call channel, or the socket of a direct lease, whose messages have ids of their client's. */
#pragma once

#include <msgpack.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct wire {
	int fd;
	bool direct, over; /* over: nobody reads it any more */
	uint64_t id;
	uint64_t calls, errors;
};

/* All of it, over any fd. Exits when the daemon is gone; a client that is gone is noted in `over`. */
void wire_put(struct wire *wire, int fd, const void *bytes, size_t len);
/* The first len bytes of the message in buf, behind a prefix that promises all of it. */
void wire_put_frame(struct wire *wire, const msgpack_sbuffer *buf, size_t len);

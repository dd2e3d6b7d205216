#include "tests/chaos/stub/wire.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "proto/frame.h"

void wire_put(struct wire *wire, int fd, const void *bytes, size_t len)
{
	const uint8_t *at = bytes;

	while (len) {
		ssize_t n = wire->direct && fd == wire->fd ? send(fd, at, len, MSG_NOSIGNAL) : write(fd, at, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0 && wire->direct) {
			wire->over = true;
			return;
		}
		if (n <= 0)
			_exit(0); /* the daemon is gone */
		at += n;
		len -= (size_t)n;
	}
}

void wire_put_frame(struct wire *wire, const msgpack_sbuffer *buf, size_t len)
{
	uint8_t *whole = malloc(FRAME_PREFIX + buf->size);

	frame_put_prefix(whole, (uint32_t)buf->size);
	memcpy(whole + FRAME_PREFIX, buf->data, buf->size);
	wire_put(wire, wire->fd, whole, FRAME_PREFIX + len); /* one write: what follows cannot come between */
	free(whole);
}

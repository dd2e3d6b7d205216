#include "daemon/base/packed.h"

#include <string.h>

#include "daemon/base/mem.h"

#define ROOM_FIRST 1024

static int packed_write(void *data, const char *bytes, size_t n)
{
	msgpack_sbuffer *buf = data;

	if (!n)
		return 0; /* of an empty text: bytes may be NULL */
	if (buf->alloc - buf->size < n) {
		size_t room = buf->alloc ? 2 * buf->alloc : ROOM_FIRST;

		if (room - buf->size < n)
			room = buf->size + n;
		buf->data = mem_resize(buf->data, room, 1);
		buf->alloc = room;
	}
	memcpy(buf->data + buf->size, bytes, n);
	buf->size += n;
	return 0;
}

void packed_begin(msgpack_sbuffer *buf, msgpack_packer *pk)
{
	msgpack_sbuffer_init(buf);
	msgpack_packer_init(pk, buf, packed_write);
}

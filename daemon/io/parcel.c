#include "daemon/io/parcel.h"

#include "daemon/base/cleanup.h"
#include "daemon/base/mem.h"

static size_t parcel_put(uint8_t *to, enum frame_mode mode, struct span body)
{
	size_t prefix = mode == FRAME_PREFIXED ? FRAME_PREFIX : 0;

	if (prefix)
		frame_put_prefix(to, (uint32_t)body.len);
	memcpy(to + prefix, body.p, body.len);
	return prefix + body.len;
}

struct parcel *parcel_new(enum frame_mode mode, int fd, struct span message, struct span instead)
{
	struct parcel *p = mem_new(sizeof(*p) + 2 * FRAME_PREFIX + message.len + instead.len);

	p->fd = fd;
	p->len = parcel_put(p->bytes, mode, message);
	p->instead_len = parcel_put(p->bytes + p->len, mode, instead);
	return p;
}

void parcel_close_fd(struct parcel *p)
{
	cleanup_close(&p->fd);
	p->fd = -1;
}

struct parcel *parcel_free(struct parcel *p)
{
	if (p)
		parcel_close_fd(p);
	free(p);
	return NULL;
}

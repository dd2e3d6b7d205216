#include "daemon/io/outbox.h"

#include <assert.h>
#include <stdlib.h>

#include "daemon/base/mem.h"

#define SMALL_PART 2048  /* a part up to this size is copied: a reference would keep a whole blob waiting */
#define SEGMENTS_FIRST 4 /* a power of two */
#define SEGMENTS_KEPT 64 /* a larger queue is given back when it is empty */

struct outbox_segment {
	struct blob *blob; /* ref; NULL in a parcel */
	const uint8_t *p;
	size_t len;
	struct parcel *parcel; /* owns: the message that p is in, if it brings an fd; else NULL */
};

/* --- the ring --- */

static struct outbox_segment *outbox_at(const struct outbox *o, size_t i)
{
	return &o->segments[(o->head + i) & (o->room - 1)];
}

static void outbox_count(struct outbox *o, size_t n)
{
	o->bytes += n;
	if (o->sum)
		*o->sum += n;
}

static void outbox_uncount(struct outbox *o, size_t n)
{
	o->bytes -= n;
	if (o->sum)
		*o->sum -= n;
}

static void outbox_pop(struct outbox *o)
{
	struct outbox_segment *g = outbox_at(o, 0);

	blob_unref(g->blob);
	parcel_free(g->parcel);
	o->head = (o->head + 1) & (o->room - 1);
	o->count--;
}

static void outbox_free_ring(struct outbox *o)
{
	free(o->segments);
	o->segments = NULL;
	o->head = o->room = o->count = 0;
}

/* Nothing waits. */
static void outbox_release(struct outbox *o)
{
	o->small = blob_unref(o->small);
	o->small_used = 0;
	if (o->room > SEGMENTS_KEPT)
		outbox_free_ring(o);
}

void outbox_init(struct outbox *o, struct blob_pool *blobs)
{
	*o = (struct outbox){ .blobs = blobs };
}

void outbox_clear(struct outbox *o)
{
	while (o->count)
		outbox_pop(o);
	outbox_uncount(o, o->bytes);
	outbox_release(o);
}

void outbox_deinit(struct outbox *o)
{
	outbox_clear(o);
	outbox_free_ring(o);
}

/* --- looking --- */

struct outbox_piece outbox_look(const struct outbox *o, size_t i)
{
	const struct outbox_segment *g = i < o->count ? outbox_at(o, i) : NULL;
	const struct parcel *parcel = g && g->parcel && g->parcel->fd >= 0 ? g->parcel : NULL;
	struct outbox_piece piece = { .fd = -1 };

	if (g)
		piece.bytes = (struct span){ .p = g->p, .len = g->len };
	if (parcel) {
		piece.fd = parcel->fd;
		piece.instead = (struct span){ .p = parcel->bytes + parcel->len, .len = parcel->instead_len };
	}
	return piece;
}

/* --- in --- */

/* Takes the reference. */
static struct outbox_segment *outbox_push_segment(struct outbox *o, struct blob *b, const uint8_t *p, size_t len)
{
	struct outbox_segment *g;

	if (o->count == o->room) {
		size_t room = o->room ? 2 * o->room : SEGMENTS_FIRST;
		struct outbox_segment *segments = mem_new(room * sizeof(*segments));

		for (size_t i = 0; i < o->count; i++)
			segments[i] = *outbox_at(o, i);
		free(o->segments);
		o->segments = segments;
		o->head = 0;
		o->room = room;
	}
	o->count++;
	g = outbox_at(o, o->count - 1);
	*g = (struct outbox_segment){ .blob = b, .p = p, .len = len };
	outbox_count(o, len);
	return g;
}

/* Copies a small part behind the last one. */
static bool outbox_push_copy(struct outbox *o, struct span part)
{
	struct outbox_segment *last;
	uint8_t *to;

	if (o->small && o->small->size - o->small_used < part.len)
		o->small = blob_unref(o->small);
	if (!o->small) {
		o->small = blob_new(o->blobs, BLOB_STANDARD);
		o->small_used = 0;
	}
	if (!o->small)
		return false;
	to = o->small->data + o->small_used;
	memcpy(to, part.p, part.len);
	o->small_used += part.len;
	last = o->count ? outbox_at(o, o->count - 1) : NULL;
	if (last && last->p + last->len == to && last->blob == o->small) {
		last->len += part.len;
		outbox_count(o, part.len);
	} else {
		(void)outbox_push_segment(o, blob_ref(o->small), to, part.len);
	}
	return true;
}

static bool outbox_push(struct outbox *o, const struct slice *part)
{
	struct blob *b;

	if (part->span.len == 0)
		return true;
	if (part->span.len <= SMALL_PART)
		return outbox_push_copy(o, part->span);
	b = part->blob ? blob_ref(part->blob) : blob_copy(o->blobs, part->span);
	if (!b)
		return false;
	(void)outbox_push_segment(o, b, part->blob ? part->span.p : b->data, part->span.len);
	return true;
}

bool outbox_put(struct outbox *o, enum frame_mode mode, const struct slice *parts, size_t n)
{
	if (mode == FRAME_PREFIXED) {
		uint8_t prefix[FRAME_PREFIX];
		size_t len = 0;

		for (size_t i = 0; i < n; i++)
			len += parts[i].span.len;
		assert(len <= UINT32_MAX);
		frame_put_prefix(prefix, (uint32_t)len);
		if (!outbox_push_copy(o, (struct span){ .p = prefix, .len = sizeof(prefix) }))
			return false;
	}
	for (size_t i = 0; i < n; i++) {
		if (!outbox_push(o, &parts[i]))
			return false;
	}
	return true;
}

void outbox_put_parcel(struct outbox *o, struct parcel *p)
{
	outbox_push_segment(o, NULL, p->bytes, p->len)->parcel = p;
}

/* --- out --- */

size_t outbox_gather(const struct outbox *o, struct msghdr *m)
{
	size_t want = 0;

	for (m->msg_iovlen = 0; m->msg_iovlen < OUTBOX_IOV && m->msg_iovlen < o->count; m->msg_iovlen++) {
		const struct outbox_segment *g = outbox_at(o, m->msg_iovlen);

		if (g->parcel && m->msg_iovlen)
			break;
		m->msg_iov[m->msg_iovlen] = (struct iovec){ .iov_base = (void *)g->p, .iov_len = g->len };
		want += g->len;
	}
	return want;
}

struct parcel *outbox_parcel(const struct outbox *o)
{
	struct parcel *p = o->count ? outbox_at(o, 0)->parcel : NULL;

	return p && p->fd >= 0 ? p : NULL;
}

void outbox_send_instead(struct outbox *o)
{
	struct outbox_segment *g = outbox_at(o, 0);

	parcel_close_fd(g->parcel);
	outbox_uncount(o, g->len);
	g->p = g->parcel->bytes + g->parcel->len;
	g->len = g->parcel->instead_len;
	outbox_count(o, g->len);
}

void outbox_advance(struct outbox *o, size_t n)
{
	outbox_uncount(o, n);
	while (o->count) {
		struct outbox_segment *first = outbox_at(o, 0);

		if (n < first->len) {
			first->p += n;
			first->len -= n;
			return;
		}
		n -= first->len;
		outbox_pop(o);
	}
	outbox_release(o);
}

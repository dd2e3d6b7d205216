#include "tests/support/peer.h"

#include <sys/socket.h>

struct loop *peer_loop;
struct blob_pool peer_blobs;
struct stream_limits peer_limits;
static unsigned fds_before;

void peer_setup(void)
{
	fds_before = io_count_fds();
	peer_loop = loop_new();
	blob_pool_init(&peer_blobs);
	peer_limits = (struct stream_limits){
		.max_frame = 8 << 20,
		.out_soft = 1 << 20,
		.out_hard = 16 << 20,
		.frame_timeout = 10 * NS_PER_S,
		.frames_per_turn = 64,
	};
}

void peer_teardown(void)
{
	io_run_for(peer_loop, 0);
	ck_assert_uint_eq(peer_blobs.n_live, 0);
	ck_assert_uint_eq(peer_blobs.live_bytes, 0);
	blob_pool_deinit(&peer_blobs);
	peer_loop = loop_free(peer_loop);
	ck_assert_uint_eq(io_count_fds(), fds_before);
}

struct slice peer_text(const char *p, size_t len)
{
	return (struct slice){ .span = { .p = (const uint8_t *)p, .len = len } };
}

void peer_send_text(struct stream *s, const char *p, size_t len)
{
	struct slice part = peer_text(p, len);

	stream_send(s, &part, 1);
}

static void on_frame(struct stream *s, struct slice *body)
{
	struct peer *p = container_of(s, struct peer, stream);

	ck_assert(stream_is_open(s));
	p->frames++;
	p->bytes += body->span.len;
	if (p->keep) {
		slice_clear(&p->kept);
		p->kept = slice_ref(body->blob, body->span);
	}
	if (p->echo)
		peer_send_text(s, "xxxxxxxxxxxxxxxx", p->echo);
	if (p->other)
		p->others_frames = p->other->frames;
	if (p->pause_in_frame)
		stream_pause(s);
	if (p->frames == p->stop_at_frames)
		loop_stop(peer_loop);
	if (p->close_in_frame)
		stream_close(s);
}

static void on_half(struct stream *s)
{
	struct peer *p = container_of(s, struct peer, stream);

	p->halves++;
	if (p->stop_at_end)
		loop_stop(peer_loop);
}

static void on_ended(struct stream *s, enum stream_end why)
{
	struct peer *p = container_of(s, struct peer, stream);

	p->ends++;
	p->why = why;
	if (p->stop_at_end)
		loop_stop(peer_loop);
}

static void on_drained(struct stream *s)
{
	container_of(s, struct peer, stream)->drains++;
}

const struct stream_ops peer_client_ops = { .frame = on_frame,
					    .half_closed = on_half,
					    .ended = on_ended,
					    .drained = on_drained };
const struct stream_ops peer_worker_ops = { .frame = on_frame, .ended = on_ended };

void peer_open(struct peer *p, enum frame_mode mode, const struct stream_ops *ops)
{
	int fds[2];

	*p = (struct peer){ .stop_at_end = true };
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
	p->fd = fds[1];
	stream_open(&p->stream, peer_loop, &peer_blobs, fds[0], mode, LOOP_PRIO_NORMAL, &peer_limits, ops);
}

void peer_close(struct peer *p)
{
	slice_clear(&p->kept);
	stream_close(&p->stream);
	stream_close(&p->stream);
	ck_assert(!stream_is_open(&p->stream));
	cleanup_close(&p->fd);
}

void peer_write(struct peer *p, const void *data, size_t len)
{
	ck_assert_int_eq(send(p->fd, data, len, 0), (ssize_t)len);
}

uint8_t *peer_big_frame(size_t len, size_t *total)
{
	uint8_t *f = malloc(FRAME_PREFIX + 5 + len);

	frame_put_prefix(f, (uint32_t)(5 + len));
	f[4] = 0xc6;
	frame_put_prefix(f + 5, (uint32_t)len);
	for (size_t i = 0; i < len; i++)
		f[9 + i] = (uint8_t)(i * 7);
	*total = FRAME_PREFIX + 5 + len;
	return f;
}

static void on_writable(struct loop_io *io, int events)
{
	struct peer_writer *w = container_of(io, struct peer_writer, io);
	ssize_t n = send(io->fd, w->p, w->len < w->at_once ? w->len : w->at_once, 0);

	(void)events;
	if (n > 0) {
		w->p += n;
		w->len -= (size_t)n;
	}
	if (!w->len)
		loop_io_watch(io, 0);
}

void peer_writer_start(struct peer_writer *w, struct peer *p, const uint8_t *data, size_t len, size_t at_once)
{
	*w = (struct peer_writer){ .p = data, .len = len, .at_once = at_once };
	loop_io_init(&w->io, peer_loop, p->fd, LOOP_PRIO_NORMAL, on_writable);
	loop_io_watch(&w->io, LOOP_WRITE);
}

void peer_on_reader(struct loop_io *io, int events)
{
	struct peer_reader *r = container_of(io, struct peer_reader, io);
	size_t room = r->want - r->len;
	ssize_t n = recv(io->fd, r->data + r->len, room < r->at_once ? room : r->at_once, 0);

	(void)events;
	if (n > 0)
		r->len += (size_t)n;
	if (n == 0 || r->len == r->want) {
		loop_io_watch(io, 0);
		loop_stop(peer_loop);
	}
}

void peer_reader_start(struct peer_reader *r, struct peer *p, size_t want, size_t at_once)
{
	*r = (struct peer_reader){ .want = want, .at_once = at_once, .data = malloc(want) };
	loop_io_init(&r->io, peer_loop, p->fd, LOOP_PRIO_NORMAL, peer_on_reader);
	loop_io_watch(&r->io, LOOP_READ);
}

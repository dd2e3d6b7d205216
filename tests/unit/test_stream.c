#include "tests/unit/io_support.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/io/stream.h"

#define REQUEST "\x94\x00\x01\xa4ping\x90" /* [0, 1, "ping", []] */
#define REQUEST_BYTES (sizeof(REQUEST) - 1)

/* A stream and the other end of its socket, with what was told. */
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

static struct loop *loop;
static struct blob_pool blobs;
static unsigned fds_before;
static struct stream_limits limits;

static void setup(void)
{
	fds_before = io_count_fds();
	loop = loop_new();
	blob_pool_init(&blobs);
	limits = (struct stream_limits){
		.max_frame = 8 << 20,
		.out_soft = 1 << 20,
		.out_hard = 16 << 20,
		.frame_timeout = 10 * NS_PER_S,
		.frames_per_turn = 64,
	};
}

static void teardown(void)
{
	io_run_for(loop, 0);
	ck_assert_uint_eq(blobs.n_live, 0);
	ck_assert_uint_eq(blobs.live_bytes, 0);
	blob_pool_deinit(&blobs);
	loop = loop_free(loop);
	ck_assert_uint_eq(io_count_fds(), fds_before);
}

static struct slice text(const char *p, size_t len)
{
	return (struct slice){ .span = { .p = (const uint8_t *)p, .len = len } };
}

static void send_text(struct stream *s, const char *p, size_t len)
{
	struct slice part = text(p, len);

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
		send_text(s, "xxxxxxxxxxxxxxxx", p->echo);
	if (p->other)
		p->others_frames = p->other->frames;
	if (p->pause_in_frame)
		stream_pause(s);
	if (p->frames == p->stop_at_frames)
		loop_stop(loop);
	if (p->close_in_frame)
		stream_close(s);
}

static void on_half(struct stream *s)
{
	struct peer *p = container_of(s, struct peer, stream);

	p->halves++;
	if (p->stop_at_end)
		loop_stop(loop);
}

static void on_ended(struct stream *s, enum stream_end why)
{
	struct peer *p = container_of(s, struct peer, stream);

	p->ends++;
	p->why = why;
	if (p->stop_at_end)
		loop_stop(loop);
}

static void on_drained(struct stream *s)
{
	container_of(s, struct peer, stream)->drains++;
}

static const struct stream_ops client_ops = { .frame = on_frame,
					      .half_closed = on_half,
					      .ended = on_ended,
					      .drained = on_drained };
static const struct stream_ops worker_ops = { .frame = on_frame, .ended = on_ended };

static void peer_open(struct peer *p, enum frame_mode mode, const struct stream_ops *ops)
{
	int fds[2];

	*p = (struct peer){ .stop_at_end = true };
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
	p->fd = fds[1];
	stream_open(&p->stream, loop, &blobs, fds[0], mode, LOOP_PRIO_NORMAL, &limits, ops);
}

static void peer_close(struct peer *p)
{
	slice_clear(&p->kept);
	stream_close(&p->stream);
	stream_close(&p->stream);
	ck_assert(!stream_is_open(&p->stream));
	cleanup_close(&p->fd);
}

static void peer_write(struct peer *p, const void *data, size_t len)
{
	ck_assert_int_eq(send(p->fd, data, len, 0), (ssize_t)len);
}

/* A prefixed frame that holds one bin of len bytes. */
static uint8_t *big_frame(size_t len, size_t *total)
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

/* Writes while the loop reads. */
struct writer {
	struct loop_io io;
	const uint8_t *p;
	size_t len, at_once;
};

static void on_writable(struct loop_io *io, int events)
{
	struct writer *w = container_of(io, struct writer, io);
	ssize_t n = send(io->fd, w->p, w->len < w->at_once ? w->len : w->at_once, 0);

	(void)events;
	if (n > 0) {
		w->p += n;
		w->len -= (size_t)n;
	}
	if (!w->len)
		loop_io_watch(io, 0);
}

static void writer_start(struct writer *w, struct peer *p, const uint8_t *data, size_t len, size_t at_once)
{
	*w = (struct writer){ .p = data, .len = len, .at_once = at_once };
	loop_io_init(&w->io, loop, p->fd, LOOP_PRIO_NORMAL, on_writable);
	loop_io_watch(&w->io, LOOP_WRITE);
}

/* Reads all and compares with a repeating pattern, a turn at a time. */
struct reader {
	struct loop_io io;
	uint8_t *data;
	size_t len, want, at_once;
};

static void on_reader(struct loop_io *io, int events)
{
	struct reader *r = container_of(io, struct reader, io);
	size_t room = r->want - r->len;
	ssize_t n = recv(io->fd, r->data + r->len, room < r->at_once ? room : r->at_once, 0);

	(void)events;
	if (n > 0)
		r->len += (size_t)n;
	if (n == 0 || r->len == r->want) {
		loop_io_watch(io, 0);
		loop_stop(loop);
	}
}

static void reader_start(struct reader *r, struct peer *p, size_t want, size_t at_once)
{
	*r = (struct reader){ .want = want, .at_once = at_once, .data = malloc(want) };
	loop_io_init(&r->io, loop, p->fd, LOOP_PRIO_NORMAL, on_reader);
	loop_io_watch(&r->io, LOOP_READ);
}

/* --- input --- */

START_TEST(stream_hands_up_frames_of_both_framings)
	{
		struct peer bare, prefixed;
		uint8_t f[FRAME_PREFIX + REQUEST_BYTES];

		peer_open(&bare, FRAME_UNKNOWN, &client_ops);
		peer_open(&prefixed, FRAME_UNKNOWN, &client_ops);
		peer_write(&bare, REQUEST REQUEST, 2 * REQUEST_BYTES);
		frame_put_prefix(f, REQUEST_BYTES);
		memcpy(f + FRAME_PREFIX, REQUEST, REQUEST_BYTES);
		peer_write(&prefixed, f, sizeof(f));
		prefixed.stop_at_frames = 1; /* both lie ready in the same turn */
		io_run(loop);
		ck_assert_uint_eq(bare.frames, 2);
		ck_assert_uint_eq(bare.bytes, 2 * REQUEST_BYTES);
		ck_assert_uint_eq(prefixed.frames, 1);
		ck_assert_uint_eq(prefixed.bytes, REQUEST_BYTES);
		ck_assert_uint_eq(blobs.n_live, 0); /* an idle connection holds none */
		ck_assert_uint_eq(bare.stream.bytes_in, 2 * REQUEST_BYTES);
		peer_close(&bare);
		peer_close(&prefixed);
	}
END_TEST

START_TEST(fault_3_frame_dripped_byte_by_byte_parses)
	{
		struct peer bare, prefixed;
		uint8_t f[FRAME_PREFIX + REQUEST_BYTES];
		struct writer a, b;

		peer_open(&bare, FRAME_UNKNOWN, &client_ops);
		peer_open(&prefixed, FRAME_UNKNOWN, &client_ops);
		frame_put_prefix(f, REQUEST_BYTES);
		memcpy(f + FRAME_PREFIX, REQUEST, REQUEST_BYTES);
		writer_start(&a, &bare, (const uint8_t *)REQUEST, REQUEST_BYTES, 1);
		writer_start(&b, &prefixed, f, sizeof(f), 1);
		prefixed.stop_at_frames = 1;
		io_run(loop);
		ck_assert_uint_eq(bare.frames, 1);
		ck_assert_uint_eq(prefixed.frames, 1);
		peer_close(&bare);
		peer_close(&prefixed);
	}
END_TEST

START_TEST(fault_3_partial_frame_past_its_deadline_ends_the_stream)
	{
		struct peer p;

		limits.frame_timeout = 10 * NS_PER_MS;
		peer_open(&p, FRAME_UNKNOWN, &client_ops);
		peer_write(&p, REQUEST REQUEST, REQUEST_BYTES + 3);
		io_run(loop);
		ck_assert_uint_eq(p.frames, 1);
		ck_assert_int_eq(p.why, STREAM_END_TIMEOUT);
		ck_assert_uint_eq(p.ends, 1);
		peer_close(&p);
	}
END_TEST

START_TEST(stream_between_messages_has_no_deadline)
	{
		struct peer p;

		limits.frame_timeout = 5 * NS_PER_MS;
		peer_open(&p, FRAME_UNKNOWN, &client_ops);
		peer_write(&p, REQUEST, REQUEST_BYTES);
		p.stop_at_frames = 1;
		io_run(loop);
		io_run_for(loop, 20 * NS_PER_MS);
		ck_assert_uint_eq(p.frames, 1);
		ck_assert_uint_eq(p.ends, 0);
		peer_close(&p);
	}
END_TEST

static void on_stall(struct loop_timer *t)
{
	struct peer *p = *(struct peer **)(t + 1);

	/* the rest comes while the daemon is busy past the deadline */
	peer_write(p, &REQUEST[3], REQUEST_BYTES - 3);
	io_burn(loop, 20 * NS_PER_MS);
}

START_TEST(fault_104_rest_of_a_message_that_lies_ready_wins_over_its_deadline)
	{
		struct {
			struct loop_timer timer;
			struct peer *p;
		} stall;
		struct peer p;

		limits.frame_timeout = 10 * NS_PER_MS;
		peer_open(&p, FRAME_UNKNOWN, &client_ops);
		peer_write(&p, REQUEST, 3);
		stall.p = &p;
		loop_timer_init(&stall.timer, loop, on_stall);
		loop_timer_set(&stall.timer, loop_now(loop) + 2 * NS_PER_MS);
		io_run_for(loop, 40 * NS_PER_MS);
		ck_assert_uint_eq(p.ends, 0);
		ck_assert_uint_eq(p.frames, 1);
		peer_close(&p);
	}
END_TEST

START_TEST(fault_4_end_of_file_at_every_offset_dispatches_nothing)
	{
		for (size_t cut = 1; cut < REQUEST_BYTES; cut++) {
			for (int half = 0; half < 2; half++) {
				struct peer p;

				peer_open(&p, FRAME_UNKNOWN, &client_ops);
				peer_write(&p, REQUEST, cut);
				shutdown(p.fd, half ? SHUT_WR : SHUT_RDWR);
				io_run(loop);
				ck_assert_uint_eq(p.frames, 0);
				ck_assert_uint_eq(p.halves, (unsigned)half);
				ck_assert_uint_eq(p.ends, (unsigned)!half);
				peer_close(&p);
			}
		}
	}
END_TEST

START_TEST(fault_5_ten_thousand_frames_at_once_let_others_run)
	{
		struct peer flood, others[2]; /* one before it in a turn, one after */
		uint8_t *all = malloc(10000 * REQUEST_BYTES);
		struct writer w;

		for (unsigned i = 0; i < 10000; i++)
			memcpy(all + i * REQUEST_BYTES, REQUEST, REQUEST_BYTES);
		peer_open(&others[0], FRAME_UNKNOWN, &client_ops);
		peer_open(&flood, FRAME_UNKNOWN, &client_ops);
		peer_open(&others[1], FRAME_UNKNOWN, &client_ops);
		peer_write(&flood, all, 5000 * REQUEST_BYTES);
		for (unsigned i = 0; i < 2; i++) {
			peer_write(&others[i], REQUEST, REQUEST_BYTES);
			others[i].other = &flood;
		}
		writer_start(&w, &flood, all, 5000 * REQUEST_BYTES, SIZE_MAX);
		flood.stop_at_frames = 10000;
		io_run(loop);
		for (unsigned i = 0; i < 2; i++) {
			ck_assert_uint_eq(others[i].frames, 1);
			ck_assert_uint_le(others[i].others_frames, 2 * limits.frames_per_turn);
			peer_close(&others[i]);
		}
		peer_close(&flood);
		free(all);
	}
END_TEST

START_TEST(fault_2_frame_above_the_limit_is_refused_from_its_header)
	{
		struct peer p;

		peer_open(&p, FRAME_UNKNOWN, &client_ops);
		peer_write(&p, "\x00\x80\x00\x01", 4);
		io_run(loop);
		ck_assert_int_eq(p.why, STREAM_END_FRAME);
		ck_assert_int_eq(p.stream.bad, FRAME_TOO_LARGE);
		ck_assert_uint_eq(blobs.live_bytes, 0);
		peer_close(&p);
	}
END_TEST

/* The error is told to the peer before the connection closes. */
START_TEST(fault_1_frame_of_length_0_ends_the_stream_and_the_answer_still_goes_out)
	{
		struct peer p;
		char got[64];

		peer_open(&p, FRAME_UNKNOWN, &client_ops);
		peer_write(&p, "\x00\x00\x00\x00", 4);
		io_run(loop);
		ck_assert_int_eq(p.why, STREAM_END_FRAME);
		ck_assert_int_eq(p.stream.bad, FRAME_EMPTY);
		send_text(&p.stream, "sorry", 5);
		stream_close_flushed(&p.stream, NS_PER_S);
		ck_assert(stream_is_open(&p.stream));
		io_run(loop);
		ck_assert_uint_eq(p.ends, 2);
		ck_assert_int_eq(p.why, STREAM_END_CLOSED);
		ck_assert(!stream_is_open(&p.stream));
		ck_assert_int_eq(recv(p.fd, got, sizeof(got), 0), FRAME_PREFIX + 5);
		ck_assert_mem_eq(got, "\0\0\0\5sorry", 9);
		peer_close(&p);
	}
END_TEST

START_TEST(stream_reads_a_large_frame_into_one_blob_of_its_size)
	{
		size_t total;
		uint8_t *f = big_frame(4 << 20, &total);
		struct peer p;
		struct writer w;

		peer_open(&p, FRAME_PREFIXED, &worker_ops);
		p.keep = true;
		p.stop_at_frames = 1;
		writer_start(&w, &p, f, total, SIZE_MAX);
		io_run(loop);
		ck_assert_uint_eq(p.kept.span.len, total - FRAME_PREFIX);
		ck_assert_uint_eq(p.kept.blob->size, total);
		ck_assert(memcmp(p.kept.span.p, f + FRAME_PREFIX, p.kept.span.len) == 0);
		ck_assert_uint_eq(blobs.n_live, 1);
		peer_close(&p);
		free(f);
	}
END_TEST

/* In any pieces, with a part of the next frame in the same read, and with slices that are kept. */
START_TEST(stream_input_survives_any_cut_of_large_and_small_frames)
	{
		static const size_t sizes[] = { 1, 16370, 100, 16384, 40000, 16375, 3, 70000, 16379, 16380 };
		static const size_t pieces[] = { 1000, 4099, 16384, 50000 };
		size_t len = 0, bytes = 0;
		uint8_t *all = malloc(1 << 20);

		for (unsigned i = 0; i < ARRAY_SIZE(sizes); i++) {
			size_t total;
			uint8_t *f = big_frame(sizes[i], &total);

			memcpy(all + len, f, total);
			len += total;
			bytes += total - FRAME_PREFIX;
			free(f);
		}
		for (unsigned i = 0; i < ARRAY_SIZE(pieces); i++) {
			struct peer p;
			struct writer w;

			peer_open(&p, FRAME_PREFIXED, &worker_ops);
			p.keep = i % 2;
			p.stop_at_frames = ARRAY_SIZE(sizes);
			writer_start(&w, &p, all, len, pieces[i]);
			io_run(loop);
			ck_assert_uint_eq(p.bytes, bytes);
			peer_close(&p);
		}
		free(all);
	}
END_TEST

START_TEST(stream_grows_for_a_bare_message_of_unknown_length)
	{
		size_t n = 300000;
		uint8_t *f = malloc(n + 5);
		struct peer p;
		struct writer w;

		/* an array of n nil: its length is not known before its end */
		f[0] = 0xdd;
		frame_put_prefix(f + 1, (uint32_t)n);
		memset(f + 5, 0xc0, n);
		peer_open(&p, FRAME_UNKNOWN, &client_ops);
		p.stop_at_frames = 1;
		writer_start(&w, &p, f, n + 5, 5000);
		io_run(loop);
		ck_assert_uint_eq(p.bytes, n + 5);
		peer_close(&p);
		free(f);
	}
END_TEST

START_TEST(stream_may_be_closed_by_the_callback_of_a_frame)
	{
		struct peer p;

		peer_open(&p, FRAME_UNKNOWN, &client_ops);
		p.close_in_frame = true;
		p.echo = 8;
		p.stop_at_frames = 1;
		peer_write(&p, REQUEST REQUEST REQUEST, 3 * REQUEST_BYTES);
		io_run(loop);
		io_run_for(loop, NS_PER_MS);
		ck_assert_uint_eq(p.frames, 1);
		ck_assert_uint_eq(p.ends, 0); /* stream_close() tells nothing */
		peer_close(&p);
	}
END_TEST

START_TEST(stream_that_is_paused_keeps_its_frames_until_it_is_resumed)
	{
		struct peer p;

		peer_open(&p, FRAME_UNKNOWN, &client_ops);
		p.pause_in_frame = true;
		p.stop_at_frames = 1;
		peer_write(&p, REQUEST REQUEST REQUEST, 3 * REQUEST_BYTES);
		io_run(loop);
		io_run_for(loop, 2 * NS_PER_MS);
		ck_assert_uint_eq(p.frames, 1);
		stream_drain_input(&p.stream);
		ck_assert_uint_eq(p.frames, 1);
		p.pause_in_frame = false;
		p.stop_at_frames = 3;
		stream_resume(&p.stream);
		io_run(loop);
		ck_assert_uint_eq(p.frames, 3);
		peer_close(&p);
	}
END_TEST

START_TEST(fault_16_client_that_goes_while_it_is_paused_is_noticed)
	{
		struct peer p;

		peer_open(&p, FRAME_UNKNOWN, &client_ops);
		p.pause_in_frame = true;
		p.stop_at_frames = 1;
		peer_write(&p, REQUEST REQUEST, 2 * REQUEST_BYTES);
		io_run(loop);
		cleanup_close(&p.fd);
		p.fd = -1;
		io_run(loop);
		ck_assert_int_eq(p.why, STREAM_END_CLOSED);
		ck_assert_uint_eq(p.frames, 1);
		peer_close(&p);
	}
END_TEST

struct drain_timer {
	struct loop_timer timer;
	struct peer *p;
};

static void on_drain_timer(struct loop_timer *t)
{
	struct drain_timer *d = container_of(t, struct drain_timer, timer);

	peer_write(d->p, REQUEST REQUEST, 2 * REQUEST_BYTES);
	stream_drain_input(&d->p->stream);
	ck_assert_uint_eq(d->p->frames, 2);
	loop_stop(loop);
}

START_TEST(stream_is_drained_from_a_timer)
	{
		struct drain_timer d;
		struct peer p;

		peer_open(&p, FRAME_UNKNOWN, &client_ops);
		d.p = &p;
		loop_timer_init(&d.timer, loop, on_drain_timer);
		loop_timer_set(&d.timer, loop_now(loop));
		io_run(loop);
		peer_close(&p);
	}
END_TEST

START_TEST(stream_drain_takes_more_than_a_turn_would)
	{
		struct peer p;

		limits.frames_per_turn = 2;
		peer_open(&p, FRAME_PREFIXED, &worker_ops);
		for (unsigned i = 0; i < 5; i++) {
			size_t total;
			uint8_t *f = big_frame(20000, &total);

			peer_write(&p, f, total);
			free(f);
		}
		stream_drain_input(&p.stream);
		ck_assert_uint_eq(p.frames, 5);
		peer_close(&p);
	}
END_TEST

/* --- ends --- */

START_TEST(fault_18_client_that_shuts_its_side_down_gets_its_replies)
	{
		struct peer p;
		char got[16];

		peer_open(&p, FRAME_UNKNOWN, &client_ops);
		peer_write(&p, REQUEST, REQUEST_BYTES);
		shutdown(p.fd, SHUT_WR);
		io_run(loop);
		ck_assert_uint_eq(p.frames, 1);
		ck_assert_uint_eq(p.halves, 1);
		ck_assert_uint_eq(p.ends, 0);
		send_text(&p.stream, "reply", 5);
		io_run_for(loop, NS_PER_MS);
		ck_assert_int_eq(recv(p.fd, got, sizeof(got), 0), 5);
		close(p.fd);
		p.fd = -1;
		io_run(loop);
		ck_assert_int_eq(p.why, STREAM_END_CLOSED);
		peer_close(&p);
	}
END_TEST

START_TEST(fault_32_reply_of_a_worker_that_died_is_delivered_before_its_end)
	{
		struct peer p;
		size_t total;
		uint8_t *f = big_frame(50000, &total);

		peer_open(&p, FRAME_PREFIXED, &worker_ops);
		peer_write(&p, f, total);
		close(p.fd);
		p.fd = -1;
		send_text(&p.stream, "next", 4); /* EPIPE */
		io_run(loop);
		ck_assert_uint_eq(p.frames, 1);
		ck_assert_int_eq(p.why, STREAM_END_CLOSED);
		ck_assert_uint_eq(p.ends, 1);
		peer_close(&p);
		free(f);
	}
END_TEST

START_TEST(stream_knows_whether_the_peer_has_read_all)
	{
		for (int reads = 0; reads < 2; reads++) {
			struct peer p;
			char buf[64];

			peer_open(&p, FRAME_PREFIXED, &worker_ops);
			send_text(&p.stream, "call", 4);
			io_run_for(loop, 0); /* to the end of the turn, which writes */
			if (reads)
				ck_assert_int_eq(recv(p.fd, buf, sizeof(buf), 0), 8);
			close(p.fd);
			p.fd = -1;
			io_run(loop);
			ck_assert_int_eq(p.why, STREAM_END_CLOSED);
			ck_assert(p.stream.unread == !reads);
			peer_close(&p);
		}
	}
END_TEST

START_TEST(stream_of_a_worker_has_no_half)
	{
		struct peer p;

		peer_open(&p, FRAME_PREFIXED, &worker_ops);
		shutdown(p.fd, SHUT_WR);
		io_run(loop);
		ck_assert_int_eq(p.why, STREAM_END_CLOSED);
		peer_close(&p);
	}
END_TEST

START_TEST(stream_close_flushed_writes_what_waits)
	{
		struct peer p;
		size_t total;
		uint8_t *f = big_frame(2 << 20, &total);
		struct reader r;

		peer_open(&p, FRAME_UNKNOWN, &client_ops);
		p.stop_at_end = false;
		send_text(&p.stream, (const char *)f, total);
		stream_close_flushed(&p.stream, 5 * NS_PER_S);
		send_text(&p.stream, "late", 4);
		reader_start(&r, &p, total + 1, 100000);
		io_run(loop);
		ck_assert_uint_eq(r.len, total);
		ck_assert(memcmp(r.data, f, total) == 0);
		ck_assert_uint_eq(p.ends, 1);
		ck_assert(!stream_is_open(&p.stream));
		peer_close(&p);
		free(r.data);
		free(f);
	}
END_TEST

START_TEST(stream_close_flushed_gives_up_in_the_end)
	{
		struct peer p;
		size_t total;
		uint8_t *f = big_frame(2 << 20, &total);

		peer_open(&p, FRAME_UNKNOWN, &client_ops);
		send_text(&p.stream, (const char *)f, total);
		stream_close_flushed(&p.stream, 10 * NS_PER_MS);
		io_run(loop);
		ck_assert_uint_eq(p.ends, 1);
		ck_assert(!stream_is_open(&p.stream));
		peer_close(&p);
		free(f);
	}
END_TEST

START_TEST(stream_close_flushed_again_may_only_shorten_the_time)
	{
		struct peer p;
		size_t total;
		uint8_t *f = big_frame(2 << 20, &total);

		peer_open(&p, FRAME_UNKNOWN, &client_ops);
		send_text(&p.stream, (const char *)f, total);
		stream_close_flushed(&p.stream, LOOP_NEVER);
		stream_close_flushed(&p.stream, 10 * NS_PER_MS);
		stream_close_flushed(&p.stream, LOOP_NEVER);
		io_run(loop);
		ck_assert_uint_eq(p.ends, 1);
		ck_assert(!stream_is_open(&p.stream));
		peer_close(&p);
		free(f);
	}
END_TEST

START_TEST(stream_in_zeroed_memory_is_closed)
	{
		struct stream s = { 0 };

		ck_assert(!stream_is_open(&s));
		stream_close(&s);
		send_text(&s, "x", 1);
		stream_drain_input(&s);
		stream_close_flushed(&s, 1);
	}
END_TEST

/* --- output --- */

START_TEST(stream_merges_small_replies_into_one_piece)
	{
		struct peer p;
		char got[4096];

		peer_open(&p, FRAME_UNKNOWN, &client_ops);
		for (unsigned i = 0; i < 100; i++)
			send_text(&p.stream, "0123456789", 10);
		ck_assert_uint_eq(p.stream.out_count, 1);
		ck_assert_uint_eq(p.stream.out_bytes, 1000);
		ck_assert_int_eq(recv(p.fd, got, sizeof(got), 0), -1); /* not before the end of the turn */
		io_run_for(loop, 0);
		ck_assert_int_eq(recv(p.fd, got, sizeof(got), 0), 1000);
		ck_assert_uint_eq(blobs.n_live, 0);
		ck_assert_uint_eq(p.stream.frames_out, 100);
		ck_assert_uint_eq(p.stream.bytes_out, 1000);
		peer_close(&p);
	}
END_TEST

START_TEST(stream_sends_a_large_part_without_a_copy_and_small_ones_from_one_blob)
	{
		struct peer p;
		struct blob *b = blob_new(&blobs, 10000);
		struct slice parts[3] = { text("head", 4),
					  { .blob = b, .span = { .p = b->data, .len = 10000 } },
					  text("tail", 4) };
		uint8_t *got = malloc(3 * 10012);

		memset(b->data, 'b', 10000);
		peer_open(&p, FRAME_PREFIXED, &worker_ops);
		for (unsigned i = 0; i < 3; i++)
			stream_send(&p.stream, parts, 3);
		ck_assert_uint_eq(b->refs, 4);
		ck_assert_uint_eq(p.stream.out_count, 7);
		ck_assert_uint_eq(blobs.n_live, 2);
		blob_unref(b);
		io_run_for(loop, NS_PER_MS);
		ck_assert_int_eq(recv(p.fd, got, 3 * 10012, MSG_WAITALL), 3 * 10012);
		for (unsigned i = 0; i < 3; i++) {
			ck_assert_mem_eq(got + i * 10012, "\x00\x00\x27\x18head", 8);
			ck_assert_int_eq(got[i * 10012 + 10007], 'b');
			ck_assert_mem_eq(got + i * 10012 + 10008, "tail", 4);
		}
		ck_assert_uint_eq(blobs.n_live, 0);
		peer_close(&p);
		free(got);
	}
END_TEST

START_TEST(fault_20_partial_writes_are_correct)
	{
		const int tiny = 1;
		struct peer p;
		struct reader r;
		size_t sent = 0;
		uint8_t *want = malloc(1 << 20);

		peer_open(&p, FRAME_UNKNOWN, &client_ops);
		ck_assert_int_eq(setsockopt(p.stream.io.fd, SOL_SOCKET, SO_SNDBUF, &tiny, sizeof(tiny)), 0);
		srand(3);
		for (unsigned i = 0; i < 200; i++) {
			size_t len = 1 + (size_t)rand() % 5000;

			for (size_t k = 0; k < len; k++)
				want[sent + k] = (uint8_t)rand();
			send_text(&p.stream, (const char *)want + sent, len);
			sent += len;
		}
		reader_start(&r, &p, sent, 700);
		io_run(loop);
		ck_assert(memcmp(r.data, want, sent) == 0);
		io_run_for(loop, 0);
		ck_assert_uint_eq(p.stream.out_bytes, 0);
		peer_close(&p);
		free(r.data);
		free(want);
	}
END_TEST

START_TEST(fault_19_peer_that_never_reads_is_ended_at_the_hard_cap)
	{
		struct peer p;
		char *mega = calloc(1, 1 << 20);
		unsigned sent = 0;

		limits.out_hard = 4 << 20;
		peer_open(&p, FRAME_UNKNOWN, &client_ops);
		while (!p.ends && sent < 10) {
			send_text(&p.stream, mega, 1 << 20);
			sent++;
			ck_assert_uint_eq(p.ends, 0); /* not while it is sent to */
			io_run_for(loop, 0);
			ck_assert(p.ends || stream_is_full(&p.stream) == (p.stream.out_bytes > limits.out_soft));
		}
		ck_assert_int_eq(p.why, STREAM_END_OUTPUT);
		ck_assert_uint_eq(p.ends, 1);
		ck_assert_uint_eq(sent, 5);
		ck_assert_uint_eq(blobs.live_bytes, 0);
		send_text(&p.stream, mega, 10);
		ck_assert_uint_eq(p.stream.out_bytes, 0);
		stream_close_flushed(&p.stream, NS_PER_S); /* nothing is left to wait for */
		io_run_for(loop, 2 * NS_PER_MS);
		ck_assert(!stream_is_open(&p.stream));
		peer_close(&p);
		free(mega);
	}
END_TEST

START_TEST(stream_tells_when_its_output_has_drained)
	{
		struct peer p;
		struct reader r;
		char *mega = calloc(1, 2 << 20);

		peer_open(&p, FRAME_UNKNOWN, &client_ops);
		send_text(&p.stream, mega, 2 << 20);
		ck_assert(stream_is_full(&p.stream));
		io_run_for(loop, NS_PER_MS);
		ck_assert_uint_eq(p.drains, 0);
		reader_start(&r, &p, 2 << 20, SIZE_MAX);
		io_run(loop);
		ck_assert_uint_eq(p.drains, 1);
		peer_close(&p);
		free(r.data);
		free(mega);
	}
END_TEST

START_TEST(stream_echoes_ten_thousand_frames_without_loss)
	{
		struct peer p;
		uint8_t *all = malloc(10000 * REQUEST_BYTES);
		struct writer w;
		struct reader r;
		int second;

		for (unsigned i = 0; i < 10000; i++)
			memcpy(all + i * REQUEST_BYTES, REQUEST, REQUEST_BYTES);
		peer_open(&p, FRAME_UNKNOWN, &client_ops);
		p.echo = 16;
		second = dup(p.fd);
		writer_start(&w, &p, all, 10000 * REQUEST_BYTES, 5000);
		r = (struct reader){ .want = 160000, .at_once = 999, .data = malloc(160000) };
		loop_io_init(&r.io, loop, second, LOOP_PRIO_NORMAL, on_reader);
		loop_io_watch(&r.io, LOOP_READ);
		io_run(loop);
		ck_assert_uint_eq(r.len, 160000);
		loop_io_close(&r.io);
		peer_close(&p);
		free(r.data);
		free(all);
	}
END_TEST

int main(void)
{
	Suite *s = suite_create("stream");
	TCase *c = tcase_create("stream");
	SRunner *r = srunner_create(s);
	int failed;

	tcase_set_timeout(c, 60);
	tcase_add_checked_fixture(c, setup, teardown);
	tcase_add_test(c, stream_hands_up_frames_of_both_framings);
	tcase_add_test(c, fault_3_frame_dripped_byte_by_byte_parses);
	tcase_add_test(c, fault_3_partial_frame_past_its_deadline_ends_the_stream);
	tcase_add_test(c, stream_between_messages_has_no_deadline);
	tcase_add_test(c, fault_104_rest_of_a_message_that_lies_ready_wins_over_its_deadline);
	tcase_add_test(c, fault_4_end_of_file_at_every_offset_dispatches_nothing);
	tcase_add_test(c, fault_5_ten_thousand_frames_at_once_let_others_run);
	tcase_add_test(c, fault_2_frame_above_the_limit_is_refused_from_its_header);
	tcase_add_test(c, fault_1_frame_of_length_0_ends_the_stream_and_the_answer_still_goes_out);
	tcase_add_test(c, stream_reads_a_large_frame_into_one_blob_of_its_size);
	tcase_add_test(c, stream_input_survives_any_cut_of_large_and_small_frames);
	tcase_add_test(c, stream_grows_for_a_bare_message_of_unknown_length);
	tcase_add_test(c, stream_may_be_closed_by_the_callback_of_a_frame);
	tcase_add_test(c, stream_that_is_paused_keeps_its_frames_until_it_is_resumed);
	tcase_add_test(c, fault_16_client_that_goes_while_it_is_paused_is_noticed);
	tcase_add_test(c, stream_is_drained_from_a_timer);
	tcase_add_test(c, stream_drain_takes_more_than_a_turn_would);
	tcase_add_test(c, fault_18_client_that_shuts_its_side_down_gets_its_replies);
	tcase_add_test(c, fault_32_reply_of_a_worker_that_died_is_delivered_before_its_end);
	tcase_add_test(c, stream_knows_whether_the_peer_has_read_all);
	tcase_add_test(c, stream_of_a_worker_has_no_half);
	tcase_add_test(c, stream_close_flushed_writes_what_waits);
	tcase_add_test(c, stream_close_flushed_gives_up_in_the_end);
	tcase_add_test(c, stream_close_flushed_again_may_only_shorten_the_time);
	tcase_add_test(c, stream_in_zeroed_memory_is_closed);
	tcase_add_test(c, stream_merges_small_replies_into_one_piece);
	tcase_add_test(c, stream_sends_a_large_part_without_a_copy_and_small_ones_from_one_blob);
	tcase_add_test(c, fault_20_partial_writes_are_correct);
	tcase_add_test(c, fault_19_peer_that_never_reads_is_ended_at_the_hard_cap);
	tcase_add_test(c, stream_tells_when_its_output_has_drained);
	tcase_add_test(c, stream_echoes_ten_thousand_frames_without_loss);
	suite_add_tcase(s, c);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? 1 : 0;
}

/* What a stream reads. */
#include "tests/support/peer.h"

#include <string.h>
#include <sys/socket.h>

START_TEST(stream_hands_up_frames_of_both_framings)
	{
		struct peer bare, prefixed;
		uint8_t f[FRAME_PREFIX + REQUEST_BYTES];

		peer_open(&bare, FRAME_UNKNOWN, &peer_client_ops);
		peer_open(&prefixed, FRAME_UNKNOWN, &peer_client_ops);
		peer_write(&bare, REQUEST REQUEST, 2 * REQUEST_BYTES);
		frame_put_prefix(f, REQUEST_BYTES);
		memcpy(f + FRAME_PREFIX, REQUEST, REQUEST_BYTES);
		peer_write(&prefixed, f, sizeof(f));
		prefixed.stop_at_frames = 1; /* both lie ready in the same turn */
		io_run(peer_loop);
		ck_assert_uint_eq(bare.frames, 2);
		ck_assert_uint_eq(bare.bytes, 2 * REQUEST_BYTES);
		ck_assert_uint_eq(prefixed.frames, 1);
		ck_assert_uint_eq(prefixed.bytes, REQUEST_BYTES);
		ck_assert_uint_eq(peer_blobs.n_live, 0); /* an idle connection holds none */
		ck_assert_uint_eq(bare.stream.bytes_in, 2 * REQUEST_BYTES);
		peer_close(&bare);
		peer_close(&prefixed);
	}
END_TEST

START_TEST(fault_3_frame_dripped_byte_by_byte_parses)
	{
		struct peer bare, prefixed;
		uint8_t f[FRAME_PREFIX + REQUEST_BYTES];
		struct peer_writer a, b;

		peer_open(&bare, FRAME_UNKNOWN, &peer_client_ops);
		peer_open(&prefixed, FRAME_UNKNOWN, &peer_client_ops);
		frame_put_prefix(f, REQUEST_BYTES);
		memcpy(f + FRAME_PREFIX, REQUEST, REQUEST_BYTES);
		peer_writer_start(&a, &bare, (const uint8_t *)REQUEST, REQUEST_BYTES, 1);
		peer_writer_start(&b, &prefixed, f, sizeof(f), 1);
		prefixed.stop_at_frames = 1;
		io_run(peer_loop);
		ck_assert_uint_eq(bare.frames, 1);
		ck_assert_uint_eq(prefixed.frames, 1);
		peer_close(&bare);
		peer_close(&prefixed);
	}
END_TEST

START_TEST(fault_3_partial_frame_past_its_deadline_ends_the_stream)
	{
		struct peer p;

		peer_limits.frame_timeout = 10 * NS_PER_MS;
		peer_open(&p, FRAME_UNKNOWN, &peer_client_ops);
		peer_write(&p, REQUEST REQUEST, REQUEST_BYTES + 3);
		io_run(peer_loop);
		ck_assert_uint_eq(p.frames, 1);
		ck_assert_int_eq(p.why, STREAM_END_TIMEOUT);
		ck_assert_uint_eq(p.ends, 1);
		peer_close(&p);
	}
END_TEST

START_TEST(stream_between_messages_has_no_deadline)
	{
		struct peer p;

		peer_limits.frame_timeout = 5 * NS_PER_MS;
		peer_open(&p, FRAME_UNKNOWN, &peer_client_ops);
		peer_write(&p, REQUEST, REQUEST_BYTES);
		p.stop_at_frames = 1;
		io_run(peer_loop);
		io_run_for(peer_loop, 20 * NS_PER_MS);
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
	io_burn(peer_loop, 20 * NS_PER_MS);
}

START_TEST(fault_104_rest_of_a_message_that_lies_ready_wins_over_its_deadline)
	{
		struct {
			struct loop_timer timer;
			struct peer *p;
		} stall;
		struct peer p;

		peer_limits.frame_timeout = 10 * NS_PER_MS;
		peer_open(&p, FRAME_UNKNOWN, &peer_client_ops);
		peer_write(&p, REQUEST, 3);
		stall.p = &p;
		loop_timer_init(&stall.timer, peer_loop, on_stall);
		loop_timer_set(&stall.timer, loop_now(peer_loop) + 2 * NS_PER_MS);
		io_run_for(peer_loop, 40 * NS_PER_MS);
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

				peer_open(&p, FRAME_UNKNOWN, &peer_client_ops);
				peer_write(&p, REQUEST, cut);
				shutdown(p.fd, half ? SHUT_WR : SHUT_RDWR);
				io_run(peer_loop);
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
		struct peer_writer w;

		for (unsigned i = 0; i < 10000; i++)
			memcpy(all + i * REQUEST_BYTES, REQUEST, REQUEST_BYTES);
		peer_open(&others[0], FRAME_UNKNOWN, &peer_client_ops);
		peer_open(&flood, FRAME_UNKNOWN, &peer_client_ops);
		peer_open(&others[1], FRAME_UNKNOWN, &peer_client_ops);
		peer_write(&flood, all, 5000 * REQUEST_BYTES);
		for (unsigned i = 0; i < 2; i++) {
			peer_write(&others[i], REQUEST, REQUEST_BYTES);
			others[i].other = &flood;
		}
		peer_writer_start(&w, &flood, all, 5000 * REQUEST_BYTES, SIZE_MAX);
		flood.stop_at_frames = 10000;
		io_run(peer_loop);
		for (unsigned i = 0; i < 2; i++) {
			ck_assert_uint_eq(others[i].frames, 1);
			ck_assert_uint_le(others[i].others_frames, 2 * peer_limits.frames_per_turn);
			peer_close(&others[i]);
		}
		peer_close(&flood);
		free(all);
	}
END_TEST

START_TEST(fault_2_frame_above_the_limit_is_refused_from_its_header)
	{
		struct peer p;

		peer_open(&p, FRAME_UNKNOWN, &peer_client_ops);
		peer_write(&p, "\x00\x80\x00\x01", 4);
		io_run(peer_loop);
		ck_assert_int_eq(p.why, STREAM_END_FRAME);
		ck_assert_int_eq(p.stream.bad, FRAME_TOO_LARGE);
		ck_assert_uint_eq(peer_blobs.live_bytes, 0);
		peer_close(&p);
	}
END_TEST

/* The error is told to the peer before the connection closes. */
START_TEST(fault_1_frame_of_length_0_ends_the_stream_and_the_answer_still_goes_out)
	{
		struct peer p;
		char got[64];

		peer_open(&p, FRAME_UNKNOWN, &peer_client_ops);
		peer_write(&p, "\x00\x00\x00\x00", 4);
		io_run(peer_loop);
		ck_assert_int_eq(p.why, STREAM_END_FRAME);
		ck_assert_int_eq(p.stream.bad, FRAME_EMPTY);
		peer_send_text(&p.stream, "sorry", 5);
		stream_close_flushed(&p.stream, NS_PER_S);
		ck_assert(stream_is_open(&p.stream));
		io_run(peer_loop);
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
		uint8_t *f = peer_big_frame(4 << 20, &total);
		struct peer p;
		struct peer_writer w;

		peer_open(&p, FRAME_PREFIXED, &peer_worker_ops);
		p.keep = true;
		p.stop_at_frames = 1;
		peer_writer_start(&w, &p, f, total, SIZE_MAX);
		io_run(peer_loop);
		ck_assert_uint_eq(p.kept.span.len, total - FRAME_PREFIX);
		ck_assert_uint_eq(p.kept.blob->size, total);
		ck_assert(memcmp(p.kept.span.p, f + FRAME_PREFIX, p.kept.span.len) == 0);
		ck_assert_uint_eq(peer_blobs.n_live, 1);
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
			uint8_t *f = peer_big_frame(sizes[i], &total);

			memcpy(all + len, f, total);
			len += total;
			bytes += total - FRAME_PREFIX;
			free(f);
		}
		for (unsigned i = 0; i < ARRAY_SIZE(pieces); i++) {
			struct peer p;
			struct peer_writer w;

			peer_open(&p, FRAME_PREFIXED, &peer_worker_ops);
			p.keep = i % 2;
			p.stop_at_frames = ARRAY_SIZE(sizes);
			peer_writer_start(&w, &p, all, len, pieces[i]);
			io_run(peer_loop);
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
		struct peer_writer w;

		/* an array of n nil: its length is not known before its end */
		f[0] = 0xdd;
		frame_put_prefix(f + 1, (uint32_t)n);
		memset(f + 5, 0xc0, n);
		peer_open(&p, FRAME_UNKNOWN, &peer_client_ops);
		p.stop_at_frames = 1;
		peer_writer_start(&w, &p, f, n + 5, 5000);
		io_run(peer_loop);
		ck_assert_uint_eq(p.bytes, n + 5);
		peer_close(&p);
		free(f);
	}
END_TEST

START_TEST(stream_may_be_closed_by_the_callback_of_a_frame)
	{
		struct peer p;

		peer_open(&p, FRAME_UNKNOWN, &peer_client_ops);
		p.close_in_frame = true;
		p.echo = 8;
		p.stop_at_frames = 1;
		peer_write(&p, REQUEST REQUEST REQUEST, 3 * REQUEST_BYTES);
		io_run(peer_loop);
		io_run_for(peer_loop, NS_PER_MS);
		ck_assert_uint_eq(p.frames, 1);
		ck_assert_uint_eq(p.ends, 0); /* stream_close() tells nothing */
		peer_close(&p);
	}
END_TEST

START_TEST(stream_that_is_paused_keeps_its_frames_until_it_is_resumed)
	{
		struct peer p;

		peer_open(&p, FRAME_UNKNOWN, &peer_client_ops);
		p.pause_in_frame = true;
		p.stop_at_frames = 1;
		peer_write(&p, REQUEST REQUEST REQUEST, 3 * REQUEST_BYTES);
		io_run(peer_loop);
		io_run_for(peer_loop, 2 * NS_PER_MS);
		ck_assert_uint_eq(p.frames, 1);
		stream_drain_input(&p.stream);
		ck_assert_uint_eq(p.frames, 1);
		p.pause_in_frame = false;
		p.stop_at_frames = 3;
		stream_resume(&p.stream);
		io_run(peer_loop);
		ck_assert_uint_eq(p.frames, 3);
		peer_close(&p);
	}
END_TEST

START_TEST(fault_16_client_that_goes_while_it_is_paused_is_noticed)
	{
		struct peer p;

		peer_open(&p, FRAME_UNKNOWN, &peer_client_ops);
		p.pause_in_frame = true;
		p.stop_at_frames = 1;
		peer_write(&p, REQUEST REQUEST, 2 * REQUEST_BYTES);
		io_run(peer_loop);
		cleanup_close(&p.fd);
		p.fd = -1;
		io_run(peer_loop);
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
	loop_stop(peer_loop);
}

START_TEST(stream_is_drained_from_a_timer)
	{
		struct drain_timer d;
		struct peer p;

		peer_open(&p, FRAME_UNKNOWN, &peer_client_ops);
		d.p = &p;
		loop_timer_init(&d.timer, peer_loop, on_drain_timer);
		loop_timer_set(&d.timer, loop_now(peer_loop));
		io_run(peer_loop);
		peer_close(&p);
	}
END_TEST

START_TEST(stream_drain_takes_more_than_a_turn_would)
	{
		struct peer p;

		peer_limits.frames_per_turn = 2;
		peer_open(&p, FRAME_PREFIXED, &peer_worker_ops);
		for (unsigned i = 0; i < 5; i++) {
			size_t total;
			uint8_t *f = peer_big_frame(20000, &total);

			peer_write(&p, f, total);
			free(f);
		}
		stream_drain_input(&p.stream);
		ck_assert_uint_eq(p.frames, 5);
		peer_close(&p);
	}
END_TEST

int main(void)
{
	return SUITE_RUN("stream", peer_setup, peer_teardown, stream_hands_up_frames_of_both_framings,
			 fault_3_frame_dripped_byte_by_byte_parses,
			 fault_3_partial_frame_past_its_deadline_ends_the_stream,
			 stream_between_messages_has_no_deadline,
			 fault_104_rest_of_a_message_that_lies_ready_wins_over_its_deadline,
			 fault_4_end_of_file_at_every_offset_dispatches_nothing,
			 fault_5_ten_thousand_frames_at_once_let_others_run,
			 fault_2_frame_above_the_limit_is_refused_from_its_header,
			 fault_1_frame_of_length_0_ends_the_stream_and_the_answer_still_goes_out,
			 stream_reads_a_large_frame_into_one_blob_of_its_size,
			 stream_input_survives_any_cut_of_large_and_small_frames,
			 stream_grows_for_a_bare_message_of_unknown_length,
			 stream_may_be_closed_by_the_callback_of_a_frame,
			 stream_that_is_paused_keeps_its_frames_until_it_is_resumed,
			 fault_16_client_that_goes_while_it_is_paused_is_noticed, stream_is_drained_from_a_timer,
			 stream_drain_takes_more_than_a_turn_would);
}

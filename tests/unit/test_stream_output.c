/* What a stream writes, and its ends. */
#include "tests/support/peer.h"

#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

START_TEST(fault_18_client_that_shuts_its_side_down_gets_its_replies)
	{
		struct peer p;
		char got[16];

		peer_open(&p, FRAME_UNKNOWN, &peer_client_ops);
		peer_write(&p, REQUEST, REQUEST_BYTES);
		shutdown(p.fd, SHUT_WR);
		io_run(peer_loop);
		ck_assert_uint_eq(p.frames, 1);
		ck_assert_uint_eq(p.halves, 1);
		ck_assert_uint_eq(p.ends, 0);
		peer_send_text(&p.stream, "reply", 5);
		io_run_for(peer_loop, NS_PER_MS);
		ck_assert_int_eq(recv(p.fd, got, sizeof(got), 0), 5);
		close(p.fd);
		p.fd = -1;
		io_run(peer_loop);
		ck_assert_int_eq(p.why, STREAM_END_CLOSED);
		peer_close(&p);
	}
END_TEST

START_TEST(fault_32_reply_of_a_worker_that_died_is_delivered_before_its_end)
	{
		struct peer p;
		size_t total;
		uint8_t *f = peer_big_frame(50000, &total);

		peer_open(&p, FRAME_PREFIXED, &peer_worker_ops);
		peer_write(&p, f, total);
		close(p.fd);
		p.fd = -1;
		peer_send_text(&p.stream, "next", 4); /* EPIPE */
		io_run(peer_loop);
		ck_assert_uint_eq(p.frames, 1);
		ck_assert_int_eq(p.why, STREAM_END_CLOSED);
		ck_assert_uint_eq(p.ends, 1);
		peer_close(&p);
		free(f);
	}
END_TEST

START_TEST(fault_5_a_client_that_is_gone_with_much_to_say_lets_others_run)
	{
		uint8_t *all = malloc(10000 * REQUEST_BYTES);
		struct peer p;

		for (unsigned i = 0; i < 10000; i++)
			memcpy(all + i * REQUEST_BYTES, REQUEST, REQUEST_BYTES);
		peer_open(&p, FRAME_UNKNOWN, &peer_client_ops);
		peer_write(&p, all, 10000 * REQUEST_BYTES);
		cleanup_close(&p.fd);
		p.fd = -1;
		peer_send_text(&p.stream, "reply", 5); /* EPIPE */
		io_run_for(peer_loop, 0);
		ck_assert_uint_lt(p.frames, 1000);
		io_run(peer_loop);
		ck_assert_uint_eq(p.frames, 10000);
		ck_assert_int_eq(p.why, STREAM_END_CLOSED);
		ck_assert_uint_eq(p.ends, 1);
		peer_close(&p);
		free(all);
	}
END_TEST

START_TEST(a_client_that_does_not_read_any_more_is_gone)
	{
		struct peer p;

		peer_open(&p, FRAME_UNKNOWN, &peer_client_ops);
		shutdown(p.fd, SHUT_RD); /* it could still write, for ever */
		peer_send_text(&p.stream, "reply", 5);
		io_run(peer_loop);
		ck_assert_int_eq(p.why, STREAM_END_CLOSED);
		ck_assert_uint_eq(p.ends, 1);
		peer_close(&p);
	}
END_TEST

START_TEST(stream_knows_whether_the_peer_has_read_all)
	{
		for (int reads = 0; reads < 2; reads++) {
			struct peer p;
			char buf[64];

			peer_open(&p, FRAME_PREFIXED, &peer_worker_ops);
			peer_send_text(&p.stream, "call", 4);
			io_run_for(peer_loop, 0); /* to the end of the turn, which writes */
			if (reads)
				ck_assert_int_eq(recv(p.fd, buf, sizeof(buf), 0), 8);
			close(p.fd);
			p.fd = -1;
			io_run(peer_loop);
			ck_assert_int_eq(p.why, STREAM_END_CLOSED);
			ck_assert(p.stream.unread == !reads);
			peer_close(&p);
		}
	}
END_TEST

START_TEST(stream_of_a_worker_has_no_half)
	{
		struct peer p;

		peer_open(&p, FRAME_PREFIXED, &peer_worker_ops);
		shutdown(p.fd, SHUT_WR);
		io_run(peer_loop);
		ck_assert_int_eq(p.why, STREAM_END_CLOSED);
		peer_close(&p);
	}
END_TEST

START_TEST(stream_close_flushed_writes_what_waits)
	{
		struct peer p;
		size_t total;
		uint8_t *f = peer_big_frame(2 << 20, &total);
		struct peer_reader r;

		peer_open(&p, FRAME_UNKNOWN, &peer_client_ops);
		p.stop_at_end = false;
		peer_send_text(&p.stream, (const char *)f, total);
		stream_close_flushed(&p.stream, 5 * NS_PER_S);
		peer_send_text(&p.stream, "late", 4);
		peer_reader_start(&r, &p, total + 1, 100000);
		io_run(peer_loop);
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
		uint8_t *f = peer_big_frame(2 << 20, &total);

		peer_open(&p, FRAME_UNKNOWN, &peer_client_ops);
		peer_send_text(&p.stream, (const char *)f, total);
		stream_close_flushed(&p.stream, 10 * NS_PER_MS);
		io_run(peer_loop);
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
		uint8_t *f = peer_big_frame(2 << 20, &total);

		peer_open(&p, FRAME_UNKNOWN, &peer_client_ops);
		peer_send_text(&p.stream, (const char *)f, total);
		stream_close_flushed(&p.stream, LOOP_NEVER);
		stream_close_flushed(&p.stream, 10 * NS_PER_MS);
		stream_close_flushed(&p.stream, LOOP_NEVER);
		io_run(peer_loop);
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
		peer_send_text(&s, "x", 1);
		stream_drain_input(&s);
		stream_close_flushed(&s, 1);
	}
END_TEST

START_TEST(stream_merges_small_replies_into_one_piece)
	{
		struct peer p;
		char got[4096];

		peer_open(&p, FRAME_UNKNOWN, &peer_client_ops);
		for (unsigned i = 0; i < 100; i++)
			peer_send_text(&p.stream, "0123456789", 10);
		ck_assert_uint_eq(p.stream.out.count, 1);
		ck_assert_uint_eq(p.stream.out.bytes, 1000);
		ck_assert_int_eq(recv(p.fd, got, sizeof(got), 0), -1); /* not before the end of the turn */
		io_run_for(peer_loop, 0);
		ck_assert_int_eq(recv(p.fd, got, sizeof(got), 0), 1000);
		ck_assert_uint_eq(peer_blobs.n_live, 0);
		ck_assert_uint_eq(p.stream.frames_out, 100);
		ck_assert_uint_eq(p.stream.bytes_out, 1000);
		peer_close(&p);
	}
END_TEST

START_TEST(stream_sends_a_large_part_without_a_copy_and_small_ones_from_one_blob)
	{
		struct peer p;
		struct blob *b = blob_new(&peer_blobs, 10000);
		struct slice parts[3] = { peer_text("head", 4),
					  { .blob = b, .span = { .p = b->data, .len = 10000 } },
					  peer_text("tail", 4) };
		uint8_t *got = malloc(3 * 10012);

		memset(b->data, 'b', 10000);
		peer_open(&p, FRAME_PREFIXED, &peer_worker_ops);
		for (unsigned i = 0; i < 3; i++)
			stream_send(&p.stream, parts, 3);
		ck_assert_uint_eq(b->refs, 4);
		ck_assert_uint_eq(p.stream.out.count, 7);
		ck_assert_uint_eq(peer_blobs.n_live, 2);
		blob_unref(b);
		io_run_for(peer_loop, NS_PER_MS);
		ck_assert_int_eq(recv(p.fd, got, 3 * 10012, MSG_WAITALL), 3 * 10012);
		for (unsigned i = 0; i < 3; i++) {
			ck_assert_mem_eq(got + i * 10012, "\x00\x00\x27\x18head", 8);
			ck_assert_int_eq(got[i * 10012 + 10007], 'b');
			ck_assert_mem_eq(got + i * 10012 + 10008, "tail", 4);
		}
		ck_assert_uint_eq(peer_blobs.n_live, 0);
		peer_close(&p);
		free(got);
	}
END_TEST

START_TEST(fault_20_partial_writes_are_correct)
	{
		const int tiny = 1;
		struct peer p;
		struct peer_reader r;
		size_t sent = 0;
		uint8_t *want = malloc(1 << 20);

		peer_open(&p, FRAME_UNKNOWN, &peer_client_ops);
		ck_assert_int_eq(setsockopt(p.stream.io.fd, SOL_SOCKET, SO_SNDBUF, &tiny, sizeof(tiny)), 0);
		srand(3);
		for (unsigned i = 0; i < 200; i++) {
			size_t len = 1 + (size_t)rand() % 5000;

			for (size_t k = 0; k < len; k++)
				want[sent + k] = (uint8_t)rand();
			peer_send_text(&p.stream, (const char *)want + sent, len);
			sent += len;
		}
		peer_reader_start(&r, &p, sent, 700);
		io_run(peer_loop);
		ck_assert(memcmp(r.data, want, sent) == 0);
		io_run_for(peer_loop, 0);
		ck_assert_uint_eq(p.stream.out.bytes, 0);
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

		peer_limits.out_hard = 4 << 20;
		peer_open(&p, FRAME_UNKNOWN, &peer_client_ops);
		while (!p.ends && sent < 10) {
			peer_send_text(&p.stream, mega, 1 << 20);
			sent++;
			ck_assert_uint_eq(p.ends, 0); /* not while it is sent to */
			io_run_for(peer_loop, 0);
			ck_assert(p.ends || stream_is_full(&p.stream) == (p.stream.out.bytes > peer_limits.out_soft));
		}
		ck_assert_int_eq(p.why, STREAM_END_OUTPUT);
		ck_assert_uint_eq(p.ends, 1);
		ck_assert_uint_eq(sent, 5);
		ck_assert_uint_eq(peer_blobs.live_bytes, 0);
		peer_send_text(&p.stream, mega, 10);
		ck_assert_uint_eq(p.stream.out.bytes, 0);
		stream_close_flushed(&p.stream, NS_PER_S); /* nothing is left to wait for */
		io_run_for(peer_loop, 2 * NS_PER_MS);
		ck_assert(!stream_is_open(&p.stream));
		peer_close(&p);
		free(mega);
	}
END_TEST

START_TEST(an_impatient_stream_ends_when_the_socket_is_full)
	{
		struct peer p;
		char *mega = calloc(1, 1 << 20);

		peer_limits.impatient = true;
		peer_open(&p, FRAME_UNKNOWN, &peer_client_ops);
		peer_send_text(&p.stream, mega, 1000); /* fits */
		io_run_for(peer_loop, 0);
		ck_assert_uint_eq(p.ends, 0);
		peer_send_text(&p.stream, mega, 1 << 20);
		io_run_for(peer_loop, 0);
		ck_assert_uint_eq(p.ends, 1);
		ck_assert_int_eq(p.why, STREAM_END_OUTPUT);
		ck_assert_uint_eq(p.stream.out.bytes, 0);
		ck_assert_uint_eq(peer_blobs.live_bytes, 0);
		peer_close(&p);
		peer_open(&p, FRAME_UNKNOWN, &peer_client_ops);
		peer_send_text(&p.stream, mega, 1 << 20);
		stream_close_flushed(&p.stream, NS_PER_S);
		io_run_for(peer_loop, 0);
		ck_assert(!stream_is_open(&p.stream));
		peer_close(&p);
		free(mega);
	}
END_TEST

START_TEST(stream_tells_when_its_output_has_drained)
	{
		struct peer p;
		struct peer_reader r;
		char *mega = calloc(1, 2 << 20);

		peer_open(&p, FRAME_UNKNOWN, &peer_client_ops);
		peer_send_text(&p.stream, mega, 2 << 20);
		ck_assert(stream_is_full(&p.stream));
		io_run_for(peer_loop, NS_PER_MS);
		ck_assert_uint_eq(p.drains, 0);
		peer_reader_start(&r, &p, 2 << 20, SIZE_MAX);
		io_run(peer_loop);
		ck_assert_uint_eq(p.drains, 1);
		peer_close(&p);
		free(r.data);
		free(mega);
	}
END_TEST

START_TEST(what_another_program_has_not_written_counts_as_output_that_is_to_drain)
	{
		char *mega = calloc(1, 2 << 20);
		const struct outbox_piece piece = { .bytes = { .p = (const uint8_t *)mega, .len = 2 << 20 }, .fd = -1 };
		struct peer_reader r;
		struct peer p;

		peer_open(&p, FRAME_UNKNOWN, &peer_client_ops);
		ck_assert(stream_go_on(&p.stream, FRAME_PREFIXED, (struct span){ 0 }));
		ck_assert(stream_put_back(&p.stream, &piece));
		ck_assert(stream_is_full(&p.stream));
		stream_pause(&p.stream); /* as a client is that has too much to read: it is told when to go on */
		io_run_for(peer_loop, NS_PER_MS);
		ck_assert_uint_eq(p.drains, 0);
		peer_reader_start(&r, &p, 2 << 20, SIZE_MAX);
		io_run(peer_loop);
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
		struct peer_writer w;
		struct peer_reader r;
		int second;

		for (unsigned i = 0; i < 10000; i++)
			memcpy(all + i * REQUEST_BYTES, REQUEST, REQUEST_BYTES);
		peer_open(&p, FRAME_UNKNOWN, &peer_client_ops);
		p.echo = 16;
		second = dup(p.fd);
		peer_writer_start(&w, &p, all, 10000 * REQUEST_BYTES, 5000);
		r = (struct peer_reader){ .want = 160000, .at_once = 999, .data = malloc(160000) };
		loop_io_init(&r.io, peer_loop, second, LOOP_PRIO_NORMAL, peer_on_reader);
		loop_io_watch(&r.io, LOOP_READ);
		io_run(peer_loop);
		ck_assert_uint_eq(r.len, 160000);
		loop_io_close(&r.io);
		peer_close(&p);
		free(r.data);
		free(all);
	}
END_TEST

int main(void)
{
	return SUITE_RUN("stream output", peer_setup, peer_teardown,
			 fault_18_client_that_shuts_its_side_down_gets_its_replies,
			 fault_32_reply_of_a_worker_that_died_is_delivered_before_its_end,
			 fault_5_a_client_that_is_gone_with_much_to_say_lets_others_run,
			 a_client_that_does_not_read_any_more_is_gone,
			 stream_knows_whether_the_peer_has_read_all, stream_of_a_worker_has_no_half,
			 stream_close_flushed_writes_what_waits, stream_close_flushed_gives_up_in_the_end,
			 stream_close_flushed_again_may_only_shorten_the_time, stream_in_zeroed_memory_is_closed,
			 stream_merges_small_replies_into_one_piece,
			 stream_sends_a_large_part_without_a_copy_and_small_ones_from_one_blob,
			 fault_20_partial_writes_are_correct,
			 an_impatient_stream_ends_when_the_socket_is_full,
			 fault_19_peer_that_never_reads_is_ended_at_the_hard_cap,
			 stream_tells_when_its_output_has_drained,
			 what_another_program_has_not_written_counts_as_output_that_is_to_drain, stream_echoes_ten_thousand_frames_without_loss);
}

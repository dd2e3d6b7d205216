#include "proto/frame.h"

#include <check.h>
#include <malloc.h>
#include <stdlib.h>

#define MAX (64u << 20)
#define BYTES(...)                                                                                                     \
	((struct span){ .p = (const uint8_t[]){ __VA_ARGS__ }, .len = sizeof((const uint8_t[]){ __VA_ARGS__ }) })

/* [0, 7, "ping", []] and [2, "x", []] */
static const char bare[] = "\x94\x00\x07\xa4ping\x90\x93\x02\xa1x\x90";
static const char prefixed[] = "\x00\x00\x00\x09\x94\x00\x07\xa4ping\x90\x00\x00\x00\x05\x93\x02\xa1x\x90";

static enum frame_status next(struct frame_reader *r, struct span s, struct frame *out)
{
	return frame_next(r, s.p, s.len, out);
}

static enum frame_status first(enum frame_mode mode, uint32_t max_frame, struct span s)
{
	struct frame_reader r;
	struct frame f;

	frame_reader_init(&r, mode, max_frame);

	enum frame_status status = next(&r, s, &f);

	ck_assert(status == FRAME_MORE || !r.partial);
	frame_reader_deinit(&r);
	return status;
}

START_TEST(the_first_byte_decides_the_framing)
	{
		for (int byte = 0; byte < 256; byte++) {
			uint8_t data[1] = { (uint8_t)byte };
			struct frame_reader r;
			struct frame f;
			bool is_bare = (byte >= 0x92 && byte <= 0x95) || byte == 0xdc || byte == 0xdd;
			enum frame_mode mode = byte <= 4 ? FRAME_PREFIXED : is_bare ? FRAME_BARE : FRAME_UNKNOWN;

			frame_reader_init(&r, FRAME_UNKNOWN, MAX);
			ck_assert_int_eq(frame_next(&r, data, 0, &f), FRAME_MORE);
			ck_assert_int_eq(frame_next(&r, data, 1, &f),
					 mode == FRAME_UNKNOWN ? FRAME_FOREIGN : FRAME_MORE);
			ck_assert_int_eq(r.mode, mode);
			frame_reader_deinit(&r);
		}
	}
END_TEST

START_TEST(http_and_tls_are_foreign)
	{
		ck_assert_int_eq(first(FRAME_UNKNOWN, MAX, BYTES('G', 'E', 'T', ' ', '/')), FRAME_FOREIGN);
		ck_assert_int_eq(first(FRAME_UNKNOWN, MAX, BYTES(0x16, 3, 1, 2, 0)), FRAME_FOREIGN);
	}
END_TEST

/* Both messages of a stream come out, with the stream cut into two reads at `split`. */
static void check_stream(const char *bytes, size_t len, size_t split, size_t prefix)
{
	const size_t body[] = { 9, 5 };
	const uint8_t *data = (const uint8_t *)bytes;
	struct frame_reader r;
	size_t at = 0, have = split;

	frame_reader_init(&r, FRAME_UNKNOWN, MAX);
	for (int i = 0; i < 2; i++) {
		struct frame f;
		enum frame_status status = frame_next(&r, data + at, have - at, &f);

		if (status == FRAME_MORE) {
			ck_assert_uint_gt(f.need, have - at);
			ck_assert_uint_le(f.need, prefix + body[i]);
			have = len;
			status = frame_next(&r, data + at, have - at, &f);
		}
		ck_assert_int_eq(status, FRAME_READY);
		ck_assert_ptr_eq(f.body.p, data + at + prefix);
		ck_assert_uint_eq(f.body.len, body[i]);
		ck_assert_uint_eq(f.taken, prefix + body[i]);
		ck_assert_ptr_null(r.partial);
		at += f.taken;
	}
	ck_assert_uint_eq(at, len);
	frame_reader_deinit(&r);
}

START_TEST(messages_come_whole_at_every_split_offset)
	{
		for (size_t i = 0; i < sizeof(bare); i++)
			check_stream(bare, sizeof(bare) - 1, i, 0);
		for (size_t i = 0; i < sizeof(prefixed); i++)
			check_stream(prefixed, sizeof(prefixed) - 1, i, FRAME_PREFIX);
	}
END_TEST

/* fault 3 at this level; what `need` says is never more than the message has. */
static void check_dripped(const char *bytes, size_t len, size_t message)
{
	struct frame_reader r;
	struct frame f;

	frame_reader_init(&r, FRAME_UNKNOWN, MAX);
	for (size_t i = 0; i < message; i++) {
		ck_assert_int_eq(frame_next(&r, (const uint8_t *)bytes, i, &f), FRAME_MORE);
		ck_assert_uint_gt(f.need, i);
		ck_assert_uint_le(f.need, message);
	}
	ck_assert_int_eq(frame_next(&r, (const uint8_t *)bytes, len, &f), FRAME_READY);
	ck_assert_uint_eq(f.taken, message);
	frame_reader_deinit(&r);
}

START_TEST(fault_3_a_frame_dripped_byte_by_byte_parses)
	{
		check_dripped(bare, sizeof(bare) - 1, 9);
		check_dripped(prefixed, sizeof(prefixed) - 1, 13);
	}
END_TEST

START_TEST(a_partial_bare_message_is_never_scanned_again)
	{
		uint8_t data[] = { 0x94, 0x00, 0x07, 0xa4, 'p', 'i', 'n', 'g', 0x90 };
		struct frame_reader r;
		struct frame f;

		frame_reader_init(&r, FRAME_UNKNOWN, MAX);
		ck_assert_int_eq(frame_next(&r, data, 6, &f), FRAME_MORE);
		ck_assert_ptr_nonnull(r.partial);
		ck_assert_uint_eq(r.scanned, 6);
		data[1] = 0xc1; /* would be refused if it were looked at */
		ck_assert_int_eq(frame_next(&r, data, sizeof(data), &f), FRAME_READY);
		ck_assert_ptr_null(r.partial);
		ck_assert_uint_eq(r.scanned, 0);
		frame_reader_deinit(&r);
	}
END_TEST

START_TEST(a_reader_that_ends_in_a_partial_message_leaks_nothing)
	{
		struct frame_reader r;
		struct frame f;

		frame_reader_init(&r, FRAME_UNKNOWN, MAX);
		ck_assert_int_eq(next(&r, BYTES(0x94, 0x00), &f), FRAME_MORE);
		ck_assert_ptr_nonnull(r.partial);
		frame_reader_deinit(&r);
		ck_assert_ptr_null(r.partial);
	}
END_TEST

START_TEST(fault_1_frame_of_length_0_is_refused)
	{
		ck_assert_int_eq(first(FRAME_UNKNOWN, MAX, BYTES(0, 0, 0, 0)), FRAME_EMPTY);
		ck_assert_int_eq(first(FRAME_PREFIXED, MAX, BYTES(0, 0, 0, 0, 0x94)), FRAME_EMPTY);
	}
END_TEST

START_TEST(fault_2_length_above_max_is_too_large_from_the_header_alone)
	{
		ck_assert_int_eq(first(FRAME_UNKNOWN, MAX, BYTES(0x04, 0x00, 0x00, 0x01)), FRAME_TOO_LARGE);
		ck_assert_int_eq(first(FRAME_UNKNOWN, MAX, BYTES(0x04, 0x00, 0x00, 0x00)), FRAME_MORE);
		ck_assert_int_eq(first(FRAME_PREFIXED, MAX, BYTES(0xff, 0xff, 0xff, 0xff)), FRAME_TOO_LARGE);
		ck_assert_int_eq(first(FRAME_PREFIXED, UINT32_MAX, BYTES(0x05, 0, 0, 0)), FRAME_TOO_LARGE);
	}
END_TEST

START_TEST(fault_2_a_bare_message_above_max_is_too_large_from_its_header_alone)
	{
		/* [0, 1, "x", bin of 64 MiB] and one byte less room than it takes */
		struct span s = BYTES(0x94, 0x00, 0x01, 0xa1, 'x', 0xc6, 0x04, 0x00, 0x00, 0x00);

		ck_assert_int_eq(first(FRAME_UNKNOWN, MAX + 10, s), FRAME_MORE);
		ck_assert_int_eq(first(FRAME_UNKNOWN, MAX + 9, s), FRAME_TOO_LARGE);
	}
END_TEST

START_TEST(fault_6_a_bare_array32_that_claims_2_28_elements_is_too_large)
	{
		ck_assert_int_eq(first(FRAME_UNKNOWN, MAX, BYTES(0xdd, 0x10, 0, 0, 0)), FRAME_TOO_LARGE);
		ck_assert_int_eq(first(FRAME_UNKNOWN, MAX, BYTES(0x94, 0, 1, 0xa1, 'x', 0xdf, 0x10, 0, 0, 0)),
				 FRAME_TOO_LARGE);
	}
END_TEST

START_TEST(fault_6_a_prefixed_array32_that_claims_2_28_elements_is_bad)
	{
		ck_assert_int_eq(first(FRAME_UNKNOWN, MAX, BYTES(0, 0, 0, 5, 0xdd, 0x10, 0, 0, 0)), FRAME_BAD);
	}
END_TEST

static size_t heap_in_use(void)
{
	return mallinfo2().uordblks;
}

START_TEST(fault_2_6_claims_cost_no_memory)
	{
		struct frame_reader r;
		struct frame f;
		size_t before = heap_in_use();

		frame_reader_init(&r, FRAME_UNKNOWN, MAX);
		ck_assert_int_eq(next(&r, BYTES(0x94, 0, 1, 0xa1, 'x', 0xdd, 0x03, 0, 0, 0), &f), FRAME_MORE);
		ck_assert_uint_lt(heap_in_use() - before, 4096);
		ck_assert_uint_eq(f.need, 10 + 0x03000000);
		frame_reader_deinit(&r);
	}
END_TEST

START_TEST(fault_8_too_deep_is_bad_and_says_depth)
	{
		uint8_t data[600];
		char text[FRAME_TEXT];
		struct frame_reader r;
		struct frame f;

		memset(data, 0x91, sizeof(data));
		data[0] = 0x94;
		frame_reader_init(&r, FRAME_UNKNOWN, MAX);
		ck_assert_int_eq(frame_next(&r, data, sizeof(data), &f), FRAME_BAD);
		ck_assert_int_eq(r.why, CURSOR_TOO_DEEP);
		ck_assert_uint_eq(r.place, 512);
		ck_assert_str_eq(frame_status_text(&r, FRAME_BAD, text),
				 "depth: values are nested deeper than 512 (byte 512 of the message)");
		frame_reader_deinit(&r);
	}
END_TEST

START_TEST(fault_10_c1_truncated_and_trailing_are_bad)
	{
		ck_assert_int_eq(first(FRAME_UNKNOWN, MAX, BYTES(0x94, 0x00, 0xc1)), FRAME_BAD);
		ck_assert_int_eq(first(FRAME_UNKNOWN, MAX, BYTES(0, 0, 0, 3, 0x94, 0x00, 0xc1)), FRAME_BAD);
		ck_assert_int_eq(first(FRAME_UNKNOWN, MAX, BYTES(0, 0, 0, 3, 0x94, 0x00, 0xcd)), FRAME_BAD);
		ck_assert_int_eq(first(FRAME_UNKNOWN, MAX, BYTES(0, 0, 0, 2, 0x90, 0xc0)), FRAME_BAD);
	}
END_TEST

/* In pieces of one byte, so that headers are cut. */
static uint64_t place_of(struct span s)
{
	enum frame_status status = FRAME_MORE;
	struct frame_reader r;
	struct frame f;

	frame_reader_init(&r, FRAME_UNKNOWN, MAX);
	for (size_t n = 1; n <= s.len && status == FRAME_MORE; n++)
		status = frame_next(&r, s.p, n, &f);
	ck_assert_int_eq(status, FRAME_BAD);
	frame_reader_deinit(&r);
	return r.place;
}

START_TEST(bad_is_told_with_the_byte_of_the_message)
	{
		struct span after = BYTES(0x93, 0x02, 0xa1, 'x', 0x90, 0x94, 0x00, 0xc1);
		struct frame_reader r;
		struct frame f;

		ck_assert_uint_eq(place_of(BYTES(0x94, 0x00, 0xc1)), 2);
		ck_assert_uint_eq(place_of(BYTES(0x94, 0x00, 0xcd, 0x01, 0x02, 0xda, 0x00, 0x02, 'x', 'y', 0xc1)), 10);
		ck_assert_uint_eq(place_of(BYTES(0, 0, 0, 3, 0x92, 0x00, 0xc1)), 2);
		ck_assert_uint_eq(place_of(BYTES(0, 0, 0, 4, 0x92, 0x00, 0xcd, 0x01)), 2); /* the value that is cut */
		ck_assert_uint_eq(place_of(BYTES(0, 0, 0, 7, 0x94, 0x00, 0x07, 0xda, 0x00, 0x09, 'x')), 3);
		ck_assert_uint_eq(place_of(BYTES(0, 0, 0, 5, 0xdd, 0x10, 0x00, 0x00, 0x00)), 0);
		ck_assert_uint_eq(place_of(BYTES(0, 0, 0, 3, 0x91, 0x01, 0xc0)), 2); /* after its end */
		frame_reader_init(&r, FRAME_UNKNOWN, MAX);
		ck_assert_int_eq(next(&r, after, &f), FRAME_READY);
		ck_assert_int_eq(frame_next(&r, after.p + 5, 3, &f), FRAME_BAD);
		ck_assert_uint_eq(r.place, 2); /* of that message, not of the connection */
		frame_reader_deinit(&r);
	}
END_TEST

START_TEST(every_bare_message_must_be_an_array)
	{
		struct frame_reader r;
		struct frame f;
		struct span s = BYTES(0x93, 0x02, 0xa1, 'x', 0x90, 0x05);
		char text[FRAME_TEXT];

		frame_reader_init(&r, FRAME_UNKNOWN, MAX);
		ck_assert_int_eq(next(&r, s, &f), FRAME_READY);
		ck_assert_uint_eq(f.taken, 5);
		ck_assert_int_eq(frame_next(&r, s.p + 5, 1, &f), FRAME_BAD);
		ck_assert_str_eq(frame_status_text(&r, FRAME_BAD, text), "a message must be an array (byte 0 of the message)");
		frame_reader_deinit(&r);
	}
END_TEST

START_TEST(a_later_bare_message_may_be_an_array_of_any_length)
	{
		struct frame_reader r;
		struct frame f;

		frame_reader_init(&r, FRAME_BARE, MAX);
		ck_assert_int_eq(next(&r, BYTES(0x90), &f), FRAME_READY);
		ck_assert_int_eq(next(&r, BYTES(0x91, 0x01), &f), FRAME_READY);
		frame_reader_deinit(&r);
	}
END_TEST

START_TEST(the_prefix_is_big_endian)
	{
		uint8_t out[FRAME_PREFIX];

		frame_put_prefix(out, 0x01020304);
		ck_assert_mem_eq(out, "\x01\x02\x03\x04", 4);
	}
END_TEST

int main(void)
{
	Suite *s = suite_create("frame");
	TCase *t = tcase_create("frame");

	suite_add_tcase(s, t);
	tcase_add_test(t, the_first_byte_decides_the_framing);
	tcase_add_test(t, http_and_tls_are_foreign);
	tcase_add_test(t, messages_come_whole_at_every_split_offset);
	tcase_add_test(t, fault_3_a_frame_dripped_byte_by_byte_parses);
	tcase_add_test(t, a_partial_bare_message_is_never_scanned_again);
	tcase_add_test(t, a_reader_that_ends_in_a_partial_message_leaks_nothing);
	tcase_add_test(t, fault_1_frame_of_length_0_is_refused);
	tcase_add_test(t, fault_2_length_above_max_is_too_large_from_the_header_alone);
	tcase_add_test(t, fault_2_a_bare_message_above_max_is_too_large_from_its_header_alone);
	tcase_add_test(t, fault_6_a_bare_array32_that_claims_2_28_elements_is_too_large);
	tcase_add_test(t, fault_6_a_prefixed_array32_that_claims_2_28_elements_is_bad);
	tcase_add_test(t, fault_2_6_claims_cost_no_memory);
	tcase_add_test(t, fault_8_too_deep_is_bad_and_says_depth);
	tcase_add_test(t, fault_10_c1_truncated_and_trailing_are_bad);
	tcase_add_test(t, bad_is_told_with_the_byte_of_the_message);
	tcase_add_test(t, every_bare_message_must_be_an_array);
	tcase_add_test(t, a_later_bare_message_may_be_an_array_of_any_length);
	tcase_add_test(t, the_prefix_is_big_endian);

	SRunner *r = srunner_create(s);

	srunner_run_all(r, CK_ENV);

	int failed = srunner_ntests_failed(r);

	srunner_free(r);
	return failed ? 1 : 0;
}

#include "proto/cursor.h"

#include <check.h>
#include <msgpack.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define BYTES(...)                                                                                                     \
	((struct span){ .p = (const uint8_t[]){ __VA_ARGS__ }, .len = sizeof((const uint8_t[]){ __VA_ARGS__ }) })

static enum cursor_status feed(struct cursor *c, struct span s, size_t *used)
{
	return cursor_feed(c, s.p, s.len, used);
}

/* One of every type, in every width, inside one array. */
static void pack_everything(msgpack_packer *pk)
{
	static const char zeros[70000];
	static const size_t sizes[] = { 0, 1, 31, 32, 255, 256, 65535, 65536 };
	static const size_t ext_sizes[] = { 0, 1, 2, 3, 4, 8, 16, 17, 255, 256, 65536 };

	msgpack_pack_array(pk, 17 + 2 * 8 + 11 + 5);
	msgpack_pack_nil(pk);
	msgpack_pack_true(pk);
	msgpack_pack_false(pk);
	msgpack_pack_float(pk, 1.5f);
	msgpack_pack_double(pk, 1.5);
	for (int shift = 0; shift < 64; shift += 11) {
		msgpack_pack_uint64(pk, UINT64_MAX >> shift);
		msgpack_pack_int64(pk, INT64_MIN >> shift);
	}
	for (size_t i = 0; i < 8; i++) {
		msgpack_pack_str(pk, sizes[i]);
		msgpack_pack_str_body(pk, zeros, sizes[i]);
		msgpack_pack_bin(pk, sizes[i]);
		msgpack_pack_bin_body(pk, zeros, sizes[i]);
	}
	for (size_t i = 0; i < 11; i++) {
		msgpack_pack_ext(pk, ext_sizes[i], 7);
		msgpack_pack_ext_body(pk, zeros, ext_sizes[i]);
	}
	msgpack_pack_map(pk, 0);
	msgpack_pack_map(pk, 20);
	for (int i = 0; i < 40; i++)
		msgpack_pack_int(pk, i);
	msgpack_pack_array(pk, 300);
	for (int i = 0; i < 300; i++)
		msgpack_pack_array(pk, 0);
	msgpack_pack_array(pk, 65536);
	for (int i = 0; i < 65536; i++)
		msgpack_pack_nil(pk);
	msgpack_pack_map(pk, 65536);
	for (int i = 0; i < 131072; i++)
		msgpack_pack_nil(pk);
}

START_TEST(all_of_messagepack_is_accepted_and_its_end_found)
	{
		msgpack_sbuffer buf;
		msgpack_packer pk;
		struct cursor c;
		size_t used;

		msgpack_sbuffer_init(&buf);
		msgpack_packer_init(&pk, &buf, msgpack_sbuffer_write);
		pack_everything(&pk);
		ck_assert_int_eq(cursor_check((struct span){ .p = (uint8_t *)buf.data, .len = buf.size }), CURSOR_DONE);

		size_t size = buf.size;

		msgpack_pack_int(&pk, 5);
		cursor_init(&c, buf.size);
		ck_assert_int_eq(cursor_feed(&c, (uint8_t *)buf.data, buf.size, &used), CURSOR_DONE);
		ck_assert_uint_eq(used, size);
		msgpack_sbuffer_destroy(&buf);
	}
END_TEST

/* A short value with every kind of header. */
static const char mixed_bytes[] =
	"\x9e\xc0\xcd\x01\x02\xa2hi\x82\xa1k\xc7\x01\x07\x01\xa1l\xd4\x01\x02\xc4\x02\x00\x01\xd9\x01x"
	"\xdc\x00\x02\x01\x90\xde\x00\x01\x01\x80\xcb\x00\x00\x00\x00\x00\x00\x00\x00\xda\x00\x01y"
	"\xdd\x00\x00\x00\x01\xff\xc9\x00\x00\x00\x01\x05\x06\xdf\x00\x00\x00\x00\x91\x91\x91\xc3";
static const struct span mixed = { .p = (const uint8_t *)mixed_bytes, .len = sizeof(mixed_bytes) - 1 };

START_TEST(a_value_is_resumed_at_every_split_offset)
	{
		ck_assert_int_eq(cursor_check(mixed), CURSOR_DONE);
		for (size_t i = 0; i < mixed.len; i++) {
			for (size_t j = i; j < mixed.len; j++) {
				struct cursor c;
				size_t used;

				cursor_init(&c, mixed.len);
				ck_assert_int_eq(cursor_feed(&c, mixed.p, i, &used), CURSOR_MORE);
				ck_assert_uint_eq(used, i);
				ck_assert_int_eq(cursor_feed(&c, mixed.p + i, j - i, &used), CURSOR_MORE);
				ck_assert_uint_eq(used, j - i);
				ck_assert_int_eq(cursor_feed(&c, mixed.p + j, mixed.len - j, &used), CURSOR_DONE);
				ck_assert_uint_eq(used, mixed.len - j);
			}
		}
	}
END_TEST

START_TEST(fault_4_a_value_cut_at_any_offset_is_not_whole)
	{
		ck_assert_int_eq(cursor_check((struct span){ .p = NULL, .len = 0 }), CURSOR_MORE);
		for (size_t i = 1; i < mixed.len; i++)
			ck_assert_int_eq(cursor_check((struct span){ .p = mixed.p, .len = i }), CURSOR_TOO_MANY);
	}
END_TEST

START_TEST(a_feed_after_the_end_takes_nothing)
	{
		struct cursor c;
		size_t used = 99;

		cursor_init(&c, 100);
		ck_assert_int_eq(feed(&c, BYTES(0x01, 0x02), &used), CURSOR_DONE);
		ck_assert_uint_eq(used, 1);
		ck_assert_int_eq(feed(&c, BYTES(0x02), &used), CURSOR_DONE);
		ck_assert_uint_eq(used, 0);
	}
END_TEST

START_TEST(fault_6_array32_claims_2_28_elements)
	{
		struct cursor c;
		size_t used;

		ck_assert_int_eq(cursor_check(BYTES(0xdd, 0x10, 0x00, 0x00, 0x00)), CURSOR_TOO_MANY);
		ck_assert_int_eq(cursor_check(BYTES(0x91, 0xdf, 0x10, 0x00, 0x00, 0x00)), CURSOR_TOO_MANY);
		cursor_init(&c, 64 << 20);
		ck_assert_int_eq(feed(&c, BYTES(0xdd, 0x10, 0x00, 0x00, 0x00), &used), CURSOR_TOO_MANY);
	}
END_TEST

START_TEST(fault_6_map32_of_2_32_values_does_not_wrap)
	{
		struct cursor c;
		size_t used;

		/* 2 * 0x80000000 is 0 in 32 bits; a limit beyond 2^33 does not make room in owed[] */
		cursor_init(&c, UINT64_MAX);
		ck_assert_int_eq(feed(&c, BYTES(0xdf, 0x80, 0x00, 0x00, 0x00), &used), CURSOR_TOO_MANY);
		cursor_init(&c, UINT64_MAX);
		ck_assert_int_eq(feed(&c, BYTES(0xdf, 0xff, 0xff, 0xff, 0xff), &used), CURSOR_TOO_MANY);
	}
END_TEST

START_TEST(fault_7_nested_claims_are_summed_up)
	{
		uint8_t frame[155];
		struct cursor c;
		size_t used;

		for (int i = 0; i < 31; i++)
			memcpy(frame + 5 * i, "\xdd\x10\x00\x00\x00", 5);
		ck_assert_int_eq(cursor_check((struct span){ .p = frame, .len = sizeof(frame) }), CURSOR_TOO_MANY);
		/* each claim alone fits in the limit, two do not */
		for (int i = 0; i < 31; i++)
			memcpy(frame + 5 * i, "\xdd\x02\x00\x00\x00", 5);
		cursor_init(&c, 64 << 20);
		ck_assert_int_eq(cursor_feed(&c, frame, sizeof(frame), &used), CURSOR_TOO_MANY);
		ck_assert_uint_eq(used, 10);
	}
END_TEST

START_TEST(a_claim_that_just_fits_is_accepted_and_one_more_is_not)
	{
		struct cursor c;
		size_t used;

		cursor_init(&c, 8);
		ck_assert_int_eq(feed(&c, BYTES(0xdd, 0, 0, 0, 3), &used), CURSOR_MORE);
		ck_assert_int_eq(feed(&c, BYTES(1, 2, 3), &used), CURSOR_DONE);
		cursor_init(&c, 7);
		ck_assert_int_eq(feed(&c, BYTES(0xdd, 0, 0, 0, 3), &used), CURSOR_TOO_MANY);
		/* [x, y, str of 2]: the bytes of y are promised to others */
		cursor_init(&c, 6);
		ck_assert_int_eq(feed(&c, BYTES(0x93, 0xa2, 'h', 'i', 1, 2), &used), CURSOR_DONE);
		cursor_init(&c, 5);
		ck_assert_int_eq(feed(&c, BYTES(0x93, 0xa2), &used), CURSOR_TOO_MANY);
		cursor_init(&c, 5);
		ck_assert_int_eq(feed(&c, BYTES(0x93, 0xcd), &used), CURSOR_TOO_MANY);
	}
END_TEST

START_TEST(payload_claims_are_refused_before_the_payload_comes)
	{
		struct cursor c;
		size_t used;

		cursor_init(&c, 1 << 20);
		ck_assert_int_eq(feed(&c, BYTES(0x91, 0xc6, 0xff, 0xff, 0xff, 0xff), &used), CURSOR_TOO_MANY);
		cursor_init(&c, 1 << 20);
		ck_assert_int_eq(feed(&c, BYTES(0x91, 0xc9, 0xff, 0xff, 0xff, 0xff, 0x01), &used), CURSOR_TOO_MANY);
		cursor_init(&c, 4);
		ck_assert_int_eq(feed(&c, BYTES(0xdb), &used), CURSOR_TOO_MANY); /* its length alone does not fit */
	}
END_TEST

static enum cursor_status check_nested(int depth, uint8_t innermost)
{
	uint8_t bytes[1024];

	memset(bytes, 0x91, sizeof(bytes));
	bytes[depth - 1] = innermost;
	if (innermost == 0x91)
		bytes[depth++] = 0xc0;
	return cursor_check((struct span){ .p = bytes, .len = (size_t)depth });
}

START_TEST(fault_8_depth_512_passes_and_513_does_not)
	{
		ck_assert_int_eq(check_nested(100, 0x91), CURSOR_DONE);
		ck_assert_int_eq(check_nested(512, 0x91), CURSOR_DONE);
		ck_assert_int_eq(check_nested(512, 0x90), CURSOR_DONE);
		ck_assert_int_eq(check_nested(513, 0x91), CURSOR_TOO_DEEP);
		ck_assert_int_eq(check_nested(513, 0x90), CURSOR_TOO_DEEP);
		ck_assert_ptr_nonnull(strstr(cursor_status_text(CURSOR_TOO_DEEP), "depth"));
	}
END_TEST

START_TEST(depth_is_of_nesting_and_not_of_how_many_were_nested)
	{
		static uint8_t bytes[3 + 3 * 2000];

		memcpy(bytes, "\xdc\x07\xd0", 3);
		for (int i = 0; i < 2000; i++)
			memcpy(bytes + 3 + 3 * i, "\x91\x91\x05", 3);
		ck_assert_int_eq(cursor_check((struct span){ .p = bytes, .len = sizeof(bytes) }), CURSOR_DONE);
	}
END_TEST

START_TEST(fault_10_c1_is_refused_wherever_it_stands)
	{
		ck_assert_int_eq(cursor_check(BYTES(0xc1)), CURSOR_INVALID);
		ck_assert_int_eq(cursor_check(BYTES(0x92, 0x01, 0xc1)), CURSOR_INVALID);
		ck_assert_int_eq(cursor_check(BYTES(0x91, 0xc4, 0x01, 0xc1)),
				 CURSOR_DONE); /* inside of a payload it is data */
	}
END_TEST

START_TEST(fault_10_a_trailing_object_is_refused)
	{
		ck_assert_int_eq(cursor_check(BYTES(0x01, 0x02)), CURSOR_INVALID);
		ck_assert_int_eq(cursor_check(BYTES(0x90, 0xc0)), CURSOR_INVALID);
	}
END_TEST

static void pack_random(msgpack_packer *pk, unsigned *seed, int depth)
{
	static const char text[300];
	size_t n = (size_t)(rand_r(seed) % (rand_r(seed) % 8 ? 6 : 300));

	switch (rand_r(seed) % (depth < 20 ? 10 : 7)) {
	case 0:
		msgpack_pack_int64(pk, (int64_t)((uint64_t)rand_r(seed) << 33) >> (rand_r(seed) % 64));
		break;
	case 1:
		msgpack_pack_uint64(pk, (uint64_t)rand_r(seed) << 33 >> (rand_r(seed) % 64));
		break;
	case 2:
		msgpack_pack_double(pk, rand_r(seed));
		break;
	case 3:
		msgpack_pack_str(pk, n);
		msgpack_pack_str_body(pk, text, n);
		break;
	case 4:
		msgpack_pack_bin(pk, n);
		msgpack_pack_bin_body(pk, text, n);
		break;
	case 5:
		msgpack_pack_ext(pk, n, 1);
		msgpack_pack_ext_body(pk, text, n);
		break;
	case 6:
		msgpack_pack_nil(pk);
		break;
	case 7:
		msgpack_pack_map(pk, n % 5);
		for (size_t i = 0; i < 2 * (n % 5); i++)
			pack_random(pk, seed, depth + 1);
		break;
	default:
		msgpack_pack_array(pk, n % 7);
		for (size_t i = 0; i < n % 7; i++)
			pack_random(pk, seed, depth + 1);
	}
}

/* The same answer, and the same end, however the bytes are cut into feeds. */
static void check_split(struct span s, enum cursor_status expected, size_t end, unsigned *seed)
{
	enum cursor_status status = CURSOR_MORE;
	struct cursor c;
	size_t at = 0, used;

	cursor_init(&c, s.len);
	while (status == CURSOR_MORE && at < s.len) {
		size_t n = 1 + (size_t)rand_r(seed) % 9;

		status = cursor_feed(&c, s.p + at, n < s.len - at ? n : s.len - at, &used);
		at += used;
	}
	ck_assert_int_eq(status, expected);
	if (status == CURSOR_DONE)
		ck_assert_uint_eq(at, end);
}

/* Only bytes that the cursor has accepted go to msgpack-c's unpacker: on others it reserves what they claim. */
static bool check_against_oracle(struct span s, unsigned *seed)
{
	struct cursor c;
	size_t used, off = 0;
	enum cursor_status status;
	msgpack_unpacked u;

	cursor_init(&c, s.len);
	status = cursor_feed(&c, s.p, s.len, &used);
	check_split(s, status, used, seed);
	if (status != CURSOR_DONE)
		return false;
	msgpack_unpacked_init(&u);

	int r = msgpack_unpack_next(&u, (const char *)s.p, used, &off);

	msgpack_unpacked_destroy(&u);
	if (r == MSGPACK_UNPACK_NOMEM_ERROR) /* its own limit: 32 levels */
		return true;
	ck_assert_int_eq(r, MSGPACK_UNPACK_SUCCESS);
	ck_assert_uint_eq(off, used);
	return true;
}

START_TEST(cursor_and_msgpack_c_agree_on_random_values_and_damaged_ones)
	{
		const char *given = getenv("SEED");
		unsigned seed = given ? (unsigned)strtoul(given, NULL, 0) : (unsigned)time(NULL);
		unsigned accepted = 0, n = 20000;

		printf("cursor differential: SEED=%u\n", seed);
		(void)fflush(stdout);
		for (unsigned i = 0; i < n; i++) {
			msgpack_sbuffer buf;
			msgpack_packer pk;

			msgpack_sbuffer_init(&buf);
			msgpack_packer_init(&pk, &buf, msgpack_sbuffer_write);
			pack_random(&pk, &seed, 0);

			struct span s = { .p = (uint8_t *)buf.data, .len = buf.size };

			ck_assert_int_eq(cursor_check(s), CURSOR_DONE);
			ck_assert(check_against_oracle(s, &seed));
			for (int damage = 0; damage < 3; damage++) {
				buf.data[(size_t)rand_r(&seed) % buf.size] = (char)rand_r(&seed);
				accepted += check_against_oracle(s, &seed);
			}
			msgpack_sbuffer_destroy(&buf);
		}
		printf("cursor differential: %u of %u damaged values accepted\n", accepted, 3 * n);
		ck_assert_uint_gt(accepted, n / 10);
		ck_assert_uint_lt(accepted, 3 * n);
	}
END_TEST

START_TEST(headers_are_read_in_every_width)
	{
		static const struct {
			const char *bytes;
			size_t len;
			uint32_t n;
		} arrays[] = { { "\x93", 1, 3 },
			       { "\xdc\x01\x02", 3, 0x102 },
			       { "\xdd\x01\x02\x03\x04", 5, 0x1020304 } },
		  maps[] = { { "\x8f", 1, 15 },
			     { "\xde\x01\x02", 3, 0x102 },
			     { "\xdf\x01\x02\x03\x04", 5, 0x1020304 } };

		for (int i = 0; i < 3; i++) {
			struct span a = { (const uint8_t *)arrays[i].bytes, arrays[i].len };
			struct span m = { (const uint8_t *)maps[i].bytes, maps[i].len };
			uint32_t n;

			ck_assert(!mp_read_map(&a, &n) && !mp_read_array(&m, &n));
			ck_assert(mp_read_array(&a, &n) && n == arrays[i].n && a.len == 0);
			ck_assert(mp_read_map(&m, &n) && n == maps[i].n && m.len == 0);
		}
	}
END_TEST

static uint64_t read_uint(struct span s)
{
	uint64_t v = 0;
	size_t len = s.len;

	ck_assert(mp_read_uint(&s, &v));
	ck_assert_uint_eq(s.len, 0);
	ck_assert_uint_gt(len, 0);
	return v;
}

START_TEST(non_negative_integers_are_read_in_any_encoding)
	{
		ck_assert_uint_eq(read_uint(BYTES(0x7f)), 127);
		ck_assert_uint_eq(read_uint(BYTES(0xcc, 0xff)), 255);
		ck_assert_uint_eq(read_uint(BYTES(0xcd, 0xff, 0xff)), 65535);
		ck_assert_uint_eq(read_uint(BYTES(0xce, 0xff, 0xff, 0xff, 0xff)), UINT32_MAX);
		ck_assert_uint_eq(read_uint(BYTES(0xcf, 255, 255, 255, 255, 255, 255, 255, 255)), UINT64_MAX);
		ck_assert_uint_eq(read_uint(BYTES(0xd0, 0x7f)), 127);
		ck_assert_uint_eq(read_uint(BYTES(0xd1, 0x7f, 0xff)), 32767);
		ck_assert_uint_eq(read_uint(BYTES(0xd2, 0x7f, 0xff, 0xff, 0xff)), INT32_MAX);
		ck_assert_uint_eq(read_uint(BYTES(0xd3, 0x7f, 255, 255, 255, 255, 255, 255, 255)), INT64_MAX);
	}
END_TEST

START_TEST(what_is_no_unsigned_integer_is_left_alone)
	{
		const struct span others[] = {
			BYTES(0xff),
			BYTES(0xd0, 0x80),
			BYTES(0xd1, 0x80, 0),
			BYTES(0xd2, 0x80, 0, 0, 0),
			BYTES(0xd3, 0x80, 0, 0, 0, 0, 0, 0, 0),
			BYTES(0xcb, 0, 0, 0, 0, 0, 0, 0, 0),
			BYTES(0xa1, '1'),
			BYTES(0xcd, 0x01),
			{ NULL, 0 },
		};

		for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
			struct span s = others[i];
			uint64_t v = 42;

			ck_assert(!mp_read_uint(&s, &v));
			ck_assert(s.p == others[i].p && s.len == others[i].len && v == 42);
		}
	}
END_TEST

START_TEST(text_is_str_or_bin_and_never_beyond_the_span)
	{
		const struct span texts[] = { BYTES(0xa2, 'h', 'i'),
					      BYTES(0xd9, 2, 'h', 'i'),
					      BYTES(0xda, 0, 2, 'h', 'i'),
					      BYTES(0xdb, 0, 0, 0, 2, 'h', 'i'),
					      BYTES(0xc4, 2, 'h', 'i'),
					      BYTES(0xc5, 0, 2, 'h', 'i'),
					      BYTES(0xc6, 0, 0, 0, 2, 'h', 'i') };

		for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
			struct span s = texts[i], text;

			ck_assert(mp_read_text(&s, &text) && span_equals(text, "hi") && s.len == 0);
			for (size_t n = 0; n < texts[i].len; n++) {
				s = (struct span){ texts[i].p, n };
				ck_assert(!mp_read_text(&s, &text) && s.len == n);
			}
		}
	}
END_TEST

START_TEST(any_value_is_taken_whole)
	{
		struct span s = BYTES(0xcd, 1, 2, 0x92, 0xa1, 'x', 0x80, 0xc3, 0x91), value;
		bool b = false;

		ck_assert(mp_read_any(&s, &value) && value.len == 3);
		ck_assert(mp_read_any(&s, &value) && value.len == 4 && value.p[0] == 0x92);
		ck_assert(!mp_read_nil(&s));
		ck_assert(mp_read_bool(&s, &b) && b);
		ck_assert(!mp_read_any(&s, &value) && s.len == 1);
	}
END_TEST

START_TEST(types_have_names)
	{
		ck_assert_str_eq(mp_type_name((struct span){ NULL, 0 }), "nothing");
		ck_assert_str_eq(mp_type_name(BYTES(0xff)), "int");
		ck_assert_str_eq(mp_type_name(BYTES(0xd3)), "int");
		ck_assert_str_eq(mp_type_name(BYTES(0x80)), "map");
		ck_assert_str_eq(mp_type_name(BYTES(0xdd)), "array");
		ck_assert_str_eq(mp_type_name(BYTES(0xbf)), "str");
		ck_assert_str_eq(mp_type_name(BYTES(0xc6)), "bin");
		ck_assert_str_eq(mp_type_name(BYTES(0xca)), "float");
		ck_assert_str_eq(mp_type_name(BYTES(0xc0)), "nil");
		ck_assert_str_eq(mp_type_name(BYTES(0xc2)), "bool");
		ck_assert_str_eq(mp_type_name(BYTES(0xd8)), "ext");
		ck_assert_str_eq(mp_type_name(BYTES(0xc7)), "ext");
	}
END_TEST

int main(void)
{
	Suite *s = suite_create("cursor");
	TCase *t = tcase_create("cursor");

	suite_add_tcase(s, t);
	tcase_set_timeout(t, 60);
	tcase_add_test(t, all_of_messagepack_is_accepted_and_its_end_found);
	tcase_add_test(t, a_value_is_resumed_at_every_split_offset);
	tcase_add_test(t, fault_4_a_value_cut_at_any_offset_is_not_whole);
	tcase_add_test(t, a_feed_after_the_end_takes_nothing);
	tcase_add_test(t, fault_6_array32_claims_2_28_elements);
	tcase_add_test(t, fault_6_map32_of_2_32_values_does_not_wrap);
	tcase_add_test(t, fault_7_nested_claims_are_summed_up);
	tcase_add_test(t, a_claim_that_just_fits_is_accepted_and_one_more_is_not);
	tcase_add_test(t, payload_claims_are_refused_before_the_payload_comes);
	tcase_add_test(t, fault_8_depth_512_passes_and_513_does_not);
	tcase_add_test(t, depth_is_of_nesting_and_not_of_how_many_were_nested);
	tcase_add_test(t, fault_10_c1_is_refused_wherever_it_stands);
	tcase_add_test(t, fault_10_a_trailing_object_is_refused);
	tcase_add_test(t, cursor_and_msgpack_c_agree_on_random_values_and_damaged_ones);
	tcase_add_test(t, headers_are_read_in_every_width);
	tcase_add_test(t, non_negative_integers_are_read_in_any_encoding);
	tcase_add_test(t, what_is_no_unsigned_integer_is_left_alone);
	tcase_add_test(t, text_is_str_or_bin_and_never_beyond_the_span);
	tcase_add_test(t, any_value_is_taken_whole);
	tcase_add_test(t, types_have_names);

	SRunner *r = srunner_create(s);

	srunner_run_all(r, CK_ENV);

	int failed = srunner_ntests_failed(r);

	srunner_free(r);
	return failed ? 1 : 0;
}

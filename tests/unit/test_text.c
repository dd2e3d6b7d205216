#include "daemon/pool/text.h"

#include <signal.h>

#include "tests/unit/pool_support.h"

START_TEST(durations_are_as_people_say_them)
	{
		char out[TEXT_DURATION];

		ck_assert_str_eq(text_duration(0, out), "0 ms");
		ck_assert_str_eq(text_duration(999 * MS + 999999, out), "999 ms");
		ck_assert_str_eq(text_duration(S, out), "1.0 s");
		ck_assert_str_eq(text_duration(2 * S + 550 * MS, out), "2.5 s");
		ck_assert_str_eq(text_duration(120 * S - 1, out), "119.9 s");
		ck_assert_str_eq(text_duration(250 * S, out), "4 min 10 s");
		ck_assert_uint_lt(strlen(text_duration(UINT64_MAX, out)), TEXT_DURATION);
	}
END_TEST

START_TEST(signals_have_names)
	{
		char out[TEXT_DURATION];

		ck_assert_str_eq(text_signal(SIGKILL, out), "SIGKILL");
		ck_assert_str_eq(text_signal(SIGRTMIN + 3, out), "SIGRTMIN+3");
		ck_assert_str_eq(text_signal(99, out), "signal 99");
	}
END_TEST

START_TEST(fault_13_what_is_no_utf8_is_replaced_in_place)
	{
		static const char *const pairs[][2] = {
			{ "plain", "plain" },
			{ "\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80", "\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80" },
			{ "a\xff"
			  "b",
			  "a?b" },
			{ "cut\xe2\x82", "cut??" },
			{ "\xc0\x80", "??" },           /* overlong */
			{ "\xe0\x80\xaf", "???" },      /* overlong */
			{ "\xed\xa0\x80", "???" },      /* a surrogate */
			{ "\xf4\x90\x80\x80", "????" }, /* above U+10FFFF */
		};

		for (size_t i = 0; i < ARRAY_SIZE(pairs); i++) {
			char s[32];

			strcpy(s, pairs[i][0]);
			text_make_utf8(s);
			ck_assert_str_eq(s, pairs[i][1]);
		}
	}
END_TEST

static void ck_packs(const char *text, size_t max, const char *packed)
{
	msgpack_sbuffer buf;
	msgpack_packer pk;

	msgpack_sbuffer_init(&buf);
	msgpack_packer_init(&pk, &buf, msgpack_sbuffer_write);
	text_pack_safe(&pk, span_str(text), max);
	ck_assert_uint_eq(buf.size, strlen(packed));
	ck_assert_mem_eq(buf.data, packed, buf.size);
	msgpack_sbuffer_destroy(&buf);
}

START_TEST(packed_text_is_valid_and_keeps_its_end)
	{
		ck_packs("abc", 10,
			 "\xa3"
			 "abc");
		ck_packs("abcdef", 3,
			 "\xa3"
			 "def");
		ck_packs("a\xff", 10,
			 "\xa4"
			 "a\xef\xbf\xbd");
		ck_packs("", 10, "\xa0");
	}
END_TEST

RUN_SUITE("text", durations_are_as_people_say_them, signals_have_names, fault_13_what_is_no_utf8_is_replaced_in_place,
	  packed_text_is_valid_and_keeps_its_end)

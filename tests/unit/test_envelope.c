#include "proto/envelope.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>

#define BYTES(...)                                                                                                     \
	((struct span){ .p = (const uint8_t[]){ __VA_ARGS__ }, .len = sizeof((const uint8_t[]){ __VA_ARGS__ }) })

static struct envelope good(struct span frame)
{
	struct complaint c = { .message = "" };
	struct envelope e;

	ck_assert_int_eq(cursor_check(frame), CURSOR_DONE);
	ck_assert_msg(envelope_parse(frame, &e, &c), "%s", c.message);
	return e;
}

/* A frame that is refused with exactly this message. */
static struct envelope bad(struct span frame, const char *message)
{
	struct complaint c = { .message = "" };
	struct envelope e;

	ck_assert_int_eq(cursor_check(frame), CURSOR_DONE);
	ck_assert(!envelope_parse(frame, &e, &c));
	ck_assert_int_eq(c.code, ERROR_BAD_REQUEST);
	ck_assert_str_eq(c.message, message);
	return e;
}

START_TEST(a_request_is_read_in_place)
	{
		static const char frame[] = "\x94\x00\xcd\x01\x00\xa4ping\x91\x81\xa1x\x05";
		struct envelope e = good(SPAN_LIT(frame));

		ck_assert_int_eq(e.type, ENVELOPE_REQUEST);
		ck_assert(e.has_id && e.id == 256);
		ck_assert(span_equals(e.method, "ping"));
		ck_assert_ptr_eq(e.params.p, frame + 11);
		ck_assert_uint_eq(e.params.len, 4);
	}
END_TEST

START_TEST(an_id_may_be_any_unsigned_integer)
	{
		ck_assert_uint_eq(good(BYTES(0x94, 0, 0, 0xa1, 'm', 0x90)).id, 0);
		ck_assert_uint_eq(
			good(BYTES(0x94, 0, 0xcf, 255, 255, 255, 255, 255, 255, 255, 255, 0xa1, 'm', 0x90)).id,
			UINT64_MAX);
		ck_assert_uint_eq(good(BYTES(0x94, 0, 0xd3, 0, 0, 0, 0, 0, 0, 0, 9, 0xa1, 'm', 0x90)).id, 9);
	}
END_TEST

START_TEST(all_forms_of_no_params_mean_an_empty_map)
	{
		ck_assert_uint_eq(good(BYTES(0x94, 0, 1, 0xa1, 'm', 0x90)).params.len, 0);
		ck_assert_uint_eq(good(BYTES(0x94, 0, 1, 0xa1, 'm', 0xc0)).params.len, 0);
		ck_assert_uint_eq(good(BYTES(0x94, 0, 1, 0xa1, 'm', 0x91, 0x90)).params.len, 0);
		ck_assert_uint_eq(good(BYTES(0x94, 0, 1, 0xa1, 'm', 0x91, 0xc0)).params.len, 0);
		ck_assert_uint_eq(good(BYTES(0x94, 0, 1, 0xa1, 'm', 0x91, 0x80)).params.len, 0);
		ck_assert_uint_eq(good(BYTES(0x94, 0, 1, 0xa1, 'm', 0x91, 0xdc, 0, 0)).params.len, 0);
	}
END_TEST

START_TEST(the_method_may_be_bin_and_the_array_long_form)
	{
		ck_assert(span_equals(good(BYTES(0xdc, 0, 4, 0, 1, 0xc4, 2, 'm', 'n', 0x90)).method, "mn"));
		ck_assert(span_equals(good(BYTES(0xdd, 0, 0, 0, 4, 0, 1, 0xd9, 1, 'm', 0x90)).method, "m"));
	}
END_TEST

START_TEST(a_notification_has_no_id)
	{
		struct envelope e = good(BYTES(0x93, 2, 0xa1, 'm', 0x91, 0x81, 0xa1, 'k', 1));

		ck_assert_int_eq(e.type, ENVELOPE_NOTIFICATION);
		ck_assert(!e.has_id && span_equals(e.method, "m") && e.params.len == 4);
	}
END_TEST

START_TEST(a_response_of_four_is_error_and_result)
	{
		struct envelope e = good(BYTES(0x94, 1, 7, 0xc0, 0x92, 1, 2));

		ck_assert_int_eq(e.type, ENVELOPE_RESPONSE);
		ck_assert(e.has_id && e.id == 7);
		ck_assert(e.error.len == 1 && e.error.p[0] == 0xc0);
		ck_assert(e.result.len == 3 && e.result.p[0] == 0x92 && e.meta.len == 0);
	}
END_TEST

START_TEST(a_response_of_five_carries_meta)
	{
		struct envelope e = good(BYTES(0x95, 1, 7, 0x81, 1, 2, 0xc0, 0x81, 0xa1, 'r', 3));

		ck_assert_uint_eq(e.error.len, 3);
		ck_assert(e.result.len == 1 && e.result.p[0] == 0xc0);
		ck_assert(e.meta.len == 4 && e.meta.p[0] == 0x81);
	}
END_TEST

START_TEST(a_response_to_what_had_no_readable_id_has_none)
	{
		struct envelope e = good(BYTES(0x94, 1, 0xc0, 0xa1, 'e', 0xc0));

		ck_assert(e.type == ENVELOPE_RESPONSE && !e.has_id && e.error.len == 2);
	}
END_TEST

START_TEST(fault_11_wrong_shapes_are_named)
	{
		(void)bad(BYTES(0x80), "a message must be an array [0, id, method, [params]], got map");
		(void)bad(BYTES(0x90), "a message must be an array [0, id, method, [params]], got an empty one");
		(void)bad(BYTES(0x91, 3), "a message starts with 0 (request), 1 (response) or 2 (notification), got 3");
		(void)bad(BYTES(0x91, 0xa1, 'x'),
			  "a message starts with 0 (request), 1 (response) or 2 (notification), got str");
		(void)bad(BYTES(0x91, 0), "a request is [0, id, method, [params]]: 4 elements, got 1");
		(void)bad(BYTES(0x92, 2, 0xa1, 'm'), "a notification is [2, method, [params]]: 3 elements, got 2");
		(void)bad(BYTES(0x93, 1, 1, 0xc0), "a response is [1, id, error, result]: 4 elements, got 3");
		(void)bad(BYTES(0x93, 2, 5, 0x90), "method must be a str, got int");
		(void)bad(BYTES(0x95, 1, 1, 0xc0, 0xc0, 0xc0),
			  "meta, the fifth element of a response, must be a map, got nil");
	}
END_TEST

START_TEST(fault_11_a_response_that_is_cut_says_where)
	{
		struct envelope e;
		struct complaint c;

		ck_assert(!envelope_parse(SPAN_LIT("\x94\x01\x01"), &e, &c));
		ck_assert_str_eq(c.message, "a response is cut in its error");
		ck_assert(!envelope_parse(SPAN_LIT("\x95\x01\x01\xc0"), &e, &c));
		ck_assert_str_eq(c.message, "a response is cut in its result");
	}
END_TEST

START_TEST(fault_11_the_id_is_there_to_be_echoed)
	{
		struct envelope e =
			bad(BYTES(0x93, 0, 9, 0xa1, 'm'), "a request is [0, id, method, [params]]: 4 elements, got 3");

		ck_assert(e.has_id && e.id == 9);
		e = bad(BYTES(0x94, 0, 9, 0x05, 0x90), "method must be a str, got int");
		ck_assert(e.has_id && e.id == 9);
		e = bad(BYTES(0x94, 0, 9, 0xa1, 'm', 0x81, 1, 2),
			"params must be an array that holds one map, got map");
		ck_assert(e.has_id && e.id == 9);
		e = bad(BYTES(0x94, 0, 9, 0xa1, 'm', 0x91, 5), "params must be an array that holds one map, got int");
		ck_assert(e.has_id && e.id == 9);
		e = bad(BYTES(0x94, 0, 9, 0xa1, 'm', 0x91, 0x91, 5),
			"params must be an array that holds one map, got array");
		ck_assert(e.has_id && e.id == 9);
		e = bad(BYTES(0x94, 0, 9, 0xa1, 'm', 0x92, 0x80, 0x80),
			"params must be an array that holds one map, got an array of 2");
		ck_assert(e.has_id && e.id == 9);
	}
END_TEST

START_TEST(fault_11_an_id_that_is_no_unsigned_integer_is_not_echoed)
	{
		const char *message = "id must be an integer from 0 to 18446744073709551615, got ";
		char expected[128];

		(void)snprintf(expected, sizeof(expected), "%sint", message);
		ck_assert(!bad(BYTES(0x94, 0, 0xff, 0xa1, 'm', 0x90), expected).has_id);
		(void)snprintf(expected, sizeof(expected), "%sstr", message);
		ck_assert(!bad(BYTES(0x94, 0, 0xa1, '1', 0xa1, 'm', 0x90), expected).has_id);
		(void)snprintf(expected, sizeof(expected), "%snil", message);
		ck_assert(!bad(BYTES(0x94, 0, 0xc0, 0xa1, 'm', 0x90), expected).has_id);
	}
END_TEST

static const char *quote(struct span s, size_t size)
{
	static char out[256];

	memset(out, 'Z', sizeof(out));
	ck_assert_ptr_eq(envelope_quote(s, out, size), out);
	ck_assert_uint_lt(strlen(out), size);
	return out;
}

START_TEST(fault_13_what_a_terminal_acts_on_is_escaped)
	{
		ck_assert_str_eq(quote(SPAN_LIT("a\0b\x1b[31m\n\x7f"), 256), "a\\x00b\\x1b[31m\\x0a\\x7f");
		ck_assert_str_eq(quote(SPAN_LIT("\xc2\x9b"
						"31m"),
				       256),
				 "\\xc2\\x9b31m");
		ck_assert_str_eq(quote(SPAN_LIT("gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x90\x8d"), 256),
				 "gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x90\x8d");
	}
END_TEST

START_TEST(fault_13_invalid_utf_8_is_escaped)
	{
		ck_assert_str_eq(quote(SPAN_LIT("\xff\xfe"), 256), "\\xff\\xfe");
		ck_assert_str_eq(quote(SPAN_LIT("\xc0\x80"), 256), "\\xc0\\x80");          /* overlong */
		ck_assert_str_eq(quote(SPAN_LIT("\xe0\x80\x80"), 256), "\\xe0\\x80\\x80"); /* overlong */
		ck_assert_str_eq(quote(SPAN_LIT("\xed\xa0\x80"), 256), "\\xed\\xa0\\x80"); /* surrogate */
		ck_assert_str_eq(quote(SPAN_LIT("\xf4\x90\x80\x80"), 256), "\\xf4\\x90\\x80\\x80");
		ck_assert_str_eq(quote(SPAN_LIT("x\xe2\x82"), 256), "x\\xe2\\x82"); /* cut */
	}
END_TEST

START_TEST(a_quote_is_cut_to_fit_and_never_inside_a_character)
	{
		ck_assert_str_eq(quote(SPAN_LIT("abcdefg"), 8), "abcdefg");
		ck_assert_str_eq(quote(SPAN_LIT("abcdefgh"), 8), "abcd...");
		ck_assert_str_eq(quote(SPAN_LIT("abc\xe2\x82\xac\xe2\x82\xac"), 9), "abc...");
		ck_assert_str_eq(quote(SPAN_LIT("abc\x01\x02"), 10), "abc...");
		ck_assert_str_eq(quote(SPAN_LIT("abcdefgh"), 4), "...");
		ck_assert_str_eq(quote(SPAN_LIT("abcdefgh"), 1), "");
		ck_assert_str_eq(quote(SPAN_LIT(""), 8), "");
	}
END_TEST

START_TEST(a_complaint_that_is_too_long_stays_utf_8)
	{
		char text[1200];
		struct complaint c;

		for (size_t i = 0; i < sizeof(text) - 3; i += 3)
			memcpy(text + i, "\xe2\x82\xac", 4);
		ck_assert(!complain(&c, ERROR_DENIED, "%s", text));
		ck_assert_int_eq(c.code, ERROR_DENIED);
		ck_assert_uint_eq(strlen(c.message), 510);
		ck_assert(!complain(&c, ERROR_DENIED, "%d is %s", 5, "five"));
		ck_assert_str_eq(c.message, "5 is five");
	}
END_TEST

int main(void)
{
	Suite *s = suite_create("envelope");
	TCase *t = tcase_create("envelope");

	suite_add_tcase(s, t);
	tcase_add_test(t, a_request_is_read_in_place);
	tcase_add_test(t, an_id_may_be_any_unsigned_integer);
	tcase_add_test(t, all_forms_of_no_params_mean_an_empty_map);
	tcase_add_test(t, the_method_may_be_bin_and_the_array_long_form);
	tcase_add_test(t, a_notification_has_no_id);
	tcase_add_test(t, a_response_of_four_is_error_and_result);
	tcase_add_test(t, a_response_of_five_carries_meta);
	tcase_add_test(t, a_response_to_what_had_no_readable_id_has_none);
	tcase_add_test(t, fault_11_wrong_shapes_are_named);
	tcase_add_test(t, fault_11_a_response_that_is_cut_says_where);
	tcase_add_test(t, fault_11_the_id_is_there_to_be_echoed);
	tcase_add_test(t, fault_11_an_id_that_is_no_unsigned_integer_is_not_echoed);
	tcase_add_test(t, fault_13_what_a_terminal_acts_on_is_escaped);
	tcase_add_test(t, fault_13_invalid_utf_8_is_escaped);
	tcase_add_test(t, a_quote_is_cut_to_fit_and_never_inside_a_character);
	tcase_add_test(t, a_complaint_that_is_too_long_stays_utf_8);

	SRunner *r = srunner_create(s);

	srunner_run_all(r, CK_ENV);

	int failed = srunner_ntests_failed(r);

	srunner_free(r);
	return failed ? 1 : 0;
}

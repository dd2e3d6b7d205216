/* The JSON of pypoolctl, in and out, and what it does with text that could act on a terminal. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/ctl/base64.h"
#include "client/ctl/cell.h"
#include "client/ctl/duration.h"
#include "client/ctl/json.h"
#include "client/ctl/text.h"
#include "proto/cursor.h"

struct pair {
	const char *json;
	const char *bytes;
	size_t n;
};
#define PAIR(json, bytes)                                                                                              \
	{                                                                                                              \
		json, bytes, sizeof(bytes) - 1                                                                         \
	}

static char *print(struct span value)
{
	char *s = NULL;
	size_t n;
	FILE *out = open_memstream(&s, &n);

	json_print(out, value);
	ck_assert_int_eq(fclose(out), 0);
	return s;
}

static struct span span_of_pair(const struct pair *p)
{
	return (struct span){ .p = (const uint8_t *)p->bytes, .len = p->n };
}

/* Read and printed as the same. */
static const struct pair both_ways[] = {
	PAIR("null", "\xc0"),
	PAIR("true", "\xc3"),
	PAIR("false", "\xc2"),
	PAIR("0", "\x00"),
	PAIR("127", "\x7f"),
	PAIR("-1", "\xff"),
	PAIR("-32", "\xe0"),
	PAIR("-129", "\xd1\xff\x7f"),
	PAIR("18446744073709551615", "\xcf\xff\xff\xff\xff\xff\xff\xff\xff"),
	PAIR("-9223372036854775808", "\xd3\x80\0\0\0\0\0\0\0"),
	PAIR("1.5", "\xcb\x3f\xf8\0\0\0\0\0\0"),
	PAIR("1.0", "\xcb\x3f\xf0\0\0\0\0\0\0"),
	PAIR("0.1", "\xcb\x3f\xb9\x99\x99\x99\x99\x99\x9a"),
	PAIR("-0.0", "\xcb\x80\0\0\0\0\0\0\0"),
	PAIR("1e+300", "\xcb\x7e\x37\xe4\x3c\x88\x00\x75\x9c"),
	PAIR("\"\"", "\xa0"),
	PAIR("\"h\xc3\xa9\"", "\xa3h\xc3\xa9"),
	PAIR("\"a\\\"\\\\\\n\\t\\r\"", "\xa6"
				       "a\"\\\n\t\r"),
	PAIR("\"\\u001b[31m\\u007f\"", "\xa6\x1b[31m\x7f"),
	PAIR("\"\\u0000\"", "\xa1\0"),
	PAIR("\"\\u009b\"", "\xa2\xc2\x9b"),
	PAIR("[]", "\x90"),
	PAIR("[1, [2], \"x\"]", "\x93\x01\x91\x02\xa1x"),
	PAIR("{}", "\x80"),
	PAIR("{\"a\": 1, \"b\": [null]}", "\x82\xa1"
					  "a\x01\xa1"
					  "b\x91\xc0"),
	PAIR("{\"$a\": 1, \"b\": 2}", "\x82\xa2$a\x01\xa1"
				      "b\x02"),
	PAIR("{\"$bin\": \"\"}", "\xc4\x00"),
	PAIR("{\"$bin\": \"AP8=\"}", "\xc4\x02\x00\xff"),
	PAIR("{\"$str\": \"/w==\"}", "\xa1\xff"),
	PAIR("{\"$float\": \"inf\"}", "\xcb\x7f\xf0\0\0\0\0\0\0"),
	PAIR("{\"$float\": \"-inf\"}", "\xcb\xff\xf0\0\0\0\0\0\0"),
	PAIR("{\"$float\": \"nan\"}", "\xcb\x7f\xf8\0\0\0\0\0\0"),
	PAIR("{\"$ext\": [5, \"AQ==\"]}", "\xd4\x05\x01"),
	PAIR("{\"$ext\": [-1, \"AAAAAA==\"]}", "\xd6\xff\0\0\0\0"),
	PAIR("{\"$ext\": [1, \"AQID\"]}", "\xc7\x03\x01\x01\x02\x03"),
	PAIR("{\"$map\": [[1, \"x\"]]}", "\x81\x01\xa1x"),
	PAIR("{\"$map\": [[\"$bin\", \"AP8=\"]]}", "\x81\xa4$bin\xa4"
						   "AP8="),
	PAIR("{\"$map\": [[\"a\", 1], [\"a\", 2]]}", "\x82\xa1"
						     "a\x01\xa1"
						     "a\x02"),
	PAIR("{\"$map\": [[{\"$bin\": \"YQ==\"}, null]]}", "\x81\xc4\x01"
							   "a\xc0"),
	PAIR("{\"$map\": [[[1], {}]]}", "\x81\x91\x01\x80"),
};

START_TEST(value_survives_both_ways)
	{
		const struct pair *p = &both_ways[_i];
		struct json_error error;
		msgpack_sbuffer b;
		char *s;

		ck_assert_int_eq(cursor_check(span_of_pair(p)), CURSOR_DONE);
		s = print(span_of_pair(p));
		ck_assert_str_eq(s, p->json);
		free(s);
		msgpack_sbuffer_init(&b);
		ck_assert_msg(json_parse(span_str(p->json), &b, &error), "%s: %s", p->json, error.message);
		ck_assert_uint_eq(b.size, p->n);
		ck_assert_mem_eq(b.data, p->bytes, p->n);
		msgpack_sbuffer_destroy(&b);
	}
END_TEST

/* Read only: other ways to write the same. */
static const struct pair one_way[] = {
	PAIR(" \t\n\r1 ", "\x01"),
	PAIR("1e2", "\xcb\x40\x59\0\0\0\0\0\0"),
	PAIR("1E-2", "\xcb\x3f\x84\x7a\xe1\x47\xae\x14\x7b"),
	PAIR("-0", "\x00"),
	PAIR("\"\\u00e9\"", "\xa2\xc3\xa9"),
	PAIR("\"\\u20AC\"", "\xa3\xe2\x82\xac"),
	PAIR("\"\\ud83d\\ude00\"", "\xa4\xf0\x9f\x98\x80"),
	PAIR("\"\\/\\b\\f\"", "\xa3/\b\f"),
	PAIR("[ 1 , 2 ]", "\x92\x01\x02"),
	PAIR("{ \"a\" : { } }", "\x81\xa1"
				"a\x80"),
	PAIR("{\"$other\": 1}", "\x81\xa6$other\x01"),
};

START_TEST(json_is_read_as_the_standard_says)
	{
		const struct pair *p = &one_way[_i];
		struct json_error error;
		msgpack_sbuffer b;

		msgpack_sbuffer_init(&b);
		ck_assert_msg(json_parse(span_str(p->json), &b, &error), "%s: %s", p->json, error.message);
		ck_assert_uint_eq(b.size, p->n);
		ck_assert_mem_eq(b.data, p->bytes, p->n);
		msgpack_sbuffer_destroy(&b);
	}
END_TEST

static const struct {
	const char *json;
	size_t offset;
	const char *message; /* a part of it */
} refused[] = {
	{ "", 0, "missing" },
	{ "  ", 2, "missing" },
	{ "hello", 0, "not a JSON value" },
	{ "nul", 0, "not a JSON value" },
	{ "nullx", 4, "follows" },
	{ "1 2", 2, "follows" },
	{ "01", 0, "not a number" },
	{ "1.", 0, "not a number" },
	{ ".5", 0, "not a JSON value" },
	{ "1e", 0, "not a number" },
	{ "+1", 0, "not a JSON value" },
	{ "-", 0, "not a number" },
	{ "NaN", 0, "not a JSON value" },
	{ "1e999", 0, "too large" },
	{ "18446744073709551616", 0, "2^64" },
	{ "-9223372036854775809", 0, "-2^63" },
	{ "\"abc", 4, "closing" },
	{ "\"a\nb\"", 2, "escaped" },
	{ "\"\\x\"", 2, "escape" },
	{ "\"\\u12g4\"", 3, "hexadecimal" },
	{ "\"\\ud800\"", 7, "surrogate" },
	{ "\"\\udc00\"", 7, "surrogate" },
	{ "\"\\ud800\\u0041\"", 13, "surrogate" },
	{ "\"\xff\"", 1, "UTF-8" },
	{ "[1", 2, "expected ','" },
	{ "[1,]", 3, "not a JSON value" },
	{ "[1 2]", 3, "expected ','" },
	{ "[", 1, "missing" },
	{ "{\"a\" 1}", 5, "expected ':'" },
	{ "{a: 1}", 1, "double quotes" },
	{ "{\"a\": 1,}", 8, "double quotes" },
	{ "{\"a\": 1, \"a\": 2}", 12, "twice" },
	{ "{\"$bin\": \"a\"}", 13, "base64" },
	{ "{\"$bin\": \"ab==\"}", 16, "base64" },
	{ "{\"$bin\": 5}", 11, "base64" },
	{ "{\"$float\": \"1\"}", 15, "nan" },
	{ "{\"$ext\": [300, \"\"]}", 19, "-128" },
	{ "{\"$map\": [[1]]}", 15, "pairs" },
	{ "{\"$map\": 1}", 11, "pairs" },
};

START_TEST(what_is_no_json_is_refused_with_its_place)
	{
		struct json_error error;
		msgpack_sbuffer b;

		msgpack_sbuffer_init(&b);
		ck_assert(!json_parse(span_str(refused[_i].json), &b, &error));
		ck_assert_msg(strstr(error.message, refused[_i].message), "%s: %s", refused[_i].json, error.message);
		ck_assert_uint_eq(error.offset, refused[_i].offset);
		ck_assert_uint_eq(b.size, 0);
		msgpack_sbuffer_destroy(&b);
	}
END_TEST

static char *nested(size_t n, const char *middle)
{
	char *s = malloc(2 * n + strlen(middle) + 1);

	memset(s, '[', n);
	strcpy(s + n, middle);
	memset(s + n + strlen(middle), ']', n);
	s[2 * n + strlen(middle)] = '\0';
	return s;
}

START_TEST(fault_8_depth_of_512_passes_and_513_is_refused)
	{
		struct json_error error;
		msgpack_sbuffer b;
		char *s = nested(512, ""), *deeper = nested(513, ""), *back;

		msgpack_sbuffer_init(&b);
		ck_assert(json_parse(span_str(s), &b, &error));
		ck_assert_int_eq(cursor_check((struct span){ (const uint8_t *)b.data, b.size }), CURSOR_DONE);
		back = print((struct span){ (const uint8_t *)b.data, b.size });
		ck_assert_str_eq(back, s);
		ck_assert(!json_parse(span_str(deeper), &b, &error));
		ck_assert_ptr_nonnull(strstr(error.message, "512"));
		msgpack_sbuffer_destroy(&b);
		free(back);
		free(s);
		free(deeper);
	}
END_TEST

START_TEST(long_lists_get_the_headers_that_they_need)
	{
		static const size_t counts[] = { 15, 16, 65535, 65536 };
		static const size_t heads[] = { 1, 3, 3, 5 };

		for (size_t i = 0; i < 4; i++) {
			char *s = malloc(2 * counts[i] + 2), *at = s;
			struct json_error error;
			msgpack_sbuffer b;

			for (size_t k = 0; k < counts[i]; k++)
				at = stpcpy(at, k ? ",7" : "[7");
			strcpy(at, "]");
			msgpack_sbuffer_init(&b);
			ck_assert(json_parse(span_str(s), &b, &error));
			ck_assert_uint_eq(b.size, heads[i] + counts[i]);
			ck_assert_int_eq(cursor_check((struct span){ (const uint8_t *)b.data, b.size }), CURSOR_DONE);
			msgpack_sbuffer_destroy(&b);
			free(s);
		}
	}
END_TEST

START_TEST(single_precision_is_printed_short)
	{
		char *s = print(SPAN_LIT("\xca\x3d\xcc\xcc\xcd"));

		ck_assert_str_eq(s, "0.1");
		free(s);
	}
END_TEST

START_TEST(terminal_escapes_are_shown_and_not_sent)
	{
		char *s = text_escape(SPAN_LIT("a\x1b[2J\r\nb\xff\xc2\x9b\xc3\xa9"));

		ck_assert_str_eq(s, "a\\x1b[2J\\x0d\\x0ab\\xff\\xc2\\x9b\xc3\xa9");
		free(s);
		s = cell_any(SPAN_LIT("\xa4\x1b[2J"));
		ck_assert_str_eq(s, "\\x1b[2J");
		free(s);
		s = cell_any(SPAN_LIT("\x91\xa1\x1b"));
		ck_assert_str_eq(s, "[\"\\u001b\"]");
		free(s);
	}
END_TEST

#define CELL(fn, bytes, expected)                                                                                      \
	do {                                                                                                           \
		char *s_ = fn(SPAN_LIT(bytes));                                                                        \
		ck_assert_str_eq(s_ ? s_ : "-", expected);                                                             \
		free(s_);                                                                                              \
	} while (0)

START_TEST(cells_are_short_and_survive_wrong_types)
	{
		CELL(cell_ms, "\x05", "5ms");
		CELL(cell_ms, "\xcd\x04\xb0", "1.2s");
		CELL(cell_ms, "\xce\x00\x01\xd4\xc0", "2m00s");
		CELL(cell_ms, "\xce\x00\x36\xee\x80", "1h00m");
		CELL(cell_ms, "\xa1x", "-");
		CELL(cell_us, "\xcd\x04\xb0", "1.20ms");
		CELL(cell_us, "\xc0", "-");
		CELL(cell_bytes, "\xcd\x08\x00", "2.0K");
		CELL(cell_kib, "\xcd\x08\x00", "2.0M");
		CELL(cell_call,
		     "\x82\xa6target\xa1"
		     "f\xa2ms\x07",
		     "f 7ms");
		CELL(cell_call, "\x90", "-");
		CELL(cell_init,
		     "\x92\x82\xa5phase\xa4"
		     "exec\xa2ms\x03\x81\xa5phase\xa7imports",
		     "exec 3, imports");
		CELL(cell_init, "\x91\x01", "");
		CELL(cell_id, "\x07", "7");
		CELL(cell_deaths, "\x84\xa3oom\x01\xa7" "crashed\x02\xa7recycle\x04\xa6reload\x05", "3");
		CELL(cell_deaths, "\x80", "0");
		CELL(cell_deaths, "\x81\xa3oom", "-");
		CELL(cell_id, "\x00", "-");
		CELL(cell_init,
		     "\x91\x82\xa5phase\xa4"
		     "exec\xa2ms\xcb\x40\x1c\x66\x66\x66\x66\x66\x66",
		     "exec 7");
		CELL(cell_first_line,
		     "\xa3"
		     "a\nb",
		     "a");
		ck_assert_uint_eq(cell_of(SPAN_LIT("\x81\xa1k\xc0"), "k").len, 0);
		ck_assert_uint_eq(cell_of(SPAN_LIT("\x81\xa1k\xc3"), "k").len, 1);
		ck_assert_uint_eq(cell_of(SPAN_LIT("\xc3"), "k").len, 0);
	}
END_TEST

START_TEST(times_need_a_unit)
	{
		const char *error = NULL;
		uint32_t ms;

		ck_assert(duration_parse("250ms", &ms, &error) && ms == 250);
		ck_assert(duration_parse("30s", &ms, &error) && ms == 30000);
		ck_assert(duration_parse("5m", &ms, &error) && ms == 300000);
		ck_assert(duration_parse("1h", &ms, &error) && ms == 3600000);
		ck_assert(!duration_parse("30", &ms, &error));
		ck_assert_ptr_nonnull(strstr(error, "unit is missing"));
		ck_assert(!duration_parse("0s", &ms, &error));
		ck_assert(!duration_parse("1.5s", &ms, &error));
		ck_assert(!duration_parse("-1s", &ms, &error));
		ck_assert(!duration_parse("", &ms, &error));
		ck_assert(!duration_parse("10k5", &ms, &error));
		ck_assert(!duration_parse("99999999999999999999999s", &ms, &error));
		ck_assert(!duration_parse("1000h", &ms, &error));
	}
END_TEST

int main(void)
{
	Suite *s = suite_create("ctl_json");
	TCase *t = tcase_create("json");
	SRunner *r = srunner_create(s);
	int failed;

	tcase_add_loop_test(t, value_survives_both_ways, 0, sizeof(both_ways) / sizeof(both_ways[0]));
	tcase_add_loop_test(t, json_is_read_as_the_standard_says, 0, sizeof(one_way) / sizeof(one_way[0]));
	tcase_add_loop_test(t, what_is_no_json_is_refused_with_its_place, 0, sizeof(refused) / sizeof(refused[0]));
	tcase_add_test(t, fault_8_depth_of_512_passes_and_513_is_refused);
	tcase_add_test(t, long_lists_get_the_headers_that_they_need);
	tcase_add_test(t, single_precision_is_printed_short);
	tcase_add_test(t, terminal_escapes_are_shown_and_not_sent);
	tcase_add_test(t, cells_are_short_and_survive_wrong_types);
	tcase_add_test(t, times_need_a_unit);
	suite_add_tcase(s, t);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? 1 : 0;
}

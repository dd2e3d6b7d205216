#include "tests/support/suite.h"

#include "daemon/base/cleanup.h"
#include "daemon/config_text.h"
#include "daemon/config_values.h"

static void check_number(enum option_kind kind, uint64_t v, const char *expected)
{
	const struct option_spec spec = { .name = "it", .kind = kind };
	_cleanup_free_ char *text = config_text(&spec, &v);

	ck_assert_str_eq(text, expected);
}

START_TEST(numbers_have_the_largest_unit_that_loses_nothing)
	{
		check_number(OPTION_DURATION, 0, "\"0\"");
		check_number(OPTION_DURATION, 1000000, "\"1ms\"");
		check_number(OPTION_DURATION, 1500 * 1000000ull, "\"1500ms\"");
		check_number(OPTION_DURATION, 90 * 1000000000ull, "\"90s\"");
		check_number(OPTION_DURATION, 3600 * 1000000000ull, "\"1h\"");
		check_number(OPTION_SIZE, 0, "\"0\"");
		check_number(OPTION_SIZE, 1023, "\"1023\"");
		check_number(OPTION_SIZE, 1025 * 1024, "\"1025K\"");
		check_number(OPTION_SIZE, 1ull << 40, "\"1024G\"");
		check_number(OPTION_NUMBER, UINT64_MAX, "18446744073709551615");
	}
END_TEST

START_TEST(what_is_written_is_read_as_the_same_number)
	{
		for (unsigned shift = 0; shift < 50; shift++) {
			uint64_t ms = (1ull << shift) / 1000000 * 1000000, bytes = (1ull << shift) - 1, n;
			const struct option_spec duration = { .kind = OPTION_DURATION }, size = { .kind = OPTION_SIZE };
			_cleanup_free_ char *time = config_text(&duration, &ms), *room = config_text(&size, &bytes);

			time[strlen(time) - 1] = room[strlen(room) - 1] = '\0'; /* quotes */
			ck_assert_int_eq(value_duration(time + 1, &n), VALUE_OK);
			ck_assert_uint_eq(n, ms);
			ck_assert_int_eq(value_size(room + 1, &n), VALUE_OK);
			ck_assert_uint_eq(n, bytes);
		}
	}
END_TEST

START_TEST(quotes_hide_what_would_end_them_or_act)
	{
		_cleanup_free_ char *plain = config_text_quote("a 'b' #{c}"), *bad = config_text_quote("\"\\\n\x1b[1m\x7f"),
				    *none = config_text_quote("");

		ck_assert_str_eq(plain, "\"a 'b' #{c}\"");
		ck_assert_str_eq(bad, "\"\\\"\\\\\\x0a\\x1b[1m\\x7f\"");
		ck_assert_str_eq(none, "\"\"");
	}
END_TEST

START_TEST(lists_have_braces)
	{
		const struct option_spec spec = { .kind = OPTION_LIST };
		char *two[] = { (char *)"a", (char *)"b\"", NULL }, *none[] = { NULL }, **list = two, **empty = none;
		_cleanup_free_ char *text = config_text(&spec, &list), *nothing = config_text(&spec, &empty);

		ck_assert_str_eq(text, "{\"a\", \"b\\\"\"}");
		ck_assert_str_eq(nothing, "{}");
	}
END_TEST

int main(void)
{
	return SUITE_RUN("config text", NULL, NULL, numbers_have_the_largest_unit_that_loses_nothing,
			 what_is_written_is_read_as_the_same_number, quotes_hide_what_would_end_them_or_act, lists_have_braces);
}

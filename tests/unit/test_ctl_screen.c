#include "client/ctl/screen.h"

#include <locale.h>
#include <string.h>

#include "tests/support/suite.h"

static size_t cut(const char *text, unsigned columns)
{
	return screen_cut(text, strlen(text), columns);
}

START_TEST(a_line_is_cut_by_columns_and_not_by_bytes)
	{
		ck_assert_ptr_nonnull(setlocale(LC_CTYPE, "C.UTF-8"));
		ck_assert_uint_eq(cut("abc", 5), 3);
		ck_assert_uint_eq(cut("abc", 2), 2);
		ck_assert_uint_eq(cut("abc", 0), 0);
		ck_assert_uint_eq(cut("\xc3\xa4\xc3\xb6", 1), 2);         /* a-umlaut, o-umlaut */
		ck_assert_uint_eq(cut("\xe4\xb8\xad\xe6\x96\x87", 3), 3); /* two that take two columns each */
		ck_assert_uint_eq(cut("e\xcc\x81x", 1), 3);               /* an accent that takes none */
	}
END_TEST

START_TEST(what_is_no_character_takes_a_column_a_byte)
	{
		ck_assert_ptr_nonnull(setlocale(LC_CTYPE, "C.UTF-8"));
		ck_assert_uint_eq(cut("\xff\xff\xff", 2), 2);
		ck_assert_uint_eq(cut("\xc3", 1), 1); /* one that is cut */
		ck_assert_ptr_nonnull(setlocale(LC_CTYPE, "C"));
		ck_assert_uint_le(cut("\xc3\xa4", 1), 2);
		ck_assert_uint_eq(cut("\x01z", 1), 1);
	}
END_TEST

START_TEST(only_the_bytes_that_were_given_are_looked_at)
	{
		ck_assert_ptr_nonnull(setlocale(LC_CTYPE, "C.UTF-8"));
		ck_assert_uint_eq(screen_cut("abcdef", 3, 80), 3);
		ck_assert_uint_eq(screen_cut("ab\xc3\xa4", 3, 80), 3);
		ck_assert_uint_eq(screen_cut("", 0, 80), 0);
	}
END_TEST

RUN_SUITE("ctl_screen", a_line_is_cut_by_columns_and_not_by_bytes, what_is_no_character_takes_a_column_a_byte,
	  only_the_bytes_that_were_given_are_looked_at)

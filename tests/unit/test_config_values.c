#include "tests/support/suite.h"

#include "daemon/config_values.h"

START_TEST(value_distance_counts_letters)
	{
		ck_assert_uint_eq(value_distance("a", "a"), 0);
		ck_assert_uint_eq(value_distance("", "abc"), 3);
		ck_assert_uint_eq(value_distance("max_client", "max_clients"), 1);
		ck_assert_uint_eq(value_distance("kitten", "sitting"), 3);
	}
END_TEST

START_TEST(value_of_the_largest_number_is_read)
	{
		uint64_t n;

		ck_assert_int_eq(value_count("18446744073709551615", &n), VALUE_OK);
		ck_assert_uint_eq(n, UINT64_MAX);
		ck_assert_int_eq(value_count("18446744073709551616", &n), VALUE_OVERFLOW);
		ck_assert_int_eq(value_size("17179869183G", &n), VALUE_OK);
		ck_assert_int_eq(value_size("17179869184G", &n), VALUE_OVERFLOW);
	}
END_TEST

int main(void)
{
	return SUITE_RUN("config values", NULL, NULL, value_distance_counts_letters,
			 value_of_the_largest_number_is_read);
}

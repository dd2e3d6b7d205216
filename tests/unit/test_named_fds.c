#include "daemon/io/named_fds.h"

#include <fcntl.h>
#include <unistd.h>

#include "tests/unit/io_support.h"
#include "tests/support/suite.h"

static int file(void)
{
	return open("/dev/null", O_RDONLY | O_CLOEXEC);
}

START_TEST(those_of_one_name_are_taken_one_after_the_other)
	{
		unsigned before = io_count_fds();
		struct named_fds s = { 0 };
		int a = file(), b = file(), c = file();

		named_fds_add(&s, "x", a);
		named_fds_add(&s, "y", b);
		named_fds_add(&s, "x", c);
		ck_assert_int_eq(named_fds_take(&s, "x"), a);
		ck_assert_int_eq(named_fds_take(&s, "x"), c);
		ck_assert_int_eq(named_fds_take(&s, "x"), -1);
		ck_assert_int_eq(named_fds_take(&s, ""), -1);
		ck_assert_int_eq(named_fds_take(&s, "xy"), -1);
		named_fds_deinit(&s);
		ck_assert_uint_eq(s.n, 0);
		ck_assert_int_lt(fcntl(b, F_GETFD), 0); /* what nobody took is closed, and no other */
		ck_assert_int_eq(close(a), 0);
		ck_assert_int_eq(close(c), 0);
		ck_assert_uint_eq(io_count_fds(), before);
	}
END_TEST

START_TEST(names_are_copied)
	{
		struct named_fds s = { 0 };
		char name[] = "x";
		int a = file();

		named_fds_add(&s, name, a);
		name[0] = 'y';
		ck_assert_int_eq(named_fds_take(&s, "y"), -1);
		ck_assert_int_eq(named_fds_take(&s, "x"), a);
		ck_assert_int_eq(close(a), 0);
		named_fds_deinit(&s);
		named_fds_deinit(&s); /* again: nothing to do */
		ck_assert_int_eq(named_fds_take(&s, "x"), -1);
	}
END_TEST

RUN_SUITE("named_fds", those_of_one_name_are_taken_one_after_the_other, names_are_copied)

#include "daemon/io/core.h"
#include "tests/support/suite.h"


static void ck_core(const char *pattern, const char *text)
{
	char out[200];

	ck_assert_str_eq(core_describe(pattern, "/srv", 812, out, sizeof(out)), text);
}

START_TEST(a_core_dump_is_where_the_pattern_says)
	{
		ck_core("core", "core in /srv");
		ck_core("core.%p", "core.812 in /srv");
		ck_core("/var/crash/%e.%P", "/var/crash/%e.812");
		ck_core("/cores/100%%-%p", "/cores/100%-812");
		ck_core("/cores/%", "/cores/%");
		ck_core("|/usr/lib/systemd/systemd-coredump %P %u %g", "piped to /usr/lib/systemd/systemd-coredump");
		ck_core("", "not known");
	}
END_TEST

START_TEST(a_long_pattern_is_cut)
	{
		char out[8];

		ck_assert_str_eq(core_describe("/var/crash/core", "/", 1, out, sizeof(out)), "/var/cr");
	}
END_TEST

START_TEST(the_pattern_of_this_machine_is_read)
	{
		char out[300];

		ck_assert_str_ne(core_where(1, out, sizeof(out)), "");
		ck_assert_ptr_null(strchr(out, '\n'));
	}
END_TEST

RUN_SUITE("core", a_core_dump_is_where_the_pattern_says,
	  a_long_pattern_is_cut,
	  the_pattern_of_this_machine_is_read)

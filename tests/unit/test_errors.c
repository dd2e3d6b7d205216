#include "proto/errors.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

START_TEST(every_code_is_found_by_its_name)
	{
		for (int code = 1; code < ERROR_N; code++) {
			const char *name = error_name(code);

			ck_assert_int_eq(error_find(name, strlen(name)), code);
			ck_assert_uint_gt(strlen(error_meaning(code)), 0);
		}
	}
END_TEST

START_TEST(what_names_no_code_finds_none)
	{
		ck_assert_int_eq(error_find("bad_fram", 8), ERROR_NONE);
		ck_assert_int_eq(error_find("bad_framex", 10), ERROR_NONE);
		ck_assert_int_eq(error_find("", 0), ERROR_NONE);
		ck_assert_int_eq(error_find("none", 4), ERROR_NONE);
		ck_assert_int_eq(error_find("bad_frame\0", 10), ERROR_NONE);
		ck_assert_str_eq(error_name(ERROR_NONE), "none");
	}
END_TEST

START_TEST(executed_is_never_only_where_the_call_surely_did_not_start)
	{
		ck_assert_int_eq(error_executed(ERROR_OVERLOADED), EXECUTED_NEVER);
		ck_assert_int_eq(error_executed(ERROR_QUEUE_TIMEOUT), EXECUTED_NEVER);
		ck_assert_int_eq(error_executed(ERROR_DEADLINE_EXCEEDED), EXECUTED_MAYBE);
		ck_assert_int_eq(error_executed(ERROR_CANCELLED), EXECUTED_MAYBE);
		ck_assert_int_eq(error_executed(ERROR_WORKER_DIED), EXECUTED_MAYBE);
		ck_assert_int_eq(error_executed(ERROR_WORKER_PROTOCOL), EXECUTED_MAYBE);
		ck_assert_int_eq(error_executed(ERROR_INTERNAL), EXECUTED_MAYBE);
		ck_assert_int_eq(error_executed(ERROR_APP_ERROR), EXECUTED_YES);
		ck_assert_int_eq(error_executed(ERROR_UNSERIALIZABLE), EXECUTED_YES);
		ck_assert_str_eq(executed_name(EXECUTED_NEVER), "never");
		ck_assert_str_eq(executed_name(EXECUTED_MAYBE), "maybe");
		ck_assert_str_eq(executed_name(EXECUTED_YES), "yes");
	}
END_TEST

START_TEST(a_code_outside_of_the_table_is_internal)
	{
		ck_assert_str_eq(error_name(ERROR_N), "internal");
		ck_assert_str_eq(error_name((enum error_code) - 1), "internal");
	}
END_TEST

int main(void)
{
	Suite *s = suite_create("errors");
	TCase *t = tcase_create("errors");

	suite_add_tcase(s, t);
	tcase_add_test(t, every_code_is_found_by_its_name);
	tcase_add_test(t, what_names_no_code_finds_none);
	tcase_add_test(t, executed_is_never_only_where_the_call_surely_did_not_start);
	tcase_add_test(t, a_code_outside_of_the_table_is_internal);

	SRunner *r = srunner_create(s);

	srunner_run_all(r, CK_ENV);

	int failed = srunner_ntests_failed(r);

	srunner_free(r);
	return failed ? 1 : 0;
}

#include "proto/methods.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>

START_TEST(every_method_is_found_by_its_name)
	{
		for (int m = 0; m < METHOD_N; m++) {
			const struct method_info *info = method_info(m);

			ck_assert_int_eq(method_find(span_str(info->name)), m);
			ck_assert_uint_gt(strlen(info->doc), 0);
			ck_assert_uint_lt(info->keys, PARAM_BIT(PARAM_N));
		}
	}
END_TEST

START_TEST(fault_14_an_unknown_name_finds_no_method)
	{
		ck_assert_int_eq(method_find(span_str("pin")), METHOD_N);
		ck_assert_int_eq(method_find(span_str("pingx")), METHOD_N);
		ck_assert_int_eq(method_find(span_str("Ping")), METHOD_N);
		ck_assert_int_eq(method_find(SPAN_LIT("ping\0")), METHOD_N);
		ck_assert_int_eq(method_find(SPAN_LIT("")), METHOD_N);
	}
END_TEST

START_TEST(fault_14_the_list_names_every_method)
	{
		char expected[1024] = "";

		for (int m = 0; m < METHOD_N; m++) {
			size_t at = strlen(expected);

			(void)snprintf(expected + at, sizeof(expected) - at, "%s%s", m > 0 ? " " : "",
				       method_info(m)->name);
		}
		ck_assert_str_eq(method_list(), expected);
	}
END_TEST

START_TEST(roles_include_those_before)
	{
		ck_assert(ROLE_NONE < ROLE_USE && ROLE_USE < ROLE_OBSERVE && ROLE_OBSERVE < ROLE_ADMIN);
		ck_assert_str_eq(role_name(ROLE_NONE), "none");
		ck_assert_str_eq(role_name(ROLE_USE), "use");
		ck_assert_str_eq(role_name(ROLE_OBSERVE), "observe");
		ck_assert_str_eq(role_name(ROLE_ADMIN), "admin");
		ck_assert_int_eq(method_info(METHOD_hello)->role, ROLE_NONE);
		ck_assert_int_eq(method_info(METHOD_execute)->role, ROLE_USE);
		ck_assert_int_eq(method_info(METHOD_logs)->role, ROLE_OBSERVE);
	}
END_TEST

int main(void)
{
	Suite *s = suite_create("methods");
	TCase *t = tcase_create("methods");

	suite_add_tcase(s, t);
	tcase_add_test(t, every_method_is_found_by_its_name);
	tcase_add_test(t, fault_14_an_unknown_name_finds_no_method);
	tcase_add_test(t, fault_14_the_list_names_every_method);
	tcase_add_test(t, roles_include_those_before);

	SRunner *r = srunner_create(s);

	srunner_run_all(r, CK_ENV);

	int failed = srunner_ntests_failed(r);

	srunner_free(r);
	return failed ? 1 : 0;
}

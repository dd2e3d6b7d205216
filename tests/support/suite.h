/* A program that is one suite of tests. */
#pragma once

#include <check.h>
#include <stddef.h>

static inline int suite_run(const char *name, SFun setup, SFun teardown, const TTest *const *tests, size_t n)
{
	Suite *s = suite_create(name);
	TCase *c = tcase_create(name);
	SRunner *r = srunner_create(s);
	int failed;

	tcase_set_timeout(c, 60);
	tcase_add_checked_fixture(c, setup, teardown);
	for (size_t i = 0; i < n; i++)
		tcase_add_test(c, tests[i]);
	suite_add_tcase(s, c);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? 1 : 0;
}

#define SUITE_RUN(name, setup, teardown, ...)                                                                          \
	({                                                                                                             \
		const TTest *const tests_[] = { __VA_ARGS__ };                                                         \
		suite_run(name, setup, teardown, tests_, sizeof(tests_) / sizeof(tests_[0]));                          \
	})

/* The whole main of a suite without fixture. */
#define RUN_SUITE(name, ...)                                                                                           \
	int main(void)                                                                                                 \
	{                                                                                                              \
		return SUITE_RUN(name, NULL, NULL, __VA_ARGS__);                                                       \
	}

#include <check.h>
#include <string.h>

#include "daemon/base/histogram.h"

START_TEST(histogram_without_samples_has_quantile_0)
{
	struct histogram h = { 0 };

	ck_assert_uint_eq(histogram_quantile(&h, 500), 0);
	ck_assert_uint_eq(histogram_quantile(&h, 1000), 0);
}
END_TEST

START_TEST(histogram_is_exact_below_16_us)
{
	struct histogram h = { 0 };

	for (uint64_t us = 0; us < 16; us++)
		histogram_add(&h, us);
	ck_assert_uint_eq(histogram_quantile(&h, 0), 0);
	ck_assert_uint_eq(histogram_quantile(&h, 500), 7);
	ck_assert_uint_eq(histogram_quantile(&h, 1000), 15);
}
END_TEST

/* For every magnitude, and at the edges of buckets: never below the sample, and at most a sixteenth above. */
START_TEST(histogram_quantile_errs_by_at_most_a_sixteenth_and_only_upwards)
{
	for (unsigned shift = 0; shift < 35; shift++) {
		for (int off = -1; off <= 1; off++) {
			struct histogram h = { 0 };
			uint64_t us = ((uint64_t)3 << shift) + (uint64_t)off, got;

			histogram_add(&h, us);
			histogram_add(&h, 60000000000);
			got = histogram_quantile(&h, 500);
			ck_assert_uint_ge(got, us);
			ck_assert_uint_le(got - us, us / 16);
		}
	}
}
END_TEST

START_TEST(histogram_quantile_is_never_over_the_largest_sample)
{
	struct histogram h = { 0 };

	histogram_add(&h, 1000001);
	ck_assert_uint_eq(histogram_quantile(&h, 500), 1000001);
	ck_assert_uint_eq(histogram_quantile(&h, 999), 1000001);
	ck_assert_uint_eq(h.sum_us, 1000001);
	ck_assert_uint_eq(h.max_us, 1000001);
}
END_TEST

START_TEST(histogram_takes_samples_of_any_size)
{
	struct histogram h = { 0 };

	histogram_add(&h, UINT64_MAX);
	histogram_add(&h, (uint64_t)1 << 40);
	ck_assert_uint_eq(h.count, 2);
	ck_assert_uint_eq(histogram_quantile(&h, 1000), UINT64_MAX);
}
END_TEST

START_TEST(histogram_of_1_to_1000_has_its_quantiles_where_they_belong)
{
	struct histogram h = { 0 };

	for (uint64_t us = 1; us <= 1000; us++)
		histogram_add(&h, us);
	ck_assert_uint_ge(histogram_quantile(&h, 500), 500);
	ck_assert_uint_le(histogram_quantile(&h, 500), 532);
	ck_assert_uint_ge(histogram_quantile(&h, 990), 990);
	ck_assert_uint_eq(histogram_quantile(&h, 1000), 1000);
	ck_assert_uint_eq(h.count, 1000);
	ck_assert_uint_eq(h.sum_us, 500500);
}
END_TEST

START_TEST(histogram_counts_exactly_what_is_at_most_a_bound)
{
	uint64_t before = 0;

	for (unsigned i = 0; i < HISTOGRAM_BOUNDS; i++) {
		uint64_t bound = histogram_bound(i);
		struct histogram h = { 0 };

		ck_assert_uint_gt(bound, before);
		histogram_add(&h, before + 1);
		histogram_add(&h, bound);
		histogram_add(&h, bound + 1);
		ck_assert_uint_eq(h.within[i], 2);
		if (i + 1 < HISTOGRAM_BOUNDS)
			ck_assert_uint_eq(h.within[i + 1], 1);
		before = bound;
	}
}
END_TEST

START_TEST(histogram_counts_what_is_over_all_bounds_nowhere_but_in_the_whole)
{
	struct histogram h = { 0 };

	histogram_add(&h, 0);
	histogram_add(&h, UINT64_MAX);
	ck_assert_uint_eq(h.within[0], 1);
	for (unsigned i = 1; i < HISTOGRAM_BOUNDS; i++)
		ck_assert_uint_eq(h.within[i], 0);
	ck_assert_uint_eq(h.count, 2);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("histogram");
	TCase *t = tcase_create("histogram");
	SRunner *r;
	int failed;

	tcase_add_test(t, histogram_without_samples_has_quantile_0);
	tcase_add_test(t, histogram_is_exact_below_16_us);
	tcase_add_test(t, histogram_quantile_errs_by_at_most_a_sixteenth_and_only_upwards);
	tcase_add_test(t, histogram_quantile_is_never_over_the_largest_sample);
	tcase_add_test(t, histogram_takes_samples_of_any_size);
	tcase_add_test(t, histogram_of_1_to_1000_has_its_quantiles_where_they_belong);
	tcase_add_test(t, histogram_counts_exactly_what_is_at_most_a_bound);
	tcase_add_test(t, histogram_counts_what_is_over_all_bounds_nowhere_but_in_the_whole);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? 1 : 0;
}

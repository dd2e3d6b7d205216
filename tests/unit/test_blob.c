#include <check.h>
#include <stdlib.h>

#include "daemon/base/blob.h"
#include "daemon/base/log.h"

START_TEST(blob_of_small_size_has_the_standard_capacity)
{
	struct blob_pool pool;
	struct blob *b;

	blob_pool_init(&pool);
	b = blob_new(&pool, 1);
	ck_assert_ptr_nonnull(b);
	ck_assert_uint_eq(b->size, BLOB_STANDARD);
	ck_assert_uint_eq(pool.n_live, 1);
	ck_assert_uint_eq(pool.live_bytes, BLOB_STANDARD);
	ck_assert_ptr_null(blob_unref(b));
	ck_assert_uint_eq(pool.n_live, 0);
	ck_assert_uint_eq(pool.live_bytes, 0);
	blob_pool_deinit(&pool);
}
END_TEST

START_TEST(blob_of_standard_size_is_used_again)
{
	struct blob_pool pool;
	struct blob *first, *second;

	blob_pool_init(&pool);
	first = blob_new(&pool, 100);
	blob_unref(first);
	ck_assert_uint_eq(pool.n_spare, 1);
	second = blob_new(&pool, BLOB_STANDARD);
	ck_assert_ptr_eq(first, second);
	ck_assert_uint_eq(pool.n_spare, 0);
	ck_assert_uint_eq(second->refs, 1);
	blob_unref(second);
	blob_pool_deinit(&pool);
}
END_TEST

START_TEST(blob_over_the_standard_size_is_not_kept)
{
	struct blob_pool pool;
	struct blob *b;

	blob_pool_init(&pool);
	b = blob_new(&pool, BLOB_STANDARD + 1);
	ck_assert_uint_eq(b->size, BLOB_STANDARD + 1);
	memset(b->data, 1, b->size);
	blob_unref(b);
	ck_assert_uint_eq(pool.n_spare, 0);
	blob_pool_deinit(&pool);
}
END_TEST

START_TEST(blob_copy_of_a_small_body_is_small)
{
	struct blob_pool pool;
	struct blob *b;

	blob_pool_init(&pool);
	b = blob_copy(&pool, SPAN_LIT("ten bytes."));
	ck_assert_uint_eq(b->size, 10);
	ck_assert_uint_eq(pool.live_bytes, 10);
	blob_unref(b);
	ck_assert_uint_eq(pool.n_spare, 0);
	blob_pool_deinit(&pool);
}
END_TEST

START_TEST(blob_of_large_size_is_kept_for_the_next_of_about_its_size)
{
	struct blob_pool pool;
	struct blob *first, *b;

	blob_pool_init(&pool);
	first = blob_new(&pool, 1 << 20);
	blob_unref(first);
	ck_assert_ptr_eq(pool.big, first);
	b = blob_new(&pool, 1 << 18); /* far too small: it would hold four times its size */
	ck_assert_ptr_ne(b, first);
	blob_unref(b);
	ck_assert_ptr_eq(pool.big, first);
	b = blob_new(&pool, (1 << 20) - 1000);
	ck_assert_ptr_eq(b, first);
	ck_assert_uint_eq(b->size, 1 << 20);
	ck_assert(pool.big_used);
	blob_unref(b);
	blob_pool_trim(&pool);
	ck_assert_ptr_null(pool.big);
	ck_assert_uint_eq(pool.live_bytes, 0);
	blob_pool_deinit(&pool);
}
END_TEST

START_TEST(blob_spares_are_bounded)
{
	struct blob_pool pool;
	struct blob *b[400];

	blob_pool_init(&pool);
	for (unsigned i = 0; i < 400; i++)
		b[i] = blob_new(&pool, 1);
	for (unsigned i = 0; i < 400; i++)
		blob_unref(b[i]);
	ck_assert_uint_gt(pool.n_spare, 0);
	ck_assert_uint_lt(pool.n_spare, 400);
	blob_pool_deinit(&pool);
}
END_TEST

START_TEST(blob_lives_until_the_last_reference)
{
	struct blob_pool pool;
	struct blob *b;

	blob_pool_init(&pool);
	b = blob_new(&pool, 1);
	ck_assert(!blob_is_shared(b));
	ck_assert_ptr_eq(blob_ref(b), b);
	ck_assert(blob_is_shared(b));
	blob_unref(b);
	ck_assert_uint_eq(pool.n_live, 1);
	blob_unref(b);
	ck_assert_uint_eq(pool.n_live, 0);
	blob_pool_deinit(&pool);
}
END_TEST

START_TEST(blob_of_a_size_that_cannot_be_had_is_null)
{
	struct blob_pool pool;

	blob_pool_init(&pool);
	ck_assert_ptr_null(blob_new(&pool, SIZE_MAX));
	ck_assert_ptr_null(blob_new(&pool, SIZE_MAX - sizeof(struct blob)));
	ck_assert_uint_eq(pool.n_live, 0);
	blob_pool_deinit(&pool);
}
END_TEST

START_TEST(blob_copy_holds_the_bytes)
{
	struct blob_pool pool;
	struct blob *b;

	blob_pool_init(&pool);
	b = blob_copy(&pool, SPAN_LIT("hello"));
	ck_assert_mem_eq(b->data, "hello", 5);
	blob_unref(b);
	b = blob_copy(&pool, (struct span){ 0 });
	ck_assert_ptr_nonnull(b);
	blob_unref(b);
	blob_pool_deinit(&pool);
}
END_TEST

START_TEST(blob_unref_of_null_is_null)
{
	ck_assert_ptr_null(blob_unref(NULL));
}
END_TEST

START_TEST(slice_holds_a_reference_until_cleared)
{
	struct blob_pool pool;
	struct slice s;
	struct blob *b;

	blob_pool_init(&pool);
	b = blob_copy(&pool, SPAN_LIT("hello"));
	s = slice_ref(b, (struct span){ .p = b->data + 1, .len = 4 });
	blob_unref(b);
	ck_assert_uint_eq(pool.n_live, 1);
	ck_assert_mem_eq(s.span.p, "ello", 4);
	slice_clear(&s);
	ck_assert_ptr_null(s.blob);
	ck_assert_uint_eq(s.span.len, 0);
	ck_assert_uint_eq(pool.n_live, 0);
	slice_clear(&s);
	blob_pool_deinit(&pool);
}
END_TEST

START_TEST(slice_of_static_bytes_needs_no_blob)
{
	_cleanup_slice_ struct slice s = slice_ref(NULL, SPAN_LIT("hello"));

	ck_assert_ptr_null(s.blob);
	ck_assert(span_equals(s.span, "hello"));
}
END_TEST

START_TEST(blob_held_at_the_end_is_a_logged_bug)
{
	struct blob_pool pool;
	struct blob *b;

	blob_pool_init(&pool);
	b = blob_new(&pool, 1);
	log_close(); /* the line itself is not wanted here */
	blob_pool_deinit(&pool);
	ck_assert_uint_eq(log_bugs(), 1);
	free(b);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("blob");
	TCase *t = tcase_create("blob");
	SRunner *r;
	int failed;

	tcase_add_test(t, blob_of_small_size_has_the_standard_capacity);
	tcase_add_test(t, blob_of_standard_size_is_used_again);
	tcase_add_test(t, blob_over_the_standard_size_is_not_kept);
	tcase_add_test(t, blob_spares_are_bounded);
	tcase_add_test(t, blob_copy_of_a_small_body_is_small);
	tcase_add_test(t, blob_of_large_size_is_kept_for_the_next_of_about_its_size);
	tcase_add_test(t, blob_lives_until_the_last_reference);
	tcase_add_test(t, blob_of_a_size_that_cannot_be_had_is_null);
	tcase_add_test(t, blob_copy_holds_the_bytes);
	tcase_add_test(t, blob_unref_of_null_is_null);
	tcase_add_test(t, slice_holds_a_reference_until_cleared);
	tcase_add_test(t, slice_of_static_bytes_needs_no_blob);
	tcase_add_test(t, blob_held_at_the_end_is_a_logged_bug);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? 1 : 0;
}

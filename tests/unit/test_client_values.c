/* The printf-like packer of libpypool, and its readers of single values. */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/pypool.h"

#define PACKS(bytes, ...)                                                                                              \
	do {                                                                                                           \
		void *data_ = NULL;                                                                                    \
		size_t size_ = 0;                                                                                      \
		ck_assert_int_eq(pypool_packf(&data_, &size_, __VA_ARGS__), 0);                                        \
		ck_assert_uint_eq(size_, sizeof(bytes) - 1);                                                           \
		ck_assert_mem_eq(data_, bytes, size_);                                                                 \
		free(data_);                                                                                           \
	} while (0)

START_TEST(packf_writes_what_its_letters_say)
	{
		PACKS("\x90", "");
		PACKS("\x93\xa2hi\x07\xcb\x3f\xf8\0\0\0\0\0\0", "sid", "hi", 7, 1.5);
		PACKS("\x92\xc0\xc0", "s n", NULL);
		PACKS("\x92\xc3\xc2", "b,b", 5, 0);
		PACKS("\x92\xa1"
		      "a\xc4\x02xy",
		      "ty", "abc", (size_t)1, "xyz", (size_t)2);
		PACKS("\x94\xff\x01\xd3\x80\0\0\0\0\0\0\0\xcf\xff\xff\xff\xff\xff\xff\xff\xff", "iuIU", -1, 1u,
		      INT64_MIN, UINT64_MAX);
		PACKS("\x92\x92\x01\x91\x02\x81\xa1k\x90", "[i[i]]{s[]}", 1, 2, "k");
		PACKS("\x91\x81\xa1k\x01", "{si}", "k", 1);
		PACKS("\x81\xa1k\x01", "**{si}", "k", 1);
		PACKS("\x91\x92\x01\x02", "m", "\x92\x01\x02", (size_t)3);
	}
END_TEST

START_TEST(packf_refuses_bad_formats)
	{
		static const char *const bad[] = { "x",  "[",   "]",     "{s}",    "{si", "[}", "{]",
						   "**", "**i", "**{}i", "**{}{}", "*{}", "%d" };
		char deep[200];
		size_t size;
		void *data;

		for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
			ck_assert_int_eq(pypool_packf(&data, &size, bad[i], 1, 1), -EINVAL);
		memset(deep, '[', 100);
		memset(deep + 100, ']', 100);
		deep[199] = '\0';
		ck_assert_int_eq(pypool_packf(&data, &size, deep), -EINVAL);
		ck_assert_int_eq(pypool_packf(&data, &size, "m", "\xc1", (size_t)1), -EINVAL);
		ck_assert_int_eq(pypool_packf(&data, &size, "m", "\x01\x01", (size_t)2), -EINVAL);
	}
END_TEST

#define VALUE(s) ((struct pypool_span){ s, sizeof(s) - 1 })

START_TEST(values_are_read_by_type)
	{
		struct pypool_span v;
		int64_t i = 0;
		double d = 0;

		ck_assert_int_eq(pypool_get_int(VALUE("\x05"), &i), 0);
		ck_assert_int_eq(i, 5);
		ck_assert_int_eq(pypool_get_int(VALUE("\xe0"), &i), 0);
		ck_assert_int_eq(i, -32);
		ck_assert_int_eq(pypool_get_int(VALUE("\xd1\xff\x00"), &i), 0);
		ck_assert_int_eq(i, -256);
		ck_assert_int_eq(pypool_get_int(VALUE("\xd3\x80\0\0\0\0\0\0\0"), &i), 0);
		ck_assert(i == INT64_MIN);
		ck_assert_int_eq(pypool_get_int(VALUE("\xcf\x80\0\0\0\0\0\0\0"), &i), -ERANGE);
		ck_assert_int_eq(pypool_get_int(VALUE("\xd1\xff"), &i), -EINVAL);
		ck_assert_int_eq(pypool_get_int(VALUE("\xa1x"), &i), -EINVAL);
		ck_assert_int_eq(pypool_get_int((struct pypool_span){ 0 }, &i), -EINVAL);
		ck_assert_int_eq(pypool_get_double(VALUE("\xcb\x3f\xf8\0\0\0\0\0\0"), &d), 0);
		ck_assert(d == 1.5);
		ck_assert_int_eq(pypool_get_double(VALUE("\xca\x3f\xc0\0\0"), &d), 0);
		ck_assert(d == 1.5);
		ck_assert_int_eq(pypool_get_double(VALUE("\xff"), &d), 0);
		ck_assert(d == -1.0);
		ck_assert_int_eq(pypool_get_double(VALUE("\xcb\x3f"), &d), -EINVAL);
		ck_assert_int_eq(pypool_get_item(VALUE("\x92\xa1x\x07"), 1, &v), 0);
		ck_assert_int_eq(pypool_get_int(v, &i), 0);
		ck_assert_int_eq(i, 7);
		ck_assert_int_eq(pypool_get_item(VALUE("\x92\xa1x\x07"), 2, &v), -ENOENT);
		ck_assert_int_eq(pypool_get_key(VALUE("\x82\x01\x02\xa1k\x03"), "k", &v), 0);
		ck_assert_int_eq(pypool_get_key(VALUE("\x90"), "k", &v), -EINVAL);
	}
END_TEST

START_TEST(version_of_the_header_is_the_librarys)
	{
		char text[32];

		snprintf(text, sizeof(text), "%d.%d.%d", PYPOOL_VERSION_MAJOR, PYPOOL_VERSION_MINOR,
			 PYPOOL_VERSION_PATCH);
		ck_assert_str_eq(pypool_version(), text);
	}
END_TEST

int main(void)
{
	Suite *s = suite_create("client_values");
	TCase *t = tcase_create("values");
	SRunner *r = srunner_create(s);
	int failed;

	tcase_add_test(t, packf_writes_what_its_letters_say);
	tcase_add_test(t, packf_refuses_bad_formats);
	tcase_add_test(t, values_are_read_by_type);
	tcase_add_test(t, version_of_the_header_is_the_librarys);
	suite_add_tcase(s, t);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? 1 : 0;
}

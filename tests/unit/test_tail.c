#include <check.h>
#include <stdio.h>
#include <stdlib.h>

#include "daemon/base/cleanup.h"
#include "daemon/io/tail.h"

static void add(struct tail *t, const char *text)
{
	tail_add(t, TAIL_STDERR, text, strlen(text), 7);
}

static bool line_is(const struct tail *t, uint64_t from, uint64_t number, const char *text)
{
	struct tail_line line;

	return tail_next(t, from, &line) && line.number == number && span_equals(line.text, text);
}

static bool has_none(const struct tail *t, uint64_t from)
{
	struct tail_line line;

	return !tail_next(t, from, &line);
}

START_TEST(tail_cuts_output_into_numbered_lines)
	{
		struct tail *t = tail_new(1 << 16, 100);
		struct tail_line line;

		ck_assert(has_none(t, 0));
		add(t, "one\n\nthree\n");
		ck_assert_uint_eq(tail_mark(t), 3);
		ck_assert(line_is(t, 0, 0, "one"));
		ck_assert(line_is(t, 1, 1, ""));
		ck_assert(line_is(t, 2, 2, "three"));
		ck_assert(has_none(t, 3));
		ck_assert(tail_next(t, 2, &line));
		ck_assert_uint_eq(line.wall_ms, 7);
		ck_assert_int_eq(line.source, TAIL_STDERR);
		tail_free(t);
	}
END_TEST

START_TEST(tail_joins_a_line_that_comes_in_pieces)
	{
		struct tail *t = tail_new(1 << 16, 100);

		add(t, "a");
		add(t, "b");
		add(t, "c\nd");
		ck_assert_uint_eq(tail_mark(t), 1);
		ck_assert(line_is(t, 0, 0, "abc"));
		tail_free(t);
	}
END_TEST

START_TEST(tail_shows_a_line_that_is_held_back_as_the_last)
	{
		struct tail *t = tail_new(1 << 16, 100);

		add(t, "done\nopen");
		ck_assert(line_is(t, 1, 1, "open"));
		ck_assert(has_none(t, 2));
		ck_assert_uint_eq(tail_mark(t), 1);
		tail_finish(t, 9);
		ck_assert_uint_eq(tail_mark(t), 2);
		ck_assert(line_is(t, 1, 1, "open"));
		tail_finish(t, 9);
		ck_assert_uint_eq(tail_mark(t), 2);
		tail_free(t);
	}
END_TEST

START_TEST(tail_keeps_stdout_and_stderr_apart)
	{
		struct tail *t = tail_new(1 << 16, 100);
		struct tail_line line;

		tail_add(t, TAIL_STDOUT, "out", 3, 1);
		tail_add(t, TAIL_STDERR, "err", 3, 2);
		ck_assert(line_is(t, 0, 0, "out"));
		ck_assert(line_is(t, 1, 1, "err"));
		tail_add(t, TAIL_STDERR, "or\n", 3, 3);
		ck_assert(line_is(t, 0, 0, "error"));
		ck_assert(tail_next(t, 0, &line));
		ck_assert_uint_eq(line.wall_ms, 2); /* of its first byte */
		ck_assert(line_is(t, 1, 1, "out"));
		tail_free(t);
	}
END_TEST

START_TEST(tail_cuts_a_line_that_is_too_long)
	{
		struct tail *t = tail_new(1 << 16, 100);
		char long_line[2 * TAIL_LINE_MAX + 12];
		struct tail_line line;

		memset(long_line, 'x', sizeof(long_line));
		long_line[sizeof(long_line) - 1] = '\n';
		tail_add(t, TAIL_STDOUT, long_line, sizeof(long_line), 1);
		ck_assert_uint_eq(tail_mark(t), 3);
		ck_assert(tail_next(t, 1, &line));
		ck_assert_uint_eq(line.text.len, TAIL_LINE_MAX);
		ck_assert(line_is(t, 2, 2, "xxxxxxxxxxx"));
		tail_free(t);
	}
END_TEST

START_TEST(tail_does_not_cut_a_line_of_the_greatest_length)
	{
		struct tail *t = tail_new(1 << 16, 100);
		char text[TAIL_LINE_MAX];

		memset(text, 'x', sizeof(text));
		tail_add(t, TAIL_STDOUT, text, sizeof(text), 1);
		tail_add(t, TAIL_STDOUT, "\n", 1, 1);
		ck_assert_uint_eq(tail_mark(t), 1);
		tail_free(t);
	}
END_TEST

START_TEST(tail_pushes_out_the_oldest_lines_by_number)
	{
		struct tail *t = tail_new(1 << 16, 3);

		add(t, "0\n1\n2\n3\n4\n");
		ck_assert_uint_eq(tail_mark(t), 5);
		ck_assert_uint_eq(tail_lost(t), 2);
		ck_assert(line_is(t, 0, 2, "2"));
		ck_assert(line_is(t, 4, 4, "4"));
		tail_free(t);
	}
END_TEST

/* Every line must come back whole from wherever it lies in the ring. */
START_TEST(tail_pushes_out_the_oldest_lines_by_bytes)
	{
		struct tail *t = tail_new(5000, 1000);
		char text[1000], want[1000];

		srand(1);
		for (unsigned i = 0; i < 1000; i++) {
			unsigned n = (unsigned)rand() % 100;
			uint64_t lost;
			struct tail_line line;
			size_t bytes = 0;
			bool whole = true;

			snprintf(text, sizeof(text), "%u:%.*s\n", i, (int)n,
				 "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
				 "aaaaaaaaaaaaa");
			add(t, text);
			lost = tail_lost(t);
			ck_assert_uint_eq(tail_mark(t), i + 1);
			for (uint64_t k = lost; tail_next(t, k, &line); k++) {
				snprintf(want, sizeof(want), "%u:", (unsigned)k);
				whole &= line.number == k && memcmp(line.text.p, want, strlen(want)) == 0;
				bytes += line.text.len + 1;
			}
			ck_assert(whole);
			ck_assert_uint_le(bytes, 5000);
			if (i > 200)
				ck_assert_uint_ge(bytes, 5000 - 2 * 110);
		}
		tail_free(t);
	}
END_TEST

START_TEST(tail_survives_any_pieces_of_any_bytes)
	{
		struct tail *t = tail_new(3000, 20);
		uint8_t data[5000];
		size_t longest = 0;

		srand(2);
		for (unsigned i = 0; i < 500; i++) {
			size_t n = (size_t)rand() % sizeof(data);
			struct tail_line line;

			for (size_t k = 0; k < n; k++)
				data[k] = rand() % 3000 ? (uint8_t)(11 + rand() % 245) : '\n';
			tail_add(t, (unsigned)rand() % TAIL_N_SOURCES, data, n, i);
			for (uint64_t k = 0; tail_next(t, k, &line); k = line.number + 1)
				longest = line.text.len > longest ? line.text.len : longest;
		}
		ck_assert_uint_eq(longest, TAIL_LINE_MAX);
		tail_finish(t, 0);
		tail_free(t);
	}
END_TEST

START_TEST(tail_smaller_than_a_line_still_keeps_one)
	{
		struct tail *t = tail_new(1, 0);

		add(t, "first\nsecond\n");
		ck_assert(line_is(t, 0, 1, "second"));
		tail_free(t);
		ck_assert_ptr_null(tail_free(NULL));
	}
END_TEST

int main(void)
{
	Suite *s = suite_create("tail");
	TCase *c = tcase_create("tail");
	SRunner *r = srunner_create(s);
	int failed;

	tcase_add_test(c, tail_cuts_output_into_numbered_lines);
	tcase_add_test(c, tail_joins_a_line_that_comes_in_pieces);
	tcase_add_test(c, tail_shows_a_line_that_is_held_back_as_the_last);
	tcase_add_test(c, tail_keeps_stdout_and_stderr_apart);
	tcase_add_test(c, tail_cuts_a_line_that_is_too_long);
	tcase_add_test(c, tail_does_not_cut_a_line_of_the_greatest_length);
	tcase_add_test(c, tail_pushes_out_the_oldest_lines_by_number);
	tcase_add_test(c, tail_pushes_out_the_oldest_lines_by_bytes);
	tcase_add_test(c, tail_survives_any_pieces_of_any_bytes);
	tcase_add_test(c, tail_smaller_than_a_line_still_keeps_one);
	suite_add_tcase(s, c);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? 1 : 0;
}

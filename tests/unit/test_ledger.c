#include "daemon/io/ledger.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/base/cleanup.h"
#include "daemon/io/ledger_half.h"
#include "tests/support/suite.h"
#include "tests/unit/ledger_support.h"

static char why[200];

static struct span text_of(const struct ledger *l, uint32_t kind, uint64_t id)
{
	struct span s = SPAN_LIT("");

	(void)ledger_find(l, kind, id, &s);
	return s;
}

static void ck_text(const struct ledger *l, uint32_t kind, uint64_t id, const char *text)
{
	ck_assert_msg(span_equals(text_of(l, kind, id), text), "%u %llu is not %s", kind, (unsigned long long)id, text);
}

/* All of a kind: their ids, in order. */
static void see_id(void *user, const struct ledger_entry *e)
{
	char *text = user;

	ck_assert_uint_eq((uintptr_t)e->bytes.p % 8, 0);
	(void)snprintf(text + strlen(text), 12, " %d", (int)e->id);
}

static void ck_ids(const struct ledger *l, uint32_t kind, const char *ids)
{
	char text[200] = "";

	ledger_each(l, kind, see_id, text);
	ck_assert_str_eq(text, ids);
}

static void put_few(struct ledger *l)
{
	ck_assert(ledger_put(l, 1, 7, SPAN_LIT("seven")));
	ck_assert(ledger_put(l, 1, 5, SPAN_LIT("five")));
	ck_assert(ledger_put(l, 2, 7, SPAN_LIT("of another kind")));
	ck_assert(ledger_put(l, 1, 9, SPAN_LIT("")));
	ck_assert(ledger_put(l, UINT32_MAX, UINT64_MAX, SPAN_LIT("the last")));
	ck_assert(ledger_put(l, 1, 6, SPAN_LIT("removed")));
	ledger_remove(l, 1, 6);
	ck_assert(ledger_put(l, 1, 7, SPAN_LIT("seven, again")));
}

static void ck_few(const struct ledger *l)
{
	struct span s;

	ck_text(l, 1, 7, "seven, again");
	ck_text(l, 1, 5, "five");
	ck_text(l, 2, 7, "of another kind");
	ck_text(l, UINT32_MAX, UINT64_MAX, "the last");
	ck_assert(ledger_find(l, 1, 9, &s) && s.len == 0);
	ck_assert(!ledger_find(l, 1, 6, &s));
	ck_assert(!ledger_find(l, 0, 7, &s));
	ck_ids(l, 1, " 5 9 7");
	ck_ids(l, 2, " 7");
	ck_ids(l, 3, "");
}

START_TEST(records_are_put_replaced_removed_and_found)
	{
		struct ledger *l = ledger_new();

		put_few(l);
		ck_few(l);
		ledger_remove(l, 1, 6); /* there is none any more */
		ledger_remove(l, 1, 5);
		ledger_remove(l, 1, 7);
		ledger_remove(l, 1, 9);
		ck_ids(l, 1, "");
		ck_assert(ledger_put(l, 1, 5, SPAN_LIT("back")));
		ck_ids(l, 1, " 5");
		ck_text(l, 1, 5, "back");
		ck_assert(!ledger_is_void(l));
		ck_assert_ptr_null(ledger_free(l));
		ck_assert_ptr_null(ledger_free(NULL));
	}
END_TEST

START_TEST(who_takes_it_has_all_of_it_and_goes_on_in_the_same_memfds)
	{
		struct ledger *l = ledger_new(), *taken, *again;
		int a = fcntl(ledger_fd(l, 0), F_DUPFD, 3), b = fcntl(ledger_fd(l, 1), F_DUPFD, 3);

		put_few(l);
		ledger_free(l);
		taken = ledger_take(b, a, why, sizeof(why)); /* whoever kept them may have lost their order */
		ck_assert_msg(taken != NULL, "%s", why);
		ck_assert_int_eq(ledger_fd(taken, 0), a);
		ck_assert_int_eq(ledger_fd(taken, 1), b);
		ck_assert_int_eq(fcntl(a, F_GETFD) & fcntl(b, F_GETFD), FD_CLOEXEC);
		ck_few(taken);
		ck_assert(ledger_put(taken, 1, 5, SPAN_LIT("five, by another")));
		again = ledger_retake(taken, why, sizeof(why));
		ck_text(again, 1, 5, "five, by another");
		ck_ids(again, 1, " 9 7 5");
		ledger_free(again);
		ledger_free(taken);
		ck_assert_int_eq(fcntl(a, F_GETFD), -1);
		ck_assert_int_eq(fcntl(b, F_GETFD), -1);
	}
END_TEST

START_TEST(an_empty_one_is_taken)
	{
		struct ledger *l = ledger_new(), *taken = ledger_retake(l, why, sizeof(why));

		ck_assert_msg(taken != NULL, "%s", why);
		ck_ids(taken, 1, "");
		ledger_free(taken);
		ledger_free(l);
	}
END_TEST

/* A pattern that tells the place, so that what is moved wrongly is seen. */
static void fill(uint8_t *bytes, size_t n, uint64_t seed)
{
	for (size_t i = 0; i < n; i++)
		bytes[i] = (uint8_t)mix(seed + i / 3);
}

START_TEST(large_records_are_kept_and_the_memory_of_what_is_gone_is_given_back)
	{
		enum { LARGE = 3000000, N = 4 };
		uint8_t *bytes = malloc(LARGE);
		struct ledger *l = ledger_new(), *taken;
		size_t most;

		for (uint64_t id = 0; id < N; id++) {
			fill(bytes, LARGE - id, id);
			ck_assert(ledger_put(l, 1, id, (struct span){ .p = bytes, .len = LARGE - id }));
		}
		most = ledger_bytes(l);
		ck_assert_uint_ge(most, N * LARGE);
		ck_assert_uint_le(most, 2 * N * LARGE);
		taken = ledger_retake(l, why, sizeof(why));
		for (uint64_t id = 0; id < N; id++) {
			struct span s = text_of(taken, 1, id);

			fill(bytes, LARGE - id, id);
			ck_assert_uint_eq(s.len, LARGE - id);
			ck_assert_mem_eq(s.p, bytes, s.len);
		}
		ledger_free(l);
		for (uint64_t id = 0; id < N; id++)
			ledger_remove(taken, 1, id);
		for (unsigned i = 0; i < 20000; i++)
			ck_assert(ledger_put(taken, 2, i % 100, (struct span){ .p = bytes, .len = 200 }));
		ck_assert_uint_le(ledger_bytes(taken), 2 * 1024 * 1024);
		ledger_free(taken);
		free(bytes);
	}
END_TEST

START_TEST(what_is_replaced_for_ever_takes_no_more_memory)
	{
		static const uint8_t bytes[200];
		struct ledger *l = ledger_new();
		size_t most = 0;

		for (unsigned i = 0; i < 300000; i++) {
			ck_assert(ledger_put(l, 1, i % 100, (struct span){ .p = bytes, .len = sizeof(bytes) }));
			if (i % 100 == 0 && ledger_bytes(l) > most)
				most = ledger_bytes(l);
		}
		ck_assert_uint_le(most, 400000);
		ledger_free(l);
	}
END_TEST

/* --- its end --- */

static void ck_void(struct ledger *l, const char *reason)
{
	struct span s;

	ck_assert(ledger_is_void(l));
	ck_assert(!ledger_find(l, 1, 7, &s));
	ck_ids(l, 1, "");
	ck_assert(!ledger_put(l, 1, 7, SPAN_LIT("more")));
	ledger_remove(l, 1, 7);
	ck_assert_ptr_null(ledger_retake(l, why, sizeof(why)));
	ck_assert_str_eq(why, reason);
}

START_TEST(a_wiped_one_holds_nothing_and_is_refused)
	{
		struct ledger *l = ledger_new();
		uint8_t page[4096];

		put_few(l);
		ledger_wipe(l);
		ledger_wipe(l);
		ck_void(l, "it was wiped in an orderly end");
		ck_assert_int_eq(pread(ledger_fd(l, 0), page, sizeof(page), 4096), sizeof(page));
		ck_assert_ptr_null(memmem(page, sizeof(page), "seven", 5));
		ck_assert_uint_le(ledger_bytes(l), 2 * 65536);
		ledger_free(l);
	}
END_TEST

static void limit_file_size(rlim_t bytes)
{
	(void)signal(SIGXFSZ, SIG_IGN);
	ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &(struct rlimit){ bytes, RLIM_INFINITY }), 0);
}

START_TEST(one_that_finds_no_memory_is_void_and_is_refused)
	{
		static const uint8_t bytes[1000];
		struct ledger *l = ledger_new();
		uint64_t n = 0;

		put_few(l);
		limit_file_size(1000000);
		while (ledger_put(l, 3, n, (struct span){ .p = bytes, .len = sizeof(bytes) }))
			n++;
		ck_assert_uint_ge(n, 500);
		ck_assert_uint_le(n, 1000);
		ck_assert_uint_le(ledger_bytes(l), 2 * 65536);
		ck_void(l, "it was given up for want of memory");
		ledger_wipe(l); /* says the same */
		ck_void(l, "it was given up for want of memory");
		ledger_free(l);
	}
END_TEST

START_TEST(no_memory_for_the_other_half_or_a_removal_voids_it_as_well)
	{
		static const uint8_t bytes[20000];
		struct ledger *l = ledger_new(), *full = ledger_new();

		for (unsigned i = 0; i < 4; i++)
			ck_assert(ledger_put(l, 1, i, (struct span){ .p = bytes, .len = sizeof(bytes) }));
		for (unsigned i = 0; i < 1920; i++) /* of 32 bytes each: with the header they are 64 KiB */
			ck_assert(ledger_put(full, 1, i, SPAN_LIT("12345678")));
		limit_file_size(65536);
		for (unsigned i = 0; i < 5; i++) /* is reserved already */
			ck_assert(ledger_put(l, 1, i % 4, (struct span){ .p = bytes, .len = sizeof(bytes) }));
		ck_assert(!ledger_put(l, 1, 5, SPAN_LIT("there is room, but now the live ones move")));
		ck_void(l, "it was given up for want of memory");
		ledger_remove(full, 2, 0);
		ck_assert(!ledger_is_void(full));
		ledger_remove(full, 1, 0);
		ck_void(full, "it was given up for want of memory");
		ledger_free(full);
		ledger_free(l);
	}
END_TEST

/* 8 MB move with some hundred puts; many of them are of records that have moved already, or remove some. */
START_TEST(what_changes_while_records_move_is_as_it_was_put)
	{
		enum { N = 1000, LARGE = 8000 };
		uint8_t *bytes = malloc(LARGE);
		struct ledger *l = ledger_new(), *taken;

		for (unsigned i = 0; i < 2 * N + 2; i++) {
			fill(bytes, LARGE, i % N);
			ck_assert(ledger_put(l, 1, i % N, (struct span){ .p = bytes, .len = LARGE }));
		}
		for (uint64_t id = 0; id < N; id += 10) {
			ledger_remove(l, 1, id);
			ck_assert(ledger_put(l, 1, id + 1, SPAN_LIT("small")));
			if (id % 20 == 0)
				ck_assert(ledger_put(l, 1, id, SPAN_LIT("back")));
		}
		for (unsigned i = 0; i < 2; i++) { /* before and after a take */
			taken = ledger_retake(l, why, sizeof(why));
			ck_assert_msg(taken != NULL, "%s", why);
			ledger_free(l);
			l = taken;
			for (uint64_t id = 0; id < N; id++) {
				struct span s = text_of(l, 1, id);

				fill(bytes, LARGE, id);
				if (id % 10 < 2)
					ck_assert(span_equals(s, id % 10 ? "small" : id % 20 ? "" : "back"));
				else
					ck_assert(s.len == LARGE && memcmp(s.p, bytes, LARGE) == 0);
			}
			for (unsigned n = 0; n < 100000; n++)
				ck_assert(ledger_put(l, 2, n % 5, (struct span){ .p = bytes, .len = 250 }));
		}
		ledger_free(l);
		free(bytes);
	}
END_TEST

START_TEST(a_record_of_more_than_4_gib_voids_it)
	{
		struct ledger *l = ledger_new();

		put_few(l);
		ck_assert(
			!ledger_put(l, 1, 1, (struct span){ .p = (const uint8_t *)"", .len = LEDGER_RECORD_MOST + 1 }));
		ck_void(l, "it was given up for want of memory");
		ledger_free(l);
	}
END_TEST

START_TEST(where_there_is_no_memory_or_descriptor_none_is_made)
	{
		struct rlimit was;
		int next = dup(0);

		close(next);
		ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &was), 0);
		ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &(struct rlimit){ (rlim_t)next + 1, was.rlim_max }), 0);
		ck_assert_ptr_null(ledger_new());
		ck_assert_int_eq(errno, EMFILE);
		ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &was), 0);
		limit_file_size(65535);
		ck_assert_ptr_null(ledger_new());
		ck_assert_int_eq(errno, EFBIG);
		ck_assert_int_eq(dup(0), next);
	}
END_TEST

START_TEST(its_memfds_can_be_neither_cut_nor_sealed_further_by_whoever_holds_them)
	{
		struct ledger *l = ledger_new();

		put_few(l);
		for (unsigned i = 0; i < 2; i++) {
			ck_assert_int_eq(ftruncate(ledger_fd(l, i), 0), -1);
			ck_assert_int_eq(fcntl(ledger_fd(l, i), F_ADD_SEALS, F_SEAL_GROW), -1);
			ck_assert_int_eq(fcntl(ledger_fd(l, i), F_GETFD), FD_CLOEXEC);
		}
		ck_few(l);
		ledger_free(l);
	}
END_TEST

RUN_SUITE("ledger", records_are_put_replaced_removed_and_found,
	  who_takes_it_has_all_of_it_and_goes_on_in_the_same_memfds, an_empty_one_is_taken,
	  large_records_are_kept_and_the_memory_of_what_is_gone_is_given_back,
	  what_is_replaced_for_ever_takes_no_more_memory, a_wiped_one_holds_nothing_and_is_refused,
	  one_that_finds_no_memory_is_void_and_is_refused, no_memory_for_the_other_half_or_a_removal_voids_it_as_well,
	  what_changes_while_records_move_is_as_it_was_put, a_record_of_more_than_4_gib_voids_it,
	  where_there_is_no_memory_or_descriptor_none_is_made,
	  its_memfds_can_be_neither_cut_nor_sealed_further_by_whoever_holds_them)

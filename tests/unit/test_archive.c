#include "daemon/io/archive.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/base/cleanup.h"
#include "tests/support/suite.h"

#define NOW UINT64_C(1700000000000)

/* A directory of a test's own; `dir` in it is the archive. */
static char base[64], dir[80];

static void base_begin(void)
{
	strcpy(base, "/tmp/test_archive.XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(base));
	(void)snprintf(dir, sizeof(dir), "%s/dir", base);
}

static void base_end(void)
{
	char command[100];

	(void)snprintf(command, sizeof(command), "rm -rf %s", base);
	ck_assert_int_eq(system(command), 0);
}

static int keep(struct archive *a, uint64_t ms, uint64_t number, const char *text)
{
	return archive_keep(a, ms, number, &(struct span){ .p = (const uint8_t *)text, .len = strlen(text) }, 1);
}

static bool exists(const char *name)
{
	char path[200];
	struct stat st;

	(void)snprintf(path, sizeof(path), "%s/%s", dir, name);
	return lstat(path, &st) == 0;
}

static void put_file(const char *name, const char *text)
{
	char path[200];
	FILE *f;

	(void)snprintf(path, sizeof(path), "%s/%s", dir, name);
	f = fopen(path, "w");
	ck_assert_ptr_nonnull(f);
	(void)fputs(text, f);
	(void)fclose(f);
}

static unsigned count(void)
{
	DIR *d = opendir(dir);
	struct dirent *e;
	unsigned n = 0;

	ck_assert_ptr_nonnull(d);
	while ((e = readdir(d)))
		n += e->d_name[0] != '.';
	(void)closedir(d);
	return n;
}

START_TEST(a_record_is_its_parts_in_a_file_of_0600_in_a_directory_of_0700)
	{
		struct span parts[] = { SPAN_LIT("one "), { 0 }, SPAN_LIT("two") };
		struct archive a;
		char path[200], text[16] = "";
		struct stat st;
		FILE *f;

		archive_init(&a, dir, "p", 10, 1000);
		umask(0);
		ck_assert_int_eq(archive_keep(&a, NOW, 17, parts, 3), 0);
		ck_assert_int_eq(stat(dir, &st), 0);
		ck_assert_int_eq(st.st_mode & 07777, 0700);
		(void)snprintf(path, sizeof(path), "%s/p-1700000000000-17.call", dir);
		ck_assert_int_eq(stat(path, &st), 0);
		ck_assert_int_eq(st.st_mode & 07777, 0600);
		f = fopen(path, "r");
		ck_assert_ptr_nonnull(fgets(text, sizeof(text), f));
		(void)fclose(f);
		ck_assert_str_eq(text, "one two");
		archive_deinit(&a);
	}
END_TEST

START_TEST(more_than_the_most_records_or_bytes_are_never_kept_and_the_eldest_leave)
	{
		struct archive a;

		archive_init(&a, dir, "p", 3, 100);
		for (unsigned i = 0; i < 5; i++)
			ck_assert_int_eq(keep(&a, NOW + i, i, "ten bytes."), 0);
		ck_assert_uint_eq(count(), 3);
		ck_assert(!exists("p-1700000000001-1.call"));
		ck_assert(exists("p-1700000000002-2.call"));
		a.max_bytes = 25;
		ck_assert_int_eq(keep(&a, NOW + 9, 9, "ten bytes."), 0);
		ck_assert_uint_eq(count(), 2);
		ck_assert(exists("p-1700000000004-4.call"));
		ck_assert(exists("p-1700000000009-9.call"));
		ck_assert_int_eq(keep(&a, NOW + 10, 10, "more bytes than may be kept at all"), -EFBIG);
		ck_assert_uint_eq(count(), 2);
		archive_deinit(&a);
	}
END_TEST

START_TEST(records_of_before_are_counted_and_files_of_others_are_never_touched)
	{
		static const char *const others[] = { "notes.txt",
						      "p-1700000000000-1.call.bak",
						      "q-1700000000000-1.call",
						      "p-170000000000-1.call",
						      "p-1700000000000-.call",
						      "p-q-1700000000000-1.call",
						      "p-1700000000000-x1.call" };
		struct archive a;

		ck_assert_int_eq(mkdir(dir, 0700), 0);
		for (unsigned i = 0; i < ARRAY_SIZE(others); i++)
			put_file(others[i], "x");
		put_file("p-1700000000002-1.call", "old");
		put_file("p-1700000000001-9.call", "older");
		archive_init(&a, dir, "p", 2, 1000);
		ck_assert_int_eq(archive_open(&a), 0);
		ck_assert_uint_eq(a.n_records, 2);
		ck_assert_uint_eq(a.bytes, 8);
		ck_assert_int_eq(keep(&a, NOW + 5, 3, "new"), 0);
		ck_assert(!exists("p-1700000000001-9.call"));
		ck_assert(exists("p-1700000000002-1.call"));
		a.max_records = 1;
		ck_assert_int_eq(keep(&a, NOW + 6, 4, "newer"), 0);
		ck_assert(!exists("p-1700000000002-1.call"));
		for (unsigned i = 0; i < ARRAY_SIZE(others); i++)
			ck_assert_msg(exists(others[i]), "%s was deleted", others[i]);
		archive_deinit(&a);
	}
END_TEST

START_TEST(a_link_or_file_in_the_place_of_a_record_is_not_written_to)
	{
		char victim[100], link[200];
		struct archive a;
		struct stat st;

		ck_assert_int_eq(mkdir(dir, 0700), 0);
		(void)snprintf(victim, sizeof(victim), "%s/victim", base);
		(void)snprintf(link, sizeof(link), "%s/p-1700000000000-1.call", dir);
		ck_assert_int_eq(symlink(victim, link), 0);
		put_file("p-1700000000000-2.call", "kept");
		archive_init(&a, dir, "p", 10, 1000);
		ck_assert_int_eq(keep(&a, NOW, 1, "attack"), -EEXIST);
		ck_assert_int_eq(stat(victim, &st), -1);
		ck_assert_int_eq(keep(&a, NOW, 2, "attack"), -EEXIST);
		ck_assert(exists("p-1700000000000-2.call"));
		ck_assert_int_eq(keep(&a, NOW, 3, "fine"), 0);
		archive_deinit(&a);
	}
END_TEST

START_TEST(a_directory_that_is_a_link_or_open_to_others_or_not_ours_is_refused)
	{
		char target[100];
		struct archive a;

		(void)snprintf(target, sizeof(target), "%s/target", base);
		ck_assert_int_eq(mkdir(target, 0700), 0);
		ck_assert_int_eq(symlink(target, dir), 0);
		archive_init(&a, dir, "p", 10, 1000);
		ck_assert_int_lt(archive_open(&a), 0);
		ck_assert_int_lt(keep(&a, NOW, 1, "x"), 0);
		ck_assert_int_eq(rmdir(target), 0); /* still empty */
		ck_assert_int_eq(unlink(dir), 0);
		ck_assert_int_eq(mkdir(dir, 0700), 0);
		ck_assert_int_eq(chmod(dir, 0770), 0);
		ck_assert_int_eq(archive_open(&a), -EPERM);
		ck_assert_int_eq(chmod(dir, 0702), 0);
		ck_assert_int_eq(keep(&a, NOW, 1, "x"), -EPERM);
		ck_assert_int_eq(chmod(dir, 0755), 0);
		if (geteuid() == 0) {
			ck_assert_int_eq(chown(dir, 65534, 65534), 0);
			ck_assert_int_eq(archive_open(&a), -EPERM);
			ck_assert_int_eq(chown(dir, 0, 0), 0);
		}
		ck_assert_int_eq(archive_open(&a), 0);
		archive_deinit(&a);
	}
END_TEST

START_TEST(a_directory_that_was_removed_is_made_anew)
	{
		char command[100];
		struct archive a;

		archive_init(&a, dir, "p", 2, 1000);
		ck_assert_int_eq(keep(&a, NOW, 1, "x"), 0);
		(void)snprintf(command, sizeof(command), "rm -r %s", dir);
		ck_assert_int_eq(system(command), 0);
		ck_assert_int_eq(keep(&a, NOW, 2, "x"), -ENOENT);
		ck_assert_int_eq(keep(&a, NOW, 3, "x"), 0);
		ck_assert_uint_eq(count(), 1);
		ck_assert_uint_eq(a.n_records, 1);
		archive_deinit(&a);
	}
END_TEST

START_TEST(a_file_in_the_place_of_the_directory_is_an_error_and_harmless)
	{
		struct archive a;
		FILE *f = fopen(dir, "w");

		(void)fclose(f);
		archive_init(&a, dir, "p", 2, 1000);
		for (unsigned i = 0; i < 3; i++)
			ck_assert_int_eq(keep(&a, NOW, i, "x"), -ENOTDIR);
		ck_assert_uint_eq(a.n_failures, 2); /* the first was logged, the others wait for a minute to pass */
		archive_deinit(&a);
	}
END_TEST

START_TEST(fault_full_disk_leaves_no_half_record_and_room_is_used_again)
	{
		static char text[40000];
		struct archive a;

		ck_assert_int_eq(mkdir(dir, 0700), 0);
		if (mount("tmpfs", dir, "tmpfs", 0, "size=64k,mode=0700") < 0)
			return; /* not root, or not allowed to */
		memset(text, 'x', sizeof(text) - 1);
		archive_init(&a, dir, "p", 10, 1000000);
		ck_assert_int_eq(keep(&a, NOW, 1, text), 0);
		ck_assert_int_eq(keep(&a, NOW, 2, text), -ENOSPC);
		ck_assert_uint_eq(count(), 1);
		ck_assert_uint_eq(a.n_records, 1);
		ck_assert_int_eq(keep(&a, NOW, 3, "small"), 0);
		archive_deinit(&a);
		ck_assert_int_eq(umount(dir), 0);
	}
END_TEST

int main(void)
{
	return SUITE_RUN("archive", base_begin, base_end,
			 a_record_is_its_parts_in_a_file_of_0600_in_a_directory_of_0700,
			 more_than_the_most_records_or_bytes_are_never_kept_and_the_eldest_leave,
			 records_of_before_are_counted_and_files_of_others_are_never_touched,
			 a_link_or_file_in_the_place_of_a_record_is_not_written_to,
			 a_directory_that_is_a_link_or_open_to_others_or_not_ours_is_refused,
			 a_directory_that_was_removed_is_made_anew,
			 a_file_in_the_place_of_the_directory_is_an_error_and_harmless,
			 fault_full_disk_leaves_no_half_record_and_room_is_used_again);
}

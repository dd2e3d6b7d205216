#include "tests/support/suite.h"

#include <stdio.h>
#include <sys/stat.h>

#include "client/ctl/doctor_cgroup.h"
#include "daemon/base/cleanup.h"
#include "daemon/base/mem.h"

static char dir[] = "/tmp/pypool-cgroup-XXXXXX";

static void write_file(const char *name, const char *text)
{
	_cleanup_free_ char *path = mem_printf("%s/%s", dir, name);
	FILE *f;

	for (char *slash = path + strlen(dir) + 1; (slash = strchr(slash, '/')); slash++) {
		*slash = '\0';
		(void)mkdir(path, 0700); /* perhaps it is there */
		*slash = '/';
	}
	f = fopen(path, "w");
	ck_assert_ptr_nonnull(f);
	ck_assert_int_ge(fputs(text, f), 0);
	ck_assert_int_eq(fclose(f), 0);
}

static void setup(void)
{
	ck_assert_ptr_nonnull(mkdtemp(dir));
}

static void teardown(void)
{
	_cleanup_free_ char *command = mem_printf("rm -r %s", dir);

	ck_assert_int_eq(system(command), 0);
	memcpy(dir + strlen(dir) - 6, "XXXXXX", 6);
}

static void check_group(const char *groups, const char *expected)
{
	_cleanup_free_ char *path = mem_printf("%s/groups", dir), *group = NULL;

	write_file("groups", groups);
	group = doctor_cgroup(path);
	ck_assert_str_eq(group, expected);
}

START_TEST(the_group_is_that_of_systemds_own_hierarchy)
	{
		_cleanup_free_ char *none = mem_printf("%s/none", dir);

		check_group("0::/system.slice/a.service\n", "/system.slice/a.service");
		check_group("9:name=systemd:/\n4:memory:/m\n0::/system.slice/a.service\n", "/system.slice/a.service");
		check_group("9:name=systemd:/system.slice/b.service\n0::/\n", "/system.slice/b.service");
		ck_assert_ptr_null(doctor_cgroup(none));
	}
END_TEST

static uint64_t memory(const char *groups)
{
	_cleanup_free_ char *path = mem_printf("%s/groups", dir);
	uint64_t bytes;

	write_file("groups", groups);
	return doctor_cgroup_memory(path, dir, &bytes) ? bytes : 0;
}

START_TEST(the_lowest_limit_on_the_way_up_counts)
	{
		write_file("a/b/c/memory.max", "max\n");
		write_file("a/b/memory.max", "3000\n");
		write_file("a/memory.max", "5000\n");
		ck_assert_uint_eq(memory("0::/a/b/c\n"), 3000);
		ck_assert_uint_eq(memory("0::/a\n"), 5000);
		ck_assert_uint_eq(memory("0::/\n"), 0);
	}
END_TEST

START_TEST(version_1_is_read_too_and_its_word_for_none)
	{
		write_file("memory/x/memory.limit_in_bytes", "7000\n");
		write_file("memory/y/memory.limit_in_bytes", "9223372036854771712\n");
		ck_assert_uint_eq(memory("4:memory:/x\n0::/\n"), 7000);
		ck_assert_uint_eq(memory("4:memory:/y\n0::/\n"), 0);
		ck_assert_uint_eq(memory("4:cpu:/x\n"), 0);
	}
END_TEST

int main(void)
{
	return SUITE_RUN("doctor cgroup", setup, teardown, the_group_is_that_of_systemds_own_hierarchy,
			 the_lowest_limit_on_the_way_up_counts, version_1_is_read_too_and_its_word_for_none);
}

#include "daemon/io/oom.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/base/cleanup.h"
#include "daemon/base/mem.h"
#include "tests/support/suite.h"

static char root[64];

static void put(const char *name, const char *text)
{
	_cleanup_free_ char *path = mem_printf("%s/%s", root, name);
	FILE *f = fopen(path, "w");

	ck_assert_ptr_nonnull(f);
	ck_assert_int_ge(fputs(text, f), 0);
	ck_assert_int_eq(fclose(f), 0);
}

static void begin(struct oom *o, const char *self)
{
	_cleanup_free_ char *proc = mem_printf("%s/self", root);

	put("self", self);
	oom_init(o, proc, root);
}

static void make(void)
{
	static const char *const folders[] = { "", "/app", "/memory", "/memory/app" };

	(void)snprintf(root, sizeof(root), "/tmp/oom.XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(root));
	for (size_t i = 1; i < ARRAY_SIZE(folders); i++) {
		_cleanup_free_ char *path = mem_printf("%s%s", root, folders[i]);

		ck_assert_int_eq(mkdir(path, 0700), 0);
	}
}

static void sweep(void)
{
	static const char *const names[] = { "self",
					     "app/memory.events",
					     "memory.events",
					     "memory/app/memory.oom_control",
					     "memory/memory.oom_control",
					     "memory/app",
					     "memory",
					     "app" };

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		_cleanup_free_ char *path = mem_printf("%s/%s", root, names[i]);

		(void)(unlink(path) == 0 || rmdir(path) == 0); /* not each test has made all of them */
	}
	(void)rmdir(root);
}

/* The counter goes from `before` to `after`: how many SIGKILLs does it explain? */
static void ck_counts(const char *self, const char *file, const char *before, const char *after, unsigned kills)
{
	struct oom o;

	put(file, before);
	begin(&o, self);
	ck_assert(!oom_take(&o)); /* what was before is nobody's */
	put(file, after);
	for (unsigned i = 0; i < kills; i++)
		ck_assert(oom_take(&o));
	ck_assert(!oom_take(&o));
	oom_deinit(&o);
}

START_TEST(fault_28_a_kill_in_cgroup_v2_explains_one_death)
	{
		ck_counts("0::/app\n", "app/memory.events",
			  "low 0\nhigh 7\nmax 9\noom 3\noom_kill 2\noom_group_kill 0\n",
			  "low 0\nhigh 7\nmax 9\noom 4\noom_kill 3\noom_group_kill 0\n", 1);
	}
END_TEST

START_TEST(fault_28_two_kills_at_once_explain_two_deaths)
	{
		ck_counts("0::/app\n", "app/memory.events", "oom_kill 0\n", "oom_kill 2\n", 2);
	}
END_TEST

START_TEST(fault_28_a_kill_in_cgroup_v1_explains_one_death)
	{
		ck_counts("5:cpu:/x\n4:hugetlb,memory:/app\n0::/\n", "memory/app/memory.oom_control",
			  "oom_kill_disable 0\nunder_oom 0\noom_kill 0\n",
			  "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n", 1);
	}
END_TEST

START_TEST(in_a_container_that_shows_the_path_of_the_host_the_root_is_ours)
	{
		ck_counts("0::/docker/abc\n", "memory.events", "oom_kill 5\n", "oom_kill 6\n", 1);
		ck_counts("4:memory:/docker/abc\n", "memory/memory.oom_control", "oom_kill 5\n", "oom_kill 6\n", 1);
	}
END_TEST

START_TEST(without_a_counter_nothing_is_explained)
	{
		static const char *const selves[] = {
			"", "\n", "0", "0:", "0::", "4:memory", "4:memory:/app\n", "4:memoryhog:/app\n", "0::/app\n"
		};
		struct oom o;

		for (size_t i = 0; i < ARRAY_SIZE(selves); i++) {
			begin(&o, selves[i]);
			ck_assert(!oom_take(&o));
			oom_deinit(&o);
		}
		oom_init(&o, "/nonexistent", root);
		ck_assert(!oom_take(&o));
		oom_deinit(&o);
	}
END_TEST

START_TEST(a_counter_that_goes_away_or_back_explains_nothing)
	{
		ck_counts("0::/app\n", "app/memory.events", "oom_kill 5\n", "", 0);
		ck_counts("0::/app\n", "app/memory.events", "oom_kill 5\n", "oom_kill 2\n", 0);
	}
END_TEST

int main(void)
{
	return SUITE_RUN("oom", make, sweep,
			 fault_28_a_kill_in_cgroup_v2_explains_one_death,
			 fault_28_two_kills_at_once_explain_two_deaths,
			 fault_28_a_kill_in_cgroup_v1_explains_one_death,
			 in_a_container_that_shows_the_path_of_the_host_the_root_is_ours,
			 without_a_counter_nothing_is_explained,
			 a_counter_that_goes_away_or_back_explains_nothing);
}

/* A worker's group and where it is made, in trees of files that stand for cgroup v1 and v2: what the kernel does at mkdir and
 * rmdir is done here. tests/systemd and tests/integration have the real ones. */
#include "daemon/io/cgroup.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <sys/xattr.h>

#include "daemon/base/mem.h"
#include "tests/support/suite.h"
#include "tests/unit/io_support.h"

static char root[64];
static struct loop *loop;
static struct cgroups groups;
static char why[600];
static unsigned busy;  /* removals that the kernel refuses, since there is a process in the group */
static bool no_events; /* a kernel without them */

static char *path_of(const char *name)
{
	return mem_printf("%s/%s", root, name);
}

static void put(const char *name, const char *text)
{
	_cleanup_free_ char *path = path_of(name);
	FILE *f = fopen(path, "w");

	ck_assert_msg(f, "%s", path);
	ck_assert_int_ge(fputs(text, f), 0);
	ck_assert_int_eq(fclose(f), 0);
}

static void make_dir(const char *name)
{
	_cleanup_free_ char *path = path_of(name);

	ck_assert_int_eq(mkdir(path, 0755), 0);
}

static bool exists(const char *name)
{
	_cleanup_free_ char *path = path_of(name);

	return access(path, F_OK) == 0;
}

static void ck_file(const char *name, const char *text)
{
	_cleanup_free_ char *path = path_of(name);
	char buf[256] = "";
	FILE *f = fopen(path, "r");

	ck_assert_msg(f, "%s", path);
	(void)!fread(buf, 1, sizeof(buf) - 1, f);
	fclose(f);
	ck_assert_str_eq(buf, text);
}

/* --- what the kernel does --- */

static const char *const v1_memory[] = { "cgroup.procs", "memory.limit_in_bytes", "memory.memsw.limit_in_bytes",
					 "memory.oom_control", NULL };
static const char *const v1_pids[] = { "cgroup.procs", "pids.max", NULL };
static const char *const v2[] = { "cgroup.procs",     "cgroup.kill",   "memory.max", "memory.swap.max",
				  "memory.oom.group", "memory.events", "pids.max",   NULL };

static const char *const *files_of(int dir)
{
	_cleanup_free_ char *link = mem_printf("/proc/self/fd/%d", dir);
	char path[200];
	ssize_t n = readlink(link, path, sizeof(path) - 1);

	path[n > 0 ? n : 0] = '\0';
	return strstr(path, "/memory/") ? v1_memory : strstr(path, "/pids/") ? v1_pids : v2;
}

int mkdirat(int dir, const char *name, mode_t mode)
{
	if (syscall(SYS_mkdirat, dir, name, mode) < 0)
		return -1;
	for (const char *const *file = files_of(dir); *file; file++) {
		_cleanup_free_ char *path = mem_printf("%s/%s", name, *file);
		int fd = no_events && strncmp(*file, "memory.", 7) == 0 ? -1
									: openat(dir, path, O_CREAT | O_WRONLY, 0644);

		if (fd >= 0) {
			(void)!write(fd, "oom_kill 0\n",
				     strstr(*file, "events") || strstr(*file, "oom_control") ? 11 : 0);
			close(fd);
		}
	}
	return 0;
}

int unlinkat(int dir, const char *name, int flags)
{
	if (busy) {
		busy--;
		errno = EBUSY;
		return -1;
	}
	for (const char *const *file = files_of(dir); flags & AT_REMOVEDIR && *file; file++) {
		_cleanup_free_ char *path = mem_printf("%s/%s", name, *file);

		(void)syscall(SYS_unlinkat, dir, path, 0);
	}
	return (int)syscall(SYS_unlinkat, dir, name, flags);
}

/* --- a machine --- */

static void begin(const char *self)
{
	static char proc[80];

	(void)snprintf(proc, sizeof(proc), "%s/self", root);
	put("self", self);
	cgroups_init(&groups, loop, proc, root);
}

static void setup(void)
{
	(void)snprintf(root, sizeof(root), "/tmp/cgroup.XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(root));
	loop = loop_new();
}

static void teardown(void)
{
	_cleanup_free_ char *command = mem_printf("rm -rf %s", root);

	cgroups_deinit(&groups);
	loop_free(loop);
	ck_assert_int_eq(system(command), 0);
}

static void machine_v2(const char *app, const char *controllers)
{
	_cleanup_free_ char *procs = mem_printf("%s/cgroup.procs", app);
	_cleanup_free_ char *list = mem_printf("%s/cgroup.controllers", app);
	_cleanup_free_ char *subtree = mem_printf("%s/cgroup.subtree_control", app),
			    *self = mem_printf("0::/%s\n", app);

	put("cgroup.controllers", "cpu memory pids\n");
	make_dir(app);
	put(procs, "123456\n");
	put(list, controllers);
	put(subtree, "");
	begin(self);
}

static void machine_v1(void)
{
	make_dir("memory");
	make_dir("memory/app");
	put("memory/app/cgroup.procs", "1\n");
	make_dir("pids");
	make_dir("pids/app");
	put("pids/app/cgroup.procs", "1\n");
	begin("8:pids:/app\n4:hugetlb,memory:/app\n1:name=systemd:/\n0::/\n");
}

static int prepare(unsigned controllers)
{
	why[0] = '\0';
	return cgroups_prepare(&groups, controllers, why, sizeof(why));
}

#define BOTH (BIT(CGROUP_MEMORY) | BIT(CGROUP_PIDS))

static struct cgroup *new_group(uint64_t worker, uint64_t memory, uint64_t pids)
{
	const struct cgroup_limits limits = { .memory = memory, .pids = pids };
	struct cgroup *g = NULL;

	ck_assert_int_eq(cgroup_new(&groups, worker, &limits, &g), 0);
	return g;
}

static char *in_group(const char *place, const struct cgroup *g, const char *file)
{
	return mem_printf("%s/%s%s%s", place, g->name, *file ? "/" : "", file);
}

static void ck_in_group(const char *place, const struct cgroup *g, const char *file, const char *text)
{
	_cleanup_free_ char *name = in_group(place, g, file);

	ck_file(name, text);
}

/* --- tests --- */

START_TEST(v2_the_daemon_moves_into_a_leaf_and_hands_its_controllers_on)
	{
		machine_v2("app", "cpu memory pids\n");
		ck_assert_int_eq(prepare(BIT(CGROUP_PIDS)), 0);
		ck_file("app/daemon/cgroup.procs", "123456");
		ck_file("app/cgroup.subtree_control", "+memory +pids");
		ck_assert_uint_eq(groups.controllers, BOTH);
		ck_assert_int_eq(prepare(BOTH), 0); /* nothing to do */
		ck_assert_uint_eq(groups.n, 1);
	}
END_TEST

START_TEST(v2_a_worker_has_its_limits_and_no_swap)
	{
		struct cgroup *g;

		machine_v2("app", "memory pids\n");
		ck_assert_int_eq(prepare(BOTH), 0);
		g = new_group(7, 100 << 20, 32);
		ck_in_group("app", g, "memory.max", "104857600");
		ck_in_group("app", g, "memory.swap.max", "0");
		ck_in_group("app", g, "memory.oom.group", "1");
		ck_in_group("app", g, "pids.max", "32");
		ck_assert_ptr_null(cgroup_end(g));
	}
END_TEST

START_TEST(v2_in_its_leaf_already_the_daemon_stays_there)
	{
		machine_v2("app", "memory pids\n");
		put("self", "0::/app/daemon\n");
		ck_assert_int_eq(prepare(BIT(CGROUP_MEMORY)), 0);
		ck_assert(exists("app/daemon"));
		ck_assert(!exists("app/daemon/daemon"));
	}
END_TEST

START_TEST(v2_a_controller_that_was_not_given_is_named)
	{
		machine_v2("app", "cpu pids\n");
		ck_assert_int_eq(prepare(BIT(CGROUP_PIDS)), 0);
		ck_assert_int_eq(prepare(BOTH), -ENOENT);
		ck_assert_ptr_nonnull(
			strstr(why, "has no memory controller; under systemd give it to pypoold by Delegate="));
	}
END_TEST

START_TEST(v1_each_hierarchy_has_the_group_that_it_limits)
	{
		struct cgroup *g, *only;

		machine_v1();
		ck_assert_int_eq(prepare(BOTH), 0);
		g = new_group(7, 100 << 20, 32);
		only = new_group(8, 0, 32);
		ck_in_group("memory/app", g, "memory.limit_in_bytes", "104857600");
		ck_in_group("memory/app", g, "memory.memsw.limit_in_bytes", "104857600");
		ck_in_group("pids/app", g, "pids.max", "32");
		ck_assert_uint_eq(only->made, 2);
		cgroup_end(g);
		cgroup_end(only);
	}
END_TEST

START_TEST(a_process_enters_where_the_group_was_made)
	{
		int fds[CGROUP_N];
		struct cgroup *g;

		machine_v1();
		ck_assert_int_eq(prepare(BOTH), 0);
		g = new_group(7, 0, 32);
		ck_assert_int_eq(cgroup_open(g, fds), 0);
		ck_assert_int_eq(fds[0], -1);
		ck_assert_int_eq(write(fds[1], "0", 1), 1);
		close(fds[1]);
		ck_in_group("pids/app", g, "cgroup.procs", "0");
		ck_assert_int_eq(cgroup_add(g, 4711), 0);
		ck_in_group("pids/app", g, "cgroup.procs", "4711");
		cgroup_end(g);
		ck_assert_int_eq(cgroup_add(NULL, 4711), 0);
	}
END_TEST

static void ck_oom_told(const char *place, const char *file)
{
	struct cgroup *g = new_group(7, 100 << 20, 0), *other = new_group(8, 100 << 20, 0);
	_cleanup_free_ char *name = in_group(place, g, file);

	ck_assert(!cgroup_was_oom(g));
	put(name, "max 9\noom 3\noom_kill 1\n");
	ck_assert(cgroup_was_oom(g));
	ck_assert(!cgroup_was_oom(g));
	ck_assert(!cgroup_was_oom(other));
	ck_assert(!cgroup_was_oom(NULL));
	cgroup_end(g);
	cgroup_end(other);
}

START_TEST(the_oom_killer_is_told_of_the_group_in_which_it_was)
	{
		machine_v2("app", "memory pids\n");
		ck_assert_int_eq(prepare(BOTH), 0);
		ck_oom_told("app", "memory.events");
		cgroups_deinit(&groups);
		machine_v1();
		ck_assert_int_eq(prepare(BOTH), 0);
		ck_oom_told("memory/app", "memory.oom_control");
	}
END_TEST

START_TEST(a_group_that_cannot_be_limited_is_not_left_behind)
	{
		const struct cgroup_limits limits = { .memory = 100 << 20 };
		struct cgroup *g = NULL;
		unsigned before;

		machine_v2("app", "memory pids\n");
		ck_assert_int_eq(prepare(BOTH), 0);
		before = io_count_fds();
		no_events = true;
		ck_assert_int_eq(cgroup_new(&groups, 7, &limits, &g), -ENOENT);
		no_events = false;
		ck_assert_ptr_null(g);
		ck_assert_uint_eq(io_count_fds(), before);
		g = new_group(7, 100 << 20, 0); /* the name is free */
		cgroup_end(g);
	}
END_TEST

START_TEST(a_limit_that_was_not_prepared_is_an_error)
	{
		const struct cgroup_limits limits = { .memory = 100 << 20 };
		struct cgroup *g = NULL;

		machine_v1();
		ck_assert_int_eq(prepare(BIT(CGROUP_PIDS)), 0);
		ck_assert_int_eq(cgroup_new(&groups, 7, &limits, &g), -ENODEV);
	}
END_TEST

static void on_look(struct loop_timer *t)
{
	if (groups.dying)
		loop_timer_set(t, loop_now(loop) + NS_PER_MS);
	else
		loop_stop(loop);
}

START_TEST(what_is_left_in_a_group_is_killed_and_it_is_removed_later)
	{
		_cleanup_free_ char *name = NULL;
		struct loop_timer look;
		struct cgroup *g;

		machine_v2("app", "memory pids\n");
		ck_assert_int_eq(prepare(BOTH), 0);
		g = new_group(7, 0, 32);
		name = in_group("app", g, "");
		busy = 3;
		ck_assert_ptr_null(cgroup_end(g));
		ck_assert_ptr_eq(groups.dying, g);
		ck_in_group("app", g, "cgroup.kill", "1");
		loop_timer_init(&look, loop, on_look);
		loop_timer_set(&look, 1);
		io_run(loop);
		ck_assert_uint_eq(busy, 0);
		ck_assert(!exists(name));
	}
END_TEST

START_TEST(a_daemon_that_ends_waits_for_its_groups_but_not_for_ever)
	{
		_cleanup_free_ char *name = NULL;
		struct cgroup *g;

		machine_v2("app", "memory pids\n");
		ck_assert_int_eq(prepare(BOTH), 0);
		g = new_group(7, 0, 32);
		name = in_group("app", g, "");
		busy = 5;
		cgroup_end(g);
		cgroup_bury_now(&groups);
		ck_assert_uint_eq(busy, 0);
		ck_assert(!exists(name));
		g = new_group(8, 0, 32);
		busy = 1000000;
		cgroup_end(g);
		cgroups_deinit(&groups);
		ck_assert_uint_gt(busy, 0);
		busy = 0;
	}
END_TEST

START_TEST(groups_of_a_daemon_that_is_gone_are_removed)
	{
		machine_v2("app", "memory pids\n");
		make_dir("app/worker-99.5");
		make_dir("app/workshop");
		ck_assert_int_eq(prepare(BOTH), 0);
		ck_assert(!exists("app/worker-99.5"));
		ck_assert(exists("app/workshop"));
	}
END_TEST

START_TEST(a_unit_of_systemd_is_root_s_only_when_systemd_says_so)
	{
		_cleanup_free_ char *unit = NULL;

		machine_v2("x.service", "memory pids\n");
		if (geteuid() != 0) {
			ck_assert_int_eq(prepare(BOTH), 0); /* it is writable: nobody else can have done that */
			return;
		}
		ck_assert_int_eq(prepare(BOTH), -EPERM);
		ck_assert_ptr_nonnull(
			strstr(why, "x.service is systemd's; under systemd give it to pypoold by Delegate="));
		ck_assert(!exists("x.service/daemon"));
		unit = path_of("x.service");
		if (setxattr(unit, "trusted.delegate", "1", 1, 0) < 0) /* tmpfs has it, other file systems may not */
			return;
		ck_assert_int_eq(prepare(BOTH), 0);
	}
END_TEST

START_TEST(a_group_that_is_another_s_is_refused)
	{
		_cleanup_free_ char *app = path_of("app");

		machine_v2("app", "memory pids\n");
		ck_assert_int_eq(chmod(app, 0555), 0);
		ck_assert_int_eq(chmod(root, 0755), 0);
		if (getuid() == 0)
			ck_assert_int_eq(seteuid(65534), 0);
		ck_assert_int_eq(prepare(BOTH), -EACCES);
		ck_assert_ptr_nonnull(strstr(why, "is not pypoold's to write to; under systemd"));
		if (getuid() == 0)
			ck_assert_int_eq(seteuid(0), 0);
		ck_assert_int_eq(chmod(app, 0755), 0);
	}
END_TEST

START_TEST(a_machine_without_cgroups_is_told)
	{
		begin("");
		ck_assert_int_eq(prepare(BIT(CGROUP_MEMORY)), -ENOENT);
		ck_assert_ptr_nonnull(strstr(why, "no cgroups with the controller memory in"));
		ck_assert_int_eq(prepare(0), 0);
	}
END_TEST

START_TEST(in_a_container_the_mounted_root_is_ours)
	{
		put("cgroup.controllers", "memory pids\n");
		put("cgroup.procs", "1\n");
		put("cgroup.subtree_control", "");
		begin("0::/docker/abc\n");
		ck_assert_int_eq(prepare(BOTH), 0);
		ck_assert(exists("daemon"));
	}
END_TEST

static const char *real_name = "pypool-unit-";

/* A group of our own in one of this machine's hierarchies, as if it had been given to us. False when there is none that we may
 * write to. */
static bool use_real(const char *mount, bool v2, unsigned controllers, char *path, size_t size)
{
	int dir;

	_cleanup_close_ int pidfd = pidfd_open(getpid(), 0); /* valgrind 3.19 has none */

	(void)snprintf(path, size, "%s/%s%d", mount, real_name, (int)getpid());
	if (geteuid() != 0 || pidfd < 0 || mkdir(path, 0755) < 0) {
		printf("skipped, no cgroup can be made in %s, or there are no pidfds\n", mount);
		return false;
	}
	dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	ck_assert_int_ge(dir, 0);
	begin("");
	groups.all[groups.n++] = (struct cgroup_hierarchy){ .dir = dir, .v2 = v2, .controllers = controllers };
	groups.controllers = controllers;
	return true;
}

static pid_t start_sleeper(void)
{
	pid_t pid = fork();

	if (pid == 0) {
		setsid();
		while (true)
			pause();
	}
	ck_assert_int_gt(pid, 0);
	return pid;
}

static void ck_ends_with(struct cgroup *g, pid_t pid, const char *path)
{
	int status;

	ck_assert_ptr_null(cgroup_end(g));
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	cgroups_deinit(&groups);
	ck_assert_int_eq(rmdir(path), 0); /* it is empty */
}

START_TEST(v2_between_two_daemons_controllers_are_taken_back)
	{
		machine_v2("app", "memory pids\n");
		cgroups_take_back(groups.proc, groups.root); /* we are no control process */
		ck_file("app/cgroup.subtree_control", "");
		make_dir("app/.control");
		put("self", "0::/app/.control\n");
		cgroups_take_back(groups.proc, groups.root);
		ck_file("app/cgroup.subtree_control", "-pidsry"); /* each by itself, the second over "-memory" */
		cgroups_take_back("/nonexistent", groups.root);
	}
END_TEST

static const char *real_v2(void)
{
	return access("/sys/fs/cgroup/cgroup.procs", F_OK) == 0 ? "/sys/fs/cgroup" : "/sys/fs/cgroup/unified";
}

START_TEST(v2_a_real_process_is_killed_with_its_group)
	{
		struct cgroup *g;
		char path[100];
		pid_t pid;

		if (!use_real(real_v2(), true, 0, path, sizeof(path)))
			return;
		g = new_group(7, 0, 0);
		pid = start_sleeper();
		ck_assert_int_eq(cgroup_add(g, pid), 0);
		ck_ends_with(g, pid, path);
	}
END_TEST

START_TEST(v1_a_real_process_is_killed_with_its_group_and_nobody_else)
	{
		struct cgroup *g, *other;
		char path[100];
		pid_t pid, lives;

		if (!use_real("/sys/fs/cgroup/pids", false, BIT(CGROUP_PIDS), path, sizeof(path)))
			return;
		g = new_group(7, 0, 8);
		other = new_group(77, 0, 8);
		pid = start_sleeper();
		lives = start_sleeper();
		ck_assert_int_eq(cgroup_add(g, pid), 0);
		ck_assert_int_eq(cgroup_add(other, lives), 0);
		ck_assert_ptr_null(cgroup_end(g));
		ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
		ck_assert_int_eq(waitpid(lives, NULL, WNOHANG), 0);
		ck_ends_with(other, lives, path);
	}
END_TEST

static void ck_limit_is(const struct cgroup *g, const char *text)
{
	_cleanup_free_ char *name = mem_printf("%s/pids.max", g->name);
	_cleanup_close_ int fd = openat(groups.all[0].dir, name, O_RDONLY);
	char buf[32] = "";

	ck_assert_int_gt(read(fd, buf, sizeof(buf) - 1), 0);
	ck_assert_str_eq(buf, text);
}

static void ck_is_found_again(const char *given)
{
	const struct cgroup_limits limits = { .pids = 8 };
	struct cgroup *g, *found = NULL;
	char path[100];
	pid_t pid;

	real_name = given;
	if (!use_real("/sys/fs/cgroup/pids", false, BIT(CGROUP_PIDS), path, sizeof(path)))
		return;
	g = new_group(7, 0, 8);
	pid = start_sleeper();
	ck_assert_int_eq(cgroup_adopt(&groups, pid, &limits, &found), 0);
	ck_assert_ptr_null(found); /* not in a group yet */
	ck_assert_int_eq(cgroup_add(g, pid), 0);
	ck_assert_int_eq(cgroup_write(&groups.all[0], g->name, "pids.max", "max"), 0);
	ck_assert_int_eq(cgroup_adopt(&groups, pid, &limits, &found), 0);
	ck_assert_ptr_nonnull(found);
	ck_assert_str_eq(found->name, g->name);
	ck_limit_is(g, "8\n");
	free(g);
	ck_ends_with(found, pid, path);
}

START_TEST(a_worker_of_an_earlier_daemon_is_found_where_it_is_and_limited_again)
	{
		ck_is_found_again("pypool-unit-");
	}
END_TEST

START_TEST(it_is_found_in_a_unit_that_is_called_like_one_too)
	{
		ck_is_found_again("worker-of.service-");
	}
END_TEST

int main(void)
{
	return SUITE_RUN("cgroup", setup, teardown, v2_the_daemon_moves_into_a_leaf_and_hands_its_controllers_on,
			 v2_a_worker_has_its_limits_and_no_swap, v2_in_its_leaf_already_the_daemon_stays_there,
			 v2_a_controller_that_was_not_given_is_named, v1_each_hierarchy_has_the_group_that_it_limits,
			 a_process_enters_where_the_group_was_made, the_oom_killer_is_told_of_the_group_in_which_it_was,
			 a_group_that_cannot_be_limited_is_not_left_behind, a_limit_that_was_not_prepared_is_an_error,
			 what_is_left_in_a_group_is_killed_and_it_is_removed_later,
			 a_daemon_that_ends_waits_for_its_groups_but_not_for_ever,
			 groups_of_a_daemon_that_is_gone_are_removed,
			 a_unit_of_systemd_is_root_s_only_when_systemd_says_so, a_group_that_is_another_s_is_refused,
			 v2_between_two_daemons_controllers_are_taken_back, v2_a_real_process_is_killed_with_its_group,
			 v1_a_real_process_is_killed_with_its_group_and_nobody_else,
			 a_worker_of_an_earlier_daemon_is_found_where_it_is_and_limited_again,
			 it_is_found_in_a_unit_that_is_called_like_one_too,
			 a_machine_without_cgroups_is_told, in_a_container_the_mounted_root_is_ours);
}

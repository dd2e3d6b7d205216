/*
 * The spawner that executes a new program for each process. The child sees exactly seven open files, default signals and
 * its own process group. Each step that fails gives everything back, and a failed exec is known at once.
 */
#include "daemon/io/process.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/close_range.h>
#include <pwd.h>
#include <signal.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/base/cleanup.h"
#include "daemon/base/mem.h"
#include "daemon/io/cgroup.h"
#include "daemon/io/mark.h"
#include "daemon/io/plumbing.h"

struct identity {
	uid_t uid;
	gid_t gid;
	gid_t *groups; /* owns */
	int n_groups;
};

/* All that the child needs, made ready before the fork: the child of a vfork may not allocate. */
struct birth {
	const struct process_spec *spec;
	const struct identity *identity; /* NULL: as the daemon */
	const int *theirs;
	int report; /* the child's end; exec closes it, a failure is written there first */
	pid_t parent;
	uint64_t mark; /* 0: none */
	int groups[CGROUP_N]; /* owns: see cgroup_open() */
};

static void birth_deinit(struct birth *b)
{
	for (size_t i = 0; i < ARRAY_SIZE(b->groups); i++)
		cleanup_close(&b->groups[i]);
}

/* --- identity --- */

static void identity_deinit(struct identity *id)
{
	free(id->groups);
	id->groups = NULL;
}

/* In the parent: the user database may allocate, lock and read files. */
static int identity_load(struct identity *id, uid_t uid, gid_t gid)
{
	const struct passwd *pw;
	int n = 0;

	id->uid = uid;
	id->gid = gid;
	errno = 0;
	pw = getpwuid(uid);
	if (!pw && errno && errno != ENOENT && errno != ESRCH)
		return -errno;
	if (!pw) { /* a number without a name has no groups */
		id->groups = mem_new(sizeof(gid_t));
		id->groups[0] = gid;
		id->n_groups = 1;
		return 0;
	}
	(void)getgrouplist(pw->pw_name, gid, NULL, &n); /* fails on purpose: tells how many */
	id->groups = mem_resize(NULL, (size_t)(n > 0 ? n : 1), sizeof(gid_t));
	id->n_groups = n;
	if (getgrouplist(pw->pw_name, gid, id->groups, &id->n_groups) < 0)
		return -EAGAIN; /* the database has changed meanwhile */
	return 0;
}

/* --- child: only system calls from here on, see vfork(2) --- */

static int child_reset_signals(void)
{
	struct sigaction sa = { .sa_handler = SIG_DFL };
	sigset_t none;

	for (int signo = 1; signo < NSIG; signo++)
		(void)sigaction(signo, &sa, NULL); /* some are not ours to set */
	sigemptyset(&none);
	return sigprocmask(SIG_SETMASK, &none, NULL) < 0 ? -errno : 0;
}

/* Puts the files at their numbers. The array is copied: the child of a vfork writes into the parent's memory. */
static int child_place_files(const int *theirs, int *report)
{
	int from[PLUMB_N];

	for (int i = 0; i < PLUMB_N; i++) {
		from[i] = theirs[i] < PLUMB_N ? fcntl(theirs[i], F_DUPFD_CLOEXEC, PLUMB_N) : theirs[i];
		if (from[i] < 0)
			return -errno;
	}
	if (*report < PLUMB_N) {
		int fd = fcntl(*report, F_DUPFD_CLOEXEC, PLUMB_N);

		if (fd < 0)
			return -errno;
		*report = fd;
	}
	for (int i = 0; i < PLUMB_N; i++) {
		if (dup2(from[i], i) < 0)
			return -errno;
	}
	/* for what a library has opened without O_CLOEXEC */
	return close_range(PLUMB_N, ~0U, CLOSE_RANGE_CLOEXEC) < 0 ? -errno : 0;
}

/* With all that it will do; as the daemon, who may. */
static int child_enter_groups(const int *groups)
{
	for (unsigned i = 0; i < CGROUP_N; i++) {
		if (groups[i] >= 0 && write(groups[i], "0", 1) < 0)
			return -errno;
	}
	return 0;
}

static int child_limit(int resource, uint64_t value)
{
	const struct rlimit limit = { .rlim_cur = value, .rlim_max = value };

	return value && setrlimit(resource, &limit) < 0 ? -errno : 0;
}

/* Raw calls: those of glibc want to tell the parent's threads. */
static int child_become(const struct identity *id)
{
	if (!id)
		return 0;
	if (syscall(SYS_setgroups, (size_t)id->n_groups, id->groups) < 0 ||
	    syscall(SYS_setresgid, id->gid, id->gid, id->gid) < 0 ||
	    syscall(SYS_setresuid, id->uid, id->uid, id->uid) < 0)
		return -errno;
	return 0;
}

/* After the change of user, which clears it. Does not return if the parent has died before. */
static int child_die_with(pid_t parent)
{
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0)
		return -errno;
	if (getppid() != parent)
		_exit(127);
	return 0;
}

static int child_prepare(const struct birth *b, int *report)
{
	const struct process_spec *spec = b->spec;
	int r;

	if (setpgid(0, 0) < 0)
		return -errno;
	if ((r = child_enter_groups(b->groups)) < 0 || (r = child_place_files(b->theirs, report)) < 0 ||
	    (r = child_limit(RLIMIT_NOFILE, spec->limit_nofile)) < 0 || (r = child_become(b->identity)) < 0)
		return r;
	if (spec->die_with_daemon && (r = child_die_with(b->parent)) < 0)
		return r;
	if ((r = child_limit(RLIMIT_AS, spec->limit_as)) < 0)
		return r;
	mark_set(b->mark);
	return child_reset_signals();
}

static void __attribute__((noreturn)) child_run(const struct birth *b)
{
	int report = b->report;
	int r = child_prepare(b, &report);

	if (r == 0) {
		(void)execve(b->spec->path, b->spec->argv, b->spec->envp); /* returns only to fail */
		r = -errno;
	}
	(void)!write(report, &r, sizeof(r)); /* an int fits into an empty pipe; without it the exit tells */
	_exit(127);
}

/* --- parent --- */

/* The child of a vfork shares our memory until its exec: fast, whatever our size; not for one that changes its user, who
 * could then reach into it. Signals are held back, or a handler would run in the child with our data. */
static pid_t birth_fork(const struct birth *b)
{
	sigset_t all, old;
	pid_t pid;
	int saved;

	sigfillset(&all);
	(void)sigprocmask(SIG_SETMASK, &all, &old); /* cannot fail with valid arguments */
	pid = b->identity ? fork() : vfork();
	if (pid == 0)
		child_run(b);
	saved = errno;
	(void)sigprocmask(SIG_SETMASK, &old, NULL);
	return pid < 0 ? -saved : pid;
}

/* 0 when exec has closed the pipe, or what the child says failed. */
static int birth_read_report(int fd)
{
	int report = 0;
	ssize_t n;

	do {
		n = read(fd, &report, sizeof(report));
	} while (n < 0 && errno == EINTR);
	return n == sizeof(report) ? report : 0;
}

/* The child never ran the program. Not reaped yet, so its pid is its own. */
static void birth_undo(pid_t pid)
{
	(void)kill(pid, SIGKILL);
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
}

static int birth_give(struct birth *b, pid_t *pid, int *pidfd)
{
	int pipefd[2], r;
	_cleanup_close_ int read_end = -1, write_end = -1, fd = -1;

	if (pipe2(pipefd, O_CLOEXEC) < 0)
		return -errno;
	read_end = pipefd[0];
	write_end = b->report = pipefd[1];
	b->parent = getpid();
	b->mark = b->spec->worker ? mark_make(b->spec->worker) : 0;
	*pid = birth_fork(b);
	if (*pid < 0)
		return *pid;
	cleanup_close(&write_end);
	write_end = -1;
	r = birth_read_report(read_end);
	if (r == 0) {
		fd = pidfd_open(*pid, 0);
		r = fd < 0 ? -errno : 0;
	}
	if (r < 0) {
		birth_undo(*pid);
		return r;
	}
	*pidfd = TAKE_FD(fd);
	return 0;
}

static int spawn_exec_start(struct spawner *sp, struct process *p, const struct process_spec *spec, int *calls_fd)
{
	_cleanup_(plumbing_close) struct plumbing pl = PLUMBING_NONE;
	_cleanup_(identity_deinit) struct identity id = { 0 };
	_cleanup_(birth_deinit) struct birth b = { .spec = spec, .theirs = pl.theirs, .groups = { -1, -1 } };
	pid_t pid = 0;
	int pidfd = -1, r;

	(void)sp;
	r = plumbing_open(&pl);
	if (r == 0 && spec->uid != (uid_t)-1) {
		r = identity_load(&id, spec->uid, spec->gid);
		b.identity = &id;
	}
	if (r == 0)
		r = cgroup_open(p->group, b.groups);
	if (r == 0)
		r = birth_give(&b, &pid, &pidfd);
	if (r < 0)
		return r;
	p->pid = pid;
	p->exec_ns = loop_now(p->loop);
	p->pidfd.fd = pidfd;
	*calls_fd = plumbing_connect(&pl, p);
	return 0;
}

struct spawner *spawner_exec(void)
{
	static struct spawner exec = { .name = "exec", .start = spawn_exec_start }; /* never written */

	return &exec;
}

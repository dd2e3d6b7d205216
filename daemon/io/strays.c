/*
 * SIGCHLD only says that some child has died, so look without reaping, and reap by pid what is nobody's. waitid() shows the
 * same dead child until it is reaped: when that is a worker's, look again after its pidfd had its turn.
 */
#include "daemon/io/strays.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/base/cleanup.h"
#include "daemon/base/log.h"
#include "daemon/base/mem.h"
#include "daemon/io/mark.h"
#include "daemon/io/procfs.h"

#define STRAYS_PER_TURN 64
#define EXPECTING_PAUSE (10 * NS_PER_MS) /* a template that hangs may owe its answer for seconds */
#define ENVIRON_MAX (128 * 1024)
#define CHILDREN_MAX (64 * 1024)
#define MARKER "PYPOOL_WORKER="

/* What its environment was at its exec says. */
static uint64_t stray_read_environ(pid_t pid)
{
	_cleanup_free_ char *env = mem_new(ENVIRON_MAX);
	size_t n = procfs_read_of(pid, "environ", env, ENVIRON_MAX);

	for (const char *at = env; at < env + n; at += strlen(at) + 1) {
		if (strncmp(at, MARKER, sizeof(MARKER) - 1) == 0)
			return strtoull(at + sizeof(MARKER) - 1, NULL, 10);
	}
	return 0;
}

/* The number of the worker that it descends from; 0: nobody knows. */
static uint64_t stray_worker(pid_t pid)
{
	uint64_t worker = mark_read(pid);

	return worker ? worker : stray_read_environ(pid);
}

/* It is our child and only we reap it, so its number is its own as long as this runs. */
static void strays_consider(struct strays *s, pid_t pid)
{
	_cleanup_close_ int pidfd = -1;
	uint64_t worker;

	if (s->owned(s, pid))
		return;
	pidfd = pidfd_open(pid, 0);
	worker = pidfd < 0 ? 0 : stray_worker(pid);
	if (!worker || s->lives(s, worker) || pidfd_send_signal(pidfd, SIGKILL, NULL, 0) < 0)
		return;
	s->killed++;
	LOG(INFO, "stray.killed", KV("pid", pid), KV("worker", worker));
}

/* Orphans whose worker is gone. Their own children become ours when they die, which SIGCHLD tells: then this is done again. */
static void strays_kill(struct strays *s)
{
	_cleanup_free_ char *children = NULL;
	char *at, *end;

	if (!s->lives || s->children < 0)
		return;
	children = mem_new(CHILDREN_MAX);
	(void)procfs_read(s->children, children, CHILDREN_MAX); /* "" when it cannot be read */
	for (at = children;; at = end) {
		long pid = strtol(at, &end, 10);

		if (end == at)
			break;
		strays_consider(s, (pid_t)pid);
	}
}

static void strays_reap(struct strays *s)
{
	for (unsigned n = 0; n < STRAYS_PER_TURN; n++) {
		siginfo_t si = { 0 };

		if (waitid(P_ALL, 0, &si, WEXITED | WNOHANG | WNOWAIT) < 0 || si.si_pid == 0)
			return;
		if (s->owned(s, si.si_pid))
			break;
		if (s->expecting && s->expecting(s)) {
			loop_timer_set(&s->later, loop_now(s->loop) + EXPECTING_PAUSE);
			return;
		}
		if (waitid(P_PID, (id_t)si.si_pid, &si, WEXITED | WNOHANG) < 0)
			return;
		s->reaped++;
		LOG(DEBUG, "stray.reaped", KV("pid", si.si_pid), KV("status", si.si_status));
	}
	loop_next_turn(s->loop, &s->again);
}

static void strays_on_signal(struct loop_signal *sig, int signo)
{
	(void)signo;
	strays_reap(container_of(sig, struct strays, chld));
	strays_kill(container_of(sig, struct strays, chld));
}

static void strays_on_again(struct loop_task *t)
{
	strays_reap(container_of(t, struct strays, again));
	strays_kill(container_of(t, struct strays, again));
}

static void strays_on_later(struct loop_timer *t)
{
	strays_reap(container_of(t, struct strays, later));
	strays_kill(container_of(t, struct strays, later));
}

int strays_start(struct strays *s, struct loop *l, bool (*owned)(struct strays *s, pid_t pid))
{
	char path[64];

	*s = (struct strays){ .loop = l, .again.run = strays_on_again, .owned = owned, .children = -1 };
	loop_timer_init(&s->later, l, strays_on_later);
	if (prctl(PR_SET_CHILD_SUBREAPER, 1) < 0)
		return -errno;
	(void)snprintf(path, sizeof(path), "/proc/self/task/%d/children", getpid()); /* fits; there is one thread */
	s->children = open(path, O_RDONLY | O_CLOEXEC); /* a kernel without it: nothing is killed */
	loop_signal_start(&s->chld, l, SIGCHLD, strays_on_signal);
	loop_next_turn(l, &s->again); /* what has died before; not now: whose it is may have to be learned yet */
	return 0;
}

void strays_stop(struct strays *s)
{
	if (!s->loop)
		return;
	strays_kill(s); /* the last workers are gone */
	cleanup_close(&s->children);
	s->children = -1;
	loop_signal_stop(&s->chld);
	loop_task_cancel(s->loop, &s->again);
	loop_timer_stop(&s->later);
	s->loop = NULL;
}

/* A process that lives already, and the daemon that started it does not. Its plumbing is as it was but for the call socket. */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/base/cleanup.h"
#include "daemon/base/mem.h"
#include "daemon/io/plumbing.h"
#include "daemon/io/process_parts.h"
#include "daemon/io/procfs.h"

#define CONTROL_MAX 1024 /* packets that may lie there */

void process_fds(const struct process *p, int fds[PROCESS_FDS])
{
	fds[PROCESS_FD_PIDFD] = p->pidfd.fd;
	fds[PROCESS_FD_CONTROL] = p->control.fd;
	fds[PROCESS_FD_PAGE] = p->page_fd;
	fds[PROCESS_FD_OUT] = p->out.fd;
	fds[PROCESS_FD_ERR] = p->err.fd;
	fds[PROCESS_FD_DUMP] = p->dump.fd;
}

static void process_take_fds(struct process *p, int fds[PROCESS_FDS])
{
	p->pidfd.fd = TAKE_FD(fds[PROCESS_FD_PIDFD]);
	p->control.fd = TAKE_FD(fds[PROCESS_FD_CONTROL]);
	p->page_fd = TAKE_FD(fds[PROCESS_FD_PAGE]);
	p->out.fd = TAKE_FD(fds[PROCESS_FD_OUT]);
	p->err.fd = TAKE_FD(fds[PROCESS_FD_ERR]);
	p->dump.fd = TAKE_FD(fds[PROCESS_FD_DUMP]);
}

/* Fdinfo of a pidfd says whose it is. -1: that process has been reaped; 0: it is no pidfd. */
static long long pidfd_owner(int fd)
{
	char name[32], text[512];
	const char *at;

	(void)snprintf(name, sizeof(name), "fdinfo/%d", fd);
	(void)procfs_read_of(getpid(), name, text, sizeof(text)); /* "" when it cannot be read */
	at = strstr(text, "\nPid:");
	return at ? atoll(at + strlen("\nPid:")) : 0;
}

static bool pidfd_is_foreign(int fd)
{
	siginfo_t si;

	return waitid(P_PIDFD, (id_t)fd, &si, WEXITED | WNOHANG | WNOWAIT) < 0;
}

/* What the daemon of before has not read. The process may have gone meanwhile: the pidfd tells. */
static void process_skip_control(struct process *p)
{
	uint8_t byte;

	for (unsigned n = 0; n < CONTROL_MAX && recv(p->control.fd, &byte, 1, MSG_DONTWAIT) >= 0; n++)
		;
}

static int process_open_calls(struct process *p, int *calls_fd)
{
	_cleanup_(plumbing_close) struct plumbing pl = PLUMBING_NONE;
	int r = plumbing_open_calls(&pl);

	if (r < 0)
		return r;
	*calls_fd = TAKE_FD(pl.ours[PLUMB_CALLS]);
	p->new_calls = TAKE_FD(pl.theirs[PLUMB_CALLS]);
	return 0;
}

/* Takes the fds in any case. */
static int process_take(struct process *p, pid_t pid, int fds[PROCESS_FDS], bool may_be_reaped)
{
	long long owner;
	int r;

	assert(!p->pid);
	process_take_fds(p, fds);
	p->page = plumbing_map(p->page_fd);
	r = p->page ? 0 : -errno;
	owner = r == 0 ? pidfd_owner(p->pidfd.fd) : 0;
	if (r == 0 && owner != pid && !(owner == -1 && may_be_reaped))
		r = -ESRCH;
	if (r < 0) {
		process_close(p);
		return r;
	}
	p->foreign = pidfd_is_foreign(p->pidfd.fd);
	p->pid = pid;
	p->spawned_ns = p->exec_ns = loop_now(p->loop);
	process_watch_all(p);
	return 0;
}

/* It was ours until a moment ago: that its parent, which is another one, has reaped it is told as its end. */
int process_go_on(struct process *p, pid_t pid, int fds[PROCESS_FDS])
{
	return process_take(p, pid, fds, true);
}

int process_adopt(struct process *p, pid_t pid, int fds[PROCESS_FDS], int old_calls[PROCESS_OLD_CALLS], int *calls_fd)
{
	int r;

	memcpy(p->old_calls, old_calls, sizeof(p->old_calls));
	r = process_take(p, pid, fds, false);
	if (r < 0)
		return r;
	process_skip_control(p);
	r = process_open_calls(p, calls_fd);
	if (r < 0) {
		p->pid = 0;
		process_close(p);
	}
	return r;
}

int process_send_calls(struct process *p, const void *message, size_t len)
{
	int r = process_control_send_fd(p, message, len, p->new_calls);

	if (r == -EAGAIN) { /* it has not read for long, which is no reason to give it up */
		p->unsent = mem_strndup(message, len);
		p->unsent_len = len;
		loop_io_watch(&p->control, LOOP_READ | LOOP_WRITE);
		return 0;
	}
	cleanup_close(&p->new_calls);
	p->new_calls = -1;
	return r;
}

void process_send_unsent(struct process *p)
{
	_cleanup_free_ char *message = TAKE_PTR(p->unsent);

	loop_io_watch(&p->control, LOOP_READ);
	(void)process_send_calls(p, message, p->unsent_len); /* when it fails, the process is not heard of: its owner has a time for that */
}

void process_drop_old_calls(struct process *p)
{
	for (unsigned i = 0; i < PROCESS_OLD_CALLS; i++) {
		cleanup_close(&p->old_calls[i]);
		p->old_calls[i] = -1;
	}
}

/*
 * A process lives from process_start() to the wait status that its pidfd announces. End of file on any of its pipes is only
 * a hint: a grandchild may hold them open. After the status everything that lies ready is read, and only then is the exit
 * told.
 */
#include "daemon/io/process.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/base/cleanup.h"
#include "daemon/base/log.h"
#include "daemon/base/mem.h"
#include "daemon/base/wall.h"
#include "daemon/io/cgroup.h"
#include "daemon/io/plumbing.h"
#include "daemon/io/process_parts.h"
#include "daemon/io/procfs.h"
#include "daemon/io/rights.h"

#define READ_BYTES (16 * 1024)
#define OUTPUT_PER_TURN (64 * 1024) /* of one pipe: a flood must not keep others waiting */
#define OUTPUT_AT_END (1024 * 1024) /* the largest pipe: a grandchild may go on writing for ever */
#define CONTROL_PER_TURN 16
#define CONTROL_AT_END 1024
#define DUMP_BYTES (64 * 1024)
#define LAST_BYTES (2 * DUMP_BYTES) /* what was read of a dump, and a full pipe */
#define DUMP_END 0x0c
#define DUMP_PAUSE NS_PER_MS
#define DUMPS_AGAIN_MAX 8
#define DUMP_FATAL "Fatal Python error: " /* how faulthandler begins, of a signal that kills */

/* --- output --- */

/* As much of the text as has so many lines. */
static size_t piece_of(const uint8_t *text, size_t n, unsigned most)
{
	const uint8_t *at = text, *end = text + n;

	for (unsigned lines = 0; at < end && lines < most; lines++) {
		const uint8_t *newline = memchr(at, '\n', (size_t)(end - at));

		at = newline ? newline + 1 : end;
	}
	return (size_t)(at - text);
}

/* Told piece by piece, so that no line is pushed out of the tail before its owner has seen it. */
static void process_take_output(struct process *p, enum tail_source source, const uint8_t *text, size_t n)
{
	while (p->tail && n > 0) { /* without one its owner has taken it */
		uint64_t before = tail_mark(p->tail);
		size_t piece = piece_of(text, n, tail_capacity(p->tail) / 2 + 1); /* long lines are cut into more */

		tail_add(p->tail, source, text, piece, wall_ms());
		if (tail_mark(p->tail) != before)
			p->ops->output(p);
		text += piece;
		n -= piece;
	}
}

static void process_read_output(struct process *p, struct loop_io *io, enum tail_source source, size_t limit)
{
	uint8_t buf[READ_BYTES];

	for (size_t total = 0; io->fd >= 0 && total < limit;) {
		ssize_t n = read(io->fd, buf, sizeof(buf));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return;
		if (n <= 0) { /* closed by the process, which may well live on */
			loop_io_close(io);
			return;
		}
		process_take_output(p, source, buf, (size_t)n);
		total += (size_t)n;
		if ((size_t)n < sizeof(buf))
			return; /* most likely empty; if not, the loop says so */
	}
}

/* A last line without its newline is a line now. */
static void process_finish_output(struct process *p)
{
	uint64_t before = p->tail ? tail_mark(p->tail) : 0;

	if (!p->tail)
		return;
	tail_finish(p->tail, wall_ms());
	if (tail_mark(p->tail) != before)
		p->ops->output(p);
}

static void process_on_stdout(struct loop_io *io, int events)
{
	(void)events;
	process_read_output(container_of(io, struct process, out), io, TAIL_STDOUT, OUTPUT_PER_TURN);
}

static void process_on_stderr(struct loop_io *io, int events)
{
	(void)events;
	process_read_output(container_of(io, struct process, err), io, TAIL_STDERR, OUTPUT_PER_TURN);
}

void process_drain_output(struct process *p)
{
	process_read_output(p, &p->out, TAIL_STDOUT, OUTPUT_AT_END);
	process_read_output(p, &p->err, TAIL_STDERR, OUTPUT_AT_END);
}

/* --- control --- */

enum control_read {
	CONTROL_PACKET = 0,
	CONTROL_NOTHING,
	CONTROL_CLOSED,
};

static enum control_read process_read_control(struct process *p)
{
	uint8_t buf[PROCESS_CONTROL_MAX];
	ssize_t n = recv(p->control.fd, buf, sizeof(buf), MSG_TRUNC | MSG_DONTWAIT);

	if (n < 0 && (errno == EINTR || errno == ECONNRESET))
		n = recv(p->control.fd, buf, sizeof(buf), MSG_TRUNC | MSG_DONTWAIT);
	/* the reset (peer gone with a packet unread) is told once, before the packets that it has sent: hence twice */
	if (n < 0 && errno == EAGAIN)
		return CONTROL_NOTHING;
	p->oversized |= n > (ssize_t)sizeof(buf); /* that breaks the protocol */
	if (n <= 0 || p->oversized)
		return CONTROL_CLOSED;
	p->ops->control(p, (struct span){ .p = buf, .len = (size_t)n });
	return CONTROL_PACKET;
}

static void process_on_control(struct loop_io *io, int events)
{
	struct process *p = container_of(io, struct process, control);
	enum control_read r = CONTROL_PACKET;

	if (events & LOOP_WRITE)
		process_send_unsent(p);
	for (unsigned n = 0; r == CONTROL_PACKET && p->control.fd >= 0 && n < CONTROL_PER_TURN; n++)
		r = process_read_control(p);
	if (r == CONTROL_CLOSED) {
		loop_io_close(&p->control);
		p->ops->control_closed(p);
	}
}

int process_control_send(struct process *p, const void *message, size_t len)
{
	ssize_t n;

	if (p->control.fd < 0)
		return -EPIPE;
	n = send(p->control.fd, message, len, MSG_NOSIGNAL | MSG_DONTWAIT);
	return n < 0 ? -errno : 0;
}

int process_control_send_fd(struct process *p, const void *message, size_t len, int fd)
{
	struct iovec iov = { .iov_base = (void *)message, .iov_len = len };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };
	struct rights rights;
	ssize_t n;

	if (p->control.fd < 0)
		return -EPIPE;
	rights_attach(&rights, &m, &fd, 1);
	n = sendmsg(p->control.fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT);
	return n < 0 ? -errno : 0;
}

/* --- signals --- */

int process_signal(struct process *p, int signo)
{
	if (p->pidfd.fd < 0)
		return -ESRCH;
	return pidfd_send_signal(p->pidfd.fd, signo, NULL, 0) < 0 ? -errno : 0;
}

/* The group has the number of its leader, which is nobody else's as long as the leader is not reaped. */
int process_signal_group(struct process *p, int signo)
{
	if (p->pidfd.fd < 0)
		return -ESRCH;
	if (kill(-p->pid, signo) == 0)
		return 0;
	return process_signal(p, signo); /* it has left its group */
}

int process_set_wanted(struct process *p, uint64_t call, uint64_t reason)
{
	if (!p->page || p->pidfd.fd < 0)
		return -ESRCH;
	__atomic_store_n(&p->page[1], reason, __ATOMIC_RELAXED);
	/* whoever sees the call sees its reason, and the signal comes after both */
	__atomic_store_n(&p->page[0], call, __ATOMIC_RELEASE);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	return 0;
}

int process_interrupt(struct process *p, uint64_t call, uint64_t reason)
{
	int r = process_set_wanted(p, call, reason);

	return r < 0 ? r : process_signal(p, SIGUSR1);
}

/* --- dump --- */

/* Takes out what signals have left in the pipe: their numbers, of which SIGUSR1 is a newline. Returns the length. */
static size_t clean_dump(char *text, size_t len)
{
	size_t kept = 0;

	for (size_t i = 0; i < len; i++) {
		uint8_t c = (uint8_t)text[i];

		if (c >= 0x20 || (c == '\n' && kept > 0))
			text[kept++] = (char)c;
	}
	return kept;
}

static struct span process_clean_dump(struct process *p)
{
	p->dump_len = clean_dump(p->dump_text, p->dump_len);
	return (struct span){ .p = (const uint8_t *)p->dump_text, .len = p->dump_len };
}

static void process_end_dump(struct process *p, bool complete)
{
	_cleanup_free_ char *text = NULL;
	struct span span;

	if (!p->dumping)
		return;
	p->dumping = false;
	loop_timer_stop(&p->dump_timer);
	if (p->dump.fd >= 0)
		loop_io_watch(&p->dump, 0);
	span = process_clean_dump(p);
	text = TAKE_PTR(p->dump_text); /* the callee may ask for the next one */
	p->dump_len = 0;
	p->ops->dumped(p, span, complete);
}

/* What is over the limit is lost, the end is not. */
static void process_keep_dump(struct process *p, const uint8_t *data, size_t n)
{
	if (n > DUMP_BYTES - p->dump_len)
		n = DUMP_BYTES - p->dump_len;
	memcpy(p->dump_text + p->dump_len, data, n);
	p->dump_len += n;
}

/* An end before any text: that of an earlier dump that came too late, or the signal met faulthandler while it hands the last
 * one on to Python's handler, which takes its place for that long and writes no text. A signal sent at once would meet the
 * same; and not for ever, since the process may have put another handler there. */
static void process_dump_again(struct process *p)
{
	uint64_t at = loop_now(p->loop) + DUMP_PAUSE;

	if (p->dumps_again < DUMPS_AGAIN_MAX && at < p->dump_until) {
		p->dumps_again++;
		loop_timer_set(&p->dump_timer, at);
	}
}

/* True: the byte that ends the dump was there. */
static bool process_take_dump(struct process *p, const uint8_t *data, size_t n)
{
	const uint8_t *end;

	while ((end = memchr(data, DUMP_END, n))) {
		process_keep_dump(p, data, (size_t)(end - data));
		if (process_clean_dump(p).len > 0)
			return true;
		process_dump_again(p);
		n -= (size_t)(end + 1 - data);
		data = end + 1;
	}
	process_keep_dump(p, data, n);
	return false;
}

/* Reads the pipe to its end; discards what it reads when no dump is on. True: the dump is complete. */
static bool process_read_dump(struct process *p)
{
	uint8_t buf[READ_BYTES];

	for (size_t total = 0; p->dump.fd >= 0 && total < OUTPUT_AT_END;) {
		ssize_t n = read(p->dump.fd, buf, sizeof(buf));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return false;
		if (n <= 0) {
			loop_io_close(&p->dump);
			return false;
		}
		total += (size_t)n;
		if (p->dumping && process_take_dump(p, buf, (size_t)n))
			return true;
	}
	return false;
}

static void process_on_dump(struct loop_io *io, int events)
{
	struct process *p = container_of(io, struct process, dump);

	(void)events;
	if (process_read_dump(p))
		process_end_dump(p, true);
}

static void process_on_dump_timer(struct loop_timer *t)
{
	struct process *p = container_of(t, struct process, dump_timer);
	bool complete = process_read_dump(p);

	if (complete || loop_now(p->loop) >= p->dump_until) {
		process_end_dump(p, complete);
	} else {
		(void)process_signal(p, SIGUSR2); /* it fails when it is dead, which ends the dump */
		loop_timer_set(t, p->dump_until);
	}
}

void process_drain_dump(struct process *p)
{
	if (p->dumping && process_read_dump(p))
		process_end_dump(p, true);
}

void process_dump(struct process *p, uint64_t timeout)
{
	if (p->dumping)
		return;
	(void)process_read_dump(p); /* leftovers */
	p->dump_text = mem_new(DUMP_BYTES);
	p->dump_len = 0;
	p->dumps_again = 0;
	p->dumping = true;
	/* when it cannot be asked, the answer still does not come during this call */
	if (p->dump.fd < 0 || process_signal(p, SIGUSR2) < 0)
		timeout = 0;
	else
		loop_io_watch(&p->dump, LOOP_READ);
	p->dump_until = loop_now(p->loop) + timeout;
	loop_timer_set(&p->dump_timer, p->dump_until);
}

/* Reads the pipe of a dead process to its end, or until buf is full. */
static size_t process_read_rest(struct process *p, char *buf, size_t size)
{
	size_t used = 0;

	while (p->dump.fd >= 0 && used < size) {
		ssize_t n = read(p->dump.fd, buf + used, size - used);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		used += (size_t)n;
	}
	return used;
}

/* The end of the dump that was on, if one was, and what a fatal signal has left. */
static void process_read_last(struct process *p)
{
	_cleanup_free_ char *all = mem_new(LAST_BYTES);
	size_t len = p->dumping ? p->dump_len : 0;
	char *fatal;

	free(p->fatal);
	p->fatal = NULL;
	if (len)
		memcpy(all, p->dump_text, len);
	len += process_read_rest(p, all + len, LAST_BYTES - len);
	fatal = memmem(all, len, DUMP_FATAL, strlen(DUMP_FATAL));
	if (fatal) {
		p->fatal = mem_strndup(fatal, clean_dump(fatal, (size_t)(all + len - fatal)));
		len = (size_t)(fatal - all);
	}
	if (p->dumping) {
		p->dump_len = 0;
		process_end_dump(p, process_take_dump(p, (const uint8_t *)all, len));
	}
}

/* --- exit --- */

static void process_describe_exit(const siginfo_t *si, const struct rusage *ru, struct process_exit *how)
{
	bool exited = si->si_code == CLD_EXITED;

	*how = (struct process_exit){
		.known = true,
		.exit_code = exited ? si->si_status : -1,
		.signal = exited ? 0 : si->si_status,
		.core_dumped = si->si_code == CLD_DUMPED,
		.max_rss_kib = (uint64_t)ru->ru_maxrss,
		.cpu_us = (uint64_t)(ru->ru_utime.tv_sec + ru->ru_stime.tv_sec) * 1000000 +
			  (uint64_t)(ru->ru_utime.tv_usec + ru->ru_stime.tv_usec),
	};
}

/* False: it lives. The raw call has the resource usage, glibc's has not. */
static bool process_reap(struct process *p, struct process_exit *how, int flags)
{
	struct rusage ru = { 0 };
	siginfo_t si = { 0 };
	long r;

	do {
		r = syscall(SYS_waitid, P_PIDFD, p->pidfd.fd, &si, WEXITED | flags, &ru);
	} while (r < 0 && errno == EINTR);
	if (r < 0) {
		*how = (struct process_exit){ .exit_code = -1 }; /* somebody else's child */
		return true;
	}
	if (si.si_pid == 0)
		return false;
	process_describe_exit(&si, &ru, how);
	return true;
}

static void process_drain_control(struct process *p)
{
	for (unsigned n = 0; p->control.fd >= 0 && n < CONTROL_AT_END; n++) {
		if (process_read_control(p) != CONTROL_PACKET)
			return;
	}
}

void process_close(struct process *p)
{
	loop_io_close(&p->pidfd);
	loop_io_close(&p->control);
	loop_io_close(&p->out);
	loop_io_close(&p->err);
	loop_io_close(&p->dump);
	loop_timer_stop(&p->dump_timer);
	p->dumping = false; /* the last dump may have led to another */
	free(p->dump_text);
	p->dump_text = NULL;
	if (p->page)
		(void)munmap((void *)p->page, PLUMBING_PAGE_BYTES); /* a mapping of our own */
	p->page = NULL;
	cleanup_close(&p->page_fd);
	p->page_fd = -1;
	cleanup_close(&p->new_calls);
	p->new_calls = -1;
	free(p->unsent);
	p->unsent = NULL;
	process_drop_old_calls(p);
	p->group = cgroup_end(p->group);
}

/* Its group, while the number is still its own; there may be nobody in it. That of another's child may be somebody else's by
 * now: its owner finds what it has left by its mark. */
static void process_kill_group(struct process *p)
{
	if (!p->foreign)
		(void)kill(-p->pid, SIGKILL);
}

/* Ready means that it is dead and not reaped. */
static void process_on_exit(struct loop_io *io, int events)
{
	struct process *p = container_of(io, struct process, pidfd);
	struct process_exit how;

	if (events & LOOP_BROKEN) /* it could live on unseen otherwise */
		(void)process_signal(p, SIGKILL);
	process_kill_group(p);
	if (!process_reap(p, &how, events & LOOP_BROKEN ? 0 : WNOHANG))
		return;
	loop_io_close(&p->pidfd);
	process_drain_control(p);
	process_drain_output(p);
	process_finish_output(p);
	process_read_last(p);
	how.oom = cgroup_was_oom(p->group);
	process_close(p);
	p->pid = 0;
	p->ops->exited(p, &how);
}

/* --- life --- */

void process_init(struct process *p, struct loop *l, const struct process_ops *ops, size_t tail_bytes,
		  unsigned tail_lines)
{
	*p = (struct process){ .ops = ops, .loop = l, .page_fd = -1, .new_calls = -1 };
	memset(p->old_calls, -1, sizeof(p->old_calls));
	p->tail = tail_new(tail_bytes, tail_lines);
	loop_io_init(&p->pidfd, l, -1, LOOP_PRIO_NORMAL, process_on_exit);
	loop_io_init(&p->control, l, -1, LOOP_PRIO_WORKER, process_on_control);
	loop_io_init(&p->out, l, -1, LOOP_PRIO_OUTPUT, process_on_stdout);
	loop_io_init(&p->err, l, -1, LOOP_PRIO_OUTPUT, process_on_stderr);
	loop_io_init(&p->dump, l, -1, LOOP_PRIO_OUTPUT, process_on_dump);
	loop_timer_init(&p->dump_timer, l, process_on_dump_timer);
}

void process_deinit(struct process *p)
{
	if (!p->loop)
		return;
	if (p->pid) /* it would run on, and never be reaped */
		LOG_BUG("a process is dropped that has not been reaped");
	process_close(p);
	free(p->fatal);
	p->fatal = NULL;
	p->tail = tail_free(p->tail);
	p->pid = 0;
}

static void process_watch(struct process *p, struct loop_io *io, enum loop_priority prio, bool now)
{
	loop_io_init(io, p->loop, io->fd, prio, io->ready);
	if (now && io->fd >= 0) /* one that was adopted may have closed its output */
		loop_io_watch(io, LOOP_READ);
}

void process_watch_all(struct process *p)
{
	process_watch(p, &p->pidfd, LOOP_PRIO_NORMAL, true);
	process_watch(p, &p->control, LOOP_PRIO_WORKER, true);
	process_watch(p, &p->out, LOOP_PRIO_OUTPUT, true);
	process_watch(p, &p->err, LOOP_PRIO_OUTPUT, true);
	process_watch(p, &p->dump, LOOP_PRIO_OUTPUT,
		      false); /* only while a dump is on: signals write there all the time */
}

int process_start(struct process *p, struct spawner *sp, const struct process_spec *spec, int *calls_fd)
{
	int r;

	assert(!p->pid);
	p->spawned_ns = loop_now(p->loop);
	r = sp->start(sp, p, spec, calls_fd);
	if (r == 0)
		process_watch_all(p);
	else
		p->group = cgroup_end(p->group);
	return r;
}

/* --- a fork by another process --- */

static int process_ask(struct process *p, struct process *parent, const void *message, size_t len, int *calls_fd)
{
	_cleanup_(plumbing_close) struct plumbing pl = PLUMBING_NONE;
	struct iovec iov = { .iov_base = (void *)message, .iov_len = len };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };
	struct rights rights;
	int r;

	if (parent->control.fd < 0)
		return -EPIPE;
	r = plumbing_open(&pl);
	if (r < 0)
		return r;
	rights_attach(&rights, &m, pl.theirs + PLUMB_STDOUT, PLUMB_N - PLUMB_STDOUT);
	if (sendmsg(parent->control.fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
		return -errno;
	p->spawned_ns = loop_now(p->loop);
	*calls_fd = plumbing_connect(&pl, p);
	return 0;
}

int process_fork(struct process *p, struct process *parent, const void *message, size_t len, int *calls_fd)
{
	int r;

	assert(!p->pid);
	r = process_ask(p, parent, message, len, calls_fd);
	if (r < 0)
		p->group = cgroup_end(p->group);
	return r;
}

/* A child of ours that is not reaped: nobody else has its number. */
static int process_open_child(pid_t pid)
{
	_cleanup_close_ int fd = pid > 0 ? pidfd_open(pid, 0) : -1;
	siginfo_t si;

	if (fd < 0 && pid > 0 && errno != ESRCH)
		return -errno;
	if (fd < 0 || waitid(P_PIDFD, (id_t)fd, &si, WEXITED | WNOHANG | WNOWAIT) < 0)
		return -ECHILD;
	return TAKE_FD(fd);
}

int process_born(struct process *p, pid_t pid)
{
	_cleanup_close_ int fd = process_open_child(pid);
	int r = fd < 0 ? fd : cgroup_add(p->group, pid);

	assert(!p->pid);
	if (r < 0) {
		process_unborn(p);
		return r;
	}
	(void)setpgid(pid, pid); /* as it does itself, but perhaps not yet: its parent's group may be killed any moment */
	p->pid = pid;
	p->pidfd.fd = TAKE_FD(fd);
	p->exec_ns = loop_now(p->loop);
	process_watch_all(p);
	return 0;
}

void process_unborn(struct process *p)
{
	assert(!p->pid);
	process_close(p);
}

bool process_is_running(const struct process *p)
{
	return p->pid != 0;
}

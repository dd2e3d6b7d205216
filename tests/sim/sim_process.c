/*
 * The second implementation of daemon/io/process.h, over simulated children. What the real one promises about the end
 * is kept: after the exit is seen, control, output and dump are read to their end, and only then is the exit told.
 */
#include "daemon/io/process.h"

#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>

#include "daemon/base/cleanup.h"
#include "daemon/base/log.h"
#include "daemon/base/mem.h"
#include "daemon/io/leftovers.h"
#include "daemon/io/look.h"
#include "tests/sim/sim_child.h"
#include "tests/sim/sim_process.h"

#define CONTROL_PER_TURN 16
#define WALL_MS UINT64_C(1700000000000) /* the wall clock stands still */

static struct sim_child *child_of(const struct process *p)
{
	return sim_fd_owner(p->loop, p->pidfd.fd);
}

/* --- output --- */

static void read_output(struct process *p)
{
	struct sim_child *c = sim_fd_owner(p->loop, p->err.fd);
	struct sim_message *m;
	bool news = false;

	while (c && (m = sim_pipe_take(p->loop, &c->output))) {
		if (p->tail)
			tail_add(p->tail, TAIL_STDERR, m->data, m->len, WALL_MS);
		free(m);
		news = true;
	}
	if (news)
		p->ops->output(p);
	if (c && c->output.over)
		loop_io_close(&p->err);
}

/* A child grows by a mebibyte with each call. */
uint64_t process_rss(const struct process *p)
{
	const struct sim_child *c = child_of(p);

	return c ? (uint64_t)c->n_calls << 20 : 0;
}

void process_look(const struct process *p, struct process_look *look)
{
	const struct sim_child *c = child_of(p);

	*look = (struct process_look){ 0 };
	if (!c)
		return;
	look->state = c->script.state ? c->script.state : c->running ? 'R' : 'S';
	look->syscall = look->state == 'S' ? "read" : NULL;
}

void process_drain_output(struct process *p)
{
	read_output(p);
}

static void on_output(struct loop_io *io, int events)
{
	(void)events;
	read_output(container_of(io, struct process, err));
}

/* --- control --- */

/* False: nothing lies there. */
static bool read_control(struct process *p, struct sim_child *c)
{
	struct sim_message *m = sim_pipe_take(p->loop, &c->control);

	if (!m)
		return false;
	p->oversized |= m->len > PROCESS_CONTROL_MAX;
	if (!p->oversized)
		p->ops->control(p, (struct span){ .p = m->data, .len = m->len });
	free(m);
	return !p->oversized;
}

static void on_control(struct loop_io *io, int events)
{
	struct process *p = container_of(io, struct process, control);
	struct sim_child *c = sim_fd_owner(p->loop, io->fd);
	unsigned n = 0;

	(void)events;
	while (n < CONTROL_PER_TURN && read_control(p, c))
		n++;
	if (p->oversized || (n == 0 && c->control.over)) {
		loop_io_close(io);
		p->ops->control_closed(p);
	}
}

int process_control_send(struct process *p, const void *message, size_t len)
{
	struct sim_child *c = sim_fd_owner(p->loop, p->control.fd);

	if (!c || c->control.over)
		return -EPIPE;
	if (sim_takes_effect(p->loop))
		sim_child_receive(c, NULL, message, len);
	return 0;
}

int process_control_send_fd(struct process *p, const void *message, size_t len, int fd)
{
	struct sim_child *c = sim_fd_owner(p->loop, p->control.fd);

	if (c && c->machine->fd_error)
		return c->machine->fd_error;
	if (!c || c->control.over)
		return -EPIPE;
	if (sim_takes_effect(p->loop))
		sim_child_receive_fd(c, message, len, fd);
	return 0;
}

/* --- signals --- */

int process_signal(struct process *p, int signo)
{
	struct sim_child *c = child_of(p);

	if (!c)
		return -ESRCH;
	if (sim_takes_effect(p->loop))
		sim_child_signal(c, signo); /* a dead child that is not reaped takes it too */
	return 0;
}

int process_signal_group(struct process *p, int signo)
{
	return process_signal(p, signo);
}

int process_set_wanted(struct process *p, uint64_t call, uint64_t reason)
{
	struct sim_child *c = child_of(p);

	if (!c)
		return -ESRCH;
	if (sim_is_dead(p->loop))
		return 0;
	c->wanted = call;
	c->reason = reason;
	return 0;
}

int process_interrupt(struct process *p, uint64_t call, uint64_t reason)
{
	int r = process_set_wanted(p, call, reason);

	return r < 0 ? r : process_signal(p, SIGUSR1);
}

/* --- dump --- */

static void end_dump(struct process *p, bool complete)
{
	_cleanup_free_ char *text = NULL;
	struct span span = { .p = (const uint8_t *)p->dump_text, .len = p->dump_len };

	if (!p->dumping)
		return;
	p->dumping = false;
	loop_timer_stop(&p->dump_timer);
	if (p->dump.fd >= 0)
		loop_io_watch(&p->dump, 0);
	text = TAKE_PTR(p->dump_text);
	p->dump_len = 0;
	p->ops->dumped(p, span, complete);
}

/* A message in the pipe is a whole stack, asked for or of a fatal signal. True: there was one that was asked for. */
static bool read_dump(struct process *p)
{
	struct sim_child *c = sim_fd_owner(p->loop, p->dump.fd);
	struct sim_message *m;
	bool complete = false;

	while (c && (m = sim_pipe_take(p->loop, &c->dump))) {
		if (m->len > 5 && memcmp(m->data, "Fatal", 5) == 0) {
			free(p->fatal);
			p->fatal = mem_strndup(m->data, m->len);
		} else if (p->dumping && !complete) {
			p->dump_text = mem_strndup(m->data, m->len);
			p->dump_len = m->len;
			complete = true;
		}
		free(m);
	}
	return complete;
}

static void on_dump(struct loop_io *io, int events)
{
	struct process *p = container_of(io, struct process, dump);
	struct sim_child *c = sim_fd_owner(p->loop, io->fd);

	(void)events;
	if (read_dump(p))
		end_dump(p, true);
	else if (c->dump.over)
		loop_io_close(io);
}

static void on_dump_timer(struct loop_timer *t)
{
	struct process *p = container_of(t, struct process, dump_timer);

	end_dump(p, read_dump(p));
}

void process_drain_dump(struct process *p)
{
	if (p->dumping && read_dump(p))
		end_dump(p, true);
}

void process_dump(struct process *p, uint64_t timeout)
{
	if (p->dumping)
		return;
	(void)read_dump(p); /* leftovers */
	p->dumping = true;
	if (p->dump.fd < 0 || process_signal(p, SIGUSR2) < 0)
		timeout = 0;
	else
		loop_io_watch(&p->dump, LOOP_READ);
	loop_timer_set(&p->dump_timer, loop_now(p->loop) + timeout);
}

/* --- life --- */

void sim_process_cut(struct process *p)
{
	loop_io_close(&p->control);
	loop_io_close(&p->err);
	loop_io_close(&p->dump);
	loop_io_close(&p->pidfd);
	loop_timer_stop(&p->dump_timer);
	p->dumping = false;
	p->page = NULL;
	p->new_calls = -1; /* the stream has it too */
	process_drop_old_calls(p);
}

void sim_process_watch(struct process *p)
{
	loop_io_watch(&p->pidfd, LOOP_READ);
	loop_io_watch(&p->control, LOOP_READ);
	if (p->err.fd >= 0) /* it may have closed that before */
		loop_io_watch(&p->err, LOOP_READ);
}

static void on_exit_seen(struct loop_io *io, int events)
{
	struct process *p = container_of(io, struct process, pidfd);
	struct sim_child *c = child_of(p);
	struct process_exit how = p->foreign ? (struct process_exit){ .exit_code = -1 } : c->how; /* known to its parent only */

	(void)events;
	if (!c->dead)
		return;
	loop_io_close(&p->pidfd); /* reaped: from here on there is nobody to signal; the call channel keeps c */
	while (p->control.fd >= 0 && read_control(p, c))
		;
	read_output(p);
	if (p->tail)
		tail_finish(p->tail, WALL_MS);
	end_dump(p, read_dump(p)); /* also for what a fatal signal has left */
	sim_process_cut(p);
	p->pid = 0;
	p->ops->exited(p, &how);
}

void process_init(struct process *p, struct loop *l, const struct process_ops *ops, size_t tail_bytes,
		  unsigned tail_lines)
{
	*p = (struct process){ .ops = ops, .loop = l, .page_fd = -1, .new_calls = -1 };
	memset(p->old_calls, -1, sizeof(p->old_calls));
	p->tail = tail_new(tail_bytes, tail_lines);
	loop_io_init(&p->pidfd, l, -1, LOOP_PRIO_NORMAL, on_exit_seen);
	loop_io_init(&p->control, l, -1, LOOP_PRIO_WORKER, on_control);
	loop_io_init(&p->out, l, -1, LOOP_PRIO_OUTPUT, on_output);
	loop_io_init(&p->err, l, -1, LOOP_PRIO_OUTPUT, on_output);
	loop_io_init(&p->dump, l, -1, LOOP_PRIO_OUTPUT, on_dump);
	loop_timer_init(&p->dump_timer, l, on_dump_timer);
}

void process_deinit(struct process *p)
{
	if (!p->loop)
		return;
	if (p->pid)
		LOG_BUG("a process is dropped that has not been reaped");
	sim_process_cut(p);
	free(p->dump_text);
	free(p->fatal);
	p->tail = tail_free(p->tail);
	*p = (struct process){ 0 };
}

int process_start(struct process *p, struct spawner *sp, const struct process_spec *spec, int *calls_fd)
{
	int r;

	assert(!p->pid);
	p->spawned_ns = loop_now(p->loop);
	r = sp->start(sp, p, spec, calls_fd);
	if (r < 0)
		return r;
	sim_process_watch(p);
	return 0;
}

/* --- a fork by another process --- */

int process_fork(struct process *p, struct process *parent, const void *message, size_t len, int *calls_fd)
{
	struct sim_child *template = sim_fd_owner(p->loop, parent->control.fd), *c;
	int r;

	assert(!p->pid);
	if (template && template->machine->fd_error)
		return template->machine->fd_error;
	if (!template || template->control.over)
		return -EPIPE;
	r = sim_child_conceive(template->machine, &c);
	if (r < 0)
		return r;
	p->spawned_ns = loop_now(p->loop);
	p->control.fd = c->control.fd;
	p->err.fd = c->output.fd;
	p->dump.fd = c->dump.fd;
	p->page = c->page;
	*calls_fd = c->calls->fd;
	sim_child_receive_fork(template, message, len, c);
	return 0;
}

int process_born(struct process *p, pid_t pid)
{
	struct sim_child *c = sim_fd_owner(p->loop, p->control.fd);

	assert(!p->pid);
	if (!c || c->pid != pid || c->unborn) {
		process_unborn(p);
		return -ECHILD;
	}
	p->pid = pid;
	p->exec_ns = loop_now(p->loop);
	p->pidfd.fd = sim_child_open_pidfd(c);
	sim_process_watch(p);
	return 0;
}

void process_unborn(struct process *p)
{
	assert(!p->pid);
	sim_process_cut(p);
}

unsigned leftovers_kill_of(uint64_t worker, pid_t pid)
{
	(void)worker, (void)pid;
	return 0;
}

bool process_is_running(const struct process *p)
{
	return p->pid != 0;
}

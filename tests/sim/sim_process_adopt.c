/* A simulated process that lives already, and the daemon that started it does not: see sim_channel.c for its side. */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "daemon/base/cleanup.h"
#include "tests/sim/sim_child_parts.h"
#include "tests/sim/sim_process.h"

void process_fds(const struct process *p, int fds[PROCESS_FDS])
{
	for (unsigned i = 0; i < PROCESS_FDS; i++)
		fds[i] = -1;
	fds[PROCESS_FD_PIDFD] = p->pidfd.fd;
	fds[PROCESS_FD_CONTROL] = p->control.fd;
	fds[PROCESS_FD_ERR] = p->err.fd;
	fds[PROCESS_FD_DUMP] = p->dump.fd;
}

static void process_take_fds(struct process *p, int fds[PROCESS_FDS], int old_calls[PROCESS_OLD_CALLS])
{
	p->pidfd.fd = TAKE_FD(fds[PROCESS_FD_PIDFD]);
	p->control.fd = TAKE_FD(fds[PROCESS_FD_CONTROL]);
	p->err.fd = TAKE_FD(fds[PROCESS_FD_ERR]);
	p->dump.fd = TAKE_FD(fds[PROCESS_FD_DUMP]);
	memcpy(p->old_calls, old_calls, sizeof(p->old_calls));
}

static void skip_control(struct process *p, struct sim_child *c)
{
	struct sim_message *m;

	while ((m = sim_pipe_take(p->loop, &c->control)))
		free(m);
}

int process_adopt(struct process *p, pid_t pid, int fds[PROCESS_FDS], int old_calls[PROCESS_OLD_CALLS], int *calls_fd)
{
	struct sim_child *c = sim_fd_owner(p->loop, fds[PROCESS_FD_CONTROL]);

	assert(!p->pid && c);
	process_take_fds(p, fds, old_calls);
	if (c->pid != pid || sim_child_take_over(c, p) < 0) {
		sim_process_cut(p);
		return -ESRCH;
	}
	skip_control(p, c);
	*calls_fd = p->new_calls = sim_child_open_channel(c)->fd; /* which stands for its other end too */
	p->page = c->page;
	p->foreign = true;
	p->pid = pid;
	p->spawned_ns = p->exec_ns = loop_now(p->loop);
	sim_process_watch(p);
	return 0;
}

int process_send_calls(struct process *p, const void *message, size_t len)
{
	struct sim_child *c = sim_fd_owner(p->loop, p->control.fd);
	struct sim_pipe *channel = sim_fd_owner(p->loop, TAKE_FD(p->new_calls));
	int r = c && !c->control.over ? c->machine->fd_error : -EPIPE;

	if (r < 0)
		sim_channel_end(channel);
	else if (sim_takes_effect(p->loop))
		sim_child_receive_calls(c, message, len, channel);
	return r;
}

void process_drop_old_calls(struct process *p)
{
	for (unsigned i = 0; i < PROCESS_OLD_CALLS; i++) {
		struct loop_io io;

		loop_io_init(&io, p->loop, TAKE_FD(p->old_calls[i]), LOOP_PRIO_NORMAL, NULL);
		loop_io_close(&io);
	}
}

/* No program is executed in this world. */
int process_go_on(struct process *p, pid_t pid, int fds[PROCESS_FDS])
{
	(void)p, (void)pid, (void)fds;
	return -ENOSYS;
}

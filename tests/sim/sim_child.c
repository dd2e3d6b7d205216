#include "tests/sim/sim_child.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <utlist.h>

#include "daemon/base/cleanup.h"
#include "daemon/base/mem.h"
#include "tests/sim/sim_child_parts.h"

/* --- death --- */

static void child_free(struct sim_child *c)
{
	DL_DELETE(c->machine->children, c);
	sim_channels_free(c);
	sim_messages_free(c->control.messages);
	sim_messages_free(c->output.messages);
	sim_messages_free(c->dump.messages);
	sim_messages_free(c->inbox);
	sim_copies_deinit(&c->copies);
	free(c);
}

void sim_child_drop(struct sim_child *c)
{
	if (--c->n_fds > 0)
		return;
	if (!c->dead)
		sim_child_die(c, 1, 0); /* its control channel is at its end */
	child_free(c);
}

void sim_child_release_unborn(struct sim_message *m)
{
	struct sim_child *c = TAKE_PTR(m->unborn);

	if (!c)
		return;
	if (c->unborn)
		sim_child_die(c, 1, 0);
	sim_child_drop(c);
}

/* What lies unread in its control socket. */
static void child_abandon_forks(struct sim_child *c)
{
	struct sim_message *m;

	DL_FOREACH(c->inbox, m)
		sim_child_release_unborn(m);
}

void sim_child_die(struct sim_child *c, int exit_code, int signal)
{
	struct loop *l = c->machine->loop;
	struct sim_event *events[] = { &c->init, &c->hear, &c->work, &c->interrupt, &c->leave, &c->close };

	if (c->dead)
		return;
	for (size_t i = 0; i < ARRAY_SIZE(events); i++)
		sim_event_cancel(l, events[i]);
	if (!c->unborn)
		TELL(c, died);
	c->dead = true;
	child_abandon_forks(c);
	sim_child_drop_channel(c);
	c->how = (struct process_exit){ .known = true, .exit_code = signal ? -1 : exit_code, .signal = signal };
	sim_channels_end(c);
	c->control.over = c->output.over = c->dump.over = true;
	sim_pipe_update(l, &c->control);
	sim_pipe_update(l, &c->output);
	sim_pipe_update(l, &c->dump);
	sim_fd_set_readable(l, c->pidfd, true); /* -1: it has none, and nothing happens */
}

static void child_on_leave(struct sim_event *e)
{
	struct sim_child *c = container_of(e, struct sim_child, leave);

	if (c->cut_off && !c->leave_signal) /* with its daemon gone it is dead already */
		TELL(c, wronged, "the end of a call channel, and no other in its place");
	sim_child_die(c, c->leave_code, c->leave_signal);
}

void sim_child_leave_after(struct sim_child *c, uint64_t ns, int exit_code, int signal)
{
	if (c->dead || (c->leave.pending && c->leave_signal == SIGKILL))
		return;
	c->leave_code = exit_code;
	c->leave_signal = signal;
	sim_child_after(c, &c->leave, ns);
}

void sim_child_leave(struct sim_child *c)
{
	c->stopping = true;
	if (!c->call)
		sim_child_leave_after(c, c->script.hears_after, 0, 0);
}

void sim_child_die_of_itself(struct sim_child *c)
{
	sim_child_print(c, "Fatal Python error: something broke\n");
	sim_child_die(c, c->script.exit_code, c->script.signal);
}

/* --- birth --- */

static void child_on_fd_closed(void *owner, int fd)
{
	struct sim_child *c = owner;
	struct sim_pipe *pipes[] = { &c->control, &c->output, &c->dump };

	for (size_t i = 0; i < ARRAY_SIZE(pipes); i++) {
		if (pipes[i]->fd == fd)
			pipes[i]->fd = -1;
	}
	if (c->pidfd == fd)
		c->pidfd = -1;
	if (c->control.fd < 0 && c->asked_for) {
		c->asked_for = false;
		if (!c->refused)
			TELL(c, miscarried);
	}
	sim_child_drop(c);
}

static void child_on_fd_copied(void *owner)
{
	struct sim_child *c = owner;

	c->n_fds++;
}

static int child_open(struct sim_child *c)
{
	c->n_fds++;
	return sim_fd_open(c->machine->loop, &(struct sim_file){ .owner = c, .closed = child_on_fd_closed,
							 .copied = child_on_fd_copied });
}

struct sim_child *sim_child_new(struct sim_machine *m)
{
	struct sim_child *c = MEM_NEW(struct sim_child);

	c->machine = m;
	c->script = m->script;
	c->pid = ++m->last_pid;
	DL_APPEND(m->children, c);
	c->pidfd = -1;
	c->calls = sim_child_open_channel(c);
	c->control.fd = child_open(c);
	c->output.fd = child_open(c);
	c->dump.fd = child_open(c);
	sim_event_init(&c->init, sim_child_on_init);
	sim_event_init(&c->hear, sim_child_on_hear);
	sim_event_init(&c->work, sim_child_on_work);
	sim_event_init(&c->interrupt, sim_child_on_interrupt);
	sim_event_init(&c->leave, child_on_leave);
	sim_event_init(&c->close, sim_child_on_close);
	return c;
}

int sim_child_open_pidfd(struct sim_child *c)
{
	c->asked_for = false;
	c->pidfd = child_open(c);
	sim_fd_set_readable(c->machine->loop, c->pidfd, c->dead);
	return c->pidfd;
}

/* Whoever had it as its child has reaped it: every second one, as it happens. */
static bool child_is_reaped(const struct sim_child *c)
{
	return c->dead && c->pid % 2;
}

static void child_connect(struct sim_child *c, struct sim_pipe *pipe, int fd)
{
	pipe->fd = fd;
	sim_pipe_update(c->machine->loop, pipe);
}

int sim_child_take_over(struct sim_child *c, const struct process *p)
{
	if (child_is_reaped(c))
		return -ESRCH;
	child_connect(c, &c->control, p->control.fd);
	child_connect(c, &c->output, p->err.fd);
	child_connect(c, &c->dump, p->dump.fd);
	c->pidfd = p->pidfd.fd;
	sim_fd_set_readable(c->machine->loop, c->pidfd, c->dead);
	return 0;
}

int sim_child_conceive(struct sim_machine *m, struct sim_child **c)
{
	int r = sim_machine_attempt(m, SIM_ATTEMPT_FORK);

	if (r < 0)
		return r;
	*c = sim_child_new(m);
	(*c)->unborn = (*c)->asked_for = true;
	(*c)->n_fds++;
	TELL(*c, born);
	return 0;
}

void sim_child_bear(struct sim_child *c, const struct sim_child *t)
{
	c->unborn = false;
	c->generation = t->generation;
	c->got_init = c->goes;
	c->machine->n_forked++;
	sim_child_after(c, &c->init, c->script.hello_after);
	sim_child_notice(c);
}

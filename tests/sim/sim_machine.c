#include "tests/sim/sim_machine.h"

#include <errno.h>
#include <utlist.h>

#include "daemon/base/cleanup.h"
#include "tests/sim/sim_child_parts.h"

int sim_machine_attempt(struct sim_machine *m, enum sim_attempt what)
{
	if (!sim_takes_effect(m->loop))
		return -EAGAIN;
	m->n_attempts++;
	if (m->ops && m->ops->attempted)
		m->ops->attempted(m, what);
	return m->spawn_error;
}

static int machine_start(struct spawner *sp, struct process *p, const struct process_spec *spec, int *calls_fd)
{
	struct sim_machine *m = container_of(sp, struct sim_machine, spawner);
	bool is_template = spec->argv[2] != NULL;
	int r = sim_machine_attempt(m, is_template ? SIM_ATTEMPT_TEMPLATE : SIM_ATTEMPT_EXEC);
	struct sim_child *c;

	if (r < 0)
		return r;
	m->n_spawned++;
	c = sim_child_new(m);
	c->is_template = is_template;
	TELL(c, born);
	p->pid = c->pid;
	p->exec_ns = loop_now(m->loop);
	p->pidfd.fd = sim_child_open_pidfd(c);
	p->control.fd = c->control.fd;
	p->err.fd = c->output.fd;
	p->dump.fd = c->dump.fd;
	p->page = c->page;
	*calls_fd = c->calls->fd;
	sim_child_after(c, &c->init, c->script.hello_after);
	return 0;
}

void sim_machine_init(struct sim_machine *m, struct loop *l, const struct sim_machine_ops *ops)
{
	*m = (struct sim_machine){
		.spawner = { .name = "simulated", .start = machine_start },
		.loop = l,
		.ops = ops,
		.last_pid = 1000,
		.script = { .hello_after = NS_PER_MS,
			    .ready_after = NS_PER_MS,
			    .call_after = NS_PER_MS,
			    .shows_stack = true,
			    .exit_code = 3 },
	};
}

unsigned sim_machine_living(const struct sim_machine *m)
{
	const struct sim_child *c;
	unsigned n = 0;

	DL_FOREACH(m->children, c)
		n += !c->dead && !c->unborn;
	return n;
}

struct sim_child *sim_machine_find(const struct sim_machine *m, pid_t pid)
{
	struct sim_child *c;

	DL_FOREACH(m->children, c) {
		if (c->pid == pid && !c->dead)
			return c;
	}
	return NULL;
}

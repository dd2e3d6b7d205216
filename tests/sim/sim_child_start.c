/* How a simulated child starts, by its script. */
#include "daemon/base/cleanup.h"
#include "tests/sim/sim_child_parts.h"

static void child_on_hello_time(struct sim_child *c)
{
	switch (c->script.init) {
	case SIM_INIT_EXIT_EARLY:
		sim_child_die_of_itself(c);
		return;
	case SIM_INIT_HANG_EARLY:
	case SIM_INIT_MANUAL:
		return;
	case SIM_INIT_READY_FIRST:
		sim_child_say_ready(c);
		return;
	case SIM_INIT_GARBAGE:
		sim_child_write_control(c, "\xc1garbage", 8);
		return;
	default:
		c->said_hello = c->goes;
		if (!c->goes)
			sim_child_say_hello(c);
		sim_child_after(c, &c->init, c->script.ready_after);
	}
}

static void child_on_ready_time(struct sim_child *c)
{
	switch (c->script.init) {
	case SIM_INIT_EXIT_LATE:
		sim_child_die_of_itself(c);
		return;
	case SIM_INIT_HANG_LATE:
		sim_child_say_phase(c, "imports", "app");
		return;
	case SIM_INIT_FAILED:
		sim_child_say_failed(c);
		sim_child_die(c, 1, 0);
		return;
	case SIM_INIT_CLOSE:
		sim_child_print(c, "the app closes all fds\n");
		sim_child_close_control(c);
		return;
	case SIM_INIT_OVERSIZED:
		sim_child_say_too_much(c);
		return;
	case SIM_INIT_EARLY_REPLY:
	case SIM_INIT_EARLY_REPLY_AND_EXIT:
		sim_child_reply(c, 1);
		if (c->script.init == SIM_INIT_EARLY_REPLY_AND_EXIT)
			sim_child_die_of_itself(c);
		return;
	default:
		sim_child_say_phase(c, "imports", "app");
		sim_child_say_ready(c);
		if (c->script.init == SIM_INIT_READY_TWICE)
			sim_child_say_ready(c);
		if (c->script.closes_idle)
			sim_child_after(c, &c->close, c->script.closes_after);
	}
}

void sim_child_on_init(struct sim_event *e)
{
	struct sim_child *c = container_of(e, struct sim_child, init);

	if (!c->said_hello)
		child_on_hello_time(c);
	else if (c->got_init)
		child_on_ready_time(c);
	else
		sim_child_after(c, &c->init, NS_PER_MS);
}

void sim_child_on_close(struct sim_event *e)
{
	sim_child_close_calls(container_of(e, struct sim_child, close));
}

#include "tests/sim/sim_template.h"

#include <errno.h>

#include "daemon/base/packed.h"
#include "proto/envelope.h"
#include "proto/pack.h"
#include "tests/sim/sim_child.h"

#define NOBODY UINT64_C(1000000) /* no worker has this number, and no process */

static uint64_t read_worker(struct span map)
{
	struct span key;
	uint32_t n = 0;
	uint64_t worker = 0;

	if (!mp_read_map(&map, &n) || !mp_read_text(&map, &key) || !span_equals(key, "worker") ||
	    !mp_read_uint(&map, &worker))
		return 0;
	return worker;
}

static bool read_go(struct span map)
{
	struct span key, value;
	uint32_t n = 0;
	bool go = false;

	(void)mp_read_map(&map, &n);
	while (n-- && mp_read_text(&map, &key) && mp_read_any(&map, &value)) {
		if (span_equals(key, "go"))
			(void)mp_read_bool(&value, &go);
	}
	return go;
}

static void say_forked(struct sim_child *t, uint64_t worker, const char *key, uint64_t value)
{
	msgpack_sbuffer buf;
	msgpack_packer pk;

	packed_begin(&buf, &pk);
	msgpack_pack_array(&pk, 3);
	msgpack_pack_int(&pk, ENVELOPE_NOTIFICATION);
	pack_text(&pk, "forked");
	msgpack_pack_array(&pk, 1);
	msgpack_pack_map(&pk, 2);
	pack_kv_uint(&pk, "worker", worker);
	pack_kv_uint(&pk, key, value);
	sim_child_write_control(t, buf.data, buf.size);
	msgpack_sbuffer_destroy(&buf);
}

static void bear_and_tell(struct sim_child *t, uint64_t worker, struct sim_child *unborn)
{
	say_forked(t, worker, "pid", (uint64_t)unborn->pid);
	sim_child_bear(unborn, t);
}

/* With the threads that it has it is of no use from now on, which is no failed start. */
static void refuse(struct sim_child *t, uint64_t worker, struct sim_child *unborn)
{
	unborn->refused = t->script.fork_errno != EDEADLK;
	say_forked(t, worker, "errno", (uint64_t)t->script.fork_errno);
}

static void misbehave(struct sim_child *t, uint64_t worker, struct sim_child *unborn)
{
	switch (t->script.fork) {
	case SIM_FORK_DIE_BEFORE:
		sim_child_die(t, t->script.exit_code, t->script.signal);
		break;
	case SIM_FORK_DIE_UNTOLD:
		sim_child_bear(unborn, t);
		sim_child_die(t, t->script.exit_code, t->script.signal);
		break;
	case SIM_FORK_DIE_AFTER:
		bear_and_tell(t, worker, unborn);
		sim_child_die(t, t->script.exit_code, t->script.signal);
		break;
	case SIM_FORK_TWICE:
		bear_and_tell(t, worker, unborn);
		say_forked(t, worker, "pid", (uint64_t)unborn->pid);
		break;
	case SIM_FORK_NO_CHILD:
		say_forked(t, worker, "pid", NOBODY);
		break;
	case SIM_FORK_NOBODY:
		say_forked(t, NOBODY, "pid", (uint64_t)unborn->pid);
		break;
	case SIM_FORK_GARBAGE:
		say_forked(t, worker, "nothing", 0);
		break;
	default: /* SIM_FORK_IGNORE */
		break;
	}
}

void sim_template_fork(struct sim_child *t, struct span params, struct sim_child *unborn)
{
	const struct sim_machine_ops *ops = t->machine->ops;
	uint64_t worker = read_worker(params);

	if (!t->is_template || !t->said_ready || !unborn || !worker) {
		if (ops && ops->wronged)
			ops->wronged(t->machine, t, "a fork that cannot be done");
		return;
	}
	unborn->goes = read_go(params) && !unborn->script.ignores_go;
	if (ops && ops->forks)
		ops->forks(t->machine, t, unborn);
	if (t->script.fork == SIM_FORK_ANSWER)
		bear_and_tell(t, worker, unborn);
	else if (t->script.fork == SIM_FORK_ERRNO)
		refuse(t, worker, unborn);
	else
		misbehave(t, worker, unborn);
}

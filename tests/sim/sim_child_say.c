/* What a simulated child writes, but for its replies. */
#include <string.h>

#include "daemon/base/cleanup.h"
#include "daemon/base/mem.h"
#include "daemon/base/packed.h"
#include "proto/envelope.h"
#include "proto/pack.h"
#include "tests/sim/sim_child_parts.h"

/* The dead say nothing. */
static void say(struct sim_child *c, struct sim_pipe *p, const void *data, size_t len)
{
	if (!c->dead)
		sim_pipe_write(c->machine->loop, p, data, len);
}

void sim_child_write_calls(struct sim_child *c, const void *data, size_t len)
{
	say(c, c->calls, data, len);
}

void sim_child_write_control(struct sim_child *c, const void *data, size_t len)
{
	say(c, &c->control, data, len);
}

void sim_child_print(struct sim_child *c, const char *text)
{
	say(c, &c->output, text, strlen(text));
}

void sim_child_write_dump(struct sim_child *c, const char *text)
{
	say(c, &c->dump, text, strlen(text));
}

void sim_child_show_stack(struct sim_child *c, const char *function)
{
	_cleanup_free_ char *stack =
		mem_printf("Stack (most recent call first):\n  File \"/srv/app.py\", line 5 in %s\n", function);

	say(c, &c->dump, stack, strlen(stack));
}

void sim_child_close_calls(struct sim_child *c)
{
	sim_channel_end(c->calls);
}

void sim_child_close_control(struct sim_child *c)
{
	c->control.over = true;
	sim_pipe_update(c->machine->loop, &c->control);
}

/* [2, name, [{...}]] with the given number of pairs to follow. */
static void begin_news(msgpack_sbuffer *buf, msgpack_packer *pk, const char *name, unsigned pairs)
{
	/* A worker without memory is not the daemon's: the run is over, not the worker strange. */
	packed_begin(buf, pk);
	msgpack_pack_array(pk, 3);
	msgpack_pack_int(pk, ENVELOPE_NOTIFICATION);
	pack_text(pk, name);
	msgpack_pack_array(pk, 1);
	msgpack_pack_map(pk, pairs);
}

static void end_news(struct sim_child *c, msgpack_sbuffer *buf)
{
	sim_child_write_control(c, buf->data, buf->size);
	msgpack_sbuffer_destroy(buf);
}

void sim_child_say_hello(struct sim_child *c)
{
	msgpack_sbuffer buf;
	msgpack_packer pk;

	begin_news(&buf, &pk, "hello", 5 + (c->adopted != 0));
	pack_kv_uint(&pk, "protocol", c->script.init == SIM_INIT_WRONG_PROTOCOL ? 99 : 1);
	pack_kv_uint(&pk, "pid", (uint64_t)c->pid);
	pack_kv_text(&pk, "python", "3.11.2");
	pack_kv_text(&pk, "codec", "c");
	pack_kv_uint(&pk, "t_ns", sim_child_now(c));
	if (c->adopted)
		pack_kv_uint(&pk, "adopted", c->adopted);
	end_news(c, &buf);
	c->said_hello = true;
}

void sim_child_say_phase(struct sim_child *c, const char *phase, const char *module)
{
	msgpack_sbuffer buf;
	msgpack_packer pk;

	begin_news(&buf, &pk, "phase", 3);
	pack_kv_text(&pk, "name", phase);
	pack_kv_text(&pk, "module", module);
	pack_kv_uint(&pk, "t_ns", sim_child_now(c));
	end_news(c, &buf);
}

void sim_child_say_ready(struct sim_child *c)
{
	msgpack_sbuffer buf;
	msgpack_packer pk;

	begin_news(&buf, &pk, "ready", c->is_template ? 6 : 4 + (c->adopted != 0));
	pack_kv_bool(&pk, "session_close", c->script.session_close);
	pack_text(&pk, "idempotent");
	msgpack_pack_array(&pk, c->script.idempotent);
	if (c->script.idempotent)
		pack_text(&pk, "app.work");
	pack_text(&pk, "targets");
	msgpack_pack_array(&pk, 2);
	pack_text(&pk, "app.work");
	pack_text(&pk, "app.slow");
	pack_kv_uint(&pk, "t_ns", sim_child_now(c));
	if (c->is_template) {
		pack_kv_text(&pk, "fork", "clone");
		pack_kv_text(&pk, "unfit", c->script.unfit);
	} else if (c->adopted) {
		pack_kv_uint(&pk, "adopted", c->adopted);
	}
	end_news(c, &buf);
	c->said_ready = true;
	TELL(c, ready);
}

void sim_child_say_failed(struct sim_child *c)
{
	msgpack_sbuffer buf;
	msgpack_packer pk;

	begin_news(&buf, &pk, "failed", 6);
	pack_kv_text(&pk, "phase", "imports");
	pack_kv_text(&pk, "type", "RuntimeError");
	pack_kv_text(&pk, "message", "licence server refused");
	pack_kv_text(&pk, "file", "/srv/app.py");
	pack_kv_uint(&pk, "line", 5);
	pack_kv_text(&pk, "traceback", "Traceback (most recent call last):\n");
	end_news(c, &buf);
}

void sim_child_say_pong(struct sim_child *c, uint64_t seq)
{
	msgpack_sbuffer buf;
	msgpack_packer pk;

	begin_news(&buf, &pk, "pong", 1);
	pack_kv_uint(&pk, "seq", seq);
	end_news(c, &buf);
}

void sim_child_say_too_much(struct sim_child *c)
{
	_cleanup_free_ char *much = mem_new(PROCESS_CONTROL_MAX + 1);

	memset(much, 0xc0, PROCESS_CONTROL_MAX + 1);
	sim_child_write_control(c, much, PROCESS_CONTROL_MAX + 1);
}

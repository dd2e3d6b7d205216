/* The calls of a simulated child, and how it replies. */
#include "daemon/base/cleanup.h"
#include "daemon/base/packed.h"
#include "proto/envelope.h"
#include "proto/pack.h"
#include "tests/sim/sim_child_parts.h"
#include "tests/sim/sim_pair.h"

void sim_child_drop_channel(struct sim_child *c)
{
	if (c->channel)
		sim_pair_drop(c->channel);
	c->channel = NULL;
	c->direct = c->busy = false;
}

/* The call in hand is over, whatever came of it. */
static void child_finish(struct sim_child *c)
{
	uint64_t call = c->call;

	if (c->running)
		TELL(c, ended, call);
	c->call = 0;
	c->running = false;
	sim_child_drop_channel(c);
	sim_event_cancel(c->machine->loop, &c->work);
	sim_event_cancel(c->machine->loop, &c->interrupt);
	if (c->stopping)
		sim_child_leave_after(c, c->script.hears_after, 0, 0);
	else
		sim_channel_change(c);
}

/* --- replies --- */

static void begin_reply(msgpack_sbuffer *buf, msgpack_packer *pk, uint64_t call)
{
	packed_begin(buf, pk);
	msgpack_pack_array(pk, 5);
	msgpack_pack_int(pk, ENVELOPE_RESPONSE);
	msgpack_pack_uint64(pk, call);
}

static void end_reply(struct sim_child *c, msgpack_sbuffer *buf, msgpack_packer *pk, uint64_t call, bool good)
{
	struct sim_pipe *calls = c->calls;

	msgpack_pack_map(pk, good && c->copies.session ? 2 : 1);
	pack_kv_uint(pk, "run_us", 7);
	if (good && c->copies.session) {
		pack_text(pk, "session");
		sim_copies_pack_writes(&c->copies, pk);
	}
	sim_copies_end(&c->copies);
	if (c->call == call)
		child_finish(c);
	if (!c->dead)
		sim_pipe_write(c->machine->loop, calls, buf->data, buf->size); /* where the call came from */
	msgpack_sbuffer_destroy(buf);
}

void sim_child_reply(struct sim_child *c, uint64_t call)
{
	msgpack_sbuffer buf;
	msgpack_packer pk;

	begin_reply(&buf, &pk, call);
	if (c->call == call && !c->direct && !c->dead && !c->calls->over)
		TELL(c, replied, call);
	msgpack_pack_nil(&pk);
	msgpack_pack_uint64(&pk, call);
	end_reply(c, &buf, &pk, call, true);
}

void sim_child_reply_counts(struct sim_child *c, uint64_t call, uint64_t calls, uint64_t errors)
{
	msgpack_sbuffer buf;
	msgpack_packer pk;

	begin_reply(&buf, &pk, call);
	msgpack_pack_nil(&pk);
	msgpack_pack_map(&pk, 2);
	pack_kv_uint(&pk, "calls", calls);
	pack_kv_uint(&pk, "errors", errors);
	end_reply(c, &buf, &pk, call, true);
}

void sim_child_reply_error(struct sim_child *c, uint64_t call, const char *code, const char *message)
{
	msgpack_sbuffer buf;
	msgpack_packer pk;

	begin_reply(&buf, &pk, call);
	msgpack_pack_map(&pk, 2);
	pack_kv_text(&pk, "code", code);
	pack_kv_text(&pk, "message", message);
	msgpack_pack_nil(&pk);
	end_reply(c, &buf, &pk, call, false);
}

/* --- what comes of a call --- */

void sim_child_look_at_channel(struct sim_child *c)
{
	if (c->direct && !c->busy && sim_pair_is_over(c->channel) && c->script.call != SIM_CALL_MANUAL)
		sim_child_reply_counts(c, c->call, 2, 1);
}

static void child_misbehave(struct sim_child *c, uint64_t call)
{
	switch (c->script.call) {
	case SIM_CALL_WRONG_ID:
		sim_child_reply(c, call + 1);
		break;
	case SIM_CALL_DOUBLE:
	case SIM_CALL_DOUBLE_AND_DIE:
		sim_child_reply(c, call);
		sim_child_reply(c, call);
		if (c->script.call == SIM_CALL_DOUBLE_AND_DIE)
			sim_child_die_of_itself(c);
		break;
	case SIM_CALL_GARBAGE:
		sim_child_write_calls(c, "\xc1 this is no reply", 18);
		break;
	case SIM_CALL_REPLY_AND_CLOSE:
		sim_child_reply(c, call);
		sim_child_close_calls(c);
		break;
	default:
		sim_child_close_calls(c);
	}
}

void sim_child_on_work(struct sim_event *e)
{
	struct sim_child *c = container_of(e, struct sim_child, work);
	uint64_t call = c->call;

	if (c->direct && c->script.call == SIM_CALL_REPLY) {
		c->busy = false;
		sim_child_look_at_channel(c);
		return;
	}
	switch (c->script.call) {
	case SIM_CALL_REPLY:
		sim_child_reply(c, call);
		break;
	case SIM_CALL_ERROR:
		sim_child_reply_error(c, call, "app_error", "ValueError: no");
		break;
	case SIM_CALL_UNKNOWN:
		sim_child_reply_error(c, call, "unknown_target", "no such handler");
		break;
	case SIM_CALL_DIE:
		c->running = false; /* the handler never ended */
		sim_child_die_of_itself(c);
		break;
	case SIM_CALL_REPLY_AND_DIE:
		sim_child_reply(c, call);
		sim_child_die_of_itself(c);
		break;
	default:
		child_misbehave(c, call);
	}
	if (c->call && !c->dead)
		child_finish(c);
}

void sim_child_on_interrupt(struct sim_event *e)
{
	struct sim_child *c = container_of(e, struct sim_child, interrupt);

	if (!c->call || c->call != c->wanted)
		return;
	if (c->direct) {
		c->busy = false;
		sim_child_look_at_channel(c);
		return;
	}
	sim_child_reply_error(c, c->call, c->reason == 2 ? "deadline_exceeded" : "cancelled", "interrupted");
}

/* --- how it begins --- */

void sim_child_begin_call(struct sim_child *c, uint64_t call)
{
	if (!c->said_ready)
		TELL(c, wronged, "a call before ready");
	if (c->is_template)
		TELL(c, wronged, "a call for a template");
	if (c->call)
		TELL(c, wronged, "a second call while the first runs");
	c->n_calls++;
	c->call = call;
	TELL(c, saw, call);
	TELL(c, called);
	if (c->script.call != SIM_CALL_UNKNOWN) {
		c->running = true;
		TELL(c, began, call);
	}
	if (c->script.call != SIM_CALL_HANG && c->script.call != SIM_CALL_MANUAL)
		sim_child_after(c, &c->work, c->script.call_after);
	if (c->wanted == call && !c->script.ignores_interrupt)
		sim_child_after(c, &c->interrupt, c->script.hears_after);
}

void sim_child_miss_values(struct sim_child *c, uint64_t call)
{
	c->call = call;
	TELL(c, saw, call);
	TELL(c, missed, call);
	sim_child_reply_error(c, call, "internal", "no copy of the session");
}

void sim_child_begin_direct(struct sim_child *c, uint64_t call)
{
	if (!c->said_ready || c->call)
		TELL(c, wronged, "a direct lease of a worker that is not free");
	if (!c->channel) {
		TELL(c, wronged, "a direct lease without a channel");
		return;
	}
	c->call = call;
	c->direct = true;
	c->busy = true;
	TELL(c, called);
	if (c->script.call != SIM_CALL_HANG && c->script.call != SIM_CALL_MANUAL)
		sim_child_after(c, &c->work, c->script.call_after);
	if (c->wanted == call && !c->script.ignores_interrupt)
		sim_child_after(c, &c->interrupt, c->script.hears_after);
}

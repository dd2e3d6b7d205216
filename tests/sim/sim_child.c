#include "tests/sim/sim_child.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <utlist.h>

#include "daemon/base/cleanup.h"
#include "daemon/base/mem.h"
#include "daemon/base/packed.h"
#include "proto/envelope.h"
#include "proto/pack.h"
#include "tests/sim/sim_pair.h"
#include "tests/sim/sim_template.h"

#define TELL(c, what, ...)                                                                                             \
	do {                                                                                                           \
		const struct sim_machine_ops *ops_ = (c)->machine->ops;                                                \
		if (ops_ && ops_->what)                                                                                \
			ops_->what((c)->machine, c, ##__VA_ARGS__);                                                    \
	} while (0)

static uint64_t now(const struct sim_child *c)
{
	return loop_now(c->machine->loop);
}

static void child_after(struct sim_child *c, struct sim_event *e, uint64_t ns)
{
	sim_event_set(c->machine->loop, e, now(c) + ns);
}

/* --- pipes --- */

static struct sim_message *message_new(const void *data, size_t len)
{
	struct sim_message *m = mem_new(sizeof(*m) + len);

	m->len = len;
	memcpy(m->data, data, len);
	return m;
}

static void pipe_update(struct loop *l, struct sim_pipe *p)
{
	sim_fd_set_readable(l, p->fd, p->messages || p->over);
}

static void pipe_write(struct sim_child *c, struct sim_pipe *p, const void *data, size_t len)
{
	struct sim_message *m;

	if (c->dead || p->fd < 0 || p->over)
		return;
	m = message_new(data, len);
	DL_APPEND(p->messages, m);
	pipe_update(c->machine->loop, p);
}

struct sim_message *sim_pipe_take(struct loop *l, struct sim_pipe *p)
{
	struct sim_message *m = p->messages;

	if (m)
		DL_DELETE(p->messages, m);
	pipe_update(l, p);
	return m;
}

static void child_drop(struct sim_child *c);
static void child_release_unborn(struct sim_message *m);

static void message_free(struct sim_message *m)
{
	child_release_unborn(m);
	if (m->pair)
		sim_pair_drop(m->pair);
	free(m);
}

static void messages_free(struct sim_message *list)
{
	struct sim_message *m, *next;

	DL_FOREACH_SAFE(list, m, next)
		message_free(m);
}

/* --- what it says --- */

void sim_child_write_calls(struct sim_child *c, const void *data, size_t len)
{
	pipe_write(c, &c->calls, data, len);
}

void sim_child_write_control(struct sim_child *c, const void *data, size_t len)
{
	pipe_write(c, &c->control, data, len);
}

void sim_child_print(struct sim_child *c, const char *text)
{
	pipe_write(c, &c->output, text, strlen(text));
}

void sim_child_write_dump(struct sim_child *c, const char *text)
{
	pipe_write(c, &c->dump, text, strlen(text));
}

/* [2, name, [{...}]] with the given number of pairs to follow. */
static void begin_news(msgpack_sbuffer *buf, msgpack_packer *pk, const char *name, unsigned pairs)
{
	packed_begin(buf, pk); /* a worker without memory is not the daemon's: the run is over, not the worker strange */
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

	begin_news(&buf, &pk, "hello", 5);
	pack_kv_uint(&pk, "protocol", c->script.init == SIM_INIT_WRONG_PROTOCOL ? 99 : 1);
	pack_kv_uint(&pk, "pid", (uint64_t)c->pid);
	pack_kv_text(&pk, "python", "3.11.2");
	pack_kv_text(&pk, "codec", "c");
	pack_kv_uint(&pk, "t_ns", now(c));
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
	pack_kv_uint(&pk, "t_ns", now(c));
	end_news(c, &buf);
}

void sim_child_say_ready(struct sim_child *c)
{
	msgpack_sbuffer buf;
	msgpack_packer pk;

	begin_news(&buf, &pk, "ready", c->is_template ? 6 : 4);
	pack_kv_bool(&pk, "session_close", c->script.session_close);
	pack_text(&pk, "idempotent");
	msgpack_pack_array(&pk, c->script.idempotent);
	if (c->script.idempotent)
		pack_text(&pk, "app.work");
	pack_text(&pk, "targets");
	msgpack_pack_array(&pk, 2);
	pack_text(&pk, "app.work");
	pack_text(&pk, "app.slow");
	pack_kv_uint(&pk, "t_ns", now(c));
	if (c->is_template) {
		pack_kv_text(&pk, "fork", "clone");
		pack_kv_text(&pk, "unfit", c->script.unfit);
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

static void child_leave_after(struct sim_child *c, uint64_t ns, int exit_code, int signal);

static void child_drop_channel(struct sim_child *c)
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
	child_drop_channel(c);
	sim_event_cancel(c->machine->loop, &c->work);
	sim_event_cancel(c->machine->loop, &c->interrupt);
	if (c->stopping)
		child_leave_after(c, c->script.hears_after, 0, 0);
}

static void begin_reply(msgpack_sbuffer *buf, msgpack_packer *pk, uint64_t call)
{
	packed_begin(buf, pk);
	msgpack_pack_array(pk, 5);
	msgpack_pack_int(pk, ENVELOPE_RESPONSE);
	msgpack_pack_uint64(pk, call);
}

static void end_reply(struct sim_child *c, msgpack_sbuffer *buf, msgpack_packer *pk, uint64_t call, bool good)
{
	msgpack_pack_map(pk, good && c->copies.session ? 2 : 1);
	pack_kv_uint(pk, "run_us", 7);
	if (good && c->copies.session) {
		pack_text(pk, "session");
		sim_copies_pack_writes(&c->copies, pk);
	}
	sim_copies_end(&c->copies);
	if (c->call == call)
		child_finish(c);
	sim_child_write_calls(c, buf->data, buf->size);
	msgpack_sbuffer_destroy(buf);
}

void sim_child_reply(struct sim_child *c, uint64_t call)
{
	msgpack_sbuffer buf;
	msgpack_packer pk;

	begin_reply(&buf, &pk, call);
	if (c->call == call && !c->direct && !c->dead && !c->calls.over)
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

void sim_child_close_calls(struct sim_child *c)
{
	c->calls.over = true;
	pipe_update(c->machine->loop, &c->calls);
}

void sim_child_close_control(struct sim_child *c)
{
	c->control.over = true;
	pipe_update(c->machine->loop, &c->control);
}

/* More than a control packet may have. */
static void child_say_too_much(struct sim_child *c)
{
	_cleanup_free_ char *much = mem_new(PROCESS_CONTROL_MAX + 1);

	memset(much, 0xc0, PROCESS_CONTROL_MAX + 1);
	sim_child_write_control(c, much, PROCESS_CONTROL_MAX + 1);
}

/* --- death --- */

/* With whoever was to give it life, or with the wish for it, its ends of the plumbing are gone. */
static void child_release_unborn(struct sim_message *m)
{
	struct sim_child *c = TAKE_PTR(m->unborn);

	if (!c)
		return;
	if (c->unborn)
		sim_child_die(c, 1, 0);
	child_drop(c);
}

/* What lies unread in its control socket. */
static void child_abandon_forks(struct sim_child *c)
{
	struct sim_message *m;

	DL_FOREACH(c->inbox, m)
		child_release_unborn(m);
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
	child_drop_channel(c);
	c->how = (struct process_exit){ .known = true, .exit_code = signal ? -1 : exit_code, .signal = signal };
	c->calls.over = c->control.over = c->output.over = c->dump.over = true;
	pipe_update(l, &c->calls);
	pipe_update(l, &c->control);
	pipe_update(l, &c->output);
	pipe_update(l, &c->dump);
	sim_fd_set_readable(l, c->pidfd, true); /* -1: it has none, and nothing happens */
}

static void child_on_leave(struct sim_event *e)
{
	struct sim_child *c = container_of(e, struct sim_child, leave);

	sim_child_die(c, c->leave_code, c->leave_signal);
}

static void child_leave_after(struct sim_child *c, uint64_t ns, int exit_code, int signal)
{
	if (c->dead || (c->leave.pending && c->leave_signal == SIGKILL))
		return;
	c->leave_code = exit_code;
	c->leave_signal = signal;
	child_after(c, &c->leave, ns);
}

static void child_die_of_itself(struct sim_child *c)
{
	sim_child_print(c, "Fatal Python error: something broke\n");
	sim_child_die(c, c->script.exit_code, c->script.signal);
}

/* --- init --- */

static void child_on_hello_time(struct sim_child *c)
{
	switch (c->script.init) {
	case SIM_INIT_EXIT_EARLY:
		child_die_of_itself(c);
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
		sim_child_say_hello(c);
		child_after(c, &c->init, c->script.ready_after);
	}
}

static void child_on_ready_time(struct sim_child *c)
{
	switch (c->script.init) {
	case SIM_INIT_EXIT_LATE:
		child_die_of_itself(c);
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
		child_say_too_much(c);
		return;
	case SIM_INIT_EARLY_REPLY:
	case SIM_INIT_EARLY_REPLY_AND_EXIT:
		sim_child_reply(c, 1);
		if (c->script.init == SIM_INIT_EARLY_REPLY_AND_EXIT)
			child_die_of_itself(c);
		return;
	default:
		sim_child_say_phase(c, "imports", "app");
		sim_child_say_ready(c);
		if (c->script.init == SIM_INIT_READY_TWICE)
			sim_child_say_ready(c);
		if (c->script.closes_idle)
			child_after(c, &c->close, c->script.closes_after);
	}
}

static void child_on_init(struct sim_event *e)
{
	struct sim_child *c = container_of(e, struct sim_child, init);

	if (!c->said_hello)
		child_on_hello_time(c);
	else if (c->got_init)
		child_on_ready_time(c);
	else
		child_after(c, &c->init, NS_PER_MS);
}

static void child_on_close(struct sim_event *e)
{
	sim_child_close_calls(container_of(e, struct sim_child, close));
}

/* --- calls --- */

/* The handler that ran for the client of a direct lease has ended; between two of them it sees the end of the channel. */
static void child_look_at_channel(struct sim_child *c)
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
			child_die_of_itself(c);
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

static void child_on_work(struct sim_event *e)
{
	struct sim_child *c = container_of(e, struct sim_child, work);
	uint64_t call = c->call;

	if (c->direct && c->script.call == SIM_CALL_REPLY) {
		c->busy = false;
		child_look_at_channel(c);
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
		child_die_of_itself(c);
		break;
	case SIM_CALL_REPLY_AND_DIE:
		sim_child_reply(c, call);
		child_die_of_itself(c);
		break;
	default:
		child_misbehave(c, call);
	}
	if (c->call && !c->dead)
		child_finish(c);
}

static void child_begin_call(struct sim_child *c, uint64_t call)
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
		child_after(c, &c->work, c->script.call_after);
	if (c->wanted == call && !c->script.ignores_interrupt)
		child_after(c, &c->interrupt, c->script.hears_after);
}

static void child_miss_values(struct sim_child *c, uint64_t call)
{
	c->call = call;
	TELL(c, saw, call);
	TELL(c, missed, call);
	sim_child_reply_error(c, call, "internal", "no copy of the session");
}

/* It serves its channel until that is over; by its script it is busy with a handler until then, or for a while. */
static void child_begin_direct(struct sim_child *c, uint64_t call)
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
		child_after(c, &c->work, c->script.call_after);
	if (c->wanted == call && !c->script.ignores_interrupt)
		child_after(c, &c->interrupt, c->script.hears_after);
}

static void child_on_interrupt(struct sim_event *e)
{
	struct sim_child *c = container_of(e, struct sim_child, interrupt);

	if (!c->call || c->call != c->wanted)
		return;
	if (c->direct) {
		c->busy = false;
		child_look_at_channel(c);
		return;
	}
	sim_child_reply_error(c, c->call, c->reason == 2 ? "deadline_exceeded" : "cancelled", "interrupted");
}

/* --- what it hears --- */

/* Its control thread answers, whatever the handler does. */
static void child_take_ping(struct sim_child *c, struct span params)
{
	struct span key, value;
	msgpack_sbuffer buf;
	msgpack_packer pk;
	uint32_t pairs;
	uint64_t seq;

	if (c->script.ignores_ping)
		return;
	if (!mp_read_map(&params, &pairs) || !mp_read_text(&params, &key) || !mp_read_any(&params, &value) ||
	    !span_equals(key, "seq") || !mp_read_uint(&value, &seq)) {
		TELL(c, wronged, "a ping that is malformed");
		return;
	}
	begin_news(&buf, &pk, "pong", 1);
	pack_kv_uint(&pk, "seq", seq);
	end_news(c, &buf);
}

static void child_take_stop(struct sim_child *c)
{
	c->n_stops++;
	if (c->script.ignores_stop)
		return;
	c->stopping = true;
	if (!c->call)
		child_leave_after(c, c->script.hears_after, 0, 0);
}

void sim_child_bear(struct sim_child *c, const struct sim_child *t)
{
	c->unborn = false;
	c->generation = t->generation;
	c->machine->n_forked++;
	child_after(c, &c->init, c->script.hello_after);
	sim_child_notice(c);
}

/* A forked one has the code of its template. */
static void child_take_init(struct sim_child *c, struct span params)
{
	struct span key, value;
	uint64_t generation = 0;
	uint32_t pairs = 0;

	c->got_init = true;
	if (!mp_read_map(&params, &pairs))
		return;
	while (pairs-- && mp_read_text(&params, &key) && mp_read_any(&params, &value)) {
		if (span_equals(key, "generation"))
			(void)mp_read_uint(&value, &generation);
	}
	if (c->generation && c->generation != generation)
		TELL(c, wronged, "fault 85: a worker with the code of another generation");
	c->generation = generation;
}

static void child_take_control(struct sim_child *c, const struct envelope *e, struct sim_message *m)
{
	if (span_equals(e->method, "init")) {
		child_take_init(c, e->params);
	} else if (span_equals(e->method, "ping")) {
		child_take_ping(c, e->params);
	} else if (span_equals(e->method, "stop")) {
		child_take_stop(c);
	} else if (span_equals(e->method, "forget")) {
		sim_copies_forget(&c->copies, e->params);
	} else if (span_equals(e->method, "channel")) {
		if (c->channel || !m->pair)
			TELL(c, wronged, "a channel without its fd, or a second one");
		c->channel = TAKE_PTR(m->pair);
	} else if (span_equals(e->method, "fork")) {
		sim_template_fork(c, e->params, m->unborn);
	}
}

static void child_take(struct sim_child *c, struct sim_message *m)
{
	struct span message = { .p = m->data, .len = m->len };
	struct complaint why;
	struct envelope e;

	if (cursor_check(message) != CURSOR_DONE || !envelope_parse(message, &e, &why)) {
		TELL(c, wronged, "a message that is malformed");
	} else if (m->control) {
		child_take_control(c, &e, m);
	} else if (e.type == ENVELOPE_REQUEST && span_equals(e.method, "direct")) {
		child_begin_direct(c, e.id);
	} else if (e.type == ENVELOPE_REQUEST && span_equals(e.method, "session_close")) {
		sim_copies_close(&c->copies, e.params);
		c->n_closed++;
		child_begin_call(c, e.id);
	} else if (e.type != ENVELOPE_REQUEST || !span_equals(e.method, "execute")) {
		TELL(c, wronged, "something on the call channel that is no call");
	} else {
		if (sim_copies_take(&c->copies, e.params))
			child_begin_call(c, e.id);
		else
			child_miss_values(c, e.id);
	}
}

/* It does one thing after the other, and a fork takes its time. True: not yet. */
static bool child_is_forking(struct sim_child *c, const struct sim_message *m)
{
	c->forking = !c->forking && m->unborn && c->script.fork_after;
	if (c->forking)
		child_after(c, &c->hear, c->script.fork_after);
	return c->forking;
}

static bool child_is_stopped(const struct sim_child *c)
{
	return c->is_template && c->script.stopped && c->said_ready;
}

static void child_on_hear(struct sim_event *e)
{
	struct sim_child *c = container_of(e, struct sim_child, hear);

	while (c->inbox && !c->dead && !child_is_stopped(c)) {
		struct sim_message *m = c->inbox;

		if (child_is_forking(c, m))
			return;
		DL_DELETE(c->inbox, m);
		child_take(c, m);
		message_free(m);
	}
	if (!c->dead)
		child_look_at_channel(c);
}

bool sim_child_has_unread(const struct sim_child *c)
{
	const struct sim_message *m = c->inbox;

	while (m && m->control)
		m = m->next;
	return m != NULL;
}

void sim_child_notice(struct sim_child *c)
{
	if (!c->dead && !c->unborn && !c->hear.pending)
		child_after(c, &c->hear, c->script.hears_after);
}

void sim_child_receive(struct sim_child *c, bool control, const void *data, size_t len)
{
	struct sim_message *m;

	if (c->dead)
		return;
	m = message_new(data, len);
	m->control = control;
	DL_APPEND(c->inbox, m);
	sim_child_notice(c);
}

void sim_child_receive_fd(struct sim_child *c, const void *data, size_t len, int fd)
{
	sim_child_receive(c, true, data, len);
	if (!c->dead)
		c->inbox->prev->pair = sim_pair_receive(c->machine->loop, fd, c); /* of the last */
}

void sim_child_receive_fork(struct sim_child *c, const void *data, size_t len, struct sim_child *unborn)
{
	sim_child_receive(c, true, data, len); /* it lives, or its control channel would be at its end */
	c->inbox->prev->unborn = unborn;
}

void sim_child_show_stack(struct sim_child *c, const char *function)
{
	_cleanup_free_ char *stack =
		mem_printf("Stack (most recent call first):\n  File \"/srv/app.py\", line 5 in %s\n", function);

	pipe_write(c, &c->dump, stack, strlen(stack));
}

void sim_child_signal(struct sim_child *c, int signo)
{
	if (c->dead)
		return;
	if (signo == SIGKILL) {
		child_leave_after(c, 0, 0, SIGKILL);
	} else if (child_is_stopped(c)) {
		return;
	} else if (signo == SIGTERM) {
		c->n_terms++;
		if (!c->script.ignores_term)
			child_leave_after(c, c->script.hears_after, 0, SIGTERM);
	} else if (signo == SIGUSR2) {
		c->n_dumps++;
		if (c->script.shows_stack)
			sim_child_show_stack(c, "slow");
	} else if (signo == SIGUSR1) {
		c->n_interrupts++;
		if (c->call == c->wanted && !c->script.ignores_interrupt)
			child_after(c, &c->interrupt, c->script.hears_after);
	}
}

/* --- birth and burial --- */

static void child_free(struct sim_child *c)
{
	DL_DELETE(c->machine->children, c);
	messages_free(c->calls.messages);
	messages_free(c->control.messages);
	messages_free(c->output.messages);
	messages_free(c->dump.messages);
	messages_free(c->inbox);
	sim_copies_deinit(&c->copies);
	free(c);
}

/* One that holds it less. */
static void child_drop(struct sim_child *c)
{
	if (--c->n_fds > 0)
		return;
	if (!c->dead)
		sim_child_die(c, 1, 0); /* its control channel is at its end */
	child_free(c);
}

static void child_on_fd_closed(void *owner, int fd)
{
	struct sim_child *c = owner;
	struct sim_pipe *pipes[] = { &c->calls, &c->control, &c->output, &c->dump };

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
	child_drop(c);
}

static int child_open(struct sim_child *c)
{
	c->n_fds++;
	return sim_fd_new(c->machine->loop, c, child_on_fd_closed);
}

static struct sim_child *child_new(struct sim_machine *m)
{
	struct sim_child *c = MEM_NEW(struct sim_child);

	c->machine = m;
	c->script = m->script;
	c->pid = ++m->last_pid;
	DL_APPEND(m->children, c);
	c->pidfd = -1;
	c->calls.fd = child_open(c);
	c->control.fd = child_open(c);
	c->output.fd = child_open(c);
	c->dump.fd = child_open(c);
	sim_event_init(&c->init, child_on_init);
	sim_event_init(&c->hear, child_on_hear);
	sim_event_init(&c->work, child_on_work);
	sim_event_init(&c->interrupt, child_on_interrupt);
	sim_event_init(&c->leave, child_on_leave);
	sim_event_init(&c->close, child_on_close);
	return c;
}

int sim_child_open_pidfd(struct sim_child *c)
{
	c->asked_for = false;
	c->pidfd = child_open(c);
	sim_fd_set_readable(c->machine->loop, c->pidfd, c->dead);
	return c->pidfd;
}

static int machine_attempt(struct sim_machine *m, enum sim_attempt what)
{
	m->n_attempts++;
	if (m->ops && m->ops->attempted)
		m->ops->attempted(m, what);
	return m->spawn_error;
}

int sim_child_conceive(struct sim_machine *m, struct sim_child **c)
{
	int r = machine_attempt(m, SIM_ATTEMPT_FORK);

	if (r < 0)
		return r;
	*c = child_new(m);
	(*c)->unborn = (*c)->asked_for = true;
	(*c)->n_fds++;
	TELL(*c, born);
	return 0;
}

static int machine_start(struct spawner *sp, struct process *p, const struct process_spec *spec, int *calls_fd)
{
	struct sim_machine *m = container_of(sp, struct sim_machine, spawner);
	bool is_template = spec->argv[2] != NULL;
	int r = machine_attempt(m, is_template ? SIM_ATTEMPT_TEMPLATE : SIM_ATTEMPT_EXEC);
	struct sim_child *c;

	if (r < 0)
		return r;
	m->n_spawned++;
	c = child_new(m);
	c->is_template = is_template;
	TELL(c, born);
	p->pid = c->pid;
	p->exec_ns = loop_now(m->loop);
	p->pidfd.fd = sim_child_open_pidfd(c);
	p->control.fd = c->control.fd;
	p->err.fd = c->output.fd;
	p->dump.fd = c->dump.fd;
	*calls_fd = c->calls.fd;
	child_after(c, &c->init, c->script.hello_after);
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

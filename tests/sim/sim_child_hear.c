/* What a simulated child hears: messages and signals, some time after they were sent. */
#include <signal.h>
#include <utlist.h>

#include "daemon/base/cleanup.h"
#include "proto/envelope.h"
#include "tests/sim/sim_child_parts.h"
#include "tests/sim/sim_pair.h"
#include "tests/sim/sim_template.h"

/* Its control thread answers, whatever the handler does. */
static void child_take_ping(struct sim_child *c, struct span params)
{
	struct span key, value;
	uint32_t pairs;
	uint64_t seq;

	if (c->script.ignores_ping)
		return;
	if (!mp_read_map(&params, &pairs) || !mp_read_text(&params, &key) || !mp_read_any(&params, &value) ||
	    !span_equals(key, "seq") || !mp_read_uint(&value, &seq)) {
		TELL(c, wronged, "a ping that is malformed");
		return;
	}
	sim_child_say_pong(c, seq);
}

static void child_take_stop(struct sim_child *c)
{
	c->n_stops++;
	if (!c->script.ignores_stop)
		sim_child_leave(c);
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
	} else if (span_equals(e->method, "adopt")) {
		sim_channel_offer(c, e->params, m->channel);
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
	} else if (!sim_channel_is_heard(c, m->channel)) {
		if (m->channel->n_fds && !m->channel->over)
			TELL(c, wronged, "a call before ready");
	} else if (e.type == ENVELOPE_REQUEST && span_equals(e.method, "direct")) {
		sim_child_begin_direct(c, e.id);
	} else if (e.type == ENVELOPE_REQUEST && span_equals(e.method, "session_close")) {
		sim_copies_close(&c->copies, e.params);
		c->n_closed++;
		sim_child_begin_call(c, e.id);
	} else if (e.type != ENVELOPE_REQUEST || !span_equals(e.method, "execute")) {
		TELL(c, wronged, "something on the call channel that is no call");
	} else {
		if (sim_copies_take(&c->copies, e.params))
			sim_child_begin_call(c, e.id);
		else
			sim_child_miss_values(c, e.id);
	}
}

/* It does one thing after the other, and a fork takes its time. True: not yet. */
static bool child_is_forking(struct sim_child *c, const struct sim_message *m)
{
	c->forking = !c->forking && m->unborn && c->script.fork_after;
	if (c->forking)
		sim_child_after(c, &c->hear, c->script.fork_after);
	return c->forking;
}

static bool child_is_stopped(const struct sim_child *c)
{
	return c->is_template && c->script.stopped && c->said_ready;
}

void sim_child_on_hear(struct sim_event *e)
{
	struct sim_child *c = container_of(e, struct sim_child, hear);

	while (c->inbox && !c->dead && !child_is_stopped(c)) {
		struct sim_message *m = c->inbox;

		if (child_is_forking(c, m))
			return;
		DL_DELETE(c->inbox, m);
		child_take(c, m);
		sim_message_free(m);
	}
	if (!c->dead)
		sim_child_look_at_channel(c);
}

bool sim_child_has_unread(const struct sim_child *c, const struct sim_pipe *channel)
{
	const struct sim_message *m = c->inbox;

	while (m && (m->control || m->channel != channel))
		m = m->next;
	return m != NULL;
}

void sim_child_notice(struct sim_child *c)
{
	if (!c->dead && !c->unborn && !c->hear.pending)
		sim_child_after(c, &c->hear, c->script.hears_after);
}

void sim_child_receive(struct sim_child *c, struct sim_pipe *channel, const void *data, size_t len)
{
	struct sim_message *m;

	if (c->dead)
		return;
	m = sim_message_new(data, len);
	m->control = !channel;
	m->channel = channel;
	DL_APPEND(c->inbox, m);
	sim_child_notice(c);
}

void sim_child_receive_fd(struct sim_child *c, const void *data, size_t len, int fd)
{
	sim_child_receive(c, NULL, data, len);
	if (!c->dead)
		c->inbox->prev->pair = sim_pair_receive(c->machine->loop, fd, c); /* of the last */
}

void sim_child_receive_calls(struct sim_child *c, const void *data, size_t len, struct sim_pipe *channel)
{
	sim_child_receive(c, NULL, data, len);
	if (!c->dead)
		c->inbox->prev->channel = channel;
}

void sim_child_receive_fork(struct sim_child *c, const void *data, size_t len, struct sim_child *unborn)
{
	sim_child_receive(c, NULL, data, len); /* it lives, or its control channel would be at its end */
	c->inbox->prev->unborn = unborn;
}

void sim_child_signal(struct sim_child *c, int signo)
{
	if (c->dead)
		return;
	if (signo == SIGKILL) {
		sim_child_leave_after(c, 0, 0, SIGKILL);
	} else if (child_is_stopped(c)) {
		return;
	} else if (signo == SIGTERM) {
		c->n_terms++;
		if (!c->script.ignores_term)
			sim_child_leave_after(c, c->script.hears_after, 0, SIGTERM);
	} else if (signo == SIGUSR2) {
		c->n_dumps++;
		if (c->script.shows_stack)
			sim_child_show_stack(c, "slow");
	} else if (signo == SIGUSR1) {
		c->n_interrupts++;
		if (c->call == c->wanted && !c->script.ignores_interrupt && !c->interrupt.pending &&
		    c->n_interrupts > c->script.misses_interrupts)
			sim_child_after(c, &c->interrupt, c->script.hears_after);
	}
}

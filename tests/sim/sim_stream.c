/*
 * The second implementation of daemon/io/stream.h, over the call channel of a simulated child: whole messages in
 * memory. What the real one promises is kept: input is told when the loop says so or when it is drained, output goes
 * out at the end of the turn, the end of the peer is told once, after all that it had said.
 */
#include "daemon/io/stream.h"

#include <assert.h>
#include <limits.h>
#include <stdlib.h>
#include <utlist.h>

#include "daemon/base/cleanup.h"
#include "daemon/base/mem.h"
#include "tests/sim/sim_child.h"

/* A message that waits for the end of the turn. */
struct outbox_segment {
	struct outbox_segment *prev, *next;
	size_t len;
	uint8_t data[];
};

bool stream_is_open(const struct stream *s)
{
	return s->loop && s->io.fd >= 0;
}

static struct sim_pipe *pipe_of(const struct stream *s)
{
	return sim_fd_owner(s->loop, s->io.fd);
}

static bool stream_is_reading(const struct stream *s)
{
	return stream_is_open(s) && !s->ended && !s->paused;
}

static void stream_drop_output(struct stream *s)
{
	struct outbox_segment *g, *next;

	DL_FOREACH_SAFE(s->out.segments, g, next)
		free(g);
	s->out.segments = NULL;
	s->out.bytes = 0;
}

static void stream_end(struct stream *s, enum stream_end why)
{
	if (!stream_is_open(s) || s->ended)
		return;
	s->ended = true;
	loop_io_watch(&s->io, 0);
	if (why == STREAM_END_CLOSED) {
		const struct sim_child *c = pipe_of(s)->child;

		s->unread = s->out.segments || (c->dead && sim_child_has_unread(c, pipe_of(s)));
		s->mute = true;
		stream_drop_output(s);
	}
	s->ops->ended(s, why);
}

void stream_close(struct stream *s)
{
	if (!stream_is_open(s))
		return;
	loop_task_cancel(s->loop, &s->flush);
	stream_drop_output(s);
	frame_reader_deinit(&s->reader);
	s->ended = true;
	loop_io_close(&s->io);
}

/* --- input --- */

static void stream_deliver(struct stream *s, const struct sim_message *m)
{
	struct blob *b = blob_copy(s->blobs, (struct span){ .p = m->data, .len = m->len });
	struct slice body;

	if (!b) {
		stream_end(s, STREAM_END_MEMORY);
		return;
	}
	body = slice_ref(b, (struct span){ .p = b->data, .len = m->len });
	blob_unref(b);
	s->frames_in++;
	s->bytes_in += m->len;
	s->ops->frame(s, &body);
	slice_clear(&body);
}

static void stream_take(struct stream *s, const struct sim_message *m)
{
	enum cursor_status status = cursor_check((struct span){ .p = m->data, .len = m->len });

	if (status == CURSOR_DONE && m->len <= s->limits->max_frame) {
		stream_deliver(s, m);
		return;
	}
	s->bad = status == CURSOR_DONE ? FRAME_TOO_LARGE : FRAME_BAD;
	s->reader.why = status;
	stream_end(s, STREAM_END_FRAME);
}

/* False: nothing came. */
static bool stream_pump(struct stream *s, unsigned budget)
{
	struct sim_message *m;
	unsigned n = 0;

	while (n < budget && stream_is_reading(s) && (m = sim_pipe_take(s->loop, pipe_of(s)))) {
		stream_take(s, m);
		free(m);
		n++;
	}
	return n > 0;
}

/* A large message takes more than one turn to read: then its worker's exit is seen before it is. */
static unsigned stream_budget(const struct stream *s)
{
	unsigned all = s->limits->frames_per_turn;

	if (sim_gait(s->loop) != SIM_GAIT_DRAWN)
		return sim_gait(s->loop) == SIM_GAIT_SLOW ? 0 : all;
	return sim_turns(s->loop) % 3 ? all : (unsigned)(sim_turns(s->loop) % 2);
}

static void stream_on_readable(struct loop_io *io, int events)
{
	struct stream *s = container_of(io, struct stream, io);

	(void)events;
	if (!stream_is_reading(s))
		return;
	if (!pipe_of(s)->messages && pipe_of(s)->over)
		stream_end(s, STREAM_END_CLOSED);
	else
		(void)stream_pump(s, stream_budget(s));
}

void stream_drain_input(struct stream *s)
{
	if (!stream_is_reading(s))
		return;
	(void)stream_pump(s, UINT_MAX);
	if (stream_is_reading(s) && pipe_of(s)->over)
		stream_end(s, STREAM_END_CLOSED);
}

/* --- output --- */

uint64_t sim_stream_sum(const struct stream *s)
{
	const struct outbox_segment *g;
	uint64_t sum = UINT64_C(0xcbf29ce484222325); /* FNV-1a */

	DL_FOREACH (s->out.segments, g) {
		for (size_t i = 0; i < g->len; i++)
			sum = (sum ^ g->data[i]) * UINT64_C(0x100000001b3);
	}
	return sum;
}

static void stream_on_flush(struct loop_task *t)
{
	struct stream *s = container_of(t, struct stream, flush);

	while (s->out.segments) {
		struct outbox_segment *g = s->out.segments;
		struct sim_pipe *channel = pipe_of(s);

		if (!sim_takes_effect(s->loop))
			return;

		if (channel->over) { /* broken pipe; what it said before still counts */
			s->mute = true;
			stream_drop_output(s);
			stream_drain_input(s);
			stream_end(s, STREAM_END_CLOSED);
			return;
		}
		DL_DELETE(s->out.segments, g);
		s->out.bytes -= g->len;
		s->bytes_out += g->len;
		sim_child_receive(channel->child, channel, g->data, g->len);
		free(g);
	}
}

void stream_send(struct stream *s, const struct slice *parts, size_t n)
{
	struct outbox_segment *g;
	size_t len = 0;

	if (!stream_is_open(s) || s->mute)
		return;
	for (size_t i = 0; i < n; i++)
		len += parts[i].span.len;
	g = mem_new(sizeof(*g) + len);
	for (size_t i = 0; i < n; i++) {
		memcpy(g->data + g->len, parts[i].span.p, parts[i].span.len);
		g->len += parts[i].span.len;
	}
	DL_APPEND(s->out.segments, g);
	s->out.bytes += len;
	s->frames_out++;
	loop_flush_later(s->loop, &s->flush);
}

void stream_open(struct stream *s, struct loop *l, struct blob_pool *blobs, int fd, enum frame_mode mode,
		 enum loop_priority prio, const struct stream_limits *limits, const struct stream_ops *ops)
{
	*s = (struct stream){
		.ops = ops, .limits = limits, .loop = l, .blobs = blobs, .flush = { .run = stream_on_flush }
	};
	loop_timer_init(&s->frame_timer, l, NULL);
	frame_reader_init(&s->reader, mode, limits->max_frame);
	loop_io_init(&s->io, l, fd, prio, stream_on_readable);
	loop_io_watch(&s->io, LOOP_READ);
}

/*
 * The stream reads once per readiness into a blob, parses in place and hands up slices of that blob; it writes once, at the
 * end of the turn, what its outbox has. The rule that it must keep: a callback may close the stream, so whoever has called
 * one looks again before going on. Between messages a stream holds no blob.
 */
#include "daemon/io/stream.h"

#include <errno.h>
#include <limits.h>
#include <linux/sockios.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "daemon/base/cleanup.h"
#include "daemon/io/rights.h"

enum read_result {
	READ_SOME = 0,
	READ_NOTHING,
	READ_OVER, /* ended, half-closed or closed: there will be no more */
};

/* --- ends --- */

bool stream_is_open(const struct stream *s)
{
	return s->loop && s->io.fd >= 0; /* without a loop it is zeroed memory */
}

static void stream_drop_input(struct stream *s)
{
	s->in = blob_unref(s->in);
	s->in_start = s->in_end = 0;
}

static bool stream_is_reading(const struct stream *s)
{
	return stream_is_open(s) && !s->paused && !s->ended && !s->half && !s->closing;
}

/* blocked: the socket takes no more output now. */
static void stream_watch(struct stream *s, bool blocked)
{
	if (!stream_is_open(s))
		return;
	loop_io_watch(&s->io, (stream_is_reading(s) ? LOOP_READ : 0) | (blocked ? LOOP_WRITE : 0));
}

bool stream_is_blocked(const struct stream *s)
{
	return s->io.events & LOOP_WRITE;
}

/* Output can still be sent to a peer that only sent rubbish. */
static bool stream_end_spares_output(enum stream_end why)
{
	return why == STREAM_END_FRAME || why == STREAM_END_TIMEOUT || why == STREAM_END_MEMORY;
}

static void stream_end(struct stream *s, enum stream_end why)
{
	if (!stream_is_open(s) || s->ended)
		return;
	s->ended = true;
	s->doomed = false;
	loop_timer_stop(&s->frame_timer);
	loop_task_cancel(s->loop, &s->resume);
	loop_hup_stop(&s->hup);
	stream_drop_input(s);
	if (!stream_end_spares_output(why)) {
		s->mute = true;
		outbox_clear(&s->out);
	}
	stream_watch(s, stream_is_blocked(s) && s->out.bytes);
	s->ops->ended(s, why);
}

void stream_close(struct stream *s)
{
	if (!stream_is_open(s))
		return;
	loop_timer_stop(&s->frame_timer);
	loop_task_cancel(s->loop, &s->flush);
	loop_task_cancel(s->loop, &s->resume);
	loop_hup_stop(&s->hup);
	loop_io_close(&s->io);
	stream_drop_input(s);
	outbox_deinit(&s->out);
	frame_reader_deinit(&s->reader);
	s->ended = true;
}

static void stream_finish_closing(struct stream *s)
{
	stream_close(s);
	s->ops->ended(s, STREAM_END_CLOSED);
}

void stream_close_flushed(struct stream *s, uint64_t timeout)
{
	uint64_t now, until;

	if (!stream_is_open(s))
		return;
	now = loop_now(s->loop);
	until = timeout < LOOP_NEVER - now ? now + timeout : LOOP_NEVER;
	if (s->closing) {
		if (until < s->frame_timer.at)
			loop_timer_set(&s->frame_timer, until);
		return;
	}
	s->closing = true;
	s->doomed = false;
	loop_task_cancel(s->loop, &s->resume);
	loop_hup_stop(&s->hup);
	stream_drop_input(s);
	stream_watch(s, stream_is_blocked(s));
	loop_timer_set(&s->frame_timer, until);
	if (!stream_is_blocked(s) || !s->out.count)
		loop_flush_later(s->loop, &s->flush);
}

/* --- input --- */

/* Room for the message that begins at in_start and has `need` bytes at least. The partial bytes are moved once when its
 * length is known; the bare framing may have to guess, so there the room doubles. */
static bool stream_make_room(struct stream *s, size_t need)
{
	size_t have = s->in_end - s->in_start;
	struct blob *b;

	if (need <= have)
		need = have + 1;
	if (need <= s->in->size - s->in_start)
		return true;
	if (need <= s->in->size && !blob_is_shared(s->in)) {
		memmove(s->in->data, s->in->data + s->in_start, have);
	} else {
		if (s->reader.mode == FRAME_BARE && need < 2 * have)
			need = 2 * have;
		b = blob_new(s->blobs, need);
		if (!b)
			return false;
		memcpy(b->data, s->in->data + s->in_start, have);
		blob_unref(s->in);
		s->in = b;
	}
	s->in_start = 0;
	s->in_end = have;
	return true;
}

static void stream_await_rest(struct stream *s, size_t need)
{
	if (!stream_make_room(s, need)) {
		stream_end(s, STREAM_END_MEMORY);
		return;
	}
	if (s->limits->frame_timeout && s->frame_timer.at == LOOP_NEVER)
		loop_timer_set(&s->frame_timer, loop_now(s->loop) + s->limits->frame_timeout);
}

static void stream_deliver(struct stream *s, const struct frame *f)
{
	struct slice body = slice_ref(s->in, f->body);

	s->in_start += f->taken;
	s->frames_in++;
	loop_timer_stop(&s->frame_timer);
	s->ops->frame(s, &body);
	slice_clear(&body);
}

/* False: no whole message is left, or the stream has ended. */
static bool stream_parse_one(struct stream *s)
{
	struct frame f = { 0 };
	enum frame_status status;

	status = frame_next(&s->reader, s->in->data + s->in_start, s->in_end - s->in_start, &f);
	if (status == FRAME_READY) {
		stream_deliver(s, &f);
		return true;
	}
	if (status == FRAME_MORE) {
		stream_await_rest(s, f.need);
	} else {
		s->bad = status;
		stream_end(s, status == FRAME_NO_MEMORY ? STREAM_END_MEMORY : STREAM_END_FRAME);
	}
	return false;
}

/* Delivers what is buffered, at most *budget messages; what is left then is for the next turn. */
static void stream_parse(struct stream *s, unsigned *budget)
{
	while (stream_is_reading(s) && s->in && s->in_start < s->in_end) {
		if (*budget == 0 || (s->ops->may_deliver && !s->ops->may_deliver(s))) {
			loop_next_turn(s->loop, &s->resume);
			return;
		}
		if (!stream_parse_one(s))
			return;
		--*budget;
	}
	if (s->in && s->in_start == s->in_end)
		stream_drop_input(s);
}

/* At the end of the input: is the peer gone, or did it only say all that it had to say? */
static bool stream_is_hung_up(const struct stream *s)
{
	struct pollfd p = { .fd = s->io.fd };
	int r;

	/* POLLHUP comes unasked, and only when both directions are shut; a signal interrupts even a poll that does not wait */
	do {
		r = poll(&p, 1, 0);
	} while (r < 0 && errno == EINTR);
	return r != 0;
}

static enum read_result stream_on_eof(struct stream *s)
{
	if (!s->ops->half_closed || stream_is_hung_up(s) ||
	    loop_hup_start(&s->hup, s->loop, s->io.fd, s->hup.hung_up) < 0) {
		stream_end(s, STREAM_END_CLOSED);
		return READ_OVER;
	}
	s->half = true;
	loop_timer_stop(&s->frame_timer);
	stream_drop_input(s);
	stream_watch(s, stream_is_blocked(s));
	s->ops->half_closed(s);
	return READ_OVER;
}

static enum read_result stream_read(struct stream *s)
{
	ssize_t n;

	if (!s->in) {
		s->in = blob_new(s->blobs, BLOB_STANDARD);
		s->in_start = s->in_end = 0;
	}
	if (!s->in) {
		stream_end(s, STREAM_END_MEMORY);
		return READ_OVER;
	}
	n = recv(s->io.fd, s->in->data + s->in_end, s->in->size - s->in_end, MSG_DONTWAIT);
	if (n > 0) {
		s->in_end += (size_t)n;
		s->bytes_in += (uint64_t)n;
		return READ_SOME;
	}
	if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
		if (s->in_start == s->in_end)
			stream_drop_input(s);
		return READ_NOTHING;
	}
	if (n == 0)
		return stream_on_eof(s);
	s->unread |= errno == ECONNRESET; /* what the kernel says when the peer's end is closed with bytes in it */
	stream_end(s, STREAM_END_CLOSED);
	return READ_OVER;
}

/* Reads and delivers until nothing is left or the budget is. */
static void stream_pump(struct stream *s, unsigned budget)
{
	stream_parse(s, &budget);
	while (budget && stream_is_reading(s) && !s->resume.marked) {
		if (stream_read(s) != READ_SOME)
			return;
		stream_parse(s, &budget);
	}
}

void stream_drain_input(struct stream *s)
{
	if (!stream_is_reading(s))
		return;
	loop_task_cancel(s->loop, &s->resume);
	stream_pump(s, UINT_MAX);
}

static void stream_on_readable(struct stream *s)
{
	unsigned budget = s->limits->frames_per_turn;

	if (!stream_is_reading(s) || s->resume.marked) /* what is buffered goes first */
		return;
	if (stream_read(s) == READ_SOME)
		stream_parse(s, &budget);
}

static void stream_on_resume(struct loop_task *t)
{
	struct stream *s = container_of(t, struct stream, resume);
	unsigned budget = s->limits->frames_per_turn;

	stream_parse(s, &budget);
}

static void stream_on_frame_timer(struct loop_timer *t)
{
	struct stream *s = container_of(t, struct stream, frame_timer);
	uint64_t frames = s->frames_in;

	if (s->closing) {
		stream_finish_closing(s);
		return;
	}
	/* the rest may lie ready: the peer is not late when it is the daemon that was stopped */
	stream_pump(s, s->limits->frames_per_turn);
	if (stream_is_reading(s) && s->in && s->frames_in == frames)
		stream_end(s, STREAM_END_TIMEOUT);
}

static void stream_on_hung_up(struct loop_hup *h)
{
	stream_end(container_of(h, struct stream, hup), STREAM_END_CLOSED);
}

/* A peer that is not read from would go unnoticed otherwise. Not for workers: their last words are still wanted. */
void stream_pause(struct stream *s)
{
	if (!stream_is_reading(s))
		return;
	s->paused = true;
	loop_timer_stop(&s->frame_timer);
	loop_task_cancel(s->loop, &s->resume);
	stream_watch(s, stream_is_blocked(s));
	if (s->ops->half_closed)
		(void)loop_hup_start(&s->hup, s->loop, s->io.fd, s->hup.hung_up); /* then it is noticed later */
}

void stream_resume(struct stream *s)
{
	if (!s->paused)
		return;
	s->paused = false;
	if (!stream_is_reading(s))
		return;
	loop_hup_stop(&s->hup);
	if (s->in)
		loop_next_turn(s->loop, &s->resume);
	stream_watch(s, stream_is_blocked(s));
}

/* --- going on --- */

struct span stream_undelivered(const struct stream *s)
{
	return s->in ? (struct span){ .p = s->in->data + s->in_start, .len = s->in_end - s->in_start } : (struct span){ 0 };
}

static bool stream_restore_input(struct stream *s, struct span in)
{
	if (!in.len)
		return true;
	s->in = blob_new(s->blobs, in.len + 1); /* with room to read on */
	if (!s->in)
		return false;
	memcpy(s->in->data, in.p, in.len);
	s->in_end = in.len;
	loop_next_turn(s->loop, &s->resume);
	return true;
}

bool stream_go_on(struct stream *s, enum frame_mode mode, struct span in)
{
	s->reader.mode = mode;
	return stream_restore_input(s, in);
}

/* It is framed already. */
bool stream_put_back(struct stream *s, const struct outbox_piece *piece)
{
	const struct slice part = { .span = piece->bytes };

	if (piece->fd >= 0)
		outbox_put_parcel(&s->out, parcel_new(FRAME_BARE, piece->fd, piece->bytes, piece->instead));
	else if (!outbox_put(&s->out, FRAME_BARE, &part, 1))
		return false;
	s->was_full |= stream_is_full(s);
	loop_flush_later(s->loop, &s->flush);
	return true;
}

/* --- output --- */

/* Output that cannot be completed is worth nothing. Told at the end of the turn: whoever sends is not called back. */
static void stream_fail_output(struct stream *s, enum stream_end why)
{
	s->mute = true;
	outbox_clear(&s->out);
	if (s->doomed || s->ended)
		return;
	s->doomed = true;
	s->doom = why;
	loop_flush_later(s->loop, &s->flush);
}

void stream_give_up(struct stream *s, enum stream_end why)
{
	if (stream_is_open(s) && !s->mute)
		stream_fail_output(s, why);
}

/* A message is in the queue. */
static void stream_note_queued(struct stream *s)
{
	s->frames_out++;
	if (s->out.bytes > s->limits->out_hard) {
		stream_fail_output(s, STREAM_END_OUTPUT);
		return;
	}
	s->was_full |= stream_is_full(s);
	if (!stream_is_blocked(s))
		loop_flush_later(s->loop, &s->flush);
}

void stream_send(struct stream *s, const struct slice *parts, size_t n)
{
	if (!stream_is_open(s) || s->mute || s->closing)
		return;
	if (!outbox_put(&s->out, s->reader.mode, parts, n)) {
		stream_fail_output(s, STREAM_END_MEMORY);
		return;
	}
	stream_note_queued(s);
}

void stream_send_fd(struct stream *s, struct span message, int fd, struct span instead)
{
	struct parcel *p = parcel_new(s->reader.mode, fd, message, instead);

	if (!stream_is_open(s) || s->mute || s->closing) {
		parcel_free(p);
		return;
	}
	outbox_put_parcel(&s->out, p);
	stream_note_queued(s);
}

bool stream_is_full(const struct stream *s)
{
	return s->out.bytes > s->limits->out_soft;
}

uint64_t stream_received(const struct stream *s)
{
	int unread = 0; /* the memory that holds it: more than its bytes */

	if (ioctl(s->io.fd, SIOCOUTQ, &unread) < 0 || (uint64_t)unread > s->bytes_out)
		return 0;
	return s->bytes_out - (uint64_t)unread;
}

/* One write. 0: all of what it was given went out; 1: the socket is full; or a negative errno. */
static int stream_write_some(struct stream *s)
{
	struct iovec iov[OUTBOX_IOV];
	struct msghdr m = { .msg_iov = iov };
	struct parcel *parcel = outbox_parcel(&s->out);
	size_t want = outbox_gather(&s->out, &m);
	struct rights rights;
	ssize_t n;

	if (parcel)
		rights_attach(&rights, &m, &parcel->fd, 1);
	n = sendmsg(s->io.fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 1;
	if (n < 0 && !parcel)
		return -errno;
	if (parcel && n < 0) {
		outbox_send_instead(&s->out); /* if it was not for the fd, the next write says so */
		return 0;
	}
	if (parcel)
		parcel_close_fd(parcel);
	s->bytes_out += (size_t)n;
	outbox_advance(&s->out, (size_t)n);
	return (size_t)n < want;
}

static void stream_lose(struct stream *s)
{
	if (s->closing && stream_is_open(s))
		stream_finish_closing(s);
	else
		stream_end(s, STREAM_END_CLOSED);
}

/* The peer is gone, but what it said before may lie in our buffer. A worker's last reply is wanted now; a client may have said
 * much, and is read like any other, a part each turn, up to its end. */
static void stream_on_broken_output(struct stream *s)
{
	s->mute = true;
	s->unread = true;
	outbox_clear(&s->out);
	stream_watch(s, false);
	if (s->ops->half_closed) {
		if (!stream_is_reading(s) || !stream_is_hung_up(s))
			stream_lose(s);
		return;
	}
	if (s->paused)
		return; /* read to its end when it is resumed */
	stream_drain_input(s);
	stream_lose(s);
}

static void stream_lose_output(struct stream *s)
{
	if (s->closing)
		stream_finish_closing(s);
	else
		stream_end(s, STREAM_END_OUTPUT);
}

static void stream_write(struct stream *s)
{
	int r = 0;

	while (r == 0 && s->out.count)
		r = stream_write_some(s);
	if (r < 0) {
		stream_on_broken_output(s);
		return;
	}
	if (s->out.count && s->limits->impatient) {
		stream_lose_output(s);
		return;
	}
	stream_watch(s, s->out.count > 0);
	if (s->closing && !s->out.count) {
		stream_finish_closing(s);
		return;
	}
	if (s->was_full && s->out.bytes < s->limits->out_soft / 2) {
		s->was_full = false;
		if (s->ops->drained)
			s->ops->drained(s);
	}
}

static void stream_on_flush(struct loop_task *t)
{
	struct stream *s = container_of(t, struct stream, flush);

	if (s->doomed)
		stream_end(s, s->doom);
	else
		stream_write(s);
}

/* --- birth --- */

static void stream_on_event(struct loop_io *io, int events)
{
	struct stream *s = container_of(io, struct stream, io);

	if (events & LOOP_BROKEN) {
		stream_lose(s);
		return;
	}
	if (events & LOOP_WRITE)
		stream_write(s);
	if (events & LOOP_READ)
		stream_on_readable(s);
}

void stream_open(struct stream *s, struct loop *l, struct blob_pool *blobs, int fd, enum frame_mode mode,
		 enum loop_priority prio, const struct stream_limits *limits, const struct stream_ops *ops)
{
	*s = (struct stream){ .ops = ops, .limits = limits, .loop = l, .blobs = blobs };
	outbox_init(&s->out, blobs);
	s->flush.run = stream_on_flush;
	s->resume.run = stream_on_resume;
	s->hup = (struct loop_hup){ .fd = -1, .hung_up = stream_on_hung_up };
	loop_timer_init(&s->frame_timer, l, stream_on_frame_timer);
	frame_reader_init(&s->reader, mode, limits->max_frame);
	loop_io_init(&s->io, l, fd, prio, stream_on_event);
	stream_watch(s, false);
}

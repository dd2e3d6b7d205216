#include "tests/chaos/stub/lease.h"

#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "proto/envelope.h"
#include "proto/frame.h"
#include "tests/chaos/stub/call.h"
#include "tests/chaos/stub/control.h"
#include "tests/chaos/stub/log.h"
#include "tests/chaos/stub/reply.h"
#include "tests/chaos/stub/stub.h"

/* False: it is no message that a client may send, so the lease is over. */
static bool take_direct_call(struct stub *s, struct span body)
{
	struct envelope e;
	struct complaint c;

	if (cursor_check(body) != CURSOR_DONE || !envelope_parse(body, &e, &c) || e.type != ENVELOPE_REQUEST)
		return false;
	s->wire.id = e.id;
	s->wire.calls++;
	if (span_equals(e.method, "execute"))
		call_run(s, &e);
	else if (span_equals(e.method, "ping"))
		reply_text(s, s->call, "pong", 0);
	else
		reply_error(s, s->call, "unknown_method");
	return true;
}

/* Takes the whole messages out of in. False: the lease is over. */
static bool take_direct_calls(struct stub *s, uint8_t *in, size_t *used, size_t room)
{
	while (*used >= FRAME_PREFIX) {
		uint32_t len = (uint32_t)in[0] << 24 | (uint32_t)in[1] << 16 | (uint32_t)in[2] << 8 | in[3];

		if (!len || len > room - FRAME_PREFIX)
			return false;
		if (*used < FRAME_PREFIX + len)
			return true;
		if (!take_direct_call(s, (struct span){ .p = in + FRAME_PREFIX, .len = len }) || s->wire.over)
			return false;
		*used -= FRAME_PREFIX + len;
		memmove(in, in + FRAME_PREFIX + len, *used);
	}
	return true;
}

static void serve_channel(struct stub *s, int fd)
{
	static uint8_t in[1024 * 1024];
	size_t used = 0;
	ssize_t n;

	do {
		struct pollfd fds[] = { { .fd = fd, .events = POLLIN }, { .fd = FD_CONTROL, .events = POLLIN } };

		n = 1;
		if (poll(fds, 2, -1) < 0)
			continue;
		if (fds[1].revents)
			control_serve(s);
		if (!fds[0].revents)
			continue;
		n = read(fd, in + used, sizeof(in) - used);
		used += n > 0 ? (size_t)n : 0;
	} while (n > 0 && take_direct_calls(s, in, &used, sizeof(in)));
}

void lease_serve(struct stub *s)
{
	int fd;

	while (s->channel < 0)
		control_serve(s);
	fd = s->channel;
	s->channel = -1;
	s->sessions.current = 0;
	s->tag[0] = '\0';
	log_note(s, 'L', s->call);
	s->wire.fd = fd;
	s->wire.direct = true;
	s->wire.over = false;
	s->wire.calls = s->wire.errors = 0;
	serve_channel(s, fd);
	s->wire.fd = FD_CALLS;
	s->wire.direct = false;
	(void)close(fd);
	s->tag[0] = '\0';
	log_note(s, 'M', s->call);
	reply_counts(s, s->call);
}

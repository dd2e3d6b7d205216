#include "tests/chaos/stub/inbox.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "proto/envelope.h"
#include "proto/frame.h"
#include "tests/chaos/stub/call.h"
#include "tests/chaos/stub/lease.h"
#include "tests/chaos/stub/log.h"
#include "tests/chaos/stub/params.h"
#include "tests/chaos/stub/reply.h"
#include "tests/chaos/stub/stub.h"

static void close_session(struct stub *s, struct span told)
{
	struct span name = params_any(told, "name"), text = { 0 };

	s->tag[0] = '\0';
	if (!session_take(s, told))
		return reply_error(s, s->call, "internal");
	if (mp_read_text(&name, &text) && text.len < TAG_MAX) {
		memcpy(s->tag, text.p, text.len);
		s->tag[text.len] = '\0';
	}
	log_note(s, 'X', session_here(s)->id);
	session_here(s)->has_copy = false;
	s->sessions.current = 0;
	reply_text(s, s->call, s->tag, 0);
}

static void take_call(struct stub *s, struct span body)
{
	struct envelope e;
	struct complaint c;

	if (!envelope_parse(body, &e, &c) || e.type != ENVELOPE_REQUEST)
		_exit(8);
	s->call = e.id;
	if (span_equals(e.method, "direct"))
		lease_serve(s);
	else if (span_equals(e.method, "session_close"))
		close_session(s, params_any(e.params, "session"));
	else
		call_run(s, &e);
}

void inbox_read(struct stub *s)
{
	ssize_t n;
	uint32_t len;

	if (s->in_used == s->in_room) {
		s->in_room = s->in_room ? 2 * s->in_room : 64 * 1024;
		s->in = realloc(s->in, s->in_room);
	}
	n = read(FD_CALLS, s->in + s->in_used, s->in_room - s->in_used);
	if (n < 0 && errno == EINTR)
		return;
	if (n <= 0)
		_exit(0);
	s->in_used += (size_t)n;
	while (s->in_used >= FRAME_PREFIX) {
		len = (uint32_t)s->in[0] << 24 | (uint32_t)s->in[1] << 16 | (uint32_t)s->in[2] << 8 | s->in[3];
		if (s->in_used < FRAME_PREFIX + len)
			return;
		take_call(s, (struct span){ .p = s->in + FRAME_PREFIX, .len = len });
		s->in_used -= FRAME_PREFIX + len;
		memmove(s->in, s->in + FRAME_PREFIX + len, s->in_used);
	}
}

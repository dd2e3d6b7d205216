#include "tests/chaos/stub/session.h"

#include <stdlib.h>

#include "tests/chaos/stub/log.h"
#include "tests/chaos/stub/params.h"
#include "tests/chaos/stub/stub.h"

struct session *session_here(const struct stub *s)
{
	return s->sessions.current ? &s->sessions.list[s->sessions.current - 1] : NULL;
}

static void session_choose(struct stub *s, uint64_t id)
{
	for (s->sessions.current = 1; s->sessions.current <= s->sessions.n; s->sessions.current++) {
		if (session_here(s)->id == id)
			return;
	}
	if (s->sessions.n == s->sessions.room) {
		s->sessions.room = s->sessions.room ? 2 * s->sessions.room : 64;
		s->sessions.list = realloc(s->sessions.list, s->sessions.room * sizeof(*s->sessions.list));
	}
	s->sessions.list[s->sessions.n++] = (struct session){ .id = id };
}

bool session_take(struct stub *s, struct span told)
{
	struct span values = params_any(told, "values");
	struct session *here;

	session_choose(s, params_uint(told, "id"));
	here = session_here(s);
	here->send = params_uint(told, "send");
	here->has_copy |= values.len != 0;
	if (values.len) {
		here->count = params_uint(values, "a");
		if (here->count != params_uint(values, "b"))
			log_note(s, 'H', here->id);
	}
	return here->has_copy;
}

void session_forget(struct stub *s, uint64_t id, uint64_t send)
{
	for (size_t i = 0; i < s->sessions.n; i++) {
		if (s->sessions.list[i].id == id && s->sessions.list[i].send <= send)
			s->sessions.list[i].has_copy = false;
	}
}

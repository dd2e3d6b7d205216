#include "tests/chaos/stub/call.h"

#include <string.h>

#include "proto/envelope.h"
#include "tests/chaos/stub/log.h"
#include "tests/chaos/stub/params.h"
#include "tests/chaos/stub/reply.h"
#include "tests/chaos/stub/script.h"
#include "tests/chaos/stub/stub.h"

void call_run(struct stub *s, const struct envelope *e)
{
	struct span args = params_any(e->params, "args"), told = params_any(e->params, "session"), tag = { 0 },
		    what = { 0 };
	uint32_t n = 0;

	s->n = 0;
	s->tag[0] = '\0';
	s->sessions.current = 0;
	if (told.len && !session_take(s, told))
		return reply_error(s, s->call, "internal");
	if (!mp_read_array(&args, &n) || n < 3 || !mp_read_text(&args, &tag) || !mp_read_text(&args, &what) ||
	    !mp_read_uint(&args, &s->n) || tag.len >= TAG_MAX)
		return reply_error(s, s->call, "bad_request");
	memcpy(s->tag, tag.p, tag.len);
	s->tag[tag.len] = '\0';
	if (session_here(s))
		session_here(s)->begun++;
	log_note(s, 'S', s->call);
	if (!script_run(s, what))
		reply_error(s, s->call, "unknown_target");
}

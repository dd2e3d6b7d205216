#include "tests/chaos/stub/reply.h"

#include <stdio.h>

#include "proto/envelope.h"
#include "proto/pack.h"
#include "tests/chaos/stub/log.h"
#include "tests/chaos/stub/stub.h"

#define WRONG_COUNT 1000000 /* more, in replies that must not be believed */

static void pack_head(const struct stub *s, msgpack_packer *pk, uint64_t call)
{
	msgpack_pack_array(pk, s->wire.direct ? 4 : 5);
	msgpack_pack_int(pk, ENVELOPE_RESPONSE);
	msgpack_pack_uint64(pk, s->wire.direct ? s->wire.id : call);
}

/* count: what the call writes into its session, unless that is 0. */
static void pack_meta(const struct stub *s, msgpack_packer *pk, uint64_t count)
{
	if (s->wire.direct)
		return;
	msgpack_pack_map(pk, 1 + (count != 0));
	pack_kv_uint(pk, "run_us", 1);
	if (!count)
		return;
	pack_text(pk, "session");
	msgpack_pack_map(pk, 1);
	pack_text(pk, "set");
	msgpack_pack_map(pk, 2);
	pack_kv_uint(pk, "a", count);
	pack_kv_uint(pk, "b", count);
}

/* Text and the two counts; returns what is written into the session. */
static uint64_t pack_counted(struct stub *s, msgpack_packer *pk, const char *text)
{
	struct session *here = session_here(s);
	char counts[64];
	int n;

	if (!here || strcmp(text, "WRONG") == 0) {
		pack_text(pk, text);
		return here ? here->count + WRONG_COUNT : 0;
	}
	here->count++;
	n = snprintf(counts, sizeof(counts), " %llu %llu", (unsigned long long)here->count,
		     (unsigned long long)here->begun);
	msgpack_pack_str(pk, strlen(text) + (size_t)n);
	msgpack_pack_str_body(pk, text, strlen(text));
	msgpack_pack_str_body(pk, counts, (size_t)n);
	return here->count;
}

void reply_text(struct stub *s, uint64_t call, const char *text, size_t cut)
{
	msgpack_sbuffer buf;
	msgpack_packer pk;

	msgpack_sbuffer_init(&buf);
	msgpack_packer_init(&pk, &buf, msgpack_sbuffer_write);
	pack_head(s, &pk, call);
	msgpack_pack_nil(&pk);
	pack_meta(s, &pk, pack_counted(s, &pk, text));
	wire_put_frame(&s->wire, &buf, buf.size - cut);
	msgpack_sbuffer_destroy(&buf);
}

void reply_error(struct stub *s, uint64_t call, const char *code)
{
	msgpack_sbuffer buf;
	msgpack_packer pk;

	bool ran = strcmp(code, "app_error") == 0 || strcmp(code, "cancelled") == 0 ||
		   strcmp(code, "deadline_exceeded") == 0;

	s->wire.errors++;
	msgpack_sbuffer_init(&buf);
	msgpack_packer_init(&pk, &buf, msgpack_sbuffer_write);
	pack_head(s, &pk, call);
	msgpack_pack_map(&pk, s->wire.direct ? 3 : 2);
	if (s->wire.direct)
		pack_kv_text(&pk, "executed", ran ? "yes" : "never");
	pack_kv_text(&pk, "code", code);
	pack_kv_text(&pk, "message", "on purpose");
	msgpack_pack_nil(&pk);
	pack_meta(s, &pk, session_here(s) ? session_here(s)->count + WRONG_COUNT : 0);
	wire_put_frame(&s->wire, &buf, buf.size);
	msgpack_sbuffer_destroy(&buf);
}

void reply_counts(struct stub *s, uint64_t call)
{
	msgpack_sbuffer buf;
	msgpack_packer pk;

	msgpack_sbuffer_init(&buf);
	msgpack_packer_init(&pk, &buf, msgpack_sbuffer_write);
	pack_head(s, &pk, call);
	msgpack_pack_nil(&pk);
	msgpack_pack_map(&pk, 2);
	pack_kv_uint(&pk, "calls", s->wire.calls);
	pack_kv_uint(&pk, "errors", s->wire.errors);
	pack_meta(s, &pk, 0);
	wire_put_frame(&s->wire, &buf, buf.size);
	msgpack_sbuffer_destroy(&buf);
}

void reply_tag(struct stub *s)
{
	log_note(s, 'E', s->call);
	reply_text(s, s->call, s->tag, 0);
}

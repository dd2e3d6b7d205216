#include "daemon/pool/session_values.h"

#include "daemon/base/cleanup.h"
#include "daemon/base/packed.h"
#include "daemon/pool/keep.h"
#include "daemon/pool/pool.h"
#include "daemon/pool/request.h"
#include "daemon/pool/session.h"
#include "daemon/pool/worker.h"
#include "proto/pack.h"

static void session_refuse_edit(const struct session *s, enum values_status bad, const struct values_size *size,
				struct outcome *o)
{
	unsigned long long limit = s->pool->settings->session_max_bytes;

	switch (bad) {
	case VALUES_TOO_LARGE:
		outcome_error(o, ERROR_SESSION_FULL,
			      "session \"%s\" would hold %zu bytes, session_max_bytes is %llu; nothing was written", s->name,
			      size->bytes, limit);
		break;
	case VALUES_TOO_MANY:
		outcome_error(o, ERROR_SESSION_FULL, "session \"%s\" would hold more than %d keys; nothing was written",
			      s->name, VALUES_KEYS_MAX);
		break;
	case VALUES_NO_MEMORY:
		outcome_error(o, ERROR_OVERLOADED, "no memory for %zu bytes of session \"%s\"; nothing was written",
			      size->bytes, s->name);
		break;
	default:
		outcome_error(o, ERROR_BAD_REQUEST, "keys of a session are texts of 1 to %d bytes, each given once",
			      VALUES_KEY_MAX);
		break;
	}
}

static enum values_status session_write(struct session *s, struct span set, struct span del, struct values_size *size)
{
	return values_edit(&s->values, s->pool->blobs, set, del, s->pool->settings->session_max_bytes, size);
}

static void pack_edited(msgpack_packer *pk, const struct request *r, const struct values_size *size)
{
	if (r->kind == REQUEST_DELETE)
		msgpack_pack_uint32(pk, size->removed);
	else
		msgpack_pack_true(pk);
}

void session_edit(struct request *r)
{
	struct session *s = r->session;
	bool put = r->kind == REQUEST_PUT;
	struct span none = { 0 };
	struct values_size size;
	enum values_status bad = session_write(s, put ? r->args : none, put ? none : r->args, &size);
	_cleanup_(msgpack_sbuffer_destroy) msgpack_sbuffer buf;
	msgpack_packer pk;
	struct outcome o;

	packed_begin(&buf, &pk);
	if (bad) {
		session_refuse_edit(s, bad, &size, &o);
	} else {
		s->holder = 0;
		keep_session(s);
		pack_edited(&pk, r, &size);
		outcome_value(&o, (struct slice){ .span = { .p = (const uint8_t *)buf.data, .len = buf.size } });
	}
	request_finish(r, &o);
}

/* {set?, del?} */
static bool writes_read(struct span writes, struct span *set, struct span *del)
{
	uint32_t pairs;

	*set = *del = (struct span){ 0 };
	if (!mp_read_map(&writes, &pairs))
		return false;
	while (pairs--) {
		struct span key, value;

		if (!mp_read_text(&writes, &key) || !mp_read_any(&writes, &value))
			return false;
		if (span_equals(key, "set"))
			*set = value;
		else if (span_equals(key, "del"))
			*del = value;
	}
	return true;
}

bool session_commit(struct request *r, struct span writes, struct outcome *o)
{
	struct session *s = r->session;
	struct values_size size;
	struct span set, del;
	enum values_status bad = VALUES_MALFORMED;
	uint64_t worker = o->worker;

	if (writes_read(writes, &set, &del))
		bad = session_write(s, set, del, &size);
	if (!bad) {
		keep_session(s);
		return true;
	}
	s->holder = 0;
	session_refuse_edit(s, bad, &size, o);
	if (bad == VALUES_MALFORMED)
		o->code = ERROR_WORKER_PROTOCOL;
	o->executed = EXECUTED_YES;
	o->worker = worker;
	return false;
}

void session_pack_head(struct session *s, struct worker *w, msgpack_packer *pk, struct slice *values)
{
	bool send = s->holder != w->id;

	s->holder = w->id;
	s->sends += send;
	pack_text(pk, "session");
	msgpack_pack_map(pk, 4 + send);
	pack_kv_uint(pk, "id", s->id);
	pack_kv_text(pk, "name", s->name);
	pack_kv_uint(pk, "send", s->sends);
	pack_kv_bool(pk, "bound", session_is_strict(s));
	*values = (struct slice){ 0 };
	if (!send)
		return;
	pack_text(pk, "values");
	msgpack_pack_map(pk, s->values.n);
	*values = s->values.pairs;
}

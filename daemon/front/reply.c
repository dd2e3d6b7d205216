#include "daemon/front/reply.h"

#include "daemon/base/cleanup.h"
#include "daemon/base/mem.h"
#include "daemon/base/packed.h"
#include "daemon/front/client.h"
#include "daemon/pool/pool.h"
#include "daemon/pool/session.h"
#include "proto/pack.h"

/* [1, id, nil, of a reply: array header, type, uint64 at the most, nil */
#define HEAD_MAX 16

static void put_head(msgpack_sbuffer *buf, msgpack_packer *pk, const uint64_t *id)
{
	packed_begin(buf, pk);
	msgpack_pack_array(pk, 4);
	msgpack_pack_int(pk, ENVELOPE_RESPONSE);
	if (id)
		msgpack_pack_uint64(pk, *id);
	else
		msgpack_pack_nil(pk);
}

/* The same by hand: this is on the way of every call, and its size is bounded. */
static size_t put_value_head(uint8_t head[HEAD_MAX], uint64_t id)
{
	size_t n = 0;

	head[n++] = 0x94;
	head[n++] = ENVELOPE_RESPONSE;
	if (id < 0x80) {
		head[n++] = (uint8_t)id;
	} else {
		unsigned width = id <= UINT8_MAX ? 0 : id <= UINT16_MAX ? 1 : id <= UINT32_MAX ? 2 : 3;

		head[n++] = (uint8_t)(0xcc + width);
		for (int shift = (8 << width) - 8; shift >= 0; shift -= 8)
			head[n++] = (uint8_t)(id >> shift);
	}
	head[n++] = 0xc0;
	return n;
}

void reply_value(struct client *c, uint64_t id, struct slice value)
{
	uint8_t head[HEAD_MAX];
	struct slice parts[2] = { { .span = { .p = head, .len = put_value_head(head, id) } }, value };

	stream_send(&c->stream, parts, 2);
	client_mind_output(c);
}

void reply_packed(struct client *c, uint64_t id, const msgpack_sbuffer *value)
{
	reply_value(c, id, (struct slice){ .span = { .p = (const uint8_t *)value->data, .len = value->size } });
}

/* r: NULL when no pool knows it. */
static void pack_error_map(msgpack_packer *pk, const struct outcome *o, const struct request *r)
{
	const bool again = r && r->attempts > 1;
	const char *session = r && r->session ? r->session->name : o->session;
	unsigned keys = 3 + (o->retry_after_ms != 0) + (r != NULL) + (o->worker != 0) + again + (o->phase != NULL) + (session != NULL) +
			(o->cause.len != 0);

	msgpack_pack_map(pk, keys);
	pack_kv_text(pk, "code", error_name(o->code));
	pack_kv_text(pk, "message", o->message);
	pack_kv_text(pk, "executed", executed_name(o->executed));
	if (o->retry_after_ms)
		pack_kv_uint(pk, "retry_after_ms", o->retry_after_ms);
	if (r)
		pack_kv_text(pk, "pool", r->pool->settings->name);
	if (o->worker)
		pack_kv_uint(pk, "worker", o->worker);
	if (again)
		pack_kv_uint(pk, "attempts", r->attempts);
	if (o->phase)
		pack_kv_text(pk, "phase", o->phase);
	if (session)
		pack_kv_text(pk, "session", session);
	if (o->cause.len) {
		pack_text(pk, "cause");
		pack_raw(pk, o->cause);
	}
}

static void pack_error_text(msgpack_packer *pk, const struct outcome *o)
{
	_cleanup_free_ char *text =
		mem_printf("%s: %s (executed: %s)", error_name(o->code), o->message, executed_name(o->executed));

	pack_text(pk, text);
}

/* The whole message, in the shape of the connection. */
static void put_error(msgpack_sbuffer *buf, const struct client *c, const uint64_t *id, const struct outcome *o,
		      const struct request *r)
{
	msgpack_packer pk;

	put_head(buf, &pk, id);
	if (c->speaks)
		pack_error_map(&pk, o, r);
	else
		pack_error_text(&pk, o);
	msgpack_pack_nil(&pk);
}

static struct span span_of(const msgpack_sbuffer *buf)
{
	return (struct span){ .p = (const uint8_t *)buf->data, .len = buf->size };
}

static void send_error(struct client *c, const uint64_t *id, const struct outcome *o, const struct request *r)
{
	_cleanup_(msgpack_sbuffer_destroy) msgpack_sbuffer buf;
	struct slice part;

	put_error(&buf, c, id, o, r);
	part = (struct slice){ .span = span_of(&buf) };
	stream_send(&c->stream, &part, 1);
	client_mind_output(c);
}

void reply_error(struct client *c, const uint64_t *id, const struct outcome *o)
{
	send_error(c, id, o, NULL);
}

/* {value, meta: {worker, generation, session?, pid, queue_us, run_us, attempts}}, with the value not copied */
static void send_with_meta(struct client *c, const struct request *r, const struct outcome *o)
{
	_cleanup_(msgpack_sbuffer_destroy) msgpack_sbuffer buf;
	msgpack_packer pk;
	uint8_t head[HEAD_MAX];
	size_t at;

	packed_begin(&buf, &pk);
	msgpack_pack_map(&pk, 2);
	pack_text(&pk, "meta");
	msgpack_pack_map(&pk, 6 + (r->session != NULL));
	pack_kv_uint(&pk, "worker", r->worker->id);
	pack_kv_uint(&pk, "generation", r->worker->generation);
	if (r->session)
		pack_kv_text(&pk, "session", r->session->name);
	pack_kv_uint(&pk, "pid", (uint64_t)r->worker->last_pid);
	pack_kv_uint(&pk, "queue_us", (r->started - r->received) / 1000);
	pack_kv_uint(&pk, "run_us", r->worker->slot.run_us);
	pack_kv_uint(&pk, "attempts", r->attempts);
	pack_text(&pk, "value");
	at = put_value_head(head, r->key.id);
	stream_send(&c->stream,
		    (struct slice[]){ { .span = { .p = head, .len = at } },
				      { .span = { .p = (const uint8_t *)buf.data, .len = buf.size } },
				      o->value },
		    3);
	client_mind_output(c);
}

/* A value that brings an fd. The kernel may refuse that when it is written, which is later: the client is told so instead, and
 * the worker finds its end of the socket closed. */
static void send_with_fd(struct client *c, const struct request *r, const struct outcome *o)
{
	_cleanup_(msgpack_sbuffer_destroy) msgpack_sbuffer buf = { 0 }, instead = { 0 };
	struct outcome refused;
	msgpack_packer pk;

	put_head(&buf, &pk, &r->key.id);
	msgpack_pack_nil(&pk);
	pack_raw(&pk, o->value.span);
	outcome_error(&refused, ERROR_QUOTA,
		      "no socket for a direct lease: too many are on their way and not received; the lease has ended");
	refused.worker = o->worker;
	put_error(&instead, c, &r->key.id, &refused, r);
	stream_send_fd(&c->stream, span_of(&buf), TAKE_FD(*o->fd), span_of(&instead));
	client_mind_output(c);
}

void reply_news(struct client *c, const char *name, struct span params)
{
	_cleanup_(msgpack_sbuffer_destroy) msgpack_sbuffer buf = { 0 };
	msgpack_packer pk;
	struct slice part;

	if (!c->speaks)
		return;
	packed_begin(&buf, &pk);
	msgpack_pack_array(&pk, 3);
	msgpack_pack_int(&pk, ENVELOPE_NOTIFICATION);
	pack_text(&pk, name);
	msgpack_pack_array(&pk, 1);
	pack_raw(&pk, params);
	part = (struct slice){ .span = span_of(&buf) };
	stream_send(&c->stream, &part, 1);
	client_mind_output(c);
}

void reply_finished(struct client *c, const struct request *r, const struct outcome *o)
{
	if (o->code != ERROR_NONE)
		send_error(c, &r->key.id, o, r);
	else if (o->fd)
		send_with_fd(c, r, o);
	else if (r->want_meta && r->kind == REQUEST_EXECUTE)
		send_with_meta(c, r, o);
	else
		reply_value(c, r->key.id, o->value);
}

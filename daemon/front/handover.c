#include "daemon/front/handover.h"

#include <stdio.h>
#include <stdlib.h>
#include <utlist.h>

#include "daemon/base/cleanup.h"
#include "daemon/base/mem.h"
#include "daemon/front/errand.h"
#include "daemon/front/query.h"
#include "daemon/front/router.h"
#include "daemon/front/server.h"
#include "daemon/front/subscription.h"
#include "daemon/front/upgrade.h"
#include "proto/pack.h"

/* --- when --- */

void server_hold(struct server *s, bool held)
{
	struct client *c;

	s->held = held;
	listener_hold(&s->listener, held);
	listener_hold(&s->admin_listener, held);
	DL_FOREACH (s->clients, c) {
		if (held)
			stream_pause(&c->stream);
		else
			client_mind_budget(c); /* which reads on, unless it has a reason of its own */
	}
}

const char *server_obstacle(const struct server *s)
{
	const struct client *c;

	DL_FOREACH (s->clients, c) {
		if (c->n_errands > (upgrade_is_awaited(c) ? 1u : 0u))
			return "a client waits for something that goes on for long, such as a reload";
	}
	return NULL;
}

/* One that is being closed gets its last words before. */
bool server_is_quiet(const struct server *s)
{
	const struct client *c;

	DL_FOREACH (s->clients, c) {
		if (outbox_has_parcel(&c->stream.out) || c->stream.closing || c->stream.ended)
			return false;
	}
	return true;
}

/* --- clients --- */

static void pack_output(msgpack_packer *pk, const struct outbox *o)
{
	struct span piece;

	msgpack_pack_bin(pk, o->bytes);
	for (size_t i = 0; (piece = outbox_piece(o, i)).len; i++)
		msgpack_pack_bin_body(pk, piece.p, piece.len);
}

/* Connections keep the roles that they have. */
static void pack_grant(msgpack_packer *pk, const struct server *s, const struct access_grant *g)
{
	msgpack_pack_uint64(pk, g->role);
	msgpack_pack_uint64(pk, g->highest);
	msgpack_pack_array(pk, g->pools ? s->n_pools : 0);
	for (unsigned i = 0; g->pools && i < s->n_pools; i++)
		msgpack_pack_uint64(pk, g->pools[i]);
}

static struct access_grant take_grant(const struct server *s, struct unpacker *u)
{
	struct access_grant g = { .role = (enum role)unpack_uint(u) };
	uint32_t n;

	g.highest = (enum role)unpack_uint(u);
	n = unpack_array(u);
	if (n)
		g.pools = mem_new(s->n_pools * sizeof(*g.pools));
	for (uint32_t i = 0; i < n; i++) {
		enum role role = (enum role)unpack_uint(u);

		if (i < s->n_pools)
			g.pools[i] = role;
	}
	return g;
}

static void pack_client(msgpack_packer *pk, const struct client *c)
{
	const struct stream *st = &c->stream;
	struct span in = stream_undelivered(st);

	msgpack_pack_uint64(pk, c->caller.id);
	handover_pack_fd(pk, st->io.fd);
	msgpack_pack_uint64(pk, c->peer.uid);
	msgpack_pack_uint64(pk, c->peer.gid);
	msgpack_pack_uint64(pk, (uint64_t)c->peer.pid);
	msgpack_pack_uint64(pk, st->reader.mode);
	pack_bool(pk, c->speaks);
	pack_text(pk, c->name);
	pack_grant(pk, c->server, &c->grant);
	msgpack_pack_uint64(pk, c->since);
	pack_text_n(pk, (const char *)in.p, in.len);
	pack_output(pk, &st->out);
	subscription_pack(c, pk);
	upgrade_pack_awaited(c, pk);
}

void server_pack_clients(const struct server *s, msgpack_packer *pk)
{
	const struct client *c;

	msgpack_pack_array(pk, s->n_clients);
	DL_FOREACH (s->clients, c)
		pack_client(pk, c);
}

static void take_client(struct server *s, struct unpacker *u)
{
	uint64_t id = unpack_uint(u);
	_cleanup_close_ int fd = unpack_fd(u);
	struct listener_peer peer = { .uid = (uid_t)unpack_uint(u) };
	enum frame_mode mode;
	struct span name, in, out;
	struct client *c;
	bool speaks;

	peer.gid = (gid_t)unpack_uint(u);
	peer.pid = (pid_t)unpack_uint(u);
	mode = (enum frame_mode)unpack_uint(u);
	speaks = unpack_bool(u);
	name = unpack_text(u);
	if (u->bad)
		return;
	c = client_take_over(s, id, TAKE_FD(fd), &peer, take_grant(s, u));
	c->speaks = speaks;
	(void)snprintf(c->name, sizeof(c->name), "%.*s", (int)name.len, (const char *)name.p); /* it was that long before */
	c->since = unpack_uint(u);
	in = unpack_text(u);
	out = unpack_text(u);
	subscription_take(c, u);
	upgrade_take_awaited(c, u);
	if (!stream_go_on(&c->stream, mode, in, out))
		client_close(c);
}

void server_take_clients(struct server *s, struct unpacker *u)
{
	for (uint32_t n = unpack_array(u); n && !u->bad; n--)
		take_client(s, u);
}

struct caller *server_find_caller(const struct server *s, uint64_t id)
{
	struct client *c;

	DL_FOREACH (s->clients, c) {
		if (c->caller.id == id)
			return &c->caller;
	}
	return NULL;
}

/* --- what waits --- */

static int compare_calls(const void *a, const void *b)
{
	const struct request *const *x = a, *const *y = b;

	return (*x)->call < (*y)->call ? -1 : (*x)->call > (*y)->call;
}

/* The caller frees *all. */
static size_t list_waiting(const struct server *s, const struct request ***all)
{
	const struct request *r;
	size_t n = 0;

	*all = NULL;
	for (unsigned i = 0; i < s->n_pools; i++) {
		for (r = s->pools[i]->requests; r; r = r->pool_next) {
			if (r->state == REQUEST_RUNNING)
				continue;
			*all = mem_resize(*all, n + 1, sizeof(const struct request *));
			(*all)[n++] = r;
		}
	}
	if (n)
		qsort(*all, n, sizeof(const struct request *), compare_calls);
	return n;
}

void server_pack_waiting(const struct server *s, msgpack_packer *pk)
{
	const struct request **all;
	size_t n = list_waiting(s, &all);

	msgpack_pack_array(pk, n);
	for (size_t i = 0; i < n; i++) {
		const struct request *r = all[i];

		msgpack_pack_uint64(pk, r->caller->id);
		msgpack_pack_uint64(pk, r->received);
		pack_bool(pk, r->lease != NULL);
		pack_text_n(pk, (const char *)r->body.span.p, r->body.span.len);
	}
	free(all);
}

/* As if it came now, but for its deadline. */
static void take_waiting(struct server *s, struct unpacker *u)
{
	uint64_t id = unpack_uint(u);
	struct query_late late = { .received = unpack_uint(u) };
	struct slice body = { 0 };
	struct caller *caller;
	struct span frame;

	late.leased = unpack_bool(u);
	frame = unpack_text(u);
	caller = u->bad ? NULL : server_find_caller(s, id);

	if (!caller)
		return; /* it was closed in between */
	body.blob = blob_copy(s->blobs, frame);
	if (body.blob) {
		body.span = (struct span){ .p = body.blob->data, .len = frame.len };
		router_take_late(container_of(caller, struct client, caller), &body, &late);
		slice_clear(&body);
	} else {
		client_close(container_of(caller, struct client, caller)); /* no memory: it may send it again */
	}
}

void server_take_waiting(struct server *s, struct unpacker *u)
{
	for (uint32_t n = unpack_array(u); n && !u->bad; n--)
		take_waiting(s, u);
}

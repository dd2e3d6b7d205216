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
#include "daemon/pool/lease.h"
#include "proto/pack.h"

/* --- when --- */

const char *server_obstacle(const struct server *s)
{
	const struct client *c;

	DL_FOREACH (s->clients, c) {
		if (c->n_errands > (upgrade_is_awaited(c) ? 1u : 0u))
			return "a client waits for something that goes on for long, such as a reload";
	}
	return NULL;
}

/* --- clients --- */

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

/* So that whoever uses a lease that has ended is told how. */
static void pack_ended_leases(msgpack_packer *pk, const struct caller *c)
{
	unsigned n = c->n_ended < CALLER_ENDED_LEASES ? c->n_ended : CALLER_ENDED_LEASES;

	msgpack_pack_array(pk, n);
	for (unsigned i = c->n_ended - n; i < c->n_ended; i++) {
		const struct caller_ended_lease *e = &c->ended[i % CALLER_ENDED_LEASES];

		msgpack_pack_uint64(pk, e->id);
		msgpack_pack_uint64(pk, e->at);
		pack_text(pk, e->how);
	}
}

static void take_ended_leases(struct unpacker *u, struct caller *c)
{
	for (uint32_t n = unpack_array(u); n && !u->bad; n--) {
		uint64_t id = unpack_uint(u), at = unpack_uint(u);
		const char *how = lease_end_text(unpack_text(u));

		if (how)
			caller_note_ended(c, id, at, how);
	}
}

static void pack_client(msgpack_packer *pk, const struct client *c)
{
	const struct stream *st = &c->stream;

	msgpack_pack_uint64(pk, c->caller.id);
	handover_pack_fd(pk, st->io.fd);
	msgpack_pack_uint64(pk, c->peer.uid);
	msgpack_pack_uint64(pk, c->peer.gid);
	msgpack_pack_uint64(pk, (uint64_t)c->peer.pid);
	pack_bool(pk, c->speaks);
	pack_text(pk, c->name);
	pack_grant(pk, c->server, &c->grant);
	msgpack_pack_uint64(pk, c->since);
	subscription_pack(c, pk);
	upgrade_pack_awaited(c, pk);
	pack_ended_leases(pk, &c->caller);
	handover_pack_stream(pk, st);
	msgpack_pack_uint64(pk, st->closing ? st->frame_timer.at : 0);
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
	struct span name;
	struct client *c;
	uint64_t until;
	bool speaks, whole;

	peer.gid = (gid_t)unpack_uint(u);
	peer.pid = (pid_t)unpack_uint(u);
	speaks = unpack_bool(u);
	name = unpack_text(u);
	if (u->bad)
		return;
	c = client_take_over(s, id, TAKE_FD(fd), &peer, take_grant(s, u));
	c->speaks = speaks;
	(void)snprintf(c->name, sizeof(c->name), "%.*s", (int)name.len, (const char *)name.p); /* it was that long before */
	c->since = unpack_uint(u);
	subscription_take(c, u);
	upgrade_take_awaited(c, u);
	take_ended_leases(u, &c->caller);
	whole = handover_take_stream(u, &c->stream);
	until = unpack_uint(u);
	if (until)
		client_go_on_closing(c, until);
	if (!whole) /* at the end of the turn: its leases and calls are taken yet, and end with it */
		stream_give_up(&c->stream, STREAM_END_MEMORY);
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

	for (unsigned i = 0; i < s->n_pools; i++)
		n += s->pools[i]->n_requests - s->pools[i]->n_running;
	*all = mem_new((n + 1) * sizeof(const struct request *));
	n = 0;
	for (unsigned i = 0; i < s->n_pools; i++) {
		for (r = s->pools[i]->requests; r; r = r->pool_next) {
			if (r->state != REQUEST_RUNNING)
				(*all)[n++] = r;
		}
	}
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
		msgpack_pack_uint64(pk, r->call);
		msgpack_pack_uint64(pk, r->attempts);
		pack_bool(pk, r->retried);
		msgpack_pack_uint64(pk, r->received);
		pack_bool(pk, r->lease != NULL);
		pack_text_n(pk, (const char *)r->body.span.p, r->body.span.len);
	}
	free(all);
}

/* Of all clients, by their numbers: so many calls may wait that nobody wants to go through a list for each. */
struct index {
	struct client **all;
	size_t n;
};

static int compare_clients(const void *a, const void *b)
{
	const struct client *const *x = a, *const *y = b;

	return (*x)->caller.id < (*y)->caller.id ? -1 : (*x)->caller.id > (*y)->caller.id;
}

static struct index index_clients(const struct server *s)
{
	struct index index = { .all = mem_new((s->n_clients + 1) * sizeof(struct client *)) };
	struct client *c;

	DL_FOREACH (s->clients, c)
		index.all[index.n++] = c;
	qsort(index.all, index.n, sizeof(struct client *), compare_clients);
	return index;
}

/* NULL: it was closed in between. */
static struct client *index_find(const struct index *index, uint64_t id)
{
	const struct client key = { .caller.id = id }, *wanted = &key;
	struct client **found = bsearch(&wanted, index->all, index->n, sizeof(struct client *), compare_clients);

	return found && !(*found)->gone ? *found : NULL;
}

/* As if it came now, but for its deadline. */
static void take_waiting(struct server *s, const struct index *index, struct unpacker *u)
{
	struct client *c = index_find(index, unpack_uint(u));
	struct query_late late = { .call = unpack_uint(u) };
	struct slice body = { 0 };
	struct span frame;

	late.attempts = (unsigned)unpack_uint(u);
	late.retried = unpack_bool(u);
	late.received = unpack_uint(u);
	late.leased = unpack_bool(u);
	frame = unpack_text(u);
	if (u->bad || !c)
		return;
	body.blob = blob_copy(s->blobs, frame);
	if (body.blob) {
		body.span = (struct span){ .p = body.blob->data, .len = frame.len };
		router_take_late(c, &body, &late);
		slice_clear(&body);
	} else {
		client_close(c); /* no memory: it may send it again */
	}
}

void server_take_waiting(struct server *s, struct unpacker *u)
{
	struct index index = index_clients(s);

	for (uint32_t n = unpack_array(u); n && !u->bad; n--)
		take_waiting(s, &index, u);
	free(index.all);
}

#include "daemon/front/server.h"

#include <sys/socket.h>
#include <utlist.h>

#include "daemon/base/cleanup.h"
#include "daemon/base/log.h"
#include "daemon/base/packed.h"
#include "daemon/base/wall.h"
#include "daemon/front/reply.h"
#include "daemon/front/subscription.h"
#include "proto/envelope.h"
#include "proto/pack.h"

#define FRAMES_PER_TURN 64 /* of one client, before others get their turn */

/* A client without a role costs its struct and no more: no buffer is held for it but for a moment. */
#define DENIED_FRAME 4096u
#define DENIED_TIME (100 * NS_PER_MS)

const char *server_end_name(enum stream_end why)
{
	static const char *const names[] = {
		[STREAM_END_CLOSED] = "closed",
		[STREAM_END_FRAME] = "bad frame",
		[STREAM_END_TIMEOUT] = "unfinished message",
		[STREAM_END_MEMORY] = "no memory for a message",
		[STREAM_END_OUTPUT] = "does not read its replies",
	};

	return names[why];
}

/* Until the daemon has another one: everybody may use and observe. */
static const struct access access_default = { .own_is_admin = true };

void server_init(struct server *s, struct loop *l, struct blob_pool *blobs, struct registry *g, struct pool **pools,
		 unsigned n_pools, const struct server_limits *limits, const struct server_ops *ops)
{
	*s = (struct server){
		.ops = ops,
		.loop = l,
		.blobs = blobs,
		.registry = g,
		.pools = pools,
		.n_pools = n_pools,
		.limits = *limits,
		.access = &access_default,
		.descent = DESCENT_INIT,
		.stream_limits = {
			.max_frame = limits->max_frame,
			.out_soft = limits->max_frame,
			.out_hard = 4 * (size_t)limits->max_frame,
			.frame_timeout = limits->frame_timeout,
			.frames_per_turn = FRAMES_PER_TURN,
		},
		.denied_limits = {
			.max_frame = DENIED_FRAME,
			.out_soft = DENIED_FRAME,
			.out_hard = 4 * DENIED_FRAME,
			.frame_timeout = DENIED_TIME,
			.frames_per_turn = FRAMES_PER_TURN,
			.impatient = true,
		},
		.client_budget = 2 * (size_t)limits->max_frame,
		.own_uid = geteuid(),
		.started = loop_now(l),
		.started_wall = wall_ms(),
	};
	subscription_init(s);
}

/* One string is all that fits in before hello; the socket's own buffer takes it. */
static void server_turn_away(struct client *c, const struct outcome *o)
{
	LOG(WARN, "client.refused", KV("uid", c->peer.uid), KV("pid", c->peer.pid), KV("reason", o->message));
	reply_error(c, NULL, o);
	client_close_flushed(c);
}

static void server_turn_away_over(struct client *c, const char *limit, unsigned value)
{
	struct outcome o;

	outcome_error(&o, ERROR_QUOTA, "too many connections: %s is %u", limit, value);
	server_turn_away(c, &o);
}

struct access_grant server_ask_grant(struct server *s, int fd, const struct listener_peer *peer)
{
	const struct access_peer who = { .uid = peer->uid, .gid = peer->gid, .is_own = peer->uid == s->own_uid };

	return access_ask(s->access, fd, &who, peer->pid, s->n_pools, &s->descent);
}

/* A limit that is reached leaves room for those who could do something about it. 0: no limit. */
static bool is_full(unsigned n, unsigned limit, enum role highest)
{
	return limit && n >= (highest == ROLE_ADMIN ? limit + SERVER_RESERVED : limit);
}

static void server_on_accepted(struct listener *l, int fd, const struct listener_peer *peer)
{
	struct server *s = container_of(l, struct server, listener);
	const struct server_limits *limits = &s->limits;
	unsigned clients = s->n_clients, of_uid = account_connections(s->registry, peer->uid);
	struct client *c = client_new(s, fd, peer);

	if (is_full(clients, limits->max_clients, c->grant.highest))
		server_turn_away_over(c, "max_clients", limits->max_clients);
	else if (is_full(of_uid, limits->uid_max_connections, c->grant.highest))
		server_turn_away_over(c, "uid_max_connections", limits->uid_max_connections);
}

static void server_on_admin_accepted(struct listener *l, int fd, const struct listener_peer *peer)
{
	struct client *c = client_new(container_of(l, struct server, admin_listener), fd, peer);
	struct outcome o;

	if (c->grant.highest == ROLE_ADMIN)
		return;
	outcome_error(&o, ERROR_DENIED, "this socket is for admins; uid %u has the role %s", peer->uid,
		      role_name(c->grant.highest));
	server_turn_away(c, &o);
}

/* Before it is known which framing it speaks; the socket's own buffer takes it. */
static void send_no_fds(int fd)
{
	static const char words[] = "overloaded: the daemon has no file descriptor for another connection (executed: never)";
	_cleanup_(msgpack_sbuffer_destroy) msgpack_sbuffer buf;
	msgpack_packer pk;

	packed_begin(&buf, &pk);
	msgpack_pack_array(&pk, 4);
	msgpack_pack_int(&pk, ENVELOPE_RESPONSE);
	msgpack_pack_nil(&pk);
	pack_text(&pk, words);
	msgpack_pack_nil(&pk);
	(void)send(fd, buf.data, buf.size, MSG_DONTWAIT | MSG_NOSIGNAL); /* who is gone need not know */
}

static bool server_takes_spare(struct server *s, int fd, const struct listener_peer *peer)
{
	struct access_grant grant = server_ask_grant(s, fd, peer);
	bool is_admin = grant.highest == ROLE_ADMIN;

	access_grant_deinit(&grant);
	if (!is_admin)
		send_no_fds(fd);
	return is_admin;
}

static bool server_on_accepted_spare(struct listener *l, int fd, const struct listener_peer *peer)
{
	bool is_taken = server_takes_spare(container_of(l, struct server, listener), fd, peer);

	if (is_taken)
		server_on_accepted(l, fd, peer);
	return is_taken;
}

static bool server_on_admin_accepted_spare(struct listener *l, int fd, const struct listener_peer *peer)
{
	bool is_taken = server_takes_spare(container_of(l, struct server, admin_listener), fd, peer);

	if (is_taken)
		server_on_admin_accepted(l, fd, peer);
	return is_taken;
}

const struct listener_ops server_listener_ops = {
	.accepted = server_on_accepted,
	.accepted_spare = server_on_accepted_spare,
};

const struct listener_ops server_admin_listener_ops = {
	.accepted = server_on_admin_accepted,
	.accepted_spare = server_on_admin_accepted_spare,
};

void server_note_client(struct server *s)
{
	if (!s->n_clients)
		s->ops->idle(s);
}

void server_close(struct server *s)
{
	struct client *c, *next;

	listener_close(&s->listener);
	listener_close(&s->admin_listener);
	DL_FOREACH_SAFE(s->clients, c, next)
		client_close_flushed(c);
	if (!s->n_clients)
		s->ops->idle(s);
}

void server_deinit(struct server *s)
{
	listener_close(&s->listener);
	listener_close(&s->admin_listener);
	while (s->clients)
		client_close(s->clients);
	descent_deinit(&s->descent);
	s->registry->feed = NULL;
}

struct worker *server_find_worker(const struct server *s, uint64_t id)
{
	struct worker *w = NULL;

	for (unsigned i = 0; i < s->n_pools && !w; i++) {
		const struct pool *p = s->pools[i];
		struct worker *const lists[] = { p->workers, p->dead, p->templates };

		for (size_t j = 0; j < ARRAY_SIZE(lists) && !w; j++)
			w = worker_find(lists[j], id);
	}
	return w;
}

#include "daemon/front/server.h"

#include <stdio.h>
#include <utlist.h>

#include "daemon/base/cleanup.h"
#include "daemon/base/log.h"
#include "daemon/front/reply.h"

#define FRAMES_PER_TURN 64 /* of one client, before others get their turn */

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
		.stream_limits = {
			.max_frame = limits->max_frame,
			.out_soft = limits->max_frame,
			.out_hard = 4 * (size_t)limits->max_frame,
			.frame_timeout = limits->frame_timeout,
			.frames_per_turn = FRAMES_PER_TURN,
		},
		.client_budget = 2 * (size_t)limits->max_frame,
		.own_uid = geteuid(),
		.started = loop_now(l),
	};
}

/* One string is all that fits in before hello; the socket's own buffer takes it. */
static void server_turn_away(struct server *s, int fd, const struct listener_peer *peer, const char *limit,
			     unsigned value)
{
	struct client *c = client_new(s, fd, peer);
	struct outcome o;

	outcome_error(&o, ERROR_QUOTA, "too many connections: %s is %u", limit, value);
	LOG(WARN, "client.refused", KV("uid", peer->uid), KV("pid", peer->pid), KV("reason", o.message));
	reply_error(c, NULL, &o);
	client_close_flushed(c);
}

static void server_on_accepted(struct listener *l, int fd, const struct listener_peer *peer)
{
	struct server *s = container_of(l, struct server, listener);

	if (s->limits.max_clients && s->n_clients >= s->limits.max_clients)
		server_turn_away(s, fd, peer, "max_clients", s->limits.max_clients);
	else if (s->limits.uid_max_connections &&
		 account_connections(s->registry, peer->uid) >= s->limits.uid_max_connections)
		server_turn_away(s, fd, peer, "uid_max_connections", s->limits.uid_max_connections);
	else
		(void)client_new(s, fd, peer); /* it is in s->clients */
}

const struct listener_ops server_listener_ops = { .accepted = server_on_accepted };

void server_note_client(struct server *s)
{
	if (!s->n_clients)
		s->ops->idle(s);
}

void server_close(struct server *s)
{
	struct client *c, *next;

	listener_close(&s->listener);
	DL_FOREACH_SAFE(s->clients, c, next)
		client_close_flushed(c);
	if (!s->n_clients)
		s->ops->idle(s);
}

void server_deinit(struct server *s)
{
	listener_close(&s->listener);
	while (s->clients)
		client_close(s->clients);
}

struct pool *server_find_pool(const struct server *s, struct span name)
{
	for (unsigned i = 0; i < s->n_pools; i++) {
		if (span_equals(name, s->pools[i]->settings->name))
			return s->pools[i];
	}
	return NULL;
}

static struct worker *find_in(struct worker *list, uint64_t id)
{
	while (list && list->id != id)
		list = list->next;
	return list;
}

struct worker *server_find_worker(const struct server *s, uint64_t id)
{
	struct worker *w = NULL;

	for (unsigned i = 0; i < s->n_pools && !w; i++) {
		w = find_in(s->pools[i]->workers, id);
		if (!w)
			w = find_in(s->pools[i]->dead, id);
	}
	return w;
}

const char *server_pool_list(const struct server *s, char *out, size_t size)
{
	size_t used = 0;

	out[0] = '\0';
	for (unsigned i = 0; i < s->n_pools && used < size; i++)
		used += (size_t)snprintf(out + used, size - used, "%s%s", i ? ", " : "", s->pools[i]->settings->name);
	return out;
}

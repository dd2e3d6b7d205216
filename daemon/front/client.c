#include "daemon/front/client.h"

#include <stdio.h>
#include <sys/socket.h>
#include <utlist.h>

#include "daemon/base/cleanup.h"
#include "daemon/base/log.h"
#include "daemon/base/mem.h"
#include "daemon/front/errand.h"
#include "daemon/front/reply.h"
#include "daemon/front/router.h"
#include "daemon/front/server.h"
#include "daemon/front/subscription.h"
#include "daemon/pool/account.h"
#include "daemon/pool/request.h"

#define FLUSH_TIME NS_PER_S
#define SOCKETS_AT_ONCE 32 /* twice as many may be on their way to one connection */

static void client_release(struct loop_grave *g)
{
	struct client *c = container_of(g, struct client, grave);

	access_grant_deinit(&c->grant);
	free(c);
}

/* Cancels what it has. */
static void client_give_up(struct client *c)
{
	subscription_end(c);
	caller_gone(&c->caller);
	errand_drop_all(c);
}

static void client_end(struct client *c)
{
	struct server *s = c->server;

	if (c->gone)
		return;
	c->gone = true;
	client_give_up(c);
	loop_task_cancel(s->loop, &c->settle);
	LOG(DEBUG, "client.end", KV("client", c->caller.id), KV("ms", (loop_now(s->loop) - c->since) / NS_PER_MS));
	account_remove_connection(c->account);
	DL_DELETE(s->clients, c);
	s->n_clients--;
	s->bytes_in += c->stream.bytes_in;
	s->bytes_out += c->stream.bytes_out;
	loop_bury(s->loop, &c->grave, client_release);
	server_note_client(s);
}

void client_close(struct client *c)
{
	stream_close(&c->stream);
	client_end(c);
}

void client_close_flushed(struct client *c)
{
	client_give_up(c);
	stream_close_flushed(&c->stream, FLUSH_TIME);
}

/* A half-closed client goes when it has got everything, however slowly it reads: only the daemon's end cuts that short. */
static void client_maybe_done(struct client *c)
{
	if (!c->half || c->caller.n_requests || c->errands || !stream_is_open(&c->stream))
		return;
	client_give_up(c);
	stream_close_flushed(&c->stream, LOOP_NEVER);
}

static size_t client_held_bytes(const struct client *c)
{
	return c->caller.body_bytes + c->stream.out.bytes;
}

void client_mind_budget(struct client *c)
{
	size_t budget = c->server->client_budget;

	if (!stream_is_open(&c->stream))
		return;
	if (client_held_bytes(c) > budget)
		stream_pause(&c->stream);
	else if (c->stream.paused && client_held_bytes(c) <= budget / 2 && !stream_is_full(&c->stream))
		stream_resume(&c->stream);
}

/* Of those that do not read. One whose socket takes what it is given holds nothing for long. */
static struct client *client_find_hog(const struct server *s, const struct account *a)
{
	struct client *c, *hog = NULL;

	DL_FOREACH (s->clients, c) {
		if (c->account == a && stream_is_blocked(&c->stream) &&
		    c->stream.out.bytes > (hog ? hog->stream.out.bytes : 0))
			hog = c;
	}
	return hog;
}

void client_mind_output(struct client *c)
{
	const struct server *s = c->server;
	const struct account *a = c->account;
	uint64_t max = s->registry->limits.uid_max_bytes;
	size_t unsent = stream_is_blocked(&c->stream) ? 0 : c->stream.out.bytes; /* nobody has tried yet */
	struct client *hog;

	while (max && a->out - unsent > max && (hog = client_find_hog(s, a))) {
		LOG(WARN, "client.hog", KV("client", hog->caller.id), KV("uid", a->uid),
		    KV("bytes", hog->stream.out.bytes), KV("all_bytes", a->out), KV("uid_max_bytes", max));
		stream_give_up(&hog->stream, STREAM_END_OUTPUT);
	}
}

/* Sockets that nobody receives count against what the kernel lets the daemon have on their way, to all clients together. */
bool client_may_get_socket(struct client *c, struct outcome *o)
{
	if (c->n_sockets == SOCKETS_AT_ONCE) {
		if (stream_received(&c->stream) < c->socket_mark) {
			outcome_error(o, ERROR_QUOTA,
				      "this connection has not received the sockets of its last %u direct leases",
				      2 * SOCKETS_AT_ONCE);
			return false;
		}
		c->n_sockets = 0;
		c->socket_mark = c->stream.bytes_out + c->stream.out.bytes;
	}
	c->n_sockets++;
	return true;
}

/* After replies: a half-closed client may be done, a paused one may be read again. */
static void client_settle(struct loop_task *t)
{
	struct client *c = container_of(t, struct client, settle);

	client_mind_budget(c);
	client_maybe_done(c);
}

void client_note_reply(struct client *c)
{
	if (c->half || c->stream.paused)
		loop_defer(c->server->loop, &c->settle);
}

bool client_has_id(const struct client *c, uint64_t id)
{
	return registry_find_by_id(c->server->registry, c->caller.id, id) || errand_is_on(c, id);
}

static void client_on_finished(struct caller *caller, const struct request *r, const struct outcome *o)
{
	struct client *c = container_of(caller, struct client, caller);

	if (o->abandoned)
		return;
	reply_finished(c, r, o);
	client_note_reply(c);
}

static void client_on_news(struct caller *caller, const char *name, struct span params)
{
	reply_news(container_of(caller, struct client, caller), name, params);
}

static const struct caller_ops caller_ops = { .finished = client_on_finished, .news = client_on_news };

static void client_on_frame(struct stream *st, struct slice *body)
{
	struct client *c = container_of(st, struct client, stream);

	router_take(c, body);
	client_mind_budget(c);
	if (stream_is_open(st) && stream_is_full(st))
		stream_pause(st);
}

static bool client_may_deliver(struct stream *st)
{
	struct client *c = container_of(st, struct client, stream);

	return account_may_take(c->account, loop_turn(c->server->loop));
}

static void client_on_half_closed(struct stream *st)
{
	struct client *c = container_of(st, struct client, stream);

	c->half = true;
	client_maybe_done(c);
}

static void client_on_drained(struct stream *st)
{
	client_mind_budget(container_of(st, struct client, stream));
}

/* Says why, and closes when that is sent. */
static void client_refuse(struct client *c, enum error_code code, const char *message)
{
	struct outcome o;

	outcome_error(&o, code, "%s", message);
	o.executed = EXECUTED_NEVER; /* it answers the message that could not be read, and no other */
	reply_error(c, NULL, &o);
	client_close_flushed(c);
}

/* What came is no frame: say so, if it speaks our protocol at all, and close. */
static void client_refuse_frame(struct client *c)
{
	enum frame_status bad = c->stream.bad;
	char text[FRAME_TEXT];

	if (bad == FRAME_FOREIGN) {
		client_close(c);
		return;
	}
	(void)frame_status_text(&c->stream.reader, bad, text);
	LOG(INFO, "client.bad_frame", KV("client", c->caller.id), KV("reason", text));
	if (bad == FRAME_TOO_LARGE && c->grant.highest == ROLE_NONE) {
		client_refuse(c, ERROR_DENIED, "this user has no role here: its larger messages are not read");
		return;
	}
	client_refuse(c,
		      bad == FRAME_TOO_LARGE ? ERROR_TOO_LARGE
		      : bad == FRAME_BAD     ? ERROR_BAD_MSGPACK
					     : ERROR_BAD_FRAME,
		      text);
}

static void client_on_ended(struct stream *st, enum stream_end why)
{
	struct client *c = container_of(st, struct client, stream);

	if (why == STREAM_END_FRAME) {
		client_refuse_frame(c);
		return;
	}
	if (why != STREAM_END_CLOSED)
		LOG(INFO, "client.dropped", KV("client", c->caller.id), KV("reason", server_end_name(why)));
	if (why == STREAM_END_MEMORY)
		client_refuse(c, ERROR_OVERLOADED, "the daemon has no memory for the next message of this connection");
	else
		client_close(c);
}

static const struct stream_ops stream_ops = {
	.frame = client_on_frame,
	.may_deliver = client_may_deliver,
	.half_closed = client_on_half_closed,
	.ended = client_on_ended,
	.drained = client_on_drained,
};

enum role client_role_on(const struct client *c, const struct pool *p)
{
	const struct server *s = c->server;

	for (unsigned i = 0; c->grant.pools && i < s->n_pools; i++) {
		if (s->pools[i] == p)
			return c->grant.pools[i];
	}
	return c->grant.role;
}

struct pool *client_find_pool(const struct client *c, struct span name)
{
	const struct server *s = c->server;

	for (unsigned i = 0; i < s->n_pools; i++) {
		if (span_equals(name, s->pools[i]->settings->name))
			return client_role_on(c, s->pools[i]) > ROLE_NONE ? s->pools[i] : NULL;
	}
	return NULL;
}

struct pool *client_only_pool(const struct client *c)
{
	const struct server *s = c->server;
	struct pool *only = NULL;

	for (unsigned i = 0; i < s->n_pools; i++) {
		if (client_role_on(c, s->pools[i]) == ROLE_NONE)
			continue;
		if (only)
			return NULL;
		only = s->pools[i];
	}
	return only;
}

const char *client_pool_list(const struct client *c, char *out, size_t size)
{
	const struct server *s = c->server;
	size_t used = 0;

	out[0] = '\0';
	for (unsigned i = 0; i < s->n_pools && used < size; i++) {
		if (client_role_on(c, s->pools[i]) > ROLE_NONE)
			used += (size_t)snprintf(out + used, size - used, "%s%s", used ? ", " : "",
						 s->pools[i]->settings->name);
	}
	return out;
}

struct worker *client_find_worker(const struct client *c, uint64_t id, enum role role)
{
	struct worker *w = server_find_worker(c->server, id);

	return w && client_role_on(c, w->pool) >= role ? w : NULL;
}

/* For who has no role the kernel does not hold much either. */
static const struct stream_limits *client_limits(const struct client *c, int fd)
{
	const int least = 1;

	if (c->grant.highest > ROLE_NONE)
		return &c->server->stream_limits;
	(void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &least, sizeof(least)); /* else it holds more */
	return &c->server->denied_limits;
}

static struct client *client_make(struct server *s, int fd, const struct listener_peer *peer, struct access_grant grant)
{
	struct client *c = MEM_NEW(struct client);

	c->server = s;
	c->settle.run = client_settle;
	c->peer = *peer;
	c->grant = grant;
	c->since = loop_now(s->loop);
	c->account = account_add_connection(s->registry, peer->uid);
	caller_init(&c->caller, &caller_ops, s->registry, peer->uid);
	DL_APPEND(s->clients, c);
	s->n_clients++;
	stream_open(&c->stream, s->loop, s->blobs, fd, FRAME_UNKNOWN, LOOP_PRIO_NORMAL, client_limits(c, fd), &stream_ops);
	c->stream.out.sum = &c->account->out;
	return c;
}

struct client *client_new(struct server *s, int fd, const struct listener_peer *peer)
{
	struct client *c = client_make(s, fd, peer, server_ask_grant(s, fd, peer));

	LOG(DEBUG, "client.new", KV("client", c->caller.id), KV("uid", peer->uid), KV("pid", peer->pid));
	return c;
}

struct client *client_take_over(struct server *s, uint64_t id, int fd, const struct listener_peer *peer,
				struct access_grant grant)
{
	struct client *c = client_make(s, fd, peer, grant);

	c->caller.id = id;
	return c;
}

void client_go_on_closing(struct client *c, uint64_t until)
{
	uint64_t now = loop_now(c->server->loop);

	client_give_up(c);
	stream_close_flushed(&c->stream, until > now ? until - now : 0);
}

/* One connection: a caller with a stream. Owned by the server. */
#pragma once

#include "daemon/front/access.h"
#include "daemon/front/listener.h"
#include "daemon/io/stream.h"
#include "daemon/pool/caller.h"

struct account;
struct pool;
struct errand;
struct server;
struct subscription;
struct worker;

struct client {
	struct caller caller;
	struct stream stream;
	struct server *server;   /* borrows: the server owns its clients */
	struct account *account; /* borrows: the connection is charged to it until its end */
	struct listener_peer peer;
	struct access_grant grant; /* owns */
	bool speaks;    /* said hello: errors are maps */
	bool half;      /* sent SHUT_WR: closed when it has all replies */
	bool gone;      /* ended; waits for the end of the turn */
	unsigned n_sockets;     /* of direct leases: asked for since socket_mark was set */
	uint64_t socket_mark;   /* bytes of output; those that were asked for before are in them, if they were answered */
	char name[64];  /* as it told in hello; "" */
	uint64_t since; /* ns */
	struct errand *errands; /* list; owns: what it waits for beside its requests */
	unsigned n_errands;
	struct subscription *subscription; /* owns; NULL: it has none */
	struct client *prev, *next;
	struct loop_task settle;
	struct loop_grave grave;
};

/* Takes the fd. */
struct client *client_new(struct server *s, int fd, const struct listener_peer *peer);
/* One that this process has, as the program before this one had it; takes the grant too. */
struct client *client_take_over(struct server *s, uint64_t id, int fd, const struct listener_peer *peer,
				struct access_grant grant);
/* The same for one that was to be closed when it has got everything; until: ns, or LOOP_NEVER. */
void client_go_on_closing(struct client *c, uint64_t until);
enum role client_role_on(const struct client *c, const struct pool *p);
/* NULL when there is none of that name; one that the client has no role on is as good as none. */
struct pool *client_find_pool(const struct client *c, struct span name);
/* NULL when it has a role on several, or none. */
struct pool *client_only_pool(const struct client *c);
/* "default, other": those that it has a role on, for messages. Returns out. */
const char *client_pool_list(const struct client *c, char *out, size_t size);
/* Of all pools, living or lately dead; NULL when there is none, or none that it has at least that role for. */
struct worker *client_find_worker(const struct client *c, uint64_t id, enum role role);
/* Cancels what it has, drops the connection at once. */
void client_close(struct client *c);
/* Cancels what it has, writes what waits, then closes. */
void client_close_flushed(struct client *c);
/* Is a request under that id in flight? */
bool client_has_id(const struct client *c, uint64_t id);
/* A reply that was owed has been sent. */
void client_note_reply(struct client *c);
/* It asks for a direct lease. False: *o says why not (quota): it does not receive the sockets that it has been sent. */
bool client_may_get_socket(struct client *c, struct outcome *o);
/* After output: when the uid has too much that nobody reads, the connection that has most of it goes. */
void client_mind_output(struct client *c);
/* Stops reading while it is over its budget of bytes, and goes on when half of it is free. */
void client_mind_budget(struct client *c);

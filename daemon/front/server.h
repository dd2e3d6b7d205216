/* Everything that faces outside: the listeners and the connections. It borrows the pools. */
#pragma once

#include <msgpack.h>

#include "daemon/front/access.h"
#include "daemon/front/client.h"
#include "daemon/front/descent.h"
#include "daemon/front/listener.h"
#include "daemon/pool/feed.h"
#include "daemon/pool/pool.h"

#define SERVER_RESERVED 8 /* connections above each limit, for admins */

/* 0: no limit. */
struct server_limits {
	uint32_t max_frame;
	unsigned max_clients;
	unsigned uid_max_connections;
	uint64_t frame_timeout; /* ns */
};

/* News for the daemon, and what it is asked. */
struct server_ops {
	const char *(*state)(struct server *s); /* "starting", "running", "draining" */
	void (*idle)(struct server *s);         /* the last client has gone */
	/* It is to end: at once, or when what runs has ended. */
	void (*shutdown)(struct server *s, bool now);
	/* It is to execute its program anew: upgrade_note_failed(), or the new program tells how that went. */
	void (*upgrade)(struct server *s);
	/* Reads the configuration again; *to is what p is to be set to. dry: nothing else is taken over. False: everything stays
	 * as it is, and *why, the caller's to free, says why. */
	bool (*renew)(struct server *s, const struct pool *p, bool dry, const struct pool_settings **to, char **why);
	/* The configuration in force: three pairs, "files", "options" and "access"; of a pool one map. */
	void (*show)(struct server *s, msgpack_packer *pk);
	void (*show_pool)(struct server *s, const struct pool *p, msgpack_packer *pk);
};

struct server {
	const struct server_ops *ops;
	struct loop *loop;
	struct blob_pool *blobs;
	struct registry *registry;
	struct pool **pools; /* borrows: the daemon owns them and they outlive the server */
	unsigned n_pools;
	struct server_limits limits;
	const struct access *access; /* borrows: the config outlives the server */
	struct descent descent; /* of those that connect */
	struct stream_limits stream_limits;
	struct stream_limits denied_limits; /* of clients that have no role */
	size_t client_budget; /* bytes of bodies and output of one client, above which it is not read */
	uid_t own_uid;
	uint64_t started; /* ns */
	uint64_t started_wall; /* UNIX ms */
	struct listener listener;
	struct listener admin_listener; /* perhaps: for admins only, whom no limit of connections stops there */
	struct client *clients; /* list; owns */
	unsigned n_clients;
	uint64_t bytes_in, bytes_out; /* of connections that have ended */
	struct errand *upgrade; /* borrows: whoever waits for the one that is on; NULL */
	struct feed feed; /* what happens */
	struct subscription *subscriptions; /* list; borrows: clients own them */
};

/* The listeners are opened by the caller afterwards, with these ops. */
void server_init(struct server *s, struct loop *l, struct blob_pool *blobs, struct registry *g, struct pool **pools,
		 unsigned n_pools, const struct server_limits *limits, const struct server_ops *ops);
extern const struct listener_ops server_listener_ops;
extern const struct listener_ops server_admin_listener_ops;
/* No new connections; those that are there get what waits for them; then ops->idle. */
void server_close(struct server *s);
/* Everything is dropped. */
void server_deinit(struct server *s);
void server_note_client(struct server *s);
/* The caller owns the answer. */
struct access_grant server_ask_grant(struct server *s, int fd, const struct listener_peer *peer);
/* Living or lately dead, or the process of a template; NULL when it is not known. */
struct worker *server_find_worker(const struct server *s, uint64_t id);
const char *server_end_name(enum stream_end why);

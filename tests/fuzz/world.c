#include "tests/fuzz/world.h"

#include <fcntl.h>
#include <sys/socket.h>

#include "daemon/base/cleanup.h"
#include "daemon/base/log.h"
#include "daemon/front/upgrade.h"
#include "proto/pack.h"
#include "tests/fuzz/must.h"
#include "tests/fuzz/still_loop.h"

#define STEPS_MAX 400 /* of a script: what is longer finds nothing that two of them do not */
#define ROUNDS_MAX 2000

static const char *world_state(struct server *s)
{
	(void)s;
	return "running";
}

static void world_on_idle(struct server *s)
{
	(void)s;
}

static void world_upgrade(struct server *s)
{
	upgrade_note_failed(s, ERROR_INIT_FAILED, "there is no other program");
}

static void world_shutdown(struct server *s, bool now)
{
	(void)s, (void)now;
}

/* It stays as it is. */
static bool world_renew(struct server *s, const struct pool *p, bool dry, const struct pool_settings **to, char **why)
{
	(void)s, (void)dry, (void)why;
	*to = p->settings;
	return true;
}

/* It has none that was read from a file. */
static void world_show(struct server *s, msgpack_packer *pk)
{
	(void)s;
	pack_kv_text(pk, "files", NULL);
	pack_kv_text(pk, "options", NULL);
	pack_kv_text(pk, "access", NULL);
}

static void world_show_pool(struct server *s, const struct pool *p, msgpack_packer *pk)
{
	(void)s;
	msgpack_pack_map(pk, 1);
	pack_kv_text(pk, "name", p->settings->name);
}

static const struct server_ops server_ops = {
	.state = world_state,
	.idle = world_on_idle,
	.renew = world_renew,
	.show = world_show,
	.show_pool = world_show_pool,
	.shutdown = world_shutdown,
	.upgrade = world_upgrade,
};

static void world_on_settled(struct pool *p)
{
	(void)p;
}

static void world_on_stopped(struct pool *p)
{
	container_of(p->registry, struct world, registry)->n_stopped++;
}

static const struct pool_ops pool_ops = { .settled = world_on_settled, .stopped = world_on_stopped };

/* The lowest fd that is free: the same at the end as at the start when none is left open. */
static int lowest_fd(void)
{
	int fd = fcntl(0, F_DUPFD_CLOEXEC, 0);

	MUST(fd >= 0, "stdin is not open");
	(void)close(fd); /* it was only asked for its number */
	return fd;
}

static void world_make_pool(struct world *w, unsigned i, unsigned n_workers)
{
	static char *names[WORLD_POOLS] = { "default", "other" };
	static char app[] = "app", python[] = "/usr/bin/python3", *none[] = { NULL };
	const struct pool_env env = {
		.loop = w->loop,
		.blobs = &w->blobs,
		.registry = &w->registry,
		.gate = &w->gate,
		.spawner = &w->puppets.spawner,
		.library = "/nowhere",
		.seed = 1,
	};

	w->settings[i] = (struct pool_settings){
		.name = names[i],
		.app = app,
		.python = python,
		.path = none,
		.modules = none,
		.environment = none,
		.min_workers = n_workers,
		.max_workers = n_workers,
		.call_timeout = 5 * NS_PER_S,
		.queue_timeout = 3 * NS_PER_S,
		.init_timeout = 4 * NS_PER_S,
		.cancel_grace = NS_PER_S,
		.stop_timeout = 2 * NS_PER_S,
		.lease_ttl = 10 * NS_PER_S,
		.max_timeout = 60 * NS_PER_S,
		.max_queue = 8,
		.max_reply = WORLD_MAX_FRAME,
	};
	w->pools[i] = pool_new(&w->settings[i], &env, &pool_ops);
	pool_start(w->pools[i]);
}

void world_init(struct world *w, unsigned n_pools, unsigned n_workers)
{
	const struct server_limits limits = {
		.max_frame = WORLD_MAX_FRAME,
		.uid_max_connections = 3,
		.frame_timeout = 2 * NS_PER_S,
	};

	*w = (struct world){ .n_pools = n_pools, .first_fd = lowest_fd(), .bugs = log_bugs() };
	for (unsigned i = 0; i < WORLD_USERS; i++)
		w->users[i].fd = -1;
	blob_pool_init(&w->blobs);
	registry_init(&w->registry);
	w->registry.limits = (struct account_limits){ .uid_max_calls = 24, .uid_max_bytes = 6 * WORLD_MAX_FRAME };
	w->loop = loop_new();
	gate_init(&w->gate, w->loop, 2);
	puppets_init(&w->puppets);
	for (unsigned i = 0; i < n_pools; i++)
		world_make_pool(w, i, n_workers);
	server_init(&w->server, w->loop, &w->blobs, &w->registry, w->pools, n_pools, &limits, &server_ops);
	world_settle(w);
}

/* Who has written something may have woken another. */
void world_settle(struct world *w)
{
	unsigned rounds = 0, moved;

	do {
		moved = 0;
		puppets_reap(&w->puppets);
		still_loop_settle(w->loop);
		for (unsigned i = 0; i < WORLD_USERS; i++)
			moved += user_read(&w->users[i]);
		for (struct puppet *p = w->puppets.list; p; p = p->next) {
			unsigned before = p->n_calls;

			puppet_read(p);
			moved += p->n_calls - before + p->killed;
		}
		MUST(++rounds < ROUNDS_MAX, "it never comes to rest");
	} while (moved);
}

static void world_note_time(struct world *w)
{
	for (unsigned i = 0; i < WORLD_USERS; i++)
		user_note_time(&w->users[i]);
}

void world_pass(struct world *w, uint64_t ns)
{
	world_settle(w);
	world_note_time(w);
	still_loop_pass(w->loop, ns);
	world_settle(w);
}

void world_freeze(struct world *w, uint64_t ns)
{
	world_note_time(w);
	still_loop_freeze(w->loop, ns);
}

void world_connect(struct world *w, unsigned user, uid_t uid)
{
	const struct listener_peer peer = { .uid = uid, .gid = 100, .pid = 1 };
	struct user *u = &w->users[user];
	const int small = 4096; /* so that output waits inside the daemon */
	int fds[2];

	if (user_is_there(u))
		return;
	MUST(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) == 0, "no socketpair");
	MUST(setsockopt(fds[0], SOL_SOCKET, SO_SNDBUF, &small, sizeof(small)) == 0, "no SO_SNDBUF");
	user_init(u, fds[1], WORLD_MAX_FRAME);
	if (account_connections(&w->registry, uid) >=
	    w->server.limits.uid_max_connections + (uid == w->server.own_uid ? SERVER_RESERVED : 0)) /* an admin */
		user_note_refused(u);
	server_listener_ops.accepted(&w->server.listener, fds[0], &peer);
}

void world_run(struct world *w, const struct world_step *steps, unsigned n_steps, struct food *f)
{
	for (unsigned n = 0; n < STEPS_MAX && !food_is_gone(f); n++)
		steps[food_byte(f) % n_steps].run(w, f);
}

static void check_pool(const struct pool *p)
{
	const struct stats *st = &p->stats;

	MUST(!p->n_requests && !p->n_running && !p->queue.count, "work is left: %u requests, %u running, %u queued",
	     p->n_requests, p->n_running, p->queue.count);
	MUST(st->accepted == st->completed + st->failed + st->cancelled + st->abandoned,
	     "accepted %llu, completed %llu, failed %llu, cancelled %llu, abandoned %llu",
	     (unsigned long long)st->accepted, (unsigned long long)st->completed, (unsigned long long)st->failed,
	     (unsigned long long)st->cancelled, (unsigned long long)st->abandoned);
}

static void world_stop_pools(struct world *w)
{
	for (unsigned i = 0; i < w->n_pools; i++)
		pool_stop_now(w->pools[i]);
	for (unsigned n = 0; w->n_stopped < w->n_pools; n++) {
		MUST(n < 100, "the pools do not stop");
		world_pass(w, NS_PER_S);
	}
	for (unsigned i = 0; i < w->n_pools; i++)
		check_pool(w->pools[i]);
}

static void world_check_users(struct world *w)
{
	const struct account *a;

	for (unsigned i = 0; i < WORLD_USERS; i++)
		w->users[i].lazy = false;
	world_pass(w, 3 * NS_PER_S); /* for those that are closed and do not read: as long as that may take */
	for (unsigned i = 0; i < WORLD_USERS; i++)
		user_check(&w->users[i]);
	for (a = w->registry.accounts; a; a = a->hh.next) {
		MUST(!a->calls && !a->bytes, "uid %u has %u calls, %zu bytes", a->uid, a->calls, a->bytes);
		MUST(!a->leases, "uid %u has %u leases", a->uid, a->leases);
	}
}

static void world_close_server(struct world *w)
{
	server_close(&w->server);
	world_settle(w);
	MUST(!w->server.n_clients && !w->registry.n_connected, "%u clients are left", w->server.n_clients);
	for (unsigned i = 0; i < WORLD_USERS; i++) {
		MUST(!user_is_there(&w->users[i]) || w->users[i].over, "client %u is not closed", i);
		user_deinit(&w->users[i]);
	}
}

void world_end(struct world *w)
{
	world_settle(w);
	world_stop_pools(w);
	world_check_users(w);
	world_close_server(w);
	server_deinit(&w->server);
	for (unsigned i = 0; i < w->n_pools; i++)
		pool_free(w->pools[i]);
	still_loop_settle(w->loop); /* what they have buried */
	gate_deinit(&w->gate);
	MUST(!still_loop_leftovers(w->loop), "something is still watched, armed or marked");
	w->loop = loop_free(w->loop);
	registry_deinit(&w->registry);
	MUST(!w->blobs.n_live, "%u blobs are held", w->blobs.n_live);
	blob_pool_deinit(&w->blobs);
	MUST(!w->puppets.list, "a worker lives on");
	MUST(lowest_fd() == w->first_fd, "an fd is left open");
	MUST(log_bugs() == w->bugs, "%llu BUG lines", (unsigned long long)(log_bugs() - w->bugs));
}

/* How much of what many connections send is taken in one turn. */
#include "daemon/front/server.h"

#include <check.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/base/cleanup.h"
#include "daemon/base/log.h"
#include "proto/pack.h"
#include "tests/support/suite.h"
#include "tests/unit/io_support.h"

#define PING "\x94\x00\x01\xa4ping\x90"
#define PING_BYTES (sizeof(PING) - 1)
#define CROWD 20
#define EACH 300 /* messages, which one read takes */

/* A server without pools, and who is connected to it. */
struct hall {
	struct loop *loop; /* owns */
	struct blob_pool blobs;
	struct registry registry;
	struct server server;
	int fds[CROWD + 1]; /* own: the clients' ends */
	unsigned n;
};

static void on_shutdown(struct server *s, bool now)
{
	(void)s, (void)now;
}

/* It stays as it is. */
static bool on_renew(struct server *s, const struct pool *p, bool dry, const struct pool_settings **to, char **why)
{
	(void)s, (void)dry, (void)why;
	*to = p->settings;
	return true;
}

/* There is nothing to see. */
static void on_show(struct server *s, msgpack_packer *pk)
{
	(void)s;
	pack_kv_text(pk, "files", NULL);
	pack_kv_text(pk, "options", NULL);
	pack_kv_text(pk, "access", NULL);
}

static void on_idle(struct server *s)
{
	(void)s;
}

static void hall_open(struct hall *h)
{
	static const struct server_ops ops = { .idle = on_idle, .renew = on_renew, .show = on_show, .shutdown = on_shutdown };
	const struct server_limits limits = { .max_frame = 65536 };

	*h = (struct hall){ .loop = loop_new() };
	ck_assert_ptr_nonnull(h->loop);
	blob_pool_init(&h->blobs);
	registry_init(&h->registry);
	server_init(&h->server, h->loop, &h->blobs, &h->registry, NULL, 0, &limits, &ops);
}

static void hall_close(struct hall *h)
{
	server_deinit(&h->server);
	h->loop = loop_free(h->loop);
	for (unsigned i = 0; i < h->n; i++)
		close(h->fds[i]);
	registry_deinit(&h->registry);
	blob_pool_deinit(&h->blobs);
	ck_assert_uint_eq(log_bugs(), 0);
}

/* A connection of that user which has sent so many pings. */
static struct client *hall_let_in(struct hall *h, uid_t uid, unsigned pings)
{
	const struct listener_peer peer = { .uid = uid, .pid = 1 };
	char all[EACH * PING_BYTES];
	int fds[2];

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds), 0);
	server_listener_ops.accepted(&h->server.listener, fds[0], &peer);
	h->fds[h->n++] = fds[1];
	for (unsigned i = 0; i < pings; i++)
		memcpy(all + i * PING_BYTES, PING, PING_BYTES);
	ck_assert_int_eq(send(fds[1], all, pings * PING_BYTES, 0), pings * PING_BYTES);
	return h->server.clients->prev; /* the last */
}

struct stop {
	struct loop_task task;
	struct loop *loop;
};

static void on_stop(struct loop_task *t)
{
	loop_stop(container_of(t, struct stop, task)->loop);
}

/* One turn, to its end. */
static void hall_turn(struct hall *h)
{
	struct stop stop = { .task = { .run = on_stop }, .loop = h->loop };
	uint64_t turn = loop_turn(h->loop);

	loop_next_turn(h->loop, &stop.task);
	io_run(h->loop);
	ck_assert_uint_eq(loop_turn(h->loop), turn + 1);
}

static uint64_t taken_from(const struct hall *h, uid_t uid)
{
	const struct client *c;
	uint64_t n = 0;

	for (c = h->server.clients; c; c = c->next)
		n += c->peer.uid == uid ? c->stream.frames_in : 0;
	return n;
}

START_TEST(fault_29_a_crowd_of_one_uid_is_read_no_longer_in_a_turn_than_others_can_wait)
	{
		const struct client *bob;
		struct hall h;

		hall_open(&h);
		for (unsigned i = 0; i < CROWD; i++)
			hall_let_in(&h, 1000, EACH);
		bob = hall_let_in(&h, 1001, 1);
		hall_turn(&h);
		ck_assert_uint_eq(bob->stream.frames_out, 1);
		ck_assert_uint_le(taken_from(&h, 1000), 128);
		for (unsigned turn = 2; turn <= 10; turn++) {
			hall_turn(&h);
			ck_assert_uint_le(taken_from(&h, 1000), 128 * turn);
		}
		ck_assert_uint_ge(taken_from(&h, 1000), 128 * 8); /* and no turn is wasted */
		hall_close(&h);
	}
END_TEST

START_TEST(everybody_of_a_crowd_has_its_turn_and_nothing_is_lost)
	{
		struct hall h;

		hall_open(&h);
		for (unsigned i = 0; i < CROWD; i++)
			hall_let_in(&h, 1000, EACH);
		hall_let_in(&h, 1001, 0);
		for (unsigned turn = 0; turn < 2 + CROWD * EACH / 64; turn++)
			hall_turn(&h);
		ck_assert_uint_eq(taken_from(&h, 1000), CROWD * EACH);
		hall_close(&h);
	}
END_TEST

START_TEST(a_crowd_that_is_alone_is_not_held_back)
	{
		struct hall h;

		hall_open(&h);
		for (unsigned i = 0; i < CROWD; i++)
			hall_let_in(&h, 1000, EACH);
		hall_turn(&h);
		ck_assert_uint_eq(taken_from(&h, 1000), CROWD * 64);
		hall_close(&h);
	}
END_TEST

RUN_SUITE("server", fault_29_a_crowd_of_one_uid_is_read_no_longer_in_a_turn_than_others_can_wait,
	  everybody_of_a_crowd_has_its_turn_and_nothing_is_lost, a_crowd_that_is_alone_is_not_held_back)

#include "tests/unit/client_lease.h"

#include <check.h>
#include <sys/socket.h>
#include <unistd.h>

#include "proto/pack.h"

struct world_pair world_socketpair(void)
{
	int fds[2];

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	return (struct world_pair){ .client = fds[0], .worker = fds[1] };
}

uint64_t world_checkout(struct world *w, uint32_t timeout_ms, struct outcome *o)
{
	static const uint8_t params[] = "\x82\xa4type\xa9"
					"anonymous"
					"\xa6"
					"direct\xc3";
	uint64_t id;

	*o = (struct outcome){ .value = -1 };
	ck_assert_int_eq(pypool_submit(w->p, "checkout", (struct pypool_span){ params, sizeof(params) - 1 }, timeout_ms,
				       outcome_on_done, o, &id),
			 0);
	ck_assert_int_eq(pypool_dispatch(w->p), 0);
	ck_assert_uint_eq(fake_expect(w, "checkout", NULL), id);
	return id;
}

uint64_t world_lease(struct world *w, uint64_t number, struct world *worker)
{
	struct outcome o;
	uint64_t id = world_checkout(w, 0, &o);
	struct world_pair pair = world_socketpair();

	fake_answer_checkout(w, id, number, &pair.client, 1);
	close(pair.client);
	world_wait(w, &o);
	ck_assert_int_eq(o.number, 0);
	*worker = world_of(w->p, pair.worker);
	return number;
}

uint64_t world_execute(struct world *w, uint64_t lease, uint32_t timeout_ms, struct outcome *o)
{
	const struct pypool_options options = { .lease = lease, .timeout_ms = timeout_ms };
	uint64_t id;

	*o = (struct outcome){ .value = -1 };
	ck_assert_int_eq(
		pypool_submit_execute(w->p, "work", (struct pypool_span){ 0 }, &options, outcome_on_done, o, &id), 0);
	return id;
}

void world_free_both(struct world *w, struct world *worker)
{
	world_free(w);
	if (worker->daemon >= 0)
		close(worker->daemon);
}

void fake_answer_checkout(struct world *w, uint64_t id, uint64_t lease, const int *fds, unsigned n_fds)
{
	msgpack_sbuffer b;
	msgpack_packer pk;

	msgpack_sbuffer_init(&b);
	msgpack_packer_init(&pk, &b, msgpack_sbuffer_write);
	msgpack_pack_array(&pk, 4);
	msgpack_pack_int(&pk, 1);
	msgpack_pack_uint64(&pk, id);
	msgpack_pack_nil(&pk);
	msgpack_pack_map(&pk, 5 + (n_fds > 0));
	pack_kv_uint(&pk, "lease", lease);
	pack_kv_uint(&pk, "worker", 3);
	pack_kv_uint(&pk, "pid", 812);
	pack_kv_uint(&pk, "generation", 1);
	pack_kv_uint(&pk, "expires_ms", 60000);
	if (n_fds > 0)
		pack_kv_uint(&pk, "fds", 1);
	fake_send_frame_fds(w, b.data, b.size, fds, n_fds);
	msgpack_sbuffer_destroy(&b);
}

void fake_send_lease_lost(struct world *w, uint64_t lease, const char *reason, const char *message)
{
	msgpack_sbuffer b;
	msgpack_packer pk;

	msgpack_sbuffer_init(&b);
	msgpack_packer_init(&pk, &b, msgpack_sbuffer_write);
	msgpack_pack_array(&pk, 3);
	msgpack_pack_int(&pk, 2);
	pack_text(&pk, "lease_lost");
	msgpack_pack_array(&pk, 1);
	msgpack_pack_map(&pk, 5);
	pack_kv_uint(&pk, "lease", lease);
	pack_kv_uint(&pk, "worker", 3);
	pack_kv_text(&pk, "reason", reason);
	pack_kv_text(&pk, "message", message);
	pack_text(&pk, "cause");
	msgpack_pack_map(&pk, 1);
	pack_kv_uint(&pk, "signal", 9);
	fake_send_frame(w, b.data, b.size);
	msgpack_sbuffer_destroy(&b);
}

bool fake_has_key(struct span params, const char *key)
{
	struct pypool_span v;

	return pypool_get_key((struct pypool_span){ params.p, params.len }, key, &v) == 0;
}

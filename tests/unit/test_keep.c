#include "daemon/pool/keep.h"

#include <signal.h>
#include <string.h>

#include "daemon/pool/shape.h"
#include "tests/sim/sim_keeper.h"
#include "tests/unit/session_support.h"

#define EXEC_TAKES (128 * 1024) /* of one variable, MAX_ARG_STRLEN */
#define STORED_PREFIX 5         /* "kept-" */
#define STORE_MAX 8192          /* FileDescriptorStoreMax= of the unit */

/* Workers that are ready and one session that was used, of a stage with a keeper. */
static struct sim_keeper *begin(struct scene *sc, struct sim_keeper *k)
{
	struct pool_settings s = sim_settings();

	s.min_workers = s.max_workers = 2;
	scene_prepare(sc, &s);
	sim_keeper_init(k, sc->stage.loop);
	sc->stage.registry.keeper = &k->keeper;
	keep_daemon(&sc->stage.registry);
	sim_stage_start(&sc->stage);
	call(sc, &sc->one, 1, "chat");
	return k;
}

static void end(struct scene *sc, struct sim_keeper *k)
{
	scene_end(sc);
	(void)sim_keeper_deinit(k); /* the pool's own end is no end of what is kept, see daemon_run() */
}

static struct span record_of(const struct sim_keeper *k, enum keep_kind kind, uint64_t id)
{
	const struct sim_kept *r = sim_keeper_find(k, kind, id);

	ck_assert_ptr_nonnull(r);
	return (struct span){ .p = r->bytes, .len = r->len };
}

START_TEST(a_record_is_read_as_it_was_made)
	{
		struct scene sc;
		struct sim_keeper k;
		struct kept_daemon daemon;
		struct kept_pool pool;
		struct kept_worker worker;
		struct kept_session session;
		const struct session *s;

		begin(&sc, &k);
		s = found(&sc, "chat");
		ck_assert(keep_read_daemon(record_of(&k, KEEP_DAEMON, 0), &daemon));
		ck_assert_uint_ge(daemon.last_worker, sc.stage.registry.last_worker);
		ck_assert_uint_ge(daemon.last_call, sc.stage.registry.last_call);
		ck_assert(keep_read_pool(record_of(&k, KEEP_POOL, shape_of_text(sc.stage.pool->settings->name)), &pool));
		ck_assert(span_equals(pool.name, sc.stage.pool->settings->name));
		ck_assert_uint_eq(pool.generation, 1);
		ck_assert_uint_eq(pool.shape, shape_of(sc.stage.pool->settings));
		ck_assert(keep_read_worker(s->worker->id, record_of(&k, KEEP_WORKER, s->worker->id), &worker));
		ck_assert(span_equals(worker.pool, sc.stage.pool->settings->name));
		ck_assert_int_eq(worker.remains.pid, s->worker->proc.pid);
		ck_assert_uint_eq(worker.generation, 1);
		ck_assert(worker.heard == 1 && worker.life == 1);
		ck_assert(keep_read_session(record_of(&k, KEEP_SESSION, s->id), &session));
		ck_assert(span_equals(session.name, "chat") && session.strict && !session.how.len);
		ck_assert_uint_eq(session.uid, s->uid);
		ck_assert_uint_eq(session.worker, s->worker->id);
		ck_assert_uint_eq(session.ttl, s->ttl);
		end(&sc, &k);
	}
END_TEST

static bool read_any(struct span s)
{
	struct kept_daemon daemon;
	struct kept_pool pool;
	struct kept_worker worker;
	struct kept_session session;

	return keep_read_daemon(s, &daemon) || keep_read_pool(s, &pool) || keep_read_worker(1, s, &worker) ||
	       keep_read_session(s, &session);
}

START_TEST(a_record_that_is_cut_or_of_another_kind_is_refused)
	{
		struct scene sc;
		struct sim_keeper k;
		const struct sim_kept *r;

		begin(&sc, &k);
		for (r = k.kept; r; r = r->next) {
			struct kept_daemon daemon;
			struct kept_pool pool;
			struct kept_worker worker;
			struct kept_session session;
			struct span s = { .p = r->bytes, .len = r->len };

			ck_assert(read_any(s));
			ck_assert_int_eq(keep_read_daemon(s, &daemon), r->kind == KEEP_DAEMON);
			ck_assert_int_eq(keep_read_pool(s, &pool), r->kind == KEEP_POOL);
			ck_assert_int_eq(keep_read_worker(1, s, &worker), r->kind == KEEP_WORKER);
			ck_assert_int_eq(keep_read_session(s, &session), r->kind == KEEP_SESSION);
			for (s.len = 0; s.len < r->len; s.len++)
				ck_assert_msg(!read_any(s), "kind %d, %zu of %zu bytes", (int)r->kind, s.len, r->len);
		}
		end(&sc, &k);
	}
END_TEST

START_TEST(a_worker_that_cannot_be_is_refused)
	{
		/* pool, generation, life, heard, pid, and twelve numbers of files */
		static const struct {
			uint8_t life, heard, pid;
			bool ok;
		} cases[] = { { 3, 1, 9, true }, { 3, 3, 9, true }, { 3, 4, 9, false }, { 3, 0, 9, false }, { 3, 1, 0, false } };

		for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
			uint8_t record[21] = { 0xdc, 0, 5 + 2 * PROCESS_FDS, 0xa1, 'p', 1, cases[i].life, cases[i].heard, cases[i].pid };
			struct kept_worker k;

			ck_assert_int_eq(keep_read_worker(1, (struct span){ .p = record, .len = sizeof(record) }, &k), cases[i].ok);
		}
	}
END_TEST

START_TEST(what_ends_is_not_kept)
	{
		struct scene sc;
		struct sim_keeper k;
		uint64_t worker, session;
		char name[KEEP_NAME];

		begin(&sc, &k);
		worker = found(&sc, "chat")->worker->id;
		session = found(&sc, "chat")->id;
		keep_own_name(name, worker);
		ck_assert(sim_keeper_holds(&k, name, 0));
		sim_child_die(carrier(&sc, "chat"), 0, SIGKILL);
		scene_pass(&sc, S);
		ck_assert_ptr_null(sim_keeper_find(&k, KEEP_WORKER, worker));
		ck_assert(!sim_keeper_holds(&k, name, 0));
		ck_assert_ptr_nonnull(sim_keeper_find(&k, KEEP_SESSION, session)); /* lost, which is to be told */
		session_close(found(&sc, "chat"));
		scene_pass(&sc, S);
		ck_assert_ptr_null(sim_keeper_find(&k, KEEP_SESSION, session));
		end(&sc, &k);
	}
END_TEST

/* Else no daemon could be started any more: E2BIG. */
START_TEST(the_names_of_a_full_store_go_into_one_variable)
	{
		const struct kept_worker old = { .life = 0xfff, .heard = 1 };
		char own[KEEP_NAME], calls[KEEP_NAME];
		size_t a_worker;

		keep_own_name(own, UINT32_MAX);
		ck_assert(keep_old_calls(&old, UINT32_MAX, 0, calls));
		a_worker = PROCESS_FDS * (STORED_PREFIX + strlen(own) + 1) + STORED_PREFIX + strlen(calls) + 1;
		ck_assert_uint_lt(STORE_MAX / (PROCESS_FDS + 1) * a_worker + 200, EXEC_TAKES);
	}
END_TEST

RUN_SUITE("keep", a_record_is_read_as_it_was_made, a_record_that_is_cut_or_of_another_kind_is_refused,
	  a_worker_that_cannot_be_is_refused, what_ends_is_not_kept, the_names_of_a_full_store_go_into_one_variable)

#include "tests/sim/invariants_kept.h"

#include <utlist.h>

#include "daemon/base/cleanup.h"
#include "daemon/pool/session.h"
#include "tests/sim/world.h"

#define SENDS_AHEAD (UINT64_C(1) << 32) /* as session.c has it */

#define CHECK(w, ok, what, number)                                                                                     \
	do {                                                                                                           \
		if (!(ok))                                                                                             \
			world_violate(w, what, number);                                                                \
	} while (0)

/* A keeper to which all is told again, and which compares. */
struct again {
	struct keeper keeper;
	struct world *world;
	unsigned n; /* records */
};

static struct again *again_of(struct keeper *k)
{
	return container_of(k, struct again, keeper);
}

static struct span record_of(const struct again *a, enum keep_kind kind, uint64_t id)
{
	const struct sim_kept *r = sim_keeper_find(&a->world->stage.keeper, kind, id);

	return r ? (struct span){ .p = r->bytes, .len = r->len } : (struct span){ 0 };
}

/* A file that is closed meanwhile may still be in the record. */
static bool is_same_worker(uint64_t id, struct span kept, struct span now)
{
	struct kept_worker a, b;

	if (!keep_read_worker(id, kept, &a) || !keep_read_worker(id, now, &b))
		return false;
	for (unsigned i = 0; i < PROCESS_FDS; i++) {
		if (b.remains.files[i].inode && b.remains.files[i].inode != a.remains.files[i].inode)
			return false;
	}
	return a.pool.len == b.pool.len && memcmp(a.pool.p, b.pool.p, a.pool.len) == 0 && a.generation == b.generation &&
	       a.life == b.life && a.heard == b.heard && a.remains.pid == b.remains.pid;
}

static bool is_same(enum keep_kind kind, uint64_t id, struct span kept, struct span now)
{
	if (kept.len == now.len && memcmp(kept.p, now.p, now.len) == 0)
		return true;
	return kind == KEEP_WORKER && is_same_worker(id, kept, now);
}

static void again_put(struct keeper *k, enum keep_kind kind, uint64_t id, struct span record)
{
	struct again *a = again_of(k);
	struct span kept = record_of(a, kind, id);

	a->n++;
	CHECK(a->world, kept.len, "something is not kept", id);
	CHECK(a->world, !kept.len || is_same(kind, id, kept, record), "what is kept is not what is", id);
}

static void again_hold(struct keeper *k, const char *name, const int *fds, unsigned n)
{
	struct again *a = again_of(k);

	for (unsigned i = 0; i < n; i++) {
		uint64_t inode = sim_fd_file(a->world->stage.loop, fds[i])->inode;

		CHECK(a->world, sim_keeper_holds(&a->world->stage.keeper, name, inode), "a file is not kept", inode);
	}
}

/* --- what there is; some of it may lag behind --- */

static void keep_numbers_again(struct again *a)
{
	const struct registry *g = &a->world->stage.registry;
	struct kept_daemon k;

	a->n++;
	if (!keep_read_daemon(record_of(a, KEEP_DAEMON, 0), &k)) {
		world_violate(a->world, "the numbers are not kept", 0);
		return;
	}
	CHECK(a->world, k.last_call >= g->last_call && k.last_worker >= g->last_worker && k.last_session >= g->last_session &&
	      k.last_lease >= g->last_lease && k.last_caller >= g->last_caller, "a number could be given twice", 0);
}

/* As if it were in the life before this one. */
static void keep_worker_again(struct again *a, struct worker *w)
{
	uint64_t life = w->kept_life, heard = w->heard_life;

	CHECK(a->world, process_noted_done(&w->proc) == w->calls_done, "calls are kept that were not made", w->id);
	w->kept_life = life - 1;
	keep_worker(w);
	w->kept_life = life;
	w->heard_life = heard;
}

/* How often values were sent is not kept each time. */
static void keep_session_again(struct again *a, struct session *s)
{
	uint64_t sends = s->sends;
	struct kept_session k;

	if (keep_read_session(record_of(a, KEEP_SESSION, s->id), &k)) {
		CHECK(a->world, k.sends <= sends && sends < k.sends + SENDS_AHEAD, "values could be sent under one number twice",
		      s->id);
		s->sends = k.sends;
	}
	keep_session(s);
	s->sends = sends;
}

/* --- workers and files --- */

static bool is_to_be_kept(const struct worker *w)
{
	return worker_is_serving(w) || (w->adopted && w->state < WORKER_STOPPING);
}

static void keep_workers_again(struct again *a)
{
	struct worker *w;

	DL_FOREACH (a->world->stage.pool->workers, w) {
		CHECK(a->world, is_to_be_kept(w) == (w->kept_life > 0), "a worker is kept in the wrong state", w->id);
		CHECK(a->world, !w->kept_life || (w->adopted && !w->hs.hello) || w->heard_life == w->kept_life,
		      "call sockets are kept of a worker that has another", w->id);
		if (w->kept_life)
			keep_worker_again(a, w);
	}
}

/* Is it of a worker, under its name or that of a call socket which that may have? */
static bool is_name_of(const struct worker *w, const char *name)
{
	struct kept_worker k = { .life = w->kept_life, .heard = w->heard_life };
	char mine[KEEP_NAME];

	if (!w->kept_life)
		return false;
	for (unsigned i = 0; keep_old_calls(&k, w->id, i, mine); i++) {
		if (strcmp(name, mine) == 0)
			return true;
	}
	keep_own_name(mine, w->id);
	return strcmp(name, mine) == 0;
}

static void check_held(struct world *w)
{
	const struct sim_held *h;
	const struct worker *k;

	DL_FOREACH (w->stage.keeper.held, h) {
		for (k = w->stage.pool->workers; k && !is_name_of(k, h->name); k = k->next)
			;
		CHECK(w, k, "a file is kept that is of no use", h->file.inode);
	}
}

void invariants_check_kept(struct world *w)
{
	struct again a = { .keeper = { .put = again_put, .hold = again_hold }, .world = w };
	struct registry *g = &w->stage.registry;
	const struct sim_kept *r;
	unsigned n = 0;

	if (!w->keeps)
		return;
	g->keeper = &a.keeper;
	keep_numbers_again(&a);
	keep_pool(w->stage.pool);
	keep_workers_again(&a);
	for (struct session *s = w->stage.pool->sessions; s; s = s->hh.next)
		keep_session_again(&a, s);
	g->keeper = &w->stage.keeper.keeper;
	DL_FOREACH (w->stage.keeper.kept, r)
		n++;
	CHECK(w, n == a.n, "something is kept that is no more", n);
	check_held(w);
}

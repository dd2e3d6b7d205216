/*
 * The daemon dies at once, and another one begins with what its keeper has. Connections of clients are closed; workers go on, and have
 * heard of nothing. What must not be lost is compared before and after.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "daemon/base/cleanup.h"
#include "daemon/base/mem.h"
#include "daemon/pool/session.h"
#include "tests/sim/invariants_kept.h"
#include "tests/sim/sim_pair.h"
#include "tests/sim/world.h"

/* What is kept of a session when the daemon dies. */
struct before {
	uint64_t id, n;
	uid_t uid;
	pid_t pid; /* of the worker that it was bound to; 0: none */
	bool lost;
	char name[16];
};

struct all_before {
	const struct world *world;
	struct before *list; /* owns */
	unsigned n;
	struct registry numbers; /* only those are looked at */
};

static pid_t pid_of_kept(const struct world *w, uint64_t worker)
{
	const struct sim_kept *r = sim_keeper_find(&w->stage.keeper, KEEP_WORKER, worker);
	struct kept_worker k;

	return r && keep_read_worker(worker, (struct span){ .p = r->bytes, .len = r->len }, &k) ? k.remains.pid : 0;
}

static uint64_t read_n(struct span values)
{
	struct span key, value;
	uint32_t pairs = 0;
	uint64_t n = 0;

	(void)mp_read_map(&values, &pairs);
	while (pairs-- && mp_read_text(&values, &key) && mp_read_any(&values, &value)) {
		if (span_equals(key, "n"))
			(void)mp_read_uint(&value, &n);
	}
	return n;
}

static void note_session(void *user, uint64_t id, struct span record)
{
	struct all_before *all = user;
	struct kept_session k;
	struct before *b;

	if (!keep_read_session(record, &k))
		return; /* somebody else complains */
	all->list = mem_resize(all->list, all->n + 1, sizeof(*all->list));
	b = &all->list[all->n++];
	*b = (struct before){ .id = id, .n = read_n(k.values), .uid = (uid_t)k.uid, .lost = k.how.len };
	b->pid = k.strict ? pid_of_kept(all->world, k.worker) : 0;
	b->lost |= k.strict && k.worker && !b->pid; /* its worker had been told to leave, and it was not lost yet */
	(void)snprintf(b->name, sizeof(b->name), "%.*s", (int)k.name.len, (const char *)k.name.p); /* they are short */
}

static void note_before(struct world *w, struct all_before *all)
{
	struct keeper *k = &w->stage.keeper.keeper;

	*all = (struct all_before){ .world = w, .numbers = w->stage.registry };
	k->each(k, KEEP_SESSION, note_session, all);
}

static void all_before_deinit(struct all_before *all)
{
	free(all->list);
}

/* What was written when it died, or dropped, may have been kept and told to nobody. */
static void take_last_write(struct world *w, const struct before *b)
{
	struct story *s = ledger_story(&w->ledger, b->id);

	if (b->n == s->good + 1 || b->n == 0)
		s->good = b->n;
}

/* mute: its worker could not be told that it has another daemon. */
static void compare_session(struct world *w, const struct before *b, bool mute)
{
	const struct session *s = session_find(w->stage.pool, b->uid, span_str(b->name));
	const struct sim_child *c = sim_machine_find(&w->stage.machine, b->pid);

	if (!s || s->id != b->id) {
		world_violate(w, "a session is gone with its daemon", b->id);
		return;
	}
	if (s->lost && strncmp(s->how, "there was no memory", strlen("there was no memory")) == 0) {
		if (!sim_is_dead(w->stage.loop)) /* where an allocation fails: it is lost with its values */
			ledger_story(&w->ledger, s->id)->good = sim_session_n(s);
		return;
	}
	if (sim_session_n(s) != b->n)
		world_violate(w, "a session has other values than its daemon had", b->id);
	if (s->lost && !b->lost && !(b->pid && (!c || mute)))
		world_violate(w, "a session is lost with its daemon", b->id);
	if (!s->lost && b->lost)
		world_violate(w, "a session is not lost any more", b->id);
	if (s->lost && !s->how[0])
		world_violate(w, "a session is lost for no reason", b->id);
	if (b->pid && !s->lost && (!s->worker || s->worker->last_pid != b->pid))
		world_violate(w, "a session is in another worker than it was", b->id);
}

static void compare_numbers(struct world *w, const struct registry *b)
{
	const struct registry *g = &w->stage.registry;

	if (g->last_call < b->last_call || g->last_worker < b->last_worker || g->last_session < b->last_session ||
	    g->last_lease < b->last_lease || g->last_caller < b->last_caller)
		world_violate(w, "a number will be given twice", 0);
}

/* --- clients --- */

static void close_socket(struct world *w, struct world_socket *s)
{
	sim_pair_client_close(w->stage.loop, s->fd);
	s->lease = 0;
}

void world_drop_orphans(struct world *w)
{
	for (unsigned i = 0; i < WORLD_SOCKETS; i++) {
		if (w->orphans[i].lease)
			close_socket(w, &w->orphans[i]);
	}
}

static void keep_orphan(struct world *w, struct world_socket *s)
{
	for (unsigned i = 0; i < WORLD_SOCKETS; i++) {
		if (w->orphans[i].lease)
			continue;
		w->orphans[i] = *s;
		return;
	}
	close_socket(w, s);
}

static void on_finished_unheard(struct caller *c, const struct request *r, const struct outcome *o)
{
	(void)c, (void)r, (void)o;
}

/* Their connections are closed; sockets of direct leases are the workers' too, and go on. */
static void cut_caller(struct world *w, unsigned place)
{
	static const struct caller_ops unheard = { .finished = on_finished_unheard };
	struct world_caller *c = w->callers[place];

	if (!c)
		return;
	c->caller.ops = &unheard;
	caller_gone(&c->caller);
	for (unsigned i = 0; i < WORLD_SOCKETS; i++) {
		if (c->sockets[i].lease)
			keep_orphan(w, &c->sockets[i]);
	}
	w->callers[place] = NULL;
	free(c);
}

/* --- the crash --- */

/* What it knew of the past is forgotten. */
static void forget_past(struct world *w)
{
	w->streak = w->templates = (struct streak){ 0 };
	w->templates_ready = 0;
	w->resumed = loop_now(w->stage.loop);
	w->shrinking = true; /* the pool may have been larger than it is set to */
	for (unsigned i = 0; i <= WORLD_FLAVOURS; i++)
		w->kills[i] = (struct kills){ 0 };
}

static void die(struct world *w)
{
	w->crashing = true;
	sim_stage_cut(&w->stage);
	for (unsigned i = 0; i < WORLD_CALLERS; i++)
		cut_caller(w, i);
	ledger_cut(&w->ledger);
	w->crashing = false;
}

/* The daemon of before has got to the end of what it did, or to the middle of it. */
static void begin_again(struct world *w, bool mute)
{
	_cleanup_(all_before_deinit) struct all_before before;
	bool midst = sim_is_dead(w->stage.loop);

	world_trace(w, midst ? "the daemon dies in the midst of it" : "the daemon dies", ++w->n_crashes, 0);
	world_drop_orphans(w);
	note_before(w, &before);
	die(w);
	sim_stage_bury(&w->stage);
	sim_set_fuse(w->stage.loop, w->next_fuse);
	w->next_fuse = 0;
	w->stage.machine.fd_error = mute ? -ETOOMANYREFS : 0;
	sim_stage_come_back(&w->stage);
	w->stage.machine.fd_error = 0;
	w->taken_up = w->stage.registry.last_worker;
	forget_past(w);
	if (!w->deaf)
		listener_begin_anew(&w->listener, &w->stage.registry, w->stage.pool);
	for (unsigned i = 0; i < before.n; i++) {
		if (midst)
			take_last_write(w, &before.list[i]);
		compare_session(w, &before.list[i], mute);
	}
	if (!midst) /* the last ones may have been given by one that was dead already */
		compare_numbers(w, &before.numbers);
	pool_start(w->stage.pool);
	world_trace(w, "another daemon has begun", w->stage.registry.last_call, 0);
}

void world_crash(struct world *w, bool mute)
{
	if (!sim_is_dead(w->stage.loop))
		invariants_check_kept(w);
	do {
		begin_again(w, mute);
	} while (sim_is_dead(w->stage.loop));
}

#include "daemon/pool/takeup.h"

#include "daemon/base/cleanup.h"
#include "daemon/base/log.h"
#include "daemon/base/mem.h"
#include "daemon/io/mark.h"
#include "daemon/pool/pool.h"
#include "daemon/pool/session.h"
#include "daemon/pool/shape.h"

#define CHANGED 2 /* generations further on: the first of a reload that did not come to its end is none of them */

/* --- finding --- */

/* A copy of a record: what is taken up is kept again at once. */
struct found {
	uint64_t id;
	uint8_t *bytes; /* owns */
	size_t len;
};

struct find {
	struct found *all; /* owns */
	size_t n;
};

static void find_add(void *user, uint64_t id, struct span record)
{
	struct find *f = user;

	f->all = mem_resize(f->all, f->n + 1, sizeof(*f->all));
	f->all[f->n++] = (struct found){
		.id = id,
		.bytes = (uint8_t *)mem_strndup(record.p, record.len),
		.len = record.len,
	};
}

static void find_all(struct find *f, const struct takeup *t, enum keep_kind kind)
{
	*f = (struct find){ 0 };
	t->keeper->each(t->keeper, kind, find_add, f);
}

static void find_deinit(struct find *f)
{
	for (size_t i = 0; i < f->n; i++)
		free(f->all[i].bytes);
	free(f->all);
}

static struct span found_span(const struct found *f)
{
	return (struct span){ .p = f->bytes, .len = f->len };
}

static struct pool *find_pool(const struct takeup *t, struct span name)
{
	for (unsigned i = 0; i < t->n_pools; i++) {
		if (span_equals(name, t->pools[i]->settings->name))
			return t->pools[i];
	}
	return NULL;
}

/* NULL: it is not there, or has to leave. */
static struct worker *find_worker(const struct pool *p, uint64_t id)
{
	struct worker *w = worker_find(p->workers, id);

	return w && w->state < WORKER_STOPPING ? w : NULL;
}

/* --- taking up --- */

/* False: there are none, and so nothing else can be taken up, which has some of them. */
static bool take_up_numbers(const struct takeup *t)
{
	_cleanup_(find_deinit) struct find f;
	struct registry *g = t->registry;
	struct kept_daemon kept;

	find_all(&f, t, KEEP_DAEMON);
	if (!f.n || !keep_read_daemon(found_span(&f.all[0]), &kept))
		return false;
	mark_go_on(kept.mark);
	g->last_call = kept.last_call;
	g->last_worker = kept.last_worker;
	g->last_session = kept.last_session;
	g->last_lease = kept.last_lease;
	g->last_caller = kept.last_caller;
	return true;
}

/* Workers of other settings serve on, and are replaced. */
static void take_up_pool(struct pool *p, const struct kept_pool *kept)
{
	p->generation = kept->generation;
	if (kept->shape == shape_of(p->settings))
		return;
	p->generation += CHANGED;
	LOG(INFO, "pool.changed", KV("pool", p->settings->name), KV("generation", p->generation),
	    KV("outcome", "its workers are replaced: they were started with other settings"));
}

static void take_up_pools(const struct takeup *t)
{
	_cleanup_(find_deinit) struct find f;

	find_all(&f, t, KEEP_POOL);
	for (size_t i = 0; i < f.n; i++) {
		struct kept_pool kept;
		struct pool *p = keep_read_pool(found_span(&f.all[i]), &kept) ? find_pool(t, kept.name) : NULL;

		if (p)
			take_up_pool(p, &kept); /* its record is there until it has another: who dies before that finds it again */
		else
			t->keeper->remove(t->keeper, KEEP_POOL, f.all[i].id);
	}
}

/* NULL, or why the worker is not wanted. Otherwise it is there, or has been told to end. */
static const char *take_up_worker(const struct takeup *t, uint64_t id, const struct kept_worker *kept)
{
	struct pool *p = find_pool(t, kept->pool);
	int old_calls[PROCESS_OLD_CALLS];
	int fds[PROCESS_FDS];
	char name[KEEP_NAME];

	if (!p)
		return "its pool is not configured any more";
	if (kept->generation > p->generation)
		return "it was the first of a reload that did not come to its end";
	if (!t->keeper->find(t->keeper, kept->name, &kept->remains, fds))
		return "its files were not stored";
	for (unsigned i = 0; i < PROCESS_OLD_CALLS; i++)
		old_calls[i] = keep_old_calls(kept, id, i, name) ? t->keeper->take(t->keeper, name) : -1;
	return worker_take_up(p, id, kept, fds, old_calls) ? NULL : "it is gone";
}

static unsigned take_up_workers(const struct takeup *t)
{
	_cleanup_(find_deinit) struct find f;
	unsigned n = 0;

	find_all(&f, t, KEEP_WORKER);
	for (size_t i = 0; i < f.n; i++) {
		struct kept_worker kept;
		bool sound = keep_read_worker(f.all[i].id, found_span(&f.all[i]), &kept);
		const char *why = sound ? take_up_worker(t, f.all[i].id, &kept) : "its record is malformed";

		if (why) {
			LOG(WARN, "worker.not_adopted", KV("worker", f.all[i].id), KV("reason", why));
			keep_no_record(t->keeper, f.all[i].id, sound ? &kept : NULL);
		}
		n += !why;
	}
	return n;
}

static unsigned take_up_sessions(const struct takeup *t)
{
	_cleanup_(find_deinit) struct find f;
	unsigned n = 0;

	find_all(&f, t, KEEP_SESSION);
	for (size_t i = 0; i < f.n; i++) {
		struct kept_session kept;
		struct pool *p = keep_read_session(found_span(&f.all[i]), &kept) ? find_pool(t, kept.pool) : NULL;

		if (p) {
			session_take_up(p, f.all[i].id, &kept, find_worker(p, kept.worker));
			n++;
		} else {
			LOG(WARN, "session.not_adopted", KV("session_id", f.all[i].id),
			    KV("reason", "its pool is not configured any more, or its record is malformed"));
			t->keeper->remove(t->keeper, KEEP_SESSION, f.all[i].id);
		}
	}
	return n;
}

bool takeup_all(const struct takeup *t)
{
	unsigned workers, sessions;

	if (!take_up_numbers(t))
		return false;
	t->registry->keeper = t->keeper; /* from here on what is taken up is kept again */
	take_up_pools(t);
	workers = take_up_workers(t);
	sessions = take_up_sessions(t);
	LOG(INFO, "daemon.adopted", KV("workers", workers), KV("sessions", sessions));
	return true;
}

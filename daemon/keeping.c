#include "daemon/keeping.h"

#include <stdio.h>
#include <utlist.h>

#include "daemon/base/cleanup.h"
#include "daemon/base/log.h"
#include "daemon/base/mem.h"
#include "daemon/daemon.h"
#include "daemon/io/leftovers.h"
#include "daemon/io/mark.h"
#include "daemon/pool/session.h"

#define LEDGER SYSTEMD_STORED "ledger"
#define NAME_MAX_BYTES (sizeof(SYSTEMD_STORED) + KEEP_NAME)

/* --- keeping --- */

static struct ledger *ledger_of(struct keeper *k)
{
	return container_of(k, struct keeping, keeper)->ledger;
}

static void keeping_put(struct keeper *k, enum keep_kind kind, uint64_t id, struct span record)
{
	if (!ledger_put(ledger_of(k), kind, id, record))
		LOG(WARN, "ledger.void", KV("reason", "no memory: a daemon that comes after a crash will begin anew"));
}

static void keeping_remove(struct keeper *k, enum keep_kind kind, uint64_t id)
{
	ledger_remove(ledger_of(k), kind, id);
}

static void stored_name(char full[NAME_MAX_BYTES], const char *name)
{
	(void)snprintf(full, NAME_MAX_BYTES, SYSTEMD_STORED "%s", name); /* fits */
}

static void keeping_hold(struct keeper *k, const char *name, const int *fds, unsigned n)
{
	char full[NAME_MAX_BYTES];

	(void)k;
	stored_name(full, name);
	systemd_store(full, fds, n);
}

static void keeping_release(struct keeper *k, const char *name)
{
	char full[NAME_MAX_BYTES];

	(void)k;
	stored_name(full, name);
	systemd_unstore(full);
}

/* --- taking up --- */

/* A record out of the ledger, which goes on to be written. */
struct found {
	uint64_t id;
	uint8_t *bytes; /* owns */
	size_t len;
};

struct find {
	struct found *all; /* owns */
	size_t n;
};

static void find_add(void *user, const struct ledger_entry *e)
{
	struct find *f = user;

	f->all = mem_resize(f->all, f->n + 1, sizeof(*f->all));
	f->all[f->n++] = (struct found){
		.id = e->id,
		.bytes = (uint8_t *)mem_strndup(e->bytes.p, e->bytes.len),
		.len = e->bytes.len,
	};
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

static struct pool *find_pool(const struct daemon *d, struct span name)
{
	for (unsigned i = 0; i < d->n_pools; i++) {
		if (span_equals(name, d->pools[i]->settings->name))
			return d->pools[i];
	}
	return NULL;
}

static void take_up_numbers(struct keeping *k, struct daemon *d)
{
	struct registry *g = &d->registry;
	struct kept_daemon kept;
	struct span record;

	if (!ledger_find(k->ledger, KEEP_DAEMON, 0, &record) || !keep_read_daemon(record, &kept))
		return;
	mark_go_on(kept.mark);
	g->last_call = kept.last_call;
	g->last_worker = kept.last_worker;
	g->last_session = kept.last_session;
	g->last_lease = kept.last_lease;
	g->last_caller = kept.last_caller;
}

static void take_up_pools(struct keeping *k, struct daemon *d)
{
	_cleanup_(find_deinit) struct find f = { 0 };

	ledger_each(k->ledger, KEEP_POOL, find_add, &f);
	for (size_t i = 0; i < f.n; i++) {
		struct kept_pool kept;
		struct pool *p = keep_read_pool(found_span(&f.all[i]), &kept) ? find_pool(d, kept.name) : NULL;

		if (p)
			p->generation = kept.generation;
		ledger_remove(k->ledger, KEEP_POOL, f.all[i].id); /* the pools that there are now have their own */
	}
}

/* NULL, or why the worker is not wanted. Otherwise it is there, or has been told to end. */
static const char *take_up_worker(struct daemon *d, const struct found *f, struct named_fds *left)
{
	int old_calls[KEEP_OLD_CALLS];
	struct kept_worker kept;
	char name[NAME_MAX_BYTES];
	int fds[PROCESS_FDS];
	struct pool *p;

	if (!keep_read_worker(f->id, found_span(f), &kept))
		return "its record is malformed";
	p = find_pool(d, kept.pool);
	if (!p)
		return "its pool is not configured any more";
	if (kept.generation > p->generation)
		return "it was the first of a reload that did not come to its end";
	stored_name(name, kept.name);
	if (!remains_find(&kept.remains, left, name, fds))
		return "its files were not stored";
	for (unsigned i = 0; i < KEEP_OLD_CALLS; i++) {
		stored_name(name, kept.calls_names[i]);
		old_calls[i] = named_fds_take(left, name);
	}
	return worker_take_up(p, f->id, &kept, fds, old_calls) ? NULL : "it is gone";
}

static unsigned take_up_workers(struct keeping *k, struct daemon *d, struct named_fds *left)
{
	_cleanup_(find_deinit) struct find f = { 0 };
	unsigned n = 0;

	ledger_each(k->ledger, KEEP_WORKER, find_add, &f);
	for (size_t i = 0; i < f.n; i++) {
		const char *why = take_up_worker(d, &f.all[i], left);

		if (why) {
			LOG(WARN, "worker.not_adopted", KV("worker", f.all[i].id), KV("reason", why));
			ledger_remove(k->ledger, KEEP_WORKER, f.all[i].id);
		}
		n += !why;
	}
	return n;
}

static struct worker *find_worker(const struct pool *p, uint64_t id)
{
	struct worker *w;

	for (w = id ? p->workers : NULL; w && w->id != id; w = w->next)
		;
	return w;
}

static unsigned take_up_sessions(struct keeping *k, struct daemon *d)
{
	_cleanup_(find_deinit) struct find f = { 0 };
	unsigned n = 0;

	ledger_each(k->ledger, KEEP_SESSION, find_add, &f);
	for (size_t i = 0; i < f.n; i++) {
		struct kept_session kept;
		struct pool *p = keep_read_session(found_span(&f.all[i]), &kept) ? find_pool(d, kept.pool) : NULL;

		if (p) {
			session_take_up(p, f.all[i].id, &kept, find_worker(p, kept.worker));
			n++;
		} else {
			LOG(WARN, "session.not_adopted", KV("session_id", f.all[i].id),
			    KV("reason", "its pool is not configured any more, or its record is malformed"));
			ledger_remove(k->ledger, KEEP_SESSION, f.all[i].id);
		}
	}
	return n;
}

static void take_up_all(struct keeping *k, struct daemon *d, struct named_fds *left)
{
	unsigned workers, sessions;

	take_up_numbers(k, d);
	d->registry.keeper = &k->keeper; /* from here on what is taken up is kept again */
	take_up_pools(k, d);
	workers = take_up_workers(k, d, left);
	sessions = take_up_sessions(k, d);
	LOG(INFO, "daemon.adopted", KV("workers", workers), KV("sessions", sessions));
}

/* A worker that lives, or what descends from one. */
static bool is_ours(void *user, pid_t pid)
{
	const struct daemon *d = user;
	uint64_t mark = mark_read(pid);

	for (unsigned i = 0; i < d->n_pools; i++) {
		const struct worker *w;

		DL_FOREACH (d->pools[i]->workers, w) {
			if (w->last_pid == pid || (mark && w->id == mark))
				return true;
		}
	}
	return false;
}

/* What was stored and is of no use: systemd has copies. */
static void drop_rest(struct named_fds *left)
{
	for (size_t i = 0; i < left->n; i++) {
		if (left->all[i].fd >= 0)
			systemd_unstore(left->all[i].name);
	}
	named_fds_deinit(left);
}

/* --- life --- */

/* That of the daemon of before; NULL: there was none, or it is of no use. */
static struct ledger *ledger_found(struct named_fds *left)
{
	int a = named_fds_take(left, LEDGER), b = named_fds_take(left, LEDGER);
	struct ledger *l;
	char why[200];

	if (a < 0 && b < 0 && !left->n)
		return NULL; /* the first start */
	l = ledger_take(a, b, why, sizeof(why));
	if (!l)
		LOG(WARN, "ledger.refused", KV("reason", why),
		    KV("outcome", "its workers are replaced and its sessions are lost"));
	return l;
}

static struct ledger *ledger_begin(void)
{
	struct ledger *l = ledger_new();

	systemd_unstore(LEDGER);
	if (l)
		systemd_store(LEDGER, (const int[]){ ledger_fd(l, 0), ledger_fd(l, 1) }, 2);
	else
		LOG(WARN, "ledger.none", KV("reason", "no memory"), KV("outcome", "workers will die with this daemon"));
	return l;
}

void keeping_begin(struct keeping *k, struct daemon *d, struct named_fds *left)
{
	*k = (struct keeping){
		.keeper = {
			.put = keeping_put,
			.remove = keeping_remove,
			.hold = keeping_hold,
			.release = keeping_release,
		},
	};
	if (!systemd_has_store())
		return;
	k->ledger = ledger_found(left);
	if (k->ledger) {
		take_up_all(k, d, left);
	} else {
		k->ledger = ledger_begin();
		d->registry.keeper = k->ledger ? &k->keeper : NULL;
	}
	keep_daemon(&d->registry);
	drop_rest(left);
	(void)leftovers_kill(is_ours, d); /* what an earlier daemon has left and nobody took up */
}

void keeping_end(struct keeping *k)
{
	if (!k->ledger)
		return;
	ledger_wipe(k->ledger);
	systemd_unstore(LEDGER);
	k->ledger = ledger_free(k->ledger);
}

#include "daemon/keeping.h"

#include <stdio.h>
#include <utlist.h>

#include "daemon/base/cleanup.h"
#include "daemon/base/log.h"
#include "daemon/daemon.h"
#include "daemon/io/leftovers.h"
#include "daemon/io/mark.h"
#include "daemon/pool/session.h"
#include "daemon/pool/takeup.h"
#include "daemon/vigil.h"

#define LEDGER SYSTEMD_STORED "ledger"
#define NAME_MAX_BYTES (sizeof(SYSTEMD_STORED) + KEEP_NAME)

/* --- keeping --- */

static struct ledger *ledger_of(struct keeper *k)
{
	return container_of(k, struct keeping, keeper)->ledger;
}

static struct named_fds *left_of(struct keeper *k)
{
	return container_of(k, struct keeping, keeper)->left;
}

/* Said once: a void ledger takes nothing any more. */
static void keeping_check(struct keeping *k)
{
	if (k->is_void || !ledger_is_void(k->ledger))
		return;
	LOG(WARN, "ledger.void", KV("reason", "no memory"), KV("outcome", "a daemon that comes after a crash will begin anew"));
	k->is_void = true;
}

static void keeping_put(struct keeper *k, enum keep_kind kind, uint64_t id, struct span record)
{
	(void)ledger_put(ledger_of(k), kind, id, record); /* that it failed is seen in the next line */
	keeping_check(container_of(k, struct keeping, keeper));
}

static void keeping_remove(struct keeper *k, enum keep_kind kind, uint64_t id)
{
	ledger_remove(ledger_of(k), kind, id);
	keeping_check(container_of(k, struct keeping, keeper));
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

/* --- what there is --- */

struct each {
	keep_found found;
	void *user;
};

static void pass_on(void *user, const struct ledger_entry *e)
{
	const struct each *each = user;

	each->found(each->user, e->id, e->bytes);
}

static void keeping_each(struct keeper *k, enum keep_kind kind, keep_found found, void *user)
{
	struct each each = { .found = found, .user = user };

	ledger_each(ledger_of(k), kind, pass_on, &each);
}

static bool keeping_find(struct keeper *k, const char *name, const struct remains *r, int fds[PROCESS_FDS])
{
	char full[NAME_MAX_BYTES];

	stored_name(full, name);
	return remains_find(r, left_of(k), full, fds);
}

static int keeping_take(struct keeper *k, const char *name)
{
	char full[NAME_MAX_BYTES];

	stored_name(full, name);
	return named_fds_take(left_of(k), full);
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

static void ledger_refuse(const char *why)
{
	LOG(WARN, "ledger.refused", KV("reason", why), KV("outcome", "its workers are replaced and its sessions are lost"));
}

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
		ledger_refuse(why);
	return l;
}

/* Its numbers are in it before anybody can find it. */
static void ledger_begin(struct keeping *k, struct daemon *d)
{
	struct ledger *l = k->ledger = ledger_new();

	systemd_unstore(LEDGER);
	if (!l) {
		LOG(WARN, "ledger.none", KV("reason", "no memory"), KV("outcome", "workers will die with this daemon"));
		return;
	}
	d->registry.keeper = &k->keeper;
	keep_daemon(&d->registry);
	systemd_store(LEDGER, (const int[]){ ledger_fd(l, 0), ledger_fd(l, 1) }, 2);
}

static void ledger_take_up(struct keeping *k, struct daemon *d)
{
	const struct takeup all = {
		.keeper = &k->keeper,
		.registry = &d->registry,
		.pools = d->pools,
		.n_pools = d->n_pools,
	};

	if (takeup_all(&all)) {
		keep_daemon(&d->registry);
		return;
	}
	ledger_refuse("the record of its numbers is missing or malformed");
	k->ledger = ledger_free(k->ledger);
}

static void keeping_init(struct keeping *k, struct named_fds *left)
{
	*k = (struct keeping){
		.lock = -1, /* after an upgrade: what is stored goes on to hold it */
		.keeper = {
			.put = keeping_put,
			.remove = keeping_remove,
			.hold = keeping_hold,
			.release = keeping_release,
			.each = keeping_each,
			.find = keeping_find,
			.take = keeping_take,
		},
		.left = left,
	};
}

/* What is stored is of the program before: nobody goes on with it, and nobody would take it out when its workers end. */
static void keeping_give_up(struct keeping *k, const struct daemon *d)
{
	struct worker *w;

	systemd_unstore(LEDGER);
	for (unsigned i = 0; i < d->n_pools; i++) {
		DL_FOREACH (d->pools[i]->workers, w)
			keep_no_files(&k->keeper, w);
	}
}

/* There was no keeper yet when there was no memory for its values. */
static void keeping_catch_up(const struct daemon *d)
{
	const struct session *s, *next;

	for (unsigned i = 0; i < d->n_pools; i++) {
		HASH_ITER (hh, d->pools[i]->sessions, s, next) {
			if (s->lost)
				keep_session(s);
		}
	}
}

void keeping_go_on(struct keeping *k, struct daemon *d, int a, int b)
{
	char why[200];

	keeping_init(k, NULL);
	if (a < 0 || b < 0)
		return;
	k->ledger = ledger_take(a, b, why, sizeof(why));
	if (!k->ledger) {
		LOG(WARN, "ledger.refused", KV("reason", why), KV("outcome", "workers will die with this daemon"));
		keeping_give_up(k, d);
		return;
	}
	d->registry.keeper = &k->keeper;
	keep_daemon(&d->registry);
	keeping_catch_up(d);
}

void keeping_begin(struct keeping *k, struct daemon *d, struct named_fds *left)
{
	keeping_init(k, left);
	if (!systemd_has_store())
		return;
	k->lock = vigil_lock(left); /* the first that is stored: where there is no room for it there is none for anything */
	k->ledger = ledger_found(left);
	if (k->ledger)
		ledger_take_up(k, d);
	if (!k->ledger)
		ledger_begin(k, d);
	drop_rest(left);
	k->left = NULL;
	(void)leftovers_kill(is_ours, d); /* what an earlier daemon has left and nobody took up */
}

void keeping_end(struct keeping *k)
{
	if (systemd_has_store())
		vigil_unlock(TAKE_FD(k->lock));
	if (!k->ledger)
		return;
	ledger_wipe(k->ledger);
	systemd_unstore(LEDGER);
	k->ledger = ledger_free(k->ledger);
}

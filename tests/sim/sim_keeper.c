#include "tests/sim/sim_keeper.h"

#include <stdio.h>
#include <stdlib.h>
#include <utlist.h>

#include "daemon/base/cleanup.h"
#include "daemon/base/mem.h"

static struct sim_keeper *keeper_of(struct keeper *k)
{
	return container_of(k, struct sim_keeper, keeper);
}

/* --- records --- */

static struct sim_kept *find_kept(const struct sim_keeper *k, enum keep_kind kind, uint64_t id)
{
	struct sim_kept *r = k->kept;

	while (r && (r->kind != kind || r->id != id))
		r = r->next;
	return r;
}

const struct sim_kept *sim_keeper_find(const struct sim_keeper *k, enum keep_kind kind, uint64_t id)
{
	return find_kept(k, kind, id);
}

static void drop_kept(struct sim_keeper *k, struct sim_kept *r)
{
	if (!r)
		return;
	DL_DELETE(k->kept, r);
	free(r);
}

static void keeper_put(struct keeper *keeper, enum keep_kind kind, uint64_t id, struct span record)
{
	struct sim_keeper *k = keeper_of(keeper);
	struct sim_kept *r;

	if (!sim_takes_effect(k->loop))
		return;
	r = mem_new(sizeof(*r) + record.len);
	drop_kept(k, find_kept(k, kind, id));
	r->kind = kind;
	r->id = id;
	r->len = record.len;
	memcpy(r->bytes, record.p, record.len);
	DL_APPEND(k->kept, r);
}

static void keeper_remove(struct keeper *keeper, enum keep_kind kind, uint64_t id)
{
	struct sim_keeper *k = keeper_of(keeper);

	if (sim_takes_effect(k->loop))
		drop_kept(k, find_kept(k, kind, id));
}

static void keeper_each(struct keeper *keeper, enum keep_kind kind, keep_found found, void *user)
{
	const struct sim_kept *r;

	DL_FOREACH (keeper_of(keeper)->kept, r) {
		if (r->kind == kind)
			found(user, r->id, (struct span){ .p = r->bytes, .len = r->len });
	}
}

/* --- files --- */

static struct sim_held *find_held(const struct sim_keeper *k, const char *name, uint64_t inode)
{
	struct sim_held *h = k->held;

	while (h && (strcmp(h->name, name) != 0 || (inode && h->file.inode != inode)))
		h = h->next;
	return h;
}

bool sim_keeper_holds(const struct sim_keeper *k, const char *name, uint64_t inode)
{
	return find_held(k, name, inode);
}

static void drop_held(struct sim_keeper *k, struct sim_held *h)
{
	DL_DELETE(k->held, h);
	h->file.closed(h->file.owner, -1);
	free(h);
}

static void keeper_hold(struct keeper *keeper, const char *name, const int *fds, unsigned n)
{
	struct sim_keeper *k = keeper_of(keeper);

	if (!sim_takes_effect(k->loop))
		return;
	for (unsigned i = 0; i < n; i++) {
		struct sim_held *h = MEM_NEW(struct sim_held);

		h->file = *sim_fd_file(k->loop, fds[i]);
		h->file.copied(h->file.owner);
		(void)snprintf(h->name, sizeof(h->name), "%s", name); /* fits */
		DL_PREPEND(k->held, h); /* they come back in another order */
	}
}

static void keeper_release(struct keeper *keeper, const char *name)
{
	struct sim_keeper *k = keeper_of(keeper);
	struct sim_held *h;

	if (!sim_takes_effect(k->loop))
		return;
	while ((h = find_held(k, name, 0)))
		drop_held(k, h);
}

/* A copy: it is held on until it is released. */
static int take(struct sim_keeper *k, const char *name, uint64_t inode)
{
	struct sim_held *h = find_held(k, name, inode);

	if (!h)
		return -1;
	h->left = false;
	h->file.copied(h->file.owner);
	return sim_fd_open(k->loop, &h->file);
}

static bool keeper_find(struct keeper *keeper, const char *name, const struct remains *r, int fds[PROCESS_FDS])
{
	struct sim_keeper *k = keeper_of(keeper);

	for (unsigned i = 0; i < PROCESS_FDS; i++)
		fds[i] = r->files[i].inode ? take(k, name, r->files[i].inode) : -1;
	return fds[PROCESS_FD_PIDFD] >= 0 && fds[PROCESS_FD_CONTROL] >= 0; /* of this keeper none gets lost */
}

static int keeper_take(struct keeper *keeper, const char *name)
{
	return take(keeper_of(keeper), name, 0);
}

/* --- life --- */

void sim_keeper_begin(struct sim_keeper *k)
{
	struct sim_held *h;

	DL_FOREACH (k->held, h)
		h->left = true;
}

void sim_keeper_drop_rest(struct sim_keeper *k)
{
	struct sim_held *h = k->held;

	while (h && !sim_is_dead(k->loop)) {
		if (h->left) {
			char name[KEEP_NAME];

			memcpy(name, h->name, sizeof(name));
			keeper_release(&k->keeper, name); /* with all that have the name, as a service manager does */
			h = k->held;
		} else {
			h = h->next;
		}
	}
}

void sim_keeper_init(struct sim_keeper *k, struct loop *l)
{
	*k = (struct sim_keeper){
		.keeper = {
			.put = keeper_put,
			.remove = keeper_remove,
			.hold = keeper_hold,
			.release = keeper_release,
			.each = keeper_each,
			.find = keeper_find,
			.take = keeper_take,
		},
		.loop = l,
	};
}

void sim_keeper_forget(struct sim_keeper *k)
{
	while (k->kept)
		drop_kept(k, k->kept);
}

unsigned sim_keeper_deinit(struct sim_keeper *k)
{
	unsigned left = 0;

	while (k->kept) {
		left += k->kept->kind == KEEP_WORKER || k->kept->kind == KEEP_SESSION;
		drop_kept(k, k->kept);
	}
	while (k->held) {
		left++;
		drop_held(k, k->held);
	}
	return left;
}

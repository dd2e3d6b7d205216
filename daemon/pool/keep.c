#include "daemon/pool/keep.h"

#include <stdio.h>

#include "daemon/base/cleanup.h"
#include "daemon/base/packed.h"
#include "daemon/io/mark.h"
#include "daemon/pool/pool.h"
#include "daemon/pool/registry.h"
#include "daemon/pool/session.h"
#include "daemon/pool/shape.h"
#include "daemon/pool/worker.h"
#include "proto/cursor.h"
#include "proto/pack.h"

/* --- making --- */

static void keep_put(struct keeper *k, enum keep_kind kind, uint64_t id, const msgpack_sbuffer *buf)
{
	k->put(k, kind, id, (struct span){ .p = (const uint8_t *)buf->data, .len = buf->size });
}

void keep_daemon(struct registry *g)
{
	_cleanup_(msgpack_sbuffer_destroy) msgpack_sbuffer buf = { 0 };
	const uint64_t last[] = { g->last_call, g->last_worker, g->last_session, g->last_lease, g->last_caller };
	msgpack_packer pk;

	if (!g->keeper)
		return;
	packed_begin(&buf, &pk);
	msgpack_pack_array(&pk, 1 + ARRAY_SIZE(last));
	msgpack_pack_uint64(&pk, mark_of_daemon());
	for (size_t i = 0; i < ARRAY_SIZE(last); i++)
		msgpack_pack_uint64(&pk, last[i] + REGISTRY_KEEP_EVERY); /* those of the time until this is done again */
	keep_put(g->keeper, KEEP_DAEMON, 0, &buf);
	g->until_kept = REGISTRY_KEEP_EVERY;
}

void keep_pool(const struct pool *p)
{
	_cleanup_(msgpack_sbuffer_destroy) msgpack_sbuffer buf = { 0 };
	msgpack_packer pk;

	if (!p->registry->keeper)
		return;
	packed_begin(&buf, &pk);
	msgpack_pack_array(&pk, 3);
	pack_text(&pk, p->settings->name);
	msgpack_pack_uint64(&pk, p->generation);
	msgpack_pack_uint64(&pk, shape_of(p->settings));
	keep_put(p->registry->keeper, KEEP_POOL, shape_of_text(p->settings->name), &buf);
}

/* Of its fds. The service manager knows each file under one name only, so the call socket, which changes, has its own. */
void keep_own_name(char name[KEEP_NAME], uint64_t worker)
{
	(void)snprintf(name, KEEP_NAME, "w%llx", (unsigned long long)worker); /* fits */
}

static void keep_calls_name(char name[KEEP_NAME], uint64_t worker, uint64_t life)
{
	(void)snprintf(name, KEEP_NAME, "w%llx-%llx", (unsigned long long)worker, (unsigned long long)life); /* fits */
}

static void keep_hold_calls(struct keeper *k, const struct worker *w, uint64_t life)
{
	char name[KEEP_NAME];

	keep_calls_name(name, w->id, life);
	k->hold(k, name, &w->calls.io.fd, 1);
}

/* Those that it does not need any more when it has the one of life `before`. */
static void keep_release_calls(struct keeper *k, struct worker *w, uint64_t before)
{
	char name[KEEP_NAME];

	for (uint64_t life = w->heard_life; life < before; life++) {
		keep_calls_name(name, w->id, life);
		k->release(k, name);
	}
	w->heard_life = before;
}

static void pack_worker(msgpack_packer *pk, const struct worker *w, const struct remains *r)
{
	msgpack_pack_array(pk, 5 + 2 * PROCESS_FDS);
	pack_text(pk, w->pool->settings->name);
	msgpack_pack_uint64(pk, w->generation);
	msgpack_pack_uint64(pk, w->kept_life);
	msgpack_pack_uint64(pk, w->heard_life);
	msgpack_pack_uint64(pk, (uint64_t)r->pid);
	for (unsigned i = 0; i < PROCESS_FDS; i++) {
		msgpack_pack_uint64(pk, r->files[i].dev);
		msgpack_pack_uint64(pk, r->files[i].inode);
	}
}

static void keep_put_worker(struct keeper *k, const struct worker *w, const struct remains *r)
{
	_cleanup_(msgpack_sbuffer_destroy) msgpack_sbuffer buf = { 0 };
	msgpack_packer pk;

	packed_begin(&buf, &pk);
	pack_worker(&pk, w, r);
	keep_put(k, KEEP_WORKER, w->id, &buf);
}

/* The record before the files: what has no record, should we die in between, is dropped by its name, which must not be given again. */
void keep_worker(struct worker *w)
{
	struct keeper *k = w->pool->registry->keeper;
	struct remains r;
	char name[KEEP_NAME];
	int fds[PROCESS_FDS];
	unsigned n;

	if (!k || !process_is_running(&w->proc) || !stream_is_open(&w->calls))
		return;
	remains_of(&r, &w->proc, fds, &n);
	keep_own_name(name, w->id);
	if (!w->kept_life++)
		w->heard_life = 1;
	if (w->kept_life - w->heard_life >= PROCESS_OLD_CALLS) /* so many daemons have come and gone: the eldest is given up */
		keep_release_calls(k, w, w->kept_life - PROCESS_OLD_CALLS + 1);
	keep_put_worker(k, w, &r);
	keep_hold_calls(k, w, w->kept_life);
	if (w->kept_life == 1) /* last: without these nobody goes on with it, and with them it has its call socket */
		k->hold(k, name, fds, n);
}

void keep_heard(struct worker *w)
{
	struct keeper *k = w->pool->registry->keeper;
	struct remains r;
	int fds[PROCESS_FDS];
	unsigned n;

	process_drop_old_calls(&w->proc);
	if (!k || !w->kept_life)
		return;
	keep_release_calls(k, w, w->kept_life);
	remains_of(&r, &w->proc, fds, &n);
	keep_put_worker(k, w, &r);
}

void keep_no_files(struct keeper *k, struct worker *w)
{
	char name[KEEP_NAME];

	if (!w->kept_life)
		return;
	keep_own_name(name, w->id);
	k->release(k, name);
	keep_release_calls(k, w, w->kept_life + 1);
	w->kept_life = w->heard_life = 0;
}

void keep_no_worker(struct worker *w)
{
	struct keeper *k = w->pool->registry->keeper;

	if (!k || !w->kept_life)
		return;
	k->remove(k, KEEP_WORKER, w->id);
	keep_no_files(k, w);
}

void keep_no_record(struct keeper *keeper, uint64_t id, const struct kept_worker *k)
{
	char name[KEEP_NAME];

	keeper->remove(keeper, KEEP_WORKER, id);
	if (!k)
		return; /* nobody knows what is held under which name */
	keeper->release(keeper, k->name);
	for (unsigned i = 0; keep_old_calls(k, id, i, name); i++)
		keeper->release(keeper, name);
}

void keep_pack_session(const struct session *s, msgpack_packer *pk)
{
	msgpack_pack_array(pk, 10);
	pack_text(pk, s->pool->settings->name);
	pack_text(pk, s->name);
	pack_text(pk, s->lost ? s->how : "");
	msgpack_pack_uint64(pk, s->uid);
	msgpack_pack_uint64(pk, s->strict && s->worker ? s->worker->id : 0);
	msgpack_pack_uint64(pk, s->ttl);
	msgpack_pack_uint64(pk, s->strict ? s->generation : 0);
	msgpack_pack_uint64(pk, s->sends);
	pack_bool(pk, s->strict);
	values_pack(&s->values, pk);
}

void keep_session(const struct session *s)
{
	struct keeper *k = s->pool->registry->keeper;
	_cleanup_(msgpack_sbuffer_destroy) msgpack_sbuffer buf = { 0 };
	msgpack_packer pk;

	if (!k || !s->listed)
		return;
	packed_begin(&buf, &pk);
	keep_pack_session(s, &pk);
	keep_put(k, KEEP_SESSION, s->id, &buf);
}

void keep_no_session(const struct session *s)
{
	struct keeper *k = s->pool->registry->keeper;

	if (k)
		k->remove(k, KEEP_SESSION, s->id);
}

/* --- reading --- */

bool keep_old_calls(const struct kept_worker *k, uint64_t id, unsigned n, char name[KEEP_NAME])
{
	if (n >= PROCESS_OLD_CALLS || n > k->life - k->heard)
		return false;
	keep_calls_name(name, id, k->life - n);
	return true;
}

/* An array of just n values. */
static bool read_array(struct span *s, uint32_t n)
{
	uint32_t found;

	return cursor_check(*s) == CURSOR_DONE && mp_read_array(s, &found) && found == n;
}

bool keep_read_daemon(struct span s, struct kept_daemon *k)
{
	return read_array(&s, 6) && mp_read_uint(&s, &k->mark) && mp_read_uint(&s, &k->last_call) &&
	       mp_read_uint(&s, &k->last_worker) && mp_read_uint(&s, &k->last_session) &&
	       mp_read_uint(&s, &k->last_lease) && mp_read_uint(&s, &k->last_caller);
}

bool keep_read_pool(struct span s, struct kept_pool *k)
{
	return read_array(&s, 3) && mp_read_text(&s, &k->name) && mp_read_uint(&s, &k->generation) &&
	       mp_read_uint(&s, &k->shape);
}

bool keep_read_worker(uint64_t id, struct span s, struct kept_worker *k)
{
	uint64_t pid;

	if (!read_array(&s, 5 + 2 * PROCESS_FDS) || !mp_read_text(&s, &k->pool) || !mp_read_uint(&s, &k->generation) ||
	    !mp_read_uint(&s, &k->life) || !mp_read_uint(&s, &k->heard) ||
	    !mp_read_uint(&s, &pid) || !pid || pid > INT32_MAX || !k->heard || k->heard > k->life ||
	    k->life - k->heard >= PROCESS_OLD_CALLS)
		return false;
	for (unsigned i = 0; i < PROCESS_FDS; i++) {
		if (!mp_read_uint(&s, &k->remains.files[i].dev) || !mp_read_uint(&s, &k->remains.files[i].inode))
			return false;
	}
	k->remains.pid = (pid_t)pid;
	keep_own_name(k->name, id);
	return true;
}

bool keep_read_session(struct span s, struct kept_session *k)
{
	return read_array(&s, 10) && mp_read_text(&s, &k->pool) && mp_read_text(&s, &k->name) && mp_read_text(&s, &k->how) &&
	       mp_read_uint(&s, &k->uid) && mp_read_uint(&s, &k->worker) && mp_read_uint(&s, &k->ttl) &&
	       mp_read_uint(&s, &k->generation) && mp_read_uint(&s, &k->sends) && mp_read_bool(&s, &k->strict) &&
	       mp_read_any(&s, &k->values);
}

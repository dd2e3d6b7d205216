#include "daemon/pool/handover.h"

#include <fcntl.h>
#include <utlist.h>

#include "daemon/base/cleanup.h"
#include "daemon/base/mem.h"
#include "daemon/pool/affinity.h"
#include "daemon/pool/caller.h"
#include "daemon/pool/lease.h"
#include "daemon/pool/pool.h"
#include "daemon/pool/session.h"
#include "proto/pack.h"

/* --- when --- */

static const char *session_obstacle(const struct pool *p)
{
	return p->n_sessions != HASH_COUNT(p->sessions) || p->self.n_requests ? "sessions end, and their hooks run" : NULL;
}

static const char *worker_obstacle(const struct worker *w)
{
	if (w->state == WORKER_STOPPING)
		return "workers are being stopped";
	if (w->adopted)
		return "workers are being taken up after a crash of the daemon";
	return w->proc.dumping ? "the stack of a worker is being taken" : NULL;
}

static const char *request_obstacle(const struct request *r)
{
	return r->state != REQUEST_RUNNING && r->attempts ? "calls wait to be run again" : NULL;
}

const char *handover_obstacle(const struct pool *p)
{
	const char *why = p->state == POOL_RUNNING ? session_obstacle(p) : "the daemon is shutting down";
	const struct worker *w;
	const struct request *r;

	if (!why && p->reload.state != RELOAD_NONE)
		why = "a reload is on";
	for (w = p->workers; w && !why; w = w->next)
		why = worker_obstacle(w);
	for (r = p->requests; r && !why; r = r->pool_next)
		why = request_obstacle(r);
	return why;
}

bool handover_is_quiet(const struct pool *p)
{
	const struct worker *w;

	DL_FOREACH (p->workers, w) {
		if (worker_is_serving(w) && !stream_is_quiet(&w->calls))
			return false;
	}
	return true;
}

/* --- packing --- */

void handover_pack_fd(msgpack_packer *pk, int fd)
{
	if (fd >= 0)
		(void)fcntl(fd, F_SETFD, 0); /* cannot fail for an open fd */
	msgpack_pack_uint64(pk, (uint64_t)(fd + 1));
}

static void pack_worker(msgpack_packer *pk, const struct worker *w)
{
	const uint64_t numbers[] = {
		w->id,	   w->generation, w->state, (uint64_t)w->proc.pid, w->why,	w->born,     w->since,
		w->ready_at, w->calls_done, w->due,   w->max_calls,	     w->old_at,	w->abandoned, slot_is_abandoned(w) ? w->grace_until : w->timer.at,
		w->kept_life, w->ping_seq,  w->slot.call, w->slot.direct,   w->slot.started, w->hs.n_targets, w->hs.session_close,
	};
	int fds[PROCESS_FDS];

	process_fds(&w->proc, fds);
	msgpack_pack_array(pk, ARRAY_SIZE(numbers));
	for (size_t i = 0; i < ARRAY_SIZE(numbers); i++)
		msgpack_pack_uint64(pk, numbers[i]);
	handover_pack_fd(pk, w->calls.io.fd);
	for (size_t i = 0; i < PROCESS_FDS; i++)
		handover_pack_fd(pk, fds[i]);
	pack_text(pk, w->slot.target);
	pack_text(pk, w->hs.python);
	pack_text(pk, w->hs.codec);
}

static void pack_workers(msgpack_packer *pk, const struct pool *p)
{
	const struct worker *w;
	unsigned n = 0;

	DL_FOREACH (p->workers, w)
		n += worker_is_serving(w);
	msgpack_pack_array(pk, n);
	DL_FOREACH (p->workers, w) {
		if (worker_is_serving(w))
			pack_worker(pk, w);
	}
}

static void pack_sessions(msgpack_packer *pk, const struct pool *p)
{
	const struct session *s, *next;

	msgpack_pack_array(pk, HASH_COUNT(p->sessions));
	HASH_ITER(hh, p->sessions, s, next) {
		msgpack_pack_uint64(pk, s->id);
		keep_pack_session(s, pk);
		msgpack_pack_uint64(pk, s->used);
		msgpack_pack_uint64(pk, s->lingering ? s->lingering->id : 0);
	}
}

static void pack_leases(msgpack_packer *pk, const struct pool *p)
{
	const struct worker *w;
	unsigned n = 0;

	DL_FOREACH (p->workers, w)
		n += w->lease != NULL;
	msgpack_pack_array(pk, n);
	DL_FOREACH (p->workers, w) {
		const struct lease *l = w->lease;

		if (!l)
			continue;
		msgpack_pack_uint64(pk, l->id);
		msgpack_pack_uint64(pk, l->caller->id);
		msgpack_pack_uint64(pk, w->id);
		msgpack_pack_uint64(pk, l->session ? l->session->id : 0);
		msgpack_pack_uint64(pk, l->begun);
		msgpack_pack_uint64(pk, l->expires);
		handover_pack_fd(pk, l->direct ? l->socket.worker : -1);
	}
}

/* Its body stays behind: the worker has it. */
static void pack_running(msgpack_packer *pk, const struct request *r)
{
	msgpack_pack_uint64(pk, r->call);
	msgpack_pack_uint64(pk, r->caller->id);
	msgpack_pack_uint64(pk, r->key.id);
	msgpack_pack_uint64(pk, r->worker->id);
	msgpack_pack_uint64(pk, r->session ? r->session->id : 0);
	msgpack_pack_uint64(pk, r->lease ? r->lease->id : 0);
	pack_text(pk, r->target);
	pack_text(pk, r->traceparent ? r->traceparent : "");
	pack_bool(pk, r->want_meta);
	pack_bool(pk, r->retried);
	msgpack_pack_uint64(pk, r->attempts);
	msgpack_pack_uint64(pk, r->received);
	msgpack_pack_uint64(pk, r->started);
	msgpack_pack_uint64(pk, r->deadline);
	msgpack_pack_uint64(pk, r->ahead);
}

static void pack_requests(msgpack_packer *pk, const struct pool *p)
{
	const struct request *r;

	msgpack_pack_array(pk, p->n_running);
	for (r = p->requests; r; r = r->pool_next) {
		if (r->state == REQUEST_RUNNING)
			pack_running(pk, r);
	}
}

void handover_pack_pool(const struct pool *p, msgpack_packer *pk)
{
	pack_text(pk, p->settings->name);
	msgpack_pack_uint64(pk, p->generation);
	pack_bool(pk, p->paused);
	pack_text_n(pk, (const char *)p->idempotent, p->idempotent_len);
	pack_workers(pk, p);
	pack_sessions(pk, p);
	pack_leases(pk, p);
	pack_requests(pk, p);
}

/* --- taking --- */

static struct worker *find_worker(const struct pool *p, uint64_t id)
{
	struct worker *w;

	for (w = id ? p->workers : NULL; w && w->id != id; w = w->next)
		;
	return w;
}

static struct session *find_session(const struct pool *p, uint64_t id)
{
	struct session *s, *next;

	HASH_ITER(hh, p->sessions, s, next) {
		if (s->id == id)
			return s;
	}
	return NULL;
}

static void take_worker(struct pool *p, struct unpacker *u)
{
	struct worker_left left = { 0 };
	uint32_t n = unpack_array(u);
	uint64_t numbers[21];

	for (uint32_t i = 0; i < n; i++) {
		uint64_t v = unpack_uint(u);

		if (i < ARRAY_SIZE(numbers))
			numbers[i] = v;
	}
	u->bad |= n != ARRAY_SIZE(numbers);
	left.calls_fd = unpack_fd(u);
	for (size_t i = 0; i < PROCESS_FDS; i++)
		left.fds[i] = unpack_fd(u);
	left.target = unpack_text(u);
	left.python = unpack_text(u);
	left.codec = unpack_text(u);
	if (u->bad)
		return;
	left.id = numbers[0];
	left.generation = numbers[1];
	left.state = (enum worker_state)numbers[2];
	left.pid = (pid_t)numbers[3];
	left.why = (enum worker_why)numbers[4];
	left.born = numbers[5];
	left.since = numbers[6];
	left.ready_at = numbers[7];
	left.calls_done = numbers[8];
	left.due = (enum worker_why)numbers[9];
	left.max_calls = numbers[10];
	left.old_at = numbers[11];
	left.abandoned = (enum slot_reason)numbers[12];
	left.timer_at = numbers[13];
	left.kept_life = numbers[14];
	left.ping_seq = numbers[15];
	left.call = numbers[16];
	left.direct = numbers[17];
	left.started = numbers[18];
	left.n_targets = (unsigned)numbers[19];
	left.session_close = numbers[20];
	u->bad |= !worker_take_over(p, &left);
}

static void take_session(struct pool *p, struct unpacker *u)
{
	uint64_t id = unpack_uint(u);
	struct span record = unpack_any(u);
	uint64_t used = unpack_uint(u), lingering = unpack_uint(u);
	struct kept_session kept;

	if (u->bad || !keep_read_session(record, &kept)) {
		u->bad = true;
		return;
	}
	session_take_up(p, id, &kept, find_worker(p, kept.worker));
	session_take_over(find_session(p, id), used, find_worker(p, lingering));
}

static void take_lease(struct pool *p, struct unpacker *u, const struct handover_callers *h)
{
	struct lease_left left = { .id = unpack_uint(u) };
	struct caller *c = h->find(h, unpack_uint(u));
	struct worker *w = find_worker(p, unpack_uint(u));
	struct session *s = find_session(p, unpack_uint(u));

	left.begun = unpack_uint(u);
	left.expires = unpack_uint(u);
	left.socket = unpack_fd(u);
	u->bad |= !c || !w;
	if (!u->bad)
		lease_take_over(w, c, s, &left);
}

static void take_request(struct pool *p, struct unpacker *u, const struct handover_callers *h)
{
	struct request_left left = { .call = unpack_uint(u) };
	struct caller *c = h->find(h, unpack_uint(u));

	left.id = unpack_uint(u);
	left.worker = find_worker(p, unpack_uint(u));
	left.session = find_session(p, unpack_uint(u));
	left.lease = registry_find_lease(p->registry, unpack_uint(u));
	left.target = unpack_text(u);
	left.traceparent = unpack_text(u);
	left.want_meta = unpack_bool(u);
	left.retried = unpack_bool(u);
	left.attempts = (unsigned)unpack_uint(u);
	left.received = unpack_uint(u);
	left.started = unpack_uint(u);
	left.deadline = unpack_uint(u);
	left.ahead = (unsigned)unpack_uint(u);
	u->bad |= !c || !left.worker;
	if (!u->bad)
		request_take_over(p, c, &left);
}

void handover_take_pool(struct pool *p, struct unpacker *u, const struct handover_callers *h)
{
	struct span idempotent;

	p->settled = true;
	p->generation = unpack_uint(u);
	p->paused = unpack_bool(u);
	idempotent = unpack_text(u);
	if (idempotent.len) {
		p->idempotent = (uint8_t *)mem_strndup(idempotent.p, idempotent.len);
		p->idempotent_len = idempotent.len;
	}
	for (uint32_t n = unpack_array(u); n && !u->bad; n--)
		take_worker(p, u);
	for (uint32_t n = unpack_array(u); n && !u->bad; n--)
		take_session(p, u);
	for (uint32_t n = unpack_array(u); n && !u->bad; n--)
		take_lease(p, u, h);
	for (uint32_t n = unpack_array(u); n && !u->bad; n--)
		take_request(p, u, h);
	supply_take_settings(p); /* they may be others; and its workers are looked at anew */
}

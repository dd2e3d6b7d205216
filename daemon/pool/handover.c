#include "daemon/pool/handover.h"

#include <fcntl.h>
#include <utlist.h>

#include "daemon/base/cleanup.h"
#include "daemon/base/mem.h"
#include "daemon/pool/affinity.h"
#include "daemon/pool/caller.h"
#include "daemon/pool/event.h"
#include "daemon/pool/lease.h"
#include "daemon/pool/operate.h"
#include "daemon/pool/pool.h"
#include "daemon/pool/session.h"
#include "proto/pack.h"

/* --- when --- */

static const char *session_obstacle(const struct pool *p)
{
	return p->n_sessions != HASH_COUNT(p->sessions) || p->self.n_requests ? "sessions end, and their hooks run" : NULL;
}

static bool worker_is_taken_up(const struct worker *w)
{
	return w->adopted && (w->state == WORKER_STARTING || w->state == WORKER_INITIALIZING);
}

static const char *worker_obstacle(const struct worker *w)
{
	if (worker_is_taken_up(w))
		return "workers are being taken up after a crash of the daemon";
	return w->proc.dumping ? "the stack of a worker is being taken" : NULL;
}

const char *handover_obstacle(const struct pool *p)
{
	const char *why = p->state == POOL_RUNNING ? session_obstacle(p) : "the daemon is shutting down";
	const struct worker *w;

	if (!why && p->reload.state != RELOAD_NONE)
		why = "a reload is on";
	for (w = p->workers; w && !why; w = w->next)
		why = worker_obstacle(w);
	return why;
}

/* --- packing --- */

void handover_end_output(const struct pool *p)
{
	struct worker *w;

	DL_FOREACH (p->workers, w) {
		tail_finish(w->proc.tail, 0);
		worker_log_output(w);
	}
}

void handover_pack_fd(msgpack_packer *pk, int fd)
{
	if (fd >= 0)
		(void)fcntl(fd, F_SETFD, 0); /* cannot fail for an open fd */
	msgpack_pack_uint64(pk, (uint64_t)fd + 1); /* 0 for -1 */
}

static void pack_span(msgpack_packer *pk, struct span s)
{
	pack_text_n(pk, (const char *)s.p, s.len);
}

void handover_pack_stream(msgpack_packer *pk, const struct stream *s)
{
	struct outbox_piece piece;

	msgpack_pack_uint64(pk, s->reader.mode);
	pack_span(pk, stream_undelivered(s));
	msgpack_pack_array(pk, s->out.count);
	for (size_t i = 0; (piece = outbox_look(&s->out, i)).bytes.len; i++) {
		pack_span(pk, piece.bytes);
		handover_pack_fd(pk, piece.fd);
		pack_span(pk, piece.instead);
	}
}

static void pack_forgets(msgpack_packer *pk, const struct worker *w)
{
	msgpack_pack_array(pk, w->n_forgets);
	for (unsigned i = 0; i < w->n_forgets; i++) {
		msgpack_pack_uint64(pk, w->forgets[i].session);
		msgpack_pack_uint64(pk, w->forgets[i].sends);
	}
}

static void pack_worker(msgpack_packer *pk, const struct worker *w)
{
	struct worker_left left;

	worker_leave(w, &left);
#define X(field) msgpack_pack_uint64(pk, (uint64_t)left.field);
	WORKER_NUMBERS(X)
#undef X
	handover_pack_fd(pk, left.calls_fd);
	for (size_t i = 0; i < PROCESS_FDS; i++)
		handover_pack_fd(pk, left.fds[i]);
	pack_span(pk, left.target);
	pack_span(pk, left.traceparent);
	pack_span(pk, left.python);
	pack_span(pk, left.codec);
	handover_pack_stream(pk, &w->calls);
	pack_forgets(pk, w);
}

static void pack_workers(msgpack_packer *pk, const struct pool *p)
{
	const struct worker *w;
	unsigned n = 0;

	DL_FOREACH (p->workers, w)
		n += worker_can_be_left(w);
	msgpack_pack_array(pk, n);
	DL_FOREACH (p->workers, w) {
		if (worker_can_be_left(w))
			pack_worker(pk, w);
	}
}

/* The others end with this program. */
static void pack_left_behind(msgpack_packer *pk, const struct pool *p)
{
	const struct worker *w;
	unsigned n = 0;

	DL_FOREACH (p->workers, w)
		n += !worker_can_be_left(w);
	DL_FOREACH (p->templates, w)
		n++;
	msgpack_pack_uint64(pk, n);
}

static void pack_sessions(msgpack_packer *pk, const struct pool *p)
{
	const struct session *s, *next;

	msgpack_pack_array(pk, HASH_COUNT(p->sessions));
	HASH_ITER(hh, p->sessions, s, next) {
		msgpack_pack_uint64(pk, s->id);
		keep_pack_session(s, pk);
		msgpack_pack_uint64(pk, s->used);
		msgpack_pack_uint64(pk, s->generation);
		msgpack_pack_uint64(pk, s->worker ? s->worker->id : 0);
		msgpack_pack_uint64(pk, s->lingering ? s->lingering->id : 0);
		pack_bool(pk, s->worker && s->holder == s->worker->id);
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

/* Its body goes along as far as it is kept, in case that it is to be run again. */
static void pack_running(msgpack_packer *pk, const struct request *r)
{
	const struct request_left left = {
		.call = r->call, .id = r->key.id, .received = r->received, .started = r->started, .deadline = r->deadline,
		.queue_deadline = r->queue_deadline, .attempts = r->attempts, .ahead = r->ahead, .want_meta = r->want_meta,
		.idempotent = r->idempotent, .retried = r->retried, .body_bytes = r->body_bytes,
	};

#define X(field) msgpack_pack_uint64(pk, (uint64_t)left.field);
	REQUEST_NUMBERS(X)
#undef X
	msgpack_pack_uint64(pk, r->caller->id);
	msgpack_pack_uint64(pk, r->worker->id);
	msgpack_pack_uint64(pk, r->session ? r->session->id : 0);
	msgpack_pack_uint64(pk, r->lease ? r->lease->id : 0);
	pack_text(pk, r->target);
	pack_text(pk, r->traceparent ? r->traceparent : "");
	pack_span(pk, r->body.span);
	msgpack_pack_uint64(pk, r->args.len ? (uint64_t)(r->args.p - r->body.span.p) : 0);
	msgpack_pack_uint64(pk, r->args.len);
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

/* An operator has given it another one than the configuration. */
static void pack_size(msgpack_packer *pk, const struct pool *p)
{
	msgpack_pack_uint64(pk, p->given->min_workers);
	msgpack_pack_uint64(pk, p->given->max_workers);
	msgpack_pack_uint64(pk, p->settings->min_workers);
	msgpack_pack_uint64(pk, p->settings->max_workers);
}

void handover_pack_pool(const struct pool *p, msgpack_packer *pk)
{
	pack_text(pk, p->settings->name);
	msgpack_pack_uint64(pk, p->generation);
	pack_bool(pk, p->paused);
	pack_size(pk, p);
	pack_text_n(pk, (const char *)p->idempotent, p->idempotent_len);
	pack_left_behind(pk, p);
	pack_workers(pk, p);
	pack_sessions(pk, p);
	pack_leases(pk, p);
	pack_requests(pk, p);
}

/* --- taking --- */

static struct session *find_session(const struct pool *p, uint64_t id)
{
	struct session *s, *next;

	if (!id)
		return NULL;
	HASH_ITER(hh, p->sessions, s, next) {
		if (s->id == id)
			return s;
	}
	return NULL;
}

static bool take_piece(struct unpacker *u, struct stream *s)
{
	struct outbox_piece piece = { .bytes = unpack_text(u) };
	_cleanup_close_ int fd = unpack_fd(u);

	piece.instead = unpack_text(u);
	if (u->bad || !stream_is_open(s))
		return true;
	piece.fd = TAKE_FD(fd);
	return stream_put_back(s, &piece);
}

bool handover_take_stream(struct unpacker *u, struct stream *s)
{
	enum frame_mode mode = (enum frame_mode)unpack_uint(u);
	struct span in = unpack_text(u);
	bool done = u->bad || !stream_is_open(s) || stream_go_on(s, mode, in);

	for (uint32_t n = unpack_array(u); n && !u->bad; n--)
		done = take_piece(u, s) && done;
	return done;
}

static void take_forgets(struct worker *w, struct unpacker *u)
{
	for (uint32_t n = unpack_array(u); n && !u->bad; n--) {
		struct forget f = { .session = unpack_uint(u) };

		f.sends = unpack_uint(u);
		affinity_forget_later(w, &f);
	}
}

static void take_worker(struct pool *p, struct unpacker *u)
{
	struct worker_left left = { 0 };
	struct worker *w;

#define X(field) left.field = (__typeof__(left.field))unpack_uint(u);
	WORKER_NUMBERS(X)
#undef X
	left.calls_fd = unpack_fd(u);
	for (size_t i = 0; i < PROCESS_FDS; i++)
		left.fds[i] = unpack_fd(u);
	left.target = unpack_text(u);
	left.traceparent = unpack_text(u);
	left.python = unpack_text(u);
	left.codec = unpack_text(u);
	u->bad |= left.state < WORKER_IDLE || left.state > WORKER_STOPPING || left.why >= WORKER_N_WHYS || left.due >= WORKER_N_WHYS;
	if (u->bad)
		return;
	w = worker_take_over(p, &left);
	u->bad |= !w;
	if (u->bad)
		return;
	if (!handover_take_stream(u, &w->calls))
		worker_stop(w, WORKER_WHY_NO_MEMORY);
	take_forgets(w, u);
}

static void take_session(struct pool *p, struct unpacker *u)
{
	uint64_t id = unpack_uint(u);
	struct span record = unpack_any(u);
	struct session_left left = { .used = unpack_uint(u) };
	struct kept_session kept;

	left.generation = unpack_uint(u);
	left.worker = worker_find(p->workers, unpack_uint(u));
	left.lingering = worker_find(p->workers, unpack_uint(u));
	left.holds = unpack_bool(u);
	if (u->bad || !keep_read_session(record, &kept)) {
		u->bad = true;
		return;
	}
	left.sends = kept.sends;
	session_take_over(session_take_up(p, id, &kept, left.worker), &left);
}

static void take_lease(struct pool *p, struct unpacker *u, const struct handover_callers *h)
{
	struct lease_left left = { .id = unpack_uint(u) };
	struct caller *c = h->find(h, unpack_uint(u));
	struct worker *w = worker_find(p->workers, unpack_uint(u));
	struct session *s = find_session(p, unpack_uint(u));

	left.begun = unpack_uint(u);
	left.expires = unpack_uint(u);
	left.socket = unpack_fd(u);
	u->bad |= !c || !w;
	if (!u->bad)
		lease_take_over(w, c, s, &left);
}

/* body may be empty. */
static void take_body(struct pool *p, struct unpacker *u, struct request_left *left)
{
	struct span body = unpack_text(u);
	uint64_t at = unpack_uint(u), len = unpack_uint(u);

	u->bad |= at > body.len || len > body.len - at;
	if (u->bad || !body.len)
		return;
	left->body.blob = blob_copy(p->blobs, body);
	if (!left->body.blob)
		return; /* no memory: it cannot be run again */
	left->body.span = (struct span){ .p = left->body.blob->data, .len = body.len };
	if (len)
		left->args = (struct span){ .p = left->body.span.p + at, .len = (size_t)len };
}

static void take_request(struct pool *p, struct unpacker *u, const struct handover_callers *h)
{
	struct request_left left = { 0 };
	struct caller *c;

#define X(field) left.field = (__typeof__(left.field))unpack_uint(u);
	REQUEST_NUMBERS(X)
#undef X
	c = h->find(h, unpack_uint(u));
	left.worker = worker_find(p->workers, unpack_uint(u));
	left.session = find_session(p, unpack_uint(u));
	left.lease = registry_find_lease(p->registry, unpack_uint(u));
	left.target = unpack_text(u);
	left.traceparent = unpack_text(u);
	take_body(p, u, &left);
	u->bad |= !c || !left.worker;
	if (!u->bad)
		request_take_over(p, c, &left);
	slice_clear(&left.body);
}

/* The configuration wins when it says something else than before. */
static void take_size(struct pool *p, struct unpacker *u)
{
	unsigned given_min = (unsigned)unpack_uint(u), given_max = (unsigned)unpack_uint(u);
	unsigned min = (unsigned)unpack_uint(u), max = (unsigned)unpack_uint(u);

	if (!u->bad && given_min == p->given->min_workers && given_max == p->given->max_workers &&
	    (min != given_min || max != given_max))
		operate_set_size(p, min, max);
}

/* What they drain for may be over by now, or may not have been taken. */
static void call_draining(struct pool *p)
{
	struct worker *w;

	DL_FOREACH (p->workers, w) {
		if (w->state == WORKER_DRAINING)
			affinity_call(w);
	}
}

void handover_take_pool(struct pool *p, struct unpacker *u, const struct handover_callers *h)
{
	struct span idempotent;

	p->settled = true;
	p->generation = unpack_uint(u);
	p->paused = unpack_bool(u);
	take_size(p, u);
	idempotent = unpack_text(u);
	if (idempotent.len) {
		p->idempotent = (uint8_t *)mem_strndup(idempotent.p, idempotent.len);
		p->idempotent_len = idempotent.len;
	}
	event_workers_missed(p, unpack_uint(u));
	for (uint32_t n = unpack_array(u); n && !u->bad; n--)
		take_worker(p, u);
	for (uint32_t n = unpack_array(u); n && !u->bad; n--)
		take_session(p, u);
	for (uint32_t n = unpack_array(u); n && !u->bad; n--)
		take_lease(p, u, h);
	for (uint32_t n = unpack_array(u); n && !u->bad; n--)
		take_request(p, u, h);
	call_draining(p);
	supply_shrink(p); /* the settings may be others; and its workers are looked at anew */
}

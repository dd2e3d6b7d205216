/* The methods that only look: status, pools, workers, clients, queue, logs. Keys may be added, never renamed. */
#include <stdio.h>
#include <utlist.h>

#include "daemon/base/cleanup.h"
#include "daemon/base/log.h"
#include "daemon/base/packed.h"
#include "daemon/front/client.h"
#include "daemon/front/method.h"
#include "daemon/front/reply.h"
#include "daemon/front/router.h"
#include "daemon/front/server.h"
#include "daemon/front/view.h"
#include "daemon/pool/failure.h"
#include "daemon/pool/lease.h"
#include "daemon/pool/postmortem.h"
#include "daemon/pool/session.h"
#include "daemon/pool/text.h"
#include "proto/pack.h"

#define LOG_LINES 100
#define LOG_LINES_MAX 5000

/* False: there is no pool of the name asked for, and q is answered. */
static bool pool_exists(const struct query *q)
{
	return !params_has(&q->params, PARAM_POOL) || query_find_pool(q);
}

/* The same of a worker, which must be of the pool. */
static bool worker_exists(const struct query *q)
{
	unsigned long long id = q->params.worker;
	const struct worker *w = client_find_worker(q->client, id, q->needs);

	if (!params_has(&q->params, PARAM_WORKER))
		return true;
	if (w)
		return query_is_of_pool(q, w);
	query_fail(q, ERROR_BAD_REQUEST, id > q->client->server->registry->last_worker ?
		   "there has been no worker %llu yet" : "worker %llu is dead and not known any more", id);
	return false;
}

static void pack_calls(msgpack_packer *pk, struct server *s)
{
	struct stats sum = { 0 };
	unsigned running = 0, all = 0;

	for (unsigned i = 0; i < s->n_pools; i++) {
		const struct stats *st = &s->pools[i]->stats;

		all += s->pools[i]->n_requests;
		running += s->pools[i]->n_running;
		sum.accepted += st->accepted;
		sum.completed += st->completed;
		sum.failed += st->failed;
		sum.cancelled += st->cancelled;
		sum.abandoned += st->abandoned;
	}
	pack_text(pk, "calls");
	msgpack_pack_map(pk, 7);
	pack_kv_uint(pk, "accepted", sum.accepted);
	pack_kv_uint(pk, "completed", sum.completed);
	pack_kv_uint(pk, "failed", sum.failed);
	pack_kv_uint(pk, "cancelled", sum.cancelled);
	pack_kv_uint(pk, "abandoned", sum.abandoned);
	pack_kv_uint(pk, "queued", all - running);
	pack_kv_uint(pk, "running", running);
}

static void pack_pool_short(msgpack_packer *pk, const struct pool *p)
{
	msgpack_pack_map(pk, 9);
	pack_kv_text(pk, "name", p->settings->name);
	pack_kv_text(pk, "state", pool_state_name(p));
	pack_kv_uint(pk, "workers", pool_living(p));
	pack_kv_uint(pk, "idle", p->in_state[WORKER_IDLE]);
	pack_kv_uint(pk, "busy", p->in_state[WORKER_BUSY]);
	pack_kv_uint(pk, "starting", p->in_state[WORKER_STARTING] + p->in_state[WORKER_INITIALIZING]);
	pack_kv_uint(pk, "queued", pool_waiting(p));
	pack_kv_text(pk, "recorder", recorder_state_name(p));
	view_pack_failure(pk, p);
}

/* Of all connections since the start. */
static void pack_bytes(msgpack_packer *pk, const struct server *s)
{
	uint64_t in = s->bytes_in, out = s->bytes_out;
	const struct client *c;

	DL_FOREACH(s->clients, c) {
		in += c->stream.bytes_in;
		out += c->stream.bytes_out;
	}
	pack_kv_uint(pk, "bytes_in", in);
	pack_kv_uint(pk, "bytes_out", out);
}

void method_status(struct query *q)
{
	struct server *s = q->client->server;
	struct view v;

	view_begin(&v, q);
	msgpack_pack_map(&v.pk, 12);
	pack_kv_text(&v.pk, "version", PYPOOL_VERSION);
	pack_kv_uint(&v.pk, "pid", (uint64_t)getpid());
	pack_kv_uint(&v.pk, "started_ms", s->started_wall);
	pack_kv_uint(&v.pk, "uptime_ms", (v.now - s->started) / NS_PER_MS);
	pack_kv_text(&v.pk, "state", s->ops->state(s));
	pack_kv_uint(&v.pk, "clients", s->n_clients);
	pack_bytes(&v.pk, s);
	pack_calls(&v.pk, s);
	pack_kv_uint(&v.pk, "worst_stall_us", loop_worst_stall(s->loop) / 1000);
	pack_kv_uint(&v.pk, "log_dropped", log_dropped() + log_limited());
	pack_text(&v.pk, "pools");
	msgpack_pack_array(&v.pk, s->n_pools);
	for (unsigned i = 0; i < s->n_pools; i++)
		pack_pool_short(&v.pk, s->pools[i]);
	view_send(&v);
}

static unsigned count_leased(const struct pool *p)
{
	const struct worker *w;
	unsigned n = 0;

	DL_FOREACH(p->workers, w)
		n += w->lease != NULL;
	return n;
}

/* The worker that was started last of those that serve; NULL. */
static const struct worker *find_newest(const struct pool *p)
{
	const struct worker *w, *newest = NULL;

	DL_FOREACH(p->workers, w) {
		if (worker_is_serving(w))
			newest = w;
	}
	return newest;
}

/* Counters and timings; with deaths the whole list of reasons, so that monitoring sees each from its first time on. */
#define STATS_KEYS 26
static void pack_stats(msgpack_packer *pk, const struct pool *p)
{
	const struct stats *st = &p->stats;

	pack_kv_uint(pk, "accepted", st->accepted);
	pack_kv_uint(pk, "completed", st->completed);
	pack_kv_uint(pk, "failed", st->failed);
	pack_kv_uint(pk, "cancelled", st->cancelled);
	pack_kv_uint(pk, "abandoned", st->abandoned);
	pack_kv_uint(pk, "leases", st->leases);
	pack_kv_uint(pk, "leased", count_leased(p));
	pack_kv_uint(pk, "direct_calls", st->direct_calls);
	pack_kv_uint(pk, "direct_errors", st->direct_errors);
	pack_kv_uint(pk, "sessions", HASH_COUNT(p->sessions));
	pack_kv_uint(pk, "sessions_opened", st->sessions);
	pack_kv_uint(pk, "sessions_lost", st->sessions_lost);
	pack_kv_uint(pk, "sessions_expired", st->sessions_expired);
	pack_kv_uint(pk, "spawned", st->spawned);
	pack_kv_uint(pk, "adopted", st->adopted);
	pack_kv_uint(pk, "died", st->died);
	view_pack_deaths(pk, st);
	pack_kv_uint(pk, "wait_p50_us", histogram_quantile(&st->wait, 500));
	pack_kv_uint(pk, "wait_p99_us", histogram_quantile(&st->wait, 990));
	pack_kv_uint(pk, "run_p50_us", histogram_quantile(&st->run, 500));
	pack_kv_uint(pk, "run_p99_us", histogram_quantile(&st->run, 990));
	view_pack_histogram(pk, "wait", &st->wait);
	view_pack_histogram(pk, "run", &st->run);
	pack_kv_uint(pk, "reloads", p->reload.n_done);
	pack_kv_uint(pk, "reloads_failed", p->reload.n_failed);
	view_pack_phases(pk, "init", find_newest(p));
}

static void pack_pool(msgpack_packer *pk, const struct pool *p)
{
	const struct pool_settings *c = p->settings;

	msgpack_pack_map(pk, 23 + STATS_KEYS);
	pack_kv_text(pk, "name", c->name);
	pack_kv_text(pk, "state", pool_state_name(p));
	pack_kv_text(pk, "app", c->app);
	pack_kv_text(pk, "python", c->python);
	pack_kv_text(pk, "start", c->start_fork ? "fork" : "exec");
	view_pack_template(pk, p);
	pack_kv_uint(pk, "generation", p->generation);
	pack_kv_uint(pk, "min_workers", c->min_workers);
	pack_kv_uint(pk, "max_workers", c->max_workers);
	for (unsigned s = WORKER_STARTING; s <= WORKER_STOPPING; s++)
		pack_kv_uint(pk, worker_state_name(s), p->in_state[s]);
	pack_kv_uint(pk, "queued", pool_waiting(p));
	pack_kv_uint(pk, "running", p->n_running);
	pack_stats(pk, p);
	pack_kv_uint(pk, "max_queue", c->max_queue);
	pack_kv_uint(pk, "due", p->supply.n_due);
	view_pack_breaker(pk, p);
	view_pack_failure(pk, p);
	pack_kv_text(pk, "reload", reload_state_name(p->reload.state));
	pack_kv_text(pk, "reload_failure", p->reload.failure ? p->reload.failure->message : NULL);
}

void method_pools(struct query *q)
{
	struct server *s = q->client->server;
	unsigned n = 0;
	struct view v;

	if (!pool_exists(q))
		return;
	for (unsigned i = 0; i < s->n_pools; i++)
		n += query_concerns(q, s->pools[i]);
	view_begin(&v, q);
	msgpack_pack_array(&v.pk, n);
	for (unsigned i = 0; i < s->n_pools; i++) {
		if (query_concerns(q, s->pools[i]))
			pack_pool(&v.pk, s->pools[i]);
	}
	view_send(&v);
}

static void pack_worker(struct view *v, const struct worker *w)
{
	char how[POSTMORTEM_TEXT];
	bool dead = w->state == WORKER_DEAD;

	msgpack_pack_map(&v->pk, 17);
	pack_kv_uint(&v->pk, "worker", w->id);
	pack_kv_text(&v->pk, "pool", w->pool->settings->name);
	pack_kv_uint(&v->pk, "pid", (uint64_t)w->last_pid);
	pack_kv_text(&v->pk, "state", worker_state_name(w->state));
	pack_kv_uint(&v->pk, "since_ms", (v->now - w->since) / NS_PER_MS);
	pack_kv_uint(&v->pk, "generation", w->generation);
	pack_kv_uint(&v->pk, "calls", w->calls_done);
	pack_kv_text(&v->pk, "why", w->why == WORKER_WHY_NONE ? NULL : worker_why_name(w->why));
	view_pack_slot(v, w);
	pack_kv_uint(&v->pk, "lease", w->lease ? w->lease->id : 0);
	pack_kv_text(&v->pk, "python", w->hs.python);
	pack_kv_text(&v->pk, "codec", w->hs.codec);
	pack_kv_uint(&v->pk, "misses", w->misses);
	pack_kv_bool(&v->pk, "adopted", w->proc.foreign);
	pack_kv_text(&v->pk, "due", w->due == WORKER_WHY_NONE ? NULL : worker_why_name(w->due));
	failure_pack_phases(&v->pk, "init", w);
	pack_kv_text(&v->pk, "exit", dead && w->last_pid ? postmortem_exit_text(w, how) : NULL);
}

void method_workers(struct query *q)
{
	struct server *s = q->client->server;
	unsigned n = 0;
	struct worker *w;
	struct view v;

	if (!pool_exists(q))
		return;
	for (unsigned i = 0; i < s->n_pools; i++) {
		if (query_concerns(q, s->pools[i]))
			n += pool_living(s->pools[i]) + s->pools[i]->n_dead;
	}
	view_begin(&v, q);
	msgpack_pack_array(&v.pk, n);
	for (unsigned i = 0; i < s->n_pools; i++) {
		if (!query_concerns(q, s->pools[i]))
			continue;
		DL_FOREACH(s->pools[i]->dead, w)
			pack_worker(&v, w);
		DL_FOREACH(s->pools[i]->workers, w)
			pack_worker(&v, w);
	}
	view_send(&v);
}

static const char *framing_name(enum frame_mode m)
{
	return m == FRAME_BARE ? "bare" : m == FRAME_PREFIXED ? "length-prefixed" : "unknown";
}

void method_clients(struct query *q)
{
	struct server *s = q->client->server;
	struct client *c;
	struct view v;

	view_begin(&v, q);
	msgpack_pack_array(&v.pk, s->n_clients);
	DL_FOREACH(s->clients, c) {
		msgpack_pack_map(&v.pk, 12);
		pack_kv_uint(&v.pk, "client", c->caller.id);
		pack_kv_uint(&v.pk, "uid", c->peer.uid);
		pack_kv_uint(&v.pk, "pid", (uint64_t)c->peer.pid);
		pack_kv_text(&v.pk, "name", c->name);
		pack_kv_text(&v.pk, "role", role_name(c->grant.highest));
		pack_kv_text(&v.pk, "framing", framing_name(c->stream.reader.mode));
		pack_kv_uint(&v.pk, "calls", c->caller.n_requests);
		pack_kv_uint(&v.pk, "leases", c->caller.n_leases);
		pack_kv_uint(&v.pk, "bytes_in", c->stream.bytes_in);
		pack_kv_uint(&v.pk, "bytes_out", c->stream.bytes_out);
		pack_kv_uint(&v.pk, "connected_ms", (v.now - c->since) / NS_PER_MS);
		pack_kv_bool(&v.pk, "subscribed", c->subscription != NULL);
	}
	view_send(&v);
}

static void pack_request(struct view *v, const struct request *r)
{
	uint64_t from = r->state == REQUEST_RUNNING ? r->started : v->now;

	msgpack_pack_map(&v->pk, 9);
	pack_kv_uint(&v->pk, "call", r->call);
	pack_kv_text(&v->pk, "pool", r->pool->settings->name);
	pack_kv_uint(&v->pk, "client", r->key.caller);
	pack_kv_uint(&v->pk, "id", r->key.id);
	pack_kv_text(&v->pk, "target", r->target);
	pack_kv_text(&v->pk, "state", request_state_name(r->state));
	pack_kv_uint(&v->pk, "waited_ms", (from - r->received) / NS_PER_MS);
	view_pack_left(v, "deadline_ms", r->deadline);
	pack_kv_uint(&v->pk, "worker", r->worker ? r->worker->id : 0);
}

void method_queue(struct query *q)
{
	struct server *s = q->client->server;
	unsigned n = 0;
	struct request *r;
	struct view v;

	if (!pool_exists(q))
		return;
	for (unsigned i = 0; i < s->n_pools; i++)
		n += query_concerns(q, s->pools[i]) ? s->pools[i]->n_requests : 0;
	view_begin(&v, q);
	msgpack_pack_array(&v.pk, n);
	for (unsigned i = 0; i < s->n_pools; i++) {
		if (!query_concerns(q, s->pools[i]))
			continue;
		DL_FOREACH2(s->pools[i]->requests, r, pool_next)
		pack_request(&v, r);
	}
	view_send(&v);
}

static void pack_line(msgpack_packer *pk, const struct worker *w, const struct tail_line *line)
{
	msgpack_pack_map(pk, 7);
	pack_kv_text(pk, "pool", w->pool->settings->name);
	pack_kv_uint(pk, "worker", w->id);
	pack_kv_uint(pk, "number", line->number);
	pack_kv_bool(pk, "partial", line->number >= tail_mark(w->proc.tail));
	pack_kv_uint(pk, "time_ms", line->wall_ms);
	pack_kv_text(pk, "source", line->source == TAIL_STDERR ? "stderr" : "stdout");
	pack_text(pk, "text");
	text_pack_safe(pk, line->text, TAIL_LINE_MAX);
}

/* The last lines of one worker; returns how many were packed. */
static uint32_t pack_tail(msgpack_packer *pk, const struct worker *w, uint64_t lines)
{
	uint64_t end = tail_mark(w->proc.tail), from = end > lines ? end - lines : 0;
	struct tail_line line;
	uint32_t n = 0;

	while (tail_next(w->proc.tail, from, &line)) {
		pack_line(pk, w, &line);
		from = line.number + 1;
		n++;
	}
	return n;
}

static uint32_t pack_tails(struct view *v, const struct pool *p, uint64_t lines)
{
	const struct params *a = &v->q->params;
	const struct worker *w;
	uint32_t n = 0;

	DL_FOREACH(p->dead, w)
		n += !params_has(a, PARAM_WORKER) || a->worker == w->id ? pack_tail(&v->pk, w, lines) : 0;
	DL_FOREACH(p->templates, w)
		n += !params_has(a, PARAM_WORKER) || a->worker == w->id ? pack_tail(&v->pk, w, lines) : 0;
	DL_FOREACH(p->workers, w)
		n += !params_has(a, PARAM_WORKER) || a->worker == w->id ? pack_tail(&v->pk, w, lines) : 0;
	return n;
}

void method_logs(struct query *q)
{
	struct server *s = q->client->server;
	uint64_t lines = params_has(&q->params, PARAM_LINES) ? q->params.lines : LOG_LINES;
	_cleanup_(msgpack_sbuffer_destroy) msgpack_sbuffer all = { 0 };
	msgpack_packer pk;
	uint32_t n = 0;
	struct view v;

	if (!pool_exists(q) || !worker_exists(q))
		return;
	if (lines > LOG_LINES_MAX)
		lines = LOG_LINES_MAX;
	view_begin(&v, q);
	for (unsigned i = 0; i < s->n_pools; i++) {
		if (query_concerns(q, s->pools[i]))
			n += pack_tails(&v, s->pools[i], lines);
	}
	packed_begin(&all, &pk); /* the array's length is known only now */
	msgpack_pack_array(&pk, n);
	pack_raw(&pk, (struct span){ .p = (const uint8_t *)v.buf.data, .len = v.buf.size });
	reply_packed(q->client, q->id, &all);
	msgpack_sbuffer_destroy(&v.buf);
}

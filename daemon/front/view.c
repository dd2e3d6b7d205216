#include "daemon/front/view.h"

#include "daemon/base/packed.h"
#include "daemon/front/client.h"
#include "daemon/front/reply.h"
#include "daemon/front/router.h"
#include "daemon/front/server.h"
#include "daemon/pool/failure.h"
#include "daemon/pool/pool.h"
#include "daemon/pool/template.h"
#include "daemon/pool/request.h"
#include "proto/pack.h"

void view_begin(struct view *v, const struct query *q)
{
	v->q = q;
	v->now = loop_now(q->client->server->loop);
	packed_begin(&v->buf, &v->pk);
}

void view_send(struct view *v)
{
	reply_packed(v->q->client, v->q->id, &v->buf);
	msgpack_sbuffer_destroy(&v->buf);
}

void view_pack_left(struct view *v, const char *key, uint64_t at)
{
	pack_text(&v->pk, key);
	if (at == LOOP_NEVER)
		msgpack_pack_nil(&v->pk);
	else
		msgpack_pack_uint64(&v->pk, at > v->now ? (at - v->now) / NS_PER_MS : 0);
}

void view_pack_slot(struct view *v, const struct worker *w)
{
	const struct request *r = w->slot.request;

	pack_text(&v->pk, "call");
	if (slot_is_free(w)) {
		msgpack_pack_nil(&v->pk);
		return;
	}
	msgpack_pack_map(&v->pk, 6);
	pack_kv_uint(&v->pk, "call", w->slot.call);
	pack_kv_text(&v->pk, "target", w->slot.target);
	pack_kv_uint(&v->pk, "ms", (v->now - w->slot.started) / NS_PER_MS);
	pack_kv_bool(&v->pk, "answered", slot_is_abandoned(w));
	view_pack_left(v, "deadline_ms", r ? r->deadline : LOOP_NEVER);
	pack_kv_bool(&v->pk, "stack_asked", w->glance.on);
}

void view_pack_failure(msgpack_packer *pk, const struct pool *p)
{
	const struct supply *s = &p->supply;

	pack_text(pk, "last_failure");
	if (!s->failure) {
		msgpack_pack_nil(pk);
		return;
	}
	msgpack_pack_map(pk, 5);
	pack_kv_text(pk, "message", s->failure->message);
	pack_kv_text(pk, "phase", s->failure->phase);
	pack_kv_uint(pk, "times", s->failures_in_row);
	pack_kv_uint(pk, "since_ms", s->first_failure_wall);
	pack_text(pk, "cause");
	pack_raw(pk, (struct span){ .p = (const uint8_t *)s->failure->cause.data, .len = s->failure->cause.size });
}

void view_pack_histogram(msgpack_packer *pk, const char *key, const struct histogram *h)
{
	uint64_t n = 0;

	pack_text(pk, key);
	msgpack_pack_map(pk, 3);
	pack_kv_uint(pk, "count", h->count);
	pack_kv_uint(pk, "sum_us", h->sum_us);
	pack_text(pk, "buckets");
	msgpack_pack_array(pk, HISTOGRAM_BOUNDS);
	for (unsigned i = 0; i < HISTOGRAM_BOUNDS; i++) {
		n += h->within[i];
		msgpack_pack_array(pk, 2);
		msgpack_pack_uint64(pk, histogram_bound(i));
		msgpack_pack_uint64(pk, n);
	}
}

void view_pack_phases(msgpack_packer *pk, const char *key, const struct worker *w)
{
	if (w)
		failure_pack_phases(pk, key, w);
	else
		pack_kv_text(pk, key, NULL);
}

void view_pack_deaths(msgpack_packer *pk, const struct stats *st)
{
	pack_text(pk, "deaths");
	msgpack_pack_map(pk, WORKER_N_WHYS - 1);
	for (unsigned y = WORKER_WHY_NONE + 1; y < WORKER_N_WHYS; y++)
		pack_kv_uint(pk, worker_why_name(y), st->deaths[y]);
}

/* Why it does not fork, or nil. */
static const char *template_reason(const struct template *t)
{
	return t->state == TEMPLATE_UNFIT ? t->unfit : t->lost;
}

void view_pack_template(msgpack_packer *pk, const struct pool *p)
{
	const struct template *t = p->template;
	const struct worker *w = t ? t->worker : NULL;

	pack_text(pk, "template");
	if (!t) {
		msgpack_pack_nil(pk);
		return;
	}
	msgpack_pack_map(pk, 9);
	pack_kv_uint(pk, "worker", w ? w->id : 0);
	pack_kv_text(pk, "state", template_state_name(t));
	pack_kv_text(pk, "reason", template_reason(t));
	pack_kv_uint(pk, "pid", w ? (uint64_t)w->last_pid : 0);
	pack_kv_text(pk, "fork", w && w->hs.fork[0] ? w->hs.fork : NULL);
	pack_kv_text(pk, "files", w ? w->hs.fds : NULL);
	pack_kv_uint(pk, "forks", t->n_forks);
	pack_kv_uint(pk, "lost", t->n_lost);
	view_pack_phases(pk, "init", w);
}

void view_pack_breaker(msgpack_packer *pk, const struct pool *p)
{
	const struct breaker *b = &p->supply.breaker;

	pack_text(pk, "breaker");
	msgpack_pack_map(pk, 7);
	pack_kv_text(pk, "state", breaker_state_name(b->state));
	pack_kv_uint(pk, "failures", breaker_failures(b));
	pack_kv_uint(pk, "threshold", b->threshold);
	pack_kv_uint(pk, "since_ms", b->first_wall);
	pack_kv_uint(pk, "opened", b->n_opened);
	pack_kv_uint(pk, "retry_after_ms", breaker_is_open(b) ? supply_wait(p) / NS_PER_MS + 1 : 0);
	deaths_pack(pk, "last", &b->deaths);
}

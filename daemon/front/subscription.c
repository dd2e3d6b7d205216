#include "daemon/front/subscription.h"

#include <utlist.h>

#include "daemon/base/cleanup.h"
#include "daemon/base/mem.h"
#include "daemon/base/packed.h"
#include "daemon/front/client.h"
#include "daemon/front/method.h"
#include "daemon/front/query.h"
#include "daemon/front/reply.h"
#include "daemon/front/server.h"
#include "daemon/front/view.h"
#include "daemon/pool/pool.h"
#include "proto/pack.h"

/* --- events --- */

static bool is_chosen(const struct subscription *su, const struct pool *p)
{
	bool named = !su->pools;

	for (unsigned i = 0; i < su->n_pools && !named; i++)
		named = su->pools[i] == p;
	return named && client_role_on(su->client, p) >= ROLE_OBSERVE;
}

/* p: NULL when it concerns the daemon. */
static bool is_of_interest(const struct subscription *su, enum event_kind kind, const struct pool *p)
{
	if (!(su->kinds & EVENT_BIT(kind)))
		return false;
	return p ? is_chosen(su, p) : su->client->grant.role >= ROLE_OBSERVE;
}

/* What waits is bounded, and stays below what would stop the daemon from reading this client, or end it. */
static bool has_room(const struct client *c, size_t bytes)
{
	size_t most = c->stream.limits->out_soft / 2;

	if (most > SUBSCRIPTION_ROOM)
		most = SUBSCRIPTION_ROOM;
	return c->stream.out.bytes + bytes <= most;
}

static void subscription_tell(struct subscription *su, const struct event *e)
{
	_cleanup_(msgpack_sbuffer_destroy) msgpack_sbuffer buf = { 0 };
	msgpack_packer pk;

	if (!has_room(su->client, e->buf.size)) {
		su->dropped++;
		return;
	}
	packed_begin(&buf, &pk);
	msgpack_pack_map(&pk, e->n + (su->dropped != 0));
	pack_raw(&pk, (struct span){ .p = (const uint8_t *)e->buf.data, .len = e->buf.size });
	if (su->dropped)
		pack_kv_uint(&pk, "dropped", su->dropped);
	su->dropped = 0;
	reply_news(su->client, "event", (struct span){ .p = (const uint8_t *)buf.data, .len = buf.size });
}

static void server_on_told(struct feed *f, const struct event *e)
{
	struct subscription *su;

	DL_FOREACH (container_of(f, struct server, feed)->subscriptions, su) {
		if (is_of_interest(su, e->kind, e->pool))
			subscription_tell(su, e);
	}
}

static void server_on_missed(struct feed *f, enum event_kind kind, const struct pool *p, uint64_t n)
{
	struct subscription *su;

	DL_FOREACH (container_of(f, struct server, feed)->subscriptions, su)
		su->dropped += is_of_interest(su, kind, p) ? n : 0;
}

/* --- life --- */

void subscription_init(struct server *s)
{
	static const struct feed_ops ops = { .told = server_on_told, .missed = server_on_missed };

	s->feed = (struct feed){ .ops = &ops };
	s->registry->feed = &s->feed;
}

/* After a change. */
static void note_wanted(struct server *s)
{
	const struct subscription *su;

	s->feed.wanted = 0;
	DL_FOREACH (s->subscriptions, su)
		s->feed.wanted |= su->kinds;
}

void subscription_end(struct client *c)
{
	struct subscription *su = TAKE_PTR(c->subscription);

	if (!su)
		return;
	DL_DELETE(c->server->subscriptions, su);
	note_wanted(c->server);
	free(su->pools);
	free(su);
}

/* --- the method --- */

/* What is asked for; kinds 0: nothing any more. */
struct wish {
	uint32_t kinds;
	const struct pool **pools; /* owns; NULL: all */
	unsigned n_pools;
};

static bool refuse_kind(const struct query *q, struct span kind)
{
	struct span text;
	char quoted[80];

	if (mp_read_text(&kind, &text))
		query_fail(q, ERROR_BAD_REQUEST, "no kind of event \"%s\"; there are: %s",
			   envelope_quote(text, quoted, sizeof(quoted)), event_kind_list());
	else
		query_fail(q, ERROR_BAD_REQUEST, "kinds must be names of kinds of events, got %s; there are: %s",
			   mp_type_name(kind), event_kind_list());
	return false;
}

/* False, here and below: q is answered. */
static bool read_kinds(const struct query *q, uint32_t *kinds)
{
	struct span list = q->params.kinds, item, text;
	uint32_t n;

	if (!mp_read_array(&list, &n))
		n = 0;
	for (; n > 0 && mp_read_any(&list, &item); n--) {
		struct span rest = item;
		enum event_kind k = mp_read_text(&rest, &text) ? event_kind_find(text) : EVENT_N_KINDS;

		if (k == EVENT_N_KINDS)
			return refuse_kind(q, item);
		*kinds |= EVENT_BIT(k);
	}
	return true;
}

/* Events of the daemon are for those who may observe it: others are told so when they ask for just these. */
static bool choose_kinds(const struct query *q, uint32_t *kinds)
{
	const struct client *c = q->client;
	bool is_observer = c->grant.role >= q->needs;

	if (params_has(&q->params, PARAM_KINDS)) {
		if (!read_kinds(q, kinds))
			return false;
		if (is_observer || !(*kinds & EVENT_BIT(EVENT_CONFIG)))
			return true;
		query_fail(q, ERROR_DENIED, "events of the kind config need the role %s on the daemon, uid %u has %s",
			   role_name(q->needs), c->peer.uid, role_name(c->grant.role));
		return false;
	}
	for (unsigned k = 0; k < EVENT_N_KINDS; k++)
		*kinds |= event_kind_is_usual(k) && (k != EVENT_CONFIG || is_observer) ? EVENT_BIT(k) : 0;
	return true;
}

static void add_pool(struct wish *w, const struct pool *p)
{
	for (unsigned i = 0; i < w->n_pools; i++) {
		if (w->pools[i] == p)
			return;
	}
	w->pools[w->n_pools++] = p;
}

static bool choose_pools(const struct query *q, struct wish *w)
{
	struct span list = q->params.pools, item, name;
	uint32_t n;

	if (!params_has(&q->params, PARAM_POOLS) || !mp_read_array(&list, &n))
		return true;
	w->pools = mem_new(q->client->server->n_pools * sizeof(struct pool *) + 1); /* 0 pools are not all of them */
	for (; n > 0 && mp_read_any(&list, &item); n--) {
		const struct pool *p;

		if (!mp_read_text(&item, &name)) {
			query_fail(q, ERROR_BAD_REQUEST, "pools must be names of pools, got %s", mp_type_name(item));
			return false;
		}
		p = query_find_pool_named(q, name);
		if (!p)
			return false;
		add_pool(w, p);
	}
	return true;
}

static bool may_have_another(const struct query *q)
{
	const struct client *c = q->client;
	const struct subscription *su;
	unsigned n = 0;

	DL_FOREACH (c->server->subscriptions, su)
		n += su->client->peer.uid == c->peer.uid && su->client != c;
	if (n < SUBSCRIPTIONS_MAX)
		return true;
	query_fail(q, ERROR_QUOTA, "uid %u has %u subscriptions already", c->peer.uid, n);
	return false;
}

static void answer(const struct query *q, const struct subscription *su, uint64_t dropped)
{
	const struct server *s = q->client->server;
	uint32_t kinds = su ? su->kinds : 0;
	unsigned n_pools = 0;
	struct view v;

	for (unsigned i = 0; i < s->n_pools; i++)
		n_pools += su && is_chosen(su, s->pools[i]);
	view_begin(&v, q);
	msgpack_pack_map(&v.pk, 3);
	pack_text(&v.pk, "kinds");
	msgpack_pack_array(&v.pk, (size_t)__builtin_popcount(kinds));
	for (unsigned k = 0; k < EVENT_N_KINDS; k++) {
		if (kinds & EVENT_BIT(k))
			pack_text(&v.pk, event_kind_name(k));
	}
	pack_text(&v.pk, "pools");
	msgpack_pack_array(&v.pk, n_pools);
	for (unsigned i = 0; i < s->n_pools; i++) {
		if (su && is_chosen(su, s->pools[i]))
			pack_text(&v.pk, s->pools[i]->settings->name);
	}
	pack_kv_uint(&v.pk, "dropped", dropped);
	view_send(&v);
}

/* In the place of the one that c has. */
static struct subscription *subscription_begin(struct client *c, struct wish *w)
{
	struct subscription *su = MEM_NEW(struct subscription);

	su->client = c;
	su->kinds = w->kinds;
	su->pools = TAKE_PTR(w->pools);
	su->n_pools = w->n_pools;
	c->subscription = su;
	DL_APPEND(c->server->subscriptions, su);
	note_wanted(c->server);
	return su;
}

/* kinds 0: there is none. Its pools by name; with `all` those that there will be. */
void subscription_pack(const struct client *c, msgpack_packer *pk)
{
	const struct subscription *su = c->subscription;

	msgpack_pack_uint64(pk, su ? su->kinds : 0);
	msgpack_pack_uint64(pk, su ? su->dropped : 0);
	pack_bool(pk, !su || !su->pools);
	msgpack_pack_array(pk, su && su->pools ? su->n_pools : 0);
	for (unsigned i = 0; su && su->pools && i < su->n_pools; i++)
		pack_text(pk, su->pools[i]->settings->name);
}

void subscription_take(struct client *c, struct unpacker *u)
{
	struct wish w = { .kinds = (uint32_t)unpack_uint(u) };
	uint64_t dropped = unpack_uint(u);
	bool all = unpack_bool(u);
	uint32_t n = unpack_array(u);

	if (!all)
		w.pools = mem_new(c->server->n_pools * sizeof(struct pool *) + 1);
	for (; n > 0 && !u->bad; n--) {
		const struct pool *p = client_find_pool(c, unpack_text(u));

		if (p && !all)
			add_pool(&w, p);
	}
	if (w.kinds && !u->bad)
		subscription_begin(c, &w)->dropped = dropped;
	free(w.pools);
}

void method_subscribe(struct query *q)
{
	struct client *c = q->client;
	struct wish w = { 0 };
	uint64_t dropped;

	if (!c->speaks) {
		query_fail(q, ERROR_BAD_REQUEST, "subscribe needs hello before it: only then are notifications sent");
		return;
	}
	if (choose_kinds(q, &w.kinds) && choose_pools(q, &w) && (!w.kinds || may_have_another(q))) {
		dropped = c->subscription ? c->subscription->dropped : 0;
		subscription_end(c);
		answer(q, w.kinds ? subscription_begin(c, &w) : NULL, dropped);
	}
	free(w.pools);
}

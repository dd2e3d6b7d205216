#include "daemon/pool/event.h"

#include <utlist.h>

#include "daemon/base/mem.h"
#include "daemon/base/packed.h"
#include "daemon/pool/failure.h"
#include "daemon/pool/operate.h"
#include "proto/cursor.h"
#include "proto/pack.h"
#include "tests/unit/session_support.h"

/* Who listens: what it has heard, as "kind:what" and blanks between. */
struct ear {
	struct feed feed;
	char heard[4096];
	char last[1024]; /* the reason or text of the last that had one */
	unsigned n;
	uint64_t missed;
};

/* The whole map, which must be well formed and have no key twice. */
static void check_form(const struct event *e)
{
	_cleanup_(msgpack_sbuffer_destroy) msgpack_sbuffer buf = { 0 };
	struct span pairs = { .p = (const uint8_t *)e->buf.data, .len = e->buf.size }, value, keys[32];
	msgpack_packer pk;

	packed_begin(&buf, &pk);
	msgpack_pack_map(&pk, e->n);
	pack_raw(&pk, pairs);
	ck_assert_int_eq(cursor_check((struct span){ .p = (const uint8_t *)buf.data, .len = buf.size }), CURSOR_DONE);
	ck_assert_uint_lt(e->n, 32);
	for (uint32_t i = 0; i < e->n; i++) {
		ck_assert(mp_read_text(&pairs, &keys[i]) && mp_read_any(&pairs, &value));
		for (uint32_t j = 0; j < i; j++)
			ck_assert(keys[i].len != keys[j].len || memcmp(keys[i].p, keys[j].p, keys[i].len) != 0);
	}
}

/* False: it has no such key, or no text there. */
static bool text_of(const struct event *e, const char *wanted, struct span *text)
{
	struct span pairs = { .p = (const uint8_t *)e->buf.data, .len = e->buf.size }, key, value;

	for (uint32_t i = 0; i < e->n && mp_read_text(&pairs, &key) && mp_read_any(&pairs, &value); i++) {
		if (span_equals(key, wanted))
			return mp_read_text(&value, text);
	}
	return false;
}

static void on_told(struct feed *f, const struct event *e)
{
	struct ear *ear = container_of(f, struct ear, feed);
	size_t used = strlen(ear->heard);
	struct span kind, what, why;

	check_form(e);
	ck_assert(text_of(e, "kind", &kind) && span_equals(kind, event_kind_name(e->kind)) && text_of(e, "what", &what));
	(void)snprintf(ear->heard + used, sizeof(ear->heard) - used, "%s%.*s:%.*s", used ? " " : "", (int)kind.len, kind.p,
		       (int)what.len, what.p);
	if (text_of(e, "reason", &why) || text_of(e, "text", &why))
		(void)snprintf(ear->last, sizeof(ear->last), "%.*s", (int)why.len, why.p);
	ear->n++;
}

static void on_missed(struct feed *f, enum event_kind kind, const struct pool *p, uint64_t n)
{
	ck_assert(kind == EVENT_OUTPUT && p);
	container_of(f, struct ear, feed)->missed += n;
}

static void ear_put(struct ear *ear, struct scene *sc, uint32_t kinds)
{
	static const struct feed_ops ops = { .told = on_told, .missed = on_missed };

	*ear = (struct ear){ .feed = { .ops = &ops, .wanted = kinds } };
	sc->stage.registry.feed = &ear->feed;
}

/* Exactly this since the last time. */
#define ck_heard(ear, expected)                                                                                        \
	do {                                                                                                           \
		ck_assert_str_eq((ear)->heard, expected);                                                              \
		(ear)->heard[0] = '\0';                                                                                \
	} while (0)

START_TEST(what_nobody_wants_is_not_made)
	{
		struct scene sc;
		struct ear ear;

		scene_begin(&sc, 2);
		ear_put(&ear, &sc, 0);
		operate_pause(sc.stage.pool, true);
		operate_pause(sc.stage.pool, false);
		(void)scene_lease(&sc, &sc.one, 1, 0);
		worker_kill(scene_worker(&sc));
		scene_end(&sc);
		ck_assert_uint_eq(ear.n, 0);
	}
END_TEST

START_TEST(only_the_kinds_that_are_wanted_are_told)
	{
		struct scene sc;
		struct ear ear;

		scene_begin(&sc, 1);
		ear_put(&ear, &sc, EVENT_BIT(EVENT_LEASE));
		operate_pause(sc.stage.pool, true);
		operate_pause(sc.stage.pool, false);
		lease_end(scene_lease(&sc, &sc.one, 1, 0), LEASE_END_CHECKIN);
		ck_heard(&ear, "lease:begun lease:ended");
		ck_assert_str_eq(ear.last, "it was checked in");
		scene_end(&sc);
	}
END_TEST

START_TEST(the_life_of_a_worker_is_told_without_its_calls)
	{
		struct pool_settings s = sim_settings();
		struct scene sc;
		struct ear ear;

		scene_prepare(&sc, &s);
		ear_put(&ear, &sc, EVENT_BIT(EVENT_WORKER) | EVENT_BIT(EVENT_POOL));
		sim_stage_start(&sc.stage);
		ck_heard(&ear, "worker:starting worker:initializing worker:idle pool:settled");
		ck_serves(&sc, 1);
		ck_heard(&ear, "");
		operate_kill(scene_worker(&sc));
		scene_pass(&sc, S);
		ck_heard(&ear, "worker:stopping worker:dead worker:starting worker:initializing worker:idle");
		pool_drain(sc.stage.pool);
		ck_stops(&sc, S);
		ck_heard(&ear, "pool:draining worker:stopping worker:dead pool:stopped");
		scene_end(&sc);
	}
END_TEST

START_TEST(a_failed_start_is_told_with_its_reason)
	{
		struct pool_settings s = sim_settings();
		struct scene sc;
		struct ear ear;

		scene_prepare(&sc, &s);
		ear_put(&ear, &sc, EVENT_BIT(EVENT_POOL));
		scene_start(&sc, SIM_INIT_FAILED);
		scene_pass(&sc, 50 * MS);
		ck_assert_msg(strncmp(ear.heard, "pool:init_failed pool:settled", 29) == 0, "%s", ear.heard);
		ck_assert_msg(strstr(ear.last, sc.stage.pool->supply.failure->message), "%s", ear.last);
		scene_end(&sc);
	}
END_TEST

START_TEST(what_becomes_of_sessions_is_told)
	{
		struct pool_settings s = sim_settings();
		struct outcome o;
		struct scene sc;
		struct ear ear;
		bool fresh;

		s.session_ttl = 20 * S;
		sessions_begin(&sc, &s, 1, false);
		ear_put(&ear, &sc, EVENT_BIT(EVENT_SESSION));
		call(&sc, &sc.one, 1, "chat");
		call(&sc, &sc.one, 2, "chat");
		ck_heard(&ear, "session:opened");
		operate_kill(scene_worker(&sc));
		scene_pass(&sc, S);
		ck_heard(&ear, "session:lost");
		ck_assert_str_eq(ear.last, found(&sc, "chat")->how);
		ck_assert_ptr_nonnull(session_open(sc.stage.pool, &sc.one.caller, span_str("chat"), 0, false, &fresh, &o));
		ck_heard(&ear, "session:reopened");
		ck_assert_ptr_nonnull(session_open(sc.stage.pool, &sc.one.caller, span_str("chat"), 0, true, &fresh, &o));
		ck_heard(&ear, "");
		session_close(found(&sc, "chat"));
		ck_heard(&ear, "session:closed");
		call(&sc, &sc.one, 3, "other");
		scene_pass(&sc, 30 * S);
		ck_heard(&ear, "session:opened session:expired");
		scene_end(&sc);
	}
END_TEST

START_TEST(the_breaker_tells_what_it_does)
	{
		struct pool_settings s = sim_settings();
		struct scene sc;
		struct ear ear;

		s.breaker_failures = 2;
		s.breaker_reset = 10 * S;
		scene_prepare(&sc, &s);
		ear_put(&ear, &sc, EVENT_BIT(EVENT_BREAKER));
		scene_start(&sc, SIM_INIT_FAILED);
		scene_pass(&sc, 5 * S);
		ck_heard(&ear, "breaker:open");
		ck_assert_str_eq(ear.last, sc.stage.pool->supply.failure->message);
		scene_mend(&sc, 60 * S);
		ck_heard(&ear, "breaker:half-open breaker:closed");
		scene_end(&sc);
	}
END_TEST

START_TEST(what_operators_do_is_told)
	{
		struct scene sc;
		struct ear ear;

		scene_begin(&sc, 1);
		ear_put(&ear, &sc, EVENT_BIT(EVENT_POOL));
		operate_pause(sc.stage.pool, true);
		operate_pause(sc.stage.pool, true);
		operate_pause(sc.stage.pool, false);
		operate_resize(sc.stage.pool, 1, 2);
		(void)operate_recycle(sc.stage.pool, NULL);
		ck_heard(&ear, "pool:paused pool:resumed pool:resized pool:recycled");
		scene_pass(&sc, S);
		reload_start(sc.stage.pool, sc.stage.pool->given, NULL);
		scene_pass(&sc, S);
		ck_heard(&ear, "pool:reload_begun pool:reload_done");
		sc.stage.machine.script.init = SIM_INIT_FAILED;
		reload_start(sc.stage.pool, sc.stage.pool->given, NULL);
		scene_pass(&sc, S);
		ck_heard(&ear, "pool:reload_begun pool:reload_failed");
		ck_assert_str_eq(ear.last, sc.stage.pool->reload.failure->message);
		scene_end(&sc);
	}
END_TEST

static void print(struct worker *w, const char *text, size_t size)
{
	tail_add(w->proc.tail, TAIL_STDOUT, text, size, 0);
	worker_log_output(w);
}

START_TEST(a_line_of_output_is_told_when_it_has_ended)
	{
		struct scene sc;
		struct ear ear;

		scene_begin(&sc, 1);
		ear_put(&ear, &sc, EVENT_BIT(EVENT_OUTPUT));
		print(scene_worker(&sc), "a begin", 7);
		ck_heard(&ear, "");
		print(scene_worker(&sc), " and its end\nmore \xff\n", 20);
		ck_heard(&ear, "output:line output:line");
		ck_assert_str_eq(ear.last, "more \xef\xbf\xbd");
		ck_assert_uint_eq(ear.missed, 0);
		scene_end(&sc);
	}
END_TEST

START_TEST(lines_that_were_never_seen_are_counted)
	{
		enum { LINES = 5000 };
		char *flood = mem_new(2 * LINES);
		struct scene sc;
		struct ear ear;

		for (size_t i = 0; i < LINES; i++)
			memcpy(flood + 2 * i, "x\n", 2);
		scene_begin(&sc, 1);
		ear_put(&ear, &sc, EVENT_BIT(EVENT_OUTPUT));
		print(scene_worker(&sc), flood, 2 * LINES);
		ck_assert_uint_gt(ear.n, 0);
		ck_assert_uint_gt(ear.missed, 0);
		ck_assert_uint_eq(ear.n + ear.missed, LINES);
		free(flood);
		scene_end(&sc);
	}
END_TEST

RUN_SUITE("event", what_nobody_wants_is_not_made, only_the_kinds_that_are_wanted_are_told,
	  the_life_of_a_worker_is_told_without_its_calls, a_failed_start_is_told_with_its_reason,
	  what_becomes_of_sessions_is_told, the_breaker_tells_what_it_does, what_operators_do_is_told,
	  a_line_of_output_is_told_when_it_has_ended, lines_that_were_never_seen_are_counted)

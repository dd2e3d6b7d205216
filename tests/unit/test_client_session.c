/* Sessions of libpypool against a daemon that the test plays itself: what is asked, and what is made of the answer. */
#include <check.h>
#include <errno.h>
#include <stdio.h>

#include "proto/cursor.h"
#include "proto/pack.h"
#include "tests/support/suite.h"
#include "tests/unit/client_lease.h"

/* The answer to call `id`: one encoded value. */
static void answer(struct world *w, uint8_t id, const char *value, size_t n)
{
	uint8_t body[256] = { 0x94, 1, id, 0xc0 };

	ck_assert_uint_le(n, sizeof(body) - 4);
	memcpy(body + 4, value, n);
	fake_send_frame(w, body, 4 + n);
}

#define ANSWER(w, id, value) answer(w, id, value, sizeof(value) - 1)

static struct pypool_span get(struct span params, const char *key)
{
	struct pypool_span v = { 0 };

	(void)pypool_get_key((struct pypool_span){ params.p, params.len }, key, &v); /* not there: empty */
	return v;
}

static void check_text(struct span params, const char *key, const char *expected)
{
	struct pypool_span text = { 0 };

	ck_assert_msg(pypool_get_text(get(params, key), &text) == 0, "no text %s", key);
	ck_assert_uint_eq(text.size, strlen(expected));
	ck_assert_mem_eq(text.data, expected, text.size);
}

static void check_number(struct span params, const char *key, int64_t expected)
{
	int64_t v;

	ck_assert_msg(pypool_get_int(get(params, key), &v) == 0, "no number %s", key);
	ck_assert_int_eq(v, expected);
}

static void check_bool(struct span params, const char *key, bool expected)
{
	struct pypool_span v = get(params, key);

	ck_assert_uint_eq(v.size, 1);
	ck_assert_uint_eq(*(const uint8_t *)v.data, expected ? 0xc3 : 0xc2);
}

static void check_absent(struct span params, const char *key)
{
	ck_assert_msg(get(params, key).size == 0, "%s is there", key);
}

START_TEST(open_tells_what_there_is)
	{
		const struct pypool_options o = { .pool = "fast", .ttl_ms = 600, .reset = 1, .timeout_ms = 2000 };
		struct world w = world_greeted();
		struct pypool_session s;
		struct span params;

		ANSWER(&w, 2,
		       "\x86\xa6opened\xc3\xa6worker\x03\xaageneration\x02\xaa"
		       "expires_ms\xcd\x02\x58\xa4keys\x01\xa5"
		       "bytes\x10");
		ck_assert_int_eq(pypool_session_open(w.p, "cart", &o, &s), 0);
		ck_assert(s.opened && s.worker == 3 && s.generation == 2 && s.expires_ms == 600 && s.keys == 1 &&
			  s.bytes == 16);
		fake_expect(&w, "session.open", &params);
		check_text(params, "session", "cart");
		check_text(params, "pool", "fast");
		check_number(params, "ttl_ms", 600);
		check_bool(params, "reset", true);
		check_absent(params, "timeout_ms"); /* not asked of the daemon: it answers at once */
		ANSWER(&w, 3, "\x82\xa6opened\xc2\xa6worker\xc0");
		ck_assert_int_eq(pypool_session_open(w.p, "cart", NULL, &s), 0);
		ck_assert(!s.opened && s.worker == 0);
		fake_expect(&w, "session.open", &params);
		check_absent(params, "pool");
		check_absent(params, "reset");
		ANSWER(&w, 4, "\x80");
		ck_assert_int_eq(pypool_session_open(w.p, "cart", NULL, NULL), 0);
		world_free(&w);
	}
END_TEST

START_TEST(close_tells_whether_there_was_one)
	{
		struct world w = world_greeted();
		struct span params;
		int closed = -1;

		ANSWER(&w, 2, "\xc3");
		ck_assert_int_eq(pypool_session_close(w.p, "cart", NULL, &closed), 0);
		ck_assert_int_eq(closed, 1);
		fake_expect(&w, "session.close", &params);
		check_text(params, "session", "cart");
		ANSWER(&w, 3, "\xc2");
		ck_assert_int_eq(pypool_session_close(w.p, "cart", NULL, &closed), 0);
		ck_assert_int_eq(closed, 0);
		ANSWER(&w, 4, "\xc2");
		ck_assert_int_eq(pypool_session_close(w.p, "cart", NULL, NULL), 0);
		world_free(&w);
	}
END_TEST

START_TEST(get_asks_for_one_value_or_all)
	{
		struct world w = world_greeted();
		struct pypool_reply *reply = NULL;
		struct span params;
		int64_t v;

		ANSWER(&w, 2, "\x05");
		ck_assert_int_eq(pypool_session_get(w.p, "cart", "n", NULL, &reply), 0);
		ck_assert(pypool_get_int(pypool_reply_value(reply), &v) == 0 && v == 5);
		reply = pypool_reply_free(reply);
		fake_expect(&w, "session.get", &params);
		check_text(params, "key", "n");
		ANSWER(&w, 3, "\x81\xa1n\x05");
		ck_assert_int_eq(pypool_session_get(w.p, "cart", NULL, NULL, &reply), 0);
		pypool_reply_free(reply);
		fake_expect(&w, "session.get", &params);
		check_absent(params, "key");
		ck_assert_int_eq(pypool_session_get(w.p, "cart", "", NULL, &reply), -EINVAL);
		world_free(&w);
	}
END_TEST

START_TEST(put_sends_the_map_as_it_is)
	{
		const struct pypool_options o = { .timeout_ms = 2000, .queue_timeout_ms = 1000, .must_exist = 1 };
		const struct pypool_span map = { "\x81\xa1n\x05", 4 };
		struct world w = world_greeted();
		struct pypool_span v;
		struct span params;

		ANSWER(&w, 2, "\xc3");
		ck_assert_int_eq(pypool_session_put(w.p, "cart", map, &o), 0);
		fake_expect(&w, "session.put", &params);
		check_number(params, "timeout_ms", 2000);
		check_number(params, "queue_timeout_ms", 1000);
		check_bool(params, "open", false);
		v = get(params, "values");
		ck_assert_uint_ge(v.size, map.size);
		ck_assert_mem_eq(v.data, map.data, map.size);
		pypool_set_timeout(w.p, 3000);
		ANSWER(&w, 3, "\xc3");
		ck_assert_int_eq(pypool_session_put(w.p, "cart", map, NULL), 0);
		fake_expect(&w, "session.put", &params);
		check_number(params, "timeout_ms", 3000);
		check_absent(params, "open");
		ck_assert_int_eq(pypool_session_put(w.p, "cart", (struct pypool_span){ "\x91\x05", 2 }, NULL), -EINVAL);
		ck_assert_int_eq(pypool_session_put(w.p, "cart", (struct pypool_span){ 0 }, NULL), -EINVAL);
		world_free(&w);
	}
END_TEST

START_TEST(delete_sends_its_keys_and_tells_how_many_there_were)
	{
		static const char *const keys[] = { "items", "coupon" }, *const bad[] = { "items", "" };
		struct world w = world_greeted();
		struct pypool_span item;
		uint64_t deleted = 99;
		struct span params;

		ANSWER(&w, 2, "\x01");
		ck_assert_int_eq(pypool_session_delete(w.p, "cart", keys, 2, NULL, &deleted), 0);
		ck_assert_uint_eq(deleted, 1);
		fake_expect(&w, "session.delete", &params);
		ck_assert_int_eq(pypool_get_item(get(params, "keys"), 1, &item), 0);
		ck_assert(pypool_get_text(item, &item) == 0 && item.size == 6);
		ck_assert_int_eq(pypool_session_delete(w.p, "cart", bad, 2, NULL, NULL), -EINVAL);
		world_free(&w);
	}
END_TEST

START_TEST(names_are_looked_at_before_anything_is_sent)
	{
		struct world w = world_greeted();
		char name[257];

		memset(name, 'n', 256);
		name[256] = '\0';
		ck_assert_int_eq(pypool_session_open(w.p, name, NULL, NULL), -EINVAL);
		ck_assert_int_eq(pypool_session_open(w.p, "", NULL, NULL), -EINVAL);
		ck_assert_int_eq(pypool_session_open(w.p, NULL, NULL, NULL), -EINVAL);
		ck_assert_str_eq(pypool_error_code(pypool_last_error(w.p)), "bad_argument");
		ck_assert_str_eq(pypool_error_session(pypool_last_error(w.p)), "");
		world_free(&w);
	}
END_TEST

START_TEST(calls_and_leases_name_their_session)
	{
		const struct pypool_options o = { .session = "cart", .must_exist = 1, .ttl_ms = 500 };
		struct world w = world_greeted();
		struct pypool_reply *reply = NULL;
		struct pypool_lease lease;
		struct span params;

		ANSWER(&w, 2, "\x05");
		ck_assert_int_eq(pypool_execute(w.p, "add", (struct pypool_span){ 0 }, &o, &reply), 0);
		pypool_reply_free(reply);
		fake_expect(&w, "execute", &params);
		check_text(params, "session", "cart");
		check_bool(params, "open", false);
		fake_answer_checkout(&w, 3, 7, NULL, 0);
		ck_assert_int_eq(pypool_checkout(w.p, &o, &lease), 0);
		ck_assert(lease.lease == 7 && !lease.direct);
		fake_expect(&w, "checkout", &params);
		check_text(params, "type", "session");
		check_text(params, "session", "cart");
		check_number(params, "ttl_ms", 500);
		check_absent(params, "direct");
		world_free(&w);
	}
END_TEST

START_TEST(an_error_names_the_session)
	{
		static const uint8_t body[] = "\x94\x01\x02\x84\xa4"
					      "code\xacsession_lost\xa7message\xa4gone\xa8"
					      "executed\xa5never\xa7session\xa4"
					      "cart\xc0";
		struct world w = world_greeted();
		const struct pypool_error *e;

		fake_send_frame(&w, body, sizeof(body) - 1);
		ck_assert_int_eq(pypool_session_open(w.p, "cart", NULL, NULL), -EREMOTEIO);
		e = pypool_last_error(w.p);
		ck_assert_str_eq(pypool_error_code(e), "session_lost");
		ck_assert_str_eq(pypool_error_session(e), "cart");
		ck_assert_int_eq(pypool_error_executed(e), PYPOOL_NEVER);
		world_free(&w);
	}
END_TEST

RUN_SUITE("client_session", open_tells_what_there_is, close_tells_whether_there_was_one, get_asks_for_one_value_or_all,
	  put_sends_the_map_as_it_is, delete_sends_its_keys_and_tells_how_many_there_were,
	  names_are_looked_at_before_anything_is_sent, calls_and_leases_name_their_session, an_error_names_the_session)

/* What libpypool makes of errors, of lost connections and of bytes that are not the protocol. */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "client/pypool.h"
#include "tests/unit/client_world.h"

START_TEST(error_map_is_told_in_full)
	{
		struct world w = world_greeted();
		struct pypool_reply *reply = (void *)1;
		const struct pypool_error *e;
		struct pypool_span v;

		fake_answer_error(&w, 2, true, "never");
		ck_assert_int_eq(pypool_call(w.p, "ping", (struct pypool_span){ 0 }, 1000, &reply), -EREMOTEIO);
		ck_assert_ptr_eq(reply, (void *)1); /* untouched */
		e = pypool_last_error(w.p);
		ck_assert_int_eq(pypool_error_number(e), -EREMOTEIO);
		ck_assert_str_eq(pypool_error_code(e), "overloaded");
		ck_assert_str_eq(pypool_error_message(e), "the queue is full");
		ck_assert_int_eq(pypool_error_executed(e), PYPOOL_NEVER);
		ck_assert_uint_eq(pypool_error_retry_after_ms(e), 800);
		ck_assert_int_eq(pypool_get_key(pypool_error_cause(e), "traceback", &v), 0);
		ck_assert_int_eq(pypool_get_key(pypool_error_map(e), "code", &v), 0);
		world_free(&w);
	}
END_TEST

START_TEST(executed_that_is_not_known_is_maybe)
	{
		struct world w = world_greeted();
		struct outcome o;

		world_submit(&w, 0, &o);
		ck_assert_int_eq(pypool_dispatch(w.p), 0);
		fake_answer_error(&w, 2, true, "perhaps");
		world_wait(&w, &o);
		ck_assert_int_eq(o.executed, PYPOOL_MAYBE);
		world_free(&w);
	}
END_TEST

static const struct {
	const char *text;
	const char *code;
	const char *message;
	enum pypool_executed executed;
} error_texts[] = {
	{ "quota: too many calls (executed: never)", "quota", "too many calls", PYPOOL_NEVER },
	{ "app_error: ValueError: a (b) (executed: yes)", "app_error", "ValueError: a (b)", PYPOOL_YES },
	{ "x: y (executed: sometimes)", "x", "y (executed: sometimes)", PYPOOL_MAYBE },
	{ "x: (executed: never)", "x", "(executed: never)", PYPOOL_MAYBE },
	{ "no colon at all", "internal", "no colon at all", PYPOOL_MAYBE },
	{ "", "internal", "", PYPOOL_MAYBE },
	{ "(", "internal", "(", PYPOOL_MAYBE },
	{ ":", "", "", PYPOOL_MAYBE },
	{ ": )", "", ")", PYPOOL_MAYBE },
};

START_TEST(error_text_is_taken_apart)
	{
		struct world w = world_greeted();
		struct outcome o;

		world_submit(&w, 0, &o);
		ck_assert_int_eq(pypool_dispatch(w.p), 0);
		fake_answer_text(&w, 2, error_texts[_i].text);
		world_wait(&w, &o);
		ck_assert_int_eq(o.number, -EREMOTEIO);
		ck_assert_str_eq(o.code, error_texts[_i].code);
		ck_assert_str_eq(o.message, error_texts[_i].message);
		ck_assert_int_eq(o.executed, error_texts[_i].executed);
		world_free(&w);
	}
END_TEST

START_TEST(error_about_the_connection_ends_all_calls_with_its_text)
	{
		struct world w = world_greeted();
		struct outcome a, b;

		world_submit(&w, 0, &a);
		world_submit(&w, 0, &b);
		ck_assert_int_eq(pypool_dispatch(w.p), 0);
		fake_answer_error(&w, 0, false, "never");
		ck_assert_int_eq(pypool_dispatch(w.p), -ENOTCONN);
		ck_assert_int_eq(a.n, 1);
		ck_assert_int_eq(b.n, 1);
		ck_assert_str_eq(a.code, "overloaded");
		ck_assert_str_eq(b.message, "the queue is full");
		ck_assert_int_eq(a.executed, PYPOOL_MAYBE); /* the word was about the connection, not about this call */
		ck_assert_int_eq(pypool_submit(w.p, "ping", (struct pypool_span){ 0 }, 0, outcome_on_done, &a, NULL),
				 -ENOTCONN);
		world_free(&w);
	}
END_TEST

START_TEST(daemon_that_closes_in_a_message_loses_the_call_maybe_executed)
	{
		struct world w = world_greeted();
		struct outcome o;

		world_submit(&w, 0, &o);
		ck_assert_int_eq(pypool_dispatch(w.p), 0);
		fake_write(&w, "\0\0\0\x05\x94", 5);
		close(w.daemon);
		w.daemon = -1;
		world_wait(&w, &o);
		ck_assert_int_eq(o.number, -ENOTCONN);
		ck_assert_str_eq(o.code, "connection_lost");
		ck_assert_ptr_nonnull(strstr(o.message, "in the middle of a message"));
		ck_assert_int_eq(o.executed, PYPOOL_MAYBE);
		ck_assert_int_lt(pypool_fd(w.p), 0);
		world_free(&w);
	}
END_TEST

START_TEST(call_that_never_left_was_never_executed)
	{
		struct world w = world_greeted();
		struct outcome o;

		ck_assert_int_eq(pypool_dispatch(w.p), 0);
		close(w.daemon);
		w.daemon = -1;
		world_submit(&w, 0, &o);
		world_wait(&w, &o);
		ck_assert_str_eq(o.code, "connection_lost");
		ck_assert_int_eq(o.executed, PYPOOL_NEVER);
		world_free(&w);
	}
END_TEST

START_TEST(last_words_are_read_though_the_daemon_takes_no_more)
	{
		struct world w = world_greeted();
		struct outcome o;

		ck_assert_int_eq(pypool_dispatch(w.p), 0);
		fake_answer_error(&w, 0, false, "never");
		close(w.daemon);
		w.daemon = -1;
		world_submit(&w, 0, &o);
		world_wait(&w, &o);
		ck_assert_str_eq(o.code, "overloaded");
		ck_assert_int_eq(o.executed, PYPOOL_NEVER);
		world_free(&w);
	}
END_TEST

#define HOSTILE(s)                                                                                                     \
	{                                                                                                              \
		s, sizeof(s) - 1                                                                                       \
	}
static const struct {
	const char *bytes;
	size_t n;
} hostile[] = {
	HOSTILE("HTTP/1.1 400 Bad Request\r\n"),
	HOSTILE("\0\0\0\0"),                                                     /* an empty frame */
	HOSTILE("\x7f\xff\xff\xff"),                                             /* too large, known from the header */
	HOSTILE("\0\0\0\x01\xc1"),                                               /* not MessagePack */
	HOSTILE("\0\0\0\x02\xc0\xc0"),                                           /* two values */
	HOSTILE("\0\0\0\x05\xdd\x10\0\0\0"),                                     /* 2^28 elements */
	HOSTILE("\0\0\0\x01\x90"),                                               /* no message at all */
	HOSTILE("\0\0\0\x01\xc0"),                                               /* not even an array */
	HOSTILE("\0\0\0\x03\x92\x01\x02"),                                       /* too short */
	HOSTILE("\0\0\0\x06\x95\x01\x02\xc0\xc0\xc0"),                           /* too long */
	HOSTILE("\0\0\0\x05\x94\x01\x63\xc0\xc0"),                               /* an id that nobody has */
	HOSTILE("\0\0\0\x05\x94\x01\xff\xc0\xc0"),                               /* a negative id */
	HOSTILE("\0\0\0\x05\x94\x01\xc0\xc0\xc0"),                               /* nobody's success */
	HOSTILE("\0\0\0\x06\x94\0\x02\xa1x\x90"),                                /* a request, and cut */
	HOSTILE("\0\0\0\x05\x94\x01\x02\xc0\x01\0\0\0\x05\x94\x01\x02\xc0\x01"), /* the same answer twice */
};

START_TEST(hostile_bytes_end_the_connection_and_every_call_is_answered_once)
	{
		struct world w = world_greeted();
		struct outcome a, b;

		world_submit(&w, 0, &a);
		world_submit(&w, 0, &b);
		ck_assert_int_eq(pypool_dispatch(w.p), 0);
		fake_write(&w, hostile[_i].bytes, hostile[_i].n);
		ck_assert_int_eq(pypool_dispatch(w.p), -EPROTO);
		ck_assert_int_eq(a.n, 1);
		ck_assert_int_eq(b.n, 1);
		ck_assert_int_eq(b.number, -EPROTO);
		ck_assert_str_eq(b.code, "bad_reply");
		ck_assert_int_eq(b.executed, PYPOOL_MAYBE);
		world_free(&w);
		ck_assert_int_eq(a.n, 1);
	}
END_TEST

START_TEST(error_values_of_any_type_are_survived)
	{
		/* [1, 2, error, nil] */
		static const struct {
			const char *bytes;
			size_t n;
		} errors[] = {
			HOSTILE("\x01"),
			HOSTILE("\x80"),
			HOSTILE("\x90"),
			HOSTILE("\xc3"),
			HOSTILE("\x81\xa4"
				"code\xc0"),
			HOSTILE("\x82\xa4"
				"code\xa0\xa7message\x90"),
			HOSTILE("\x81\xc0\xc0"),
			HOSTILE("\x81\x80\x80"),
			HOSTILE("\xc4\x00"),
		};
		struct world w = world_greeted();
		uint8_t body[64] = { 0x94, 0x01, 0x02 };
		struct outcome o;

		for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
			body[2] = (uint8_t)world_submit(&w, 0, &o);
			ck_assert_int_eq(pypool_dispatch(w.p), 0);
			memcpy(body + 3, errors[i].bytes, errors[i].n);
			body[3 + errors[i].n] = 0xc0;
			fake_send_frame(&w, body, 4 + errors[i].n);
			world_wait(&w, &o);
			ck_assert_int_eq(o.number, -EREMOTEIO);
			ck_assert_int_eq(o.executed, PYPOOL_MAYBE);
		}
		world_free(&w);
	}
END_TEST

static void add_errors(Suite *s)
{
	TCase *t = tcase_create("errors");

	tcase_set_timeout(t, 20);
	tcase_add_test(t, error_map_is_told_in_full);
	tcase_add_test(t, executed_that_is_not_known_is_maybe);
	tcase_add_loop_test(t, error_text_is_taken_apart, 0, sizeof(error_texts) / sizeof(error_texts[0]));
	tcase_add_test(t, error_about_the_connection_ends_all_calls_with_its_text);
	tcase_add_test(t, daemon_that_closes_in_a_message_loses_the_call_maybe_executed);
	tcase_add_test(t, call_that_never_left_was_never_executed);
	tcase_add_test(t, last_words_are_read_though_the_daemon_takes_no_more);
	tcase_add_loop_test(t, hostile_bytes_end_the_connection_and_every_call_is_answered_once, 0,
			    sizeof(hostile) / sizeof(hostile[0]));
	tcase_add_test(t, error_values_of_any_type_are_survived);
	suite_add_tcase(s, t);
}

int main(void)
{
	Suite *s = suite_create("client_errors");
	SRunner *r = srunner_create(s);
	int failed;

	add_errors(s);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? 1 : 0;
}

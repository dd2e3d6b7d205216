#include "daemon/pool/handshake.h"

#include "tests/unit/pool_support.h"

static enum handshake_news take(struct handshake *h, const char *bytes, size_t len)
{
	struct complaint c = { 0 };
	enum handshake_news news = handshake_take(h, (struct span){ .p = (const uint8_t *)bytes, .len = len }, &c);

	ck_assert((news == HANDSHAKE_BROKEN) == (c.message[0] != '\0'));
	return news;
}

#define TAKE(h, text) take(h, text, sizeof(text) - 1)
#define HELLO "\x93\x02\xa5hello\x91\x82\xa8protocol\x01\xa4t_ns\x64"
#define PHASE "\x93\x02\xa5phase\x91\x82\xa4name\xa5start\xa4t_ns\xcc\x96"
#define READY                                                                                                          \
	"\x93\x02\xa5ready\x91\x82\xa7targets\x92\xa1"                                                                 \
	"a\xa1"                                                                                                        \
	"b\xa4t_ns\xcc\xc8"

START_TEST(hello_then_ready_is_what_is_expected)
	{
		struct handshake h = { 0 };

		handshake_begin(&h, "interpreter", NULL, 50);
		ck_assert_int_eq(TAKE(&h, HELLO), HANDSHAKE_HELLO);
		ck_assert_uint_eq(h.phases[0].ended, 100);
		ck_assert_int_eq(TAKE(&h, READY), HANDSHAKE_READY);
		ck_assert_uint_eq(h.n_targets, 2);
		handshake_deinit(&h);
	}
END_TEST

START_TEST(the_hello_of_its_template_stands_for_that_of_one_that_goes_on)
	{
		_cleanup_(handshake_deinit) struct handshake parent = { 0 }, h = { 0 };

		ck_assert_int_eq(TAKE(&parent, HELLO), HANDSHAKE_HELLO);
		(void)snprintf(parent.python, sizeof(parent.python), "3.11.2");
		(void)snprintf(parent.codec, sizeof(parent.codec), "c");
		handshake_begin(&h, "fork", NULL, 100);
		handshake_introduce(&h, &parent);
		ck_assert_str_eq(h.python, "3.11.2");
		ck_assert_str_eq(h.codec, "c");
		ck_assert(!h.hello); /* it may not have its own files yet */
		ck_assert_int_eq(TAKE(&h, "\xc1"), HANDSHAKE_BROKEN);
		ck_assert(!h.hello);
		ck_assert_int_eq(TAKE(&h, PHASE), HANDSHAKE_NOTHING);
		ck_assert(h.hello);
		ck_assert_uint_eq(h.phases[0].ended, 150);
		ck_assert_str_eq(handshake_last(&h)->name, "start");
		ck_assert_int_eq(TAKE(&h, READY), HANDSHAKE_READY);
		ck_assert_int_eq(TAKE(&h, HELLO), HANDSHAKE_BROKEN);
	}
END_TEST

START_TEST(one_with_files_of_before_says_hello_nevertheless)
	{
		_cleanup_(handshake_deinit) struct handshake parent = { 0 }, h = { 0 };

		handshake_begin(&h, "fork", NULL, 50);
		handshake_introduce(&h, &parent);
		ck_assert_int_eq(TAKE(&h, HELLO), HANDSHAKE_HELLO);
		ck_assert_str_eq(handshake_last(&h)->name, "library");
		ck_assert_int_eq(TAKE(&h, HELLO), HANDSHAKE_BROKEN);
	}
END_TEST

START_TEST(fault_55_hello_twice_ready_twice_and_ready_first_are_broken)
	{
		struct handshake h = { 0 };

		ck_assert_int_eq(TAKE(&h, READY), HANDSHAKE_BROKEN);
		ck_assert_int_eq(TAKE(&h, HELLO), HANDSHAKE_HELLO);
		ck_assert_int_eq(TAKE(&h, HELLO), HANDSHAKE_BROKEN);
		ck_assert_int_eq(TAKE(&h, READY), HANDSHAKE_READY);
		ck_assert_int_eq(TAKE(&h, READY), HANDSHAKE_BROKEN);
		handshake_deinit(&h);
	}
END_TEST

START_TEST(what_is_malformed_or_of_another_protocol_is_broken)
	{
		struct handshake h = { 0 };

		ck_assert_int_eq(TAKE(&h, ""), HANDSHAKE_BROKEN);
		ck_assert_int_eq(TAKE(&h, "\xc1"), HANDSHAKE_BROKEN);
		ck_assert_int_eq(TAKE(&h, "\x93\x02\xa5hel"), HANDSHAKE_BROKEN);
		ck_assert_int_eq(TAKE(&h, "\x94\x00\x01\xa5hello\x90"), HANDSHAKE_BROKEN); /* a request */
		ck_assert_int_eq(TAKE(&h, "\x93\x02\xa5hello\x90"), HANDSHAKE_BROKEN);     /* no protocol */
		ck_assert_int_eq(TAKE(&h, "\x93\x02\xa5hello\x91\x81\xa8protocol\x02"), HANDSHAKE_BROKEN);
		ck_assert_int_eq(TAKE(&h, "\x93\x02\xa5hello\x91\x81\xa8protocol\xa1x"), HANDSHAKE_BROKEN);
		ck_assert_int_eq(TAKE(&h, "\x93\x02\xa5hello\x91\x81\x05\x01"),
				 HANDSHAKE_BROKEN); /* a key that is no text */
		ck_assert(!h.hello);
		handshake_deinit(&h);
	}
END_TEST

START_TEST(unknown_news_and_unknown_keys_are_ignored)
	{
		struct handshake h = { 0 };

		ck_assert_int_eq(TAKE(&h, "\x93\x02\xa3new\x91\x81\xa1x\x92\x01\x02"), HANDSHAKE_NOTHING);
		ck_assert_int_eq(TAKE(&h, "\x93\x02\xa5hello\x91\x82\xa3new\x81\x01\x02\xa8protocol\x01"),
				 HANDSHAKE_HELLO);
		handshake_deinit(&h);
	}
END_TEST

START_TEST(a_phase_ends_the_one_before_and_many_share_the_last_place)
	{
		struct handshake h = { 0 };

		ck_assert_str_eq(handshake_last(&h)->name, "exec");
		handshake_begin(&h, "exec", NULL, 10);
		ck_assert_int_eq(TAKE(&h, "\x93\x02\xa5phase\x91\x83\xa4name\xa7imports\xa6module\xa3"
					  "app\xa4t_ns\x14"),
				 HANDSHAKE_NOTHING);
		ck_assert_uint_eq(h.phases[0].ended, 20);
		ck_assert_str_eq(handshake_last(&h)->module, "app");
		for (unsigned i = 0; i < 100; i++)
			handshake_begin(&h, "imports",
					"a_very_long_name_of_a_module_that_is_cut_in_the_middle_of_it_all_\xff",
					30 + i);
		ck_assert_uint_eq(h.n_phases, HANDSHAKE_PHASES);
		ck_assert_uint_lt(strlen(handshake_last(&h)->module), sizeof(h.phases[0].module));
		handshake_close(&h, 5); /* a clock that lies does not make a phase of negative length */
		ck_assert_uint_ge(handshake_last(&h)->ended, handshake_last(&h)->begun);
		handshake_deinit(&h);
	}
END_TEST

START_TEST(the_first_failure_counts_and_is_made_valid_text)
	{
		struct handshake h = { 0 };

		ck_assert_int_eq(TAKE(&h, "\x93\x02\xa6"
					  "failed\x91\x83\xa4type\xa2"
					  "E\xff\xa7message\xa3one\xa4line\x05"),
				 HANDSHAKE_NOTHING);
		ck_assert_int_eq(TAKE(&h, "\x93\x02\xa6"
					  "failed\x91\x81\xa4type\xa1"
					  "F"),
				 HANDSHAKE_NOTHING);
		ck_assert(h.failed);
		ck_assert_str_eq(h.type, "E?");
		ck_assert_str_eq(h.message, "one");
		ck_assert_uint_eq(h.line, 5);
		ck_assert_ptr_null(h.file);
		handshake_deinit(&h);
		ck_assert_ptr_null(h.type);
	}
END_TEST

START_TEST(a_failure_keeps_its_summary_and_who_imported)
	{
		struct handshake h = { 0 };

		ck_assert_int_eq(TAKE(&h, "\x93\x02\xa6"
					  "failed\x91\x82\xa7summary\xa3one\xabimported_by\x91\x05"),
				 HANDSHAKE_NOTHING);
		ck_assert_str_eq(h.summary, "one");
		ck_assert_uint_eq(h.imported_by_len, 2);
		ck_assert_mem_eq(h.imported_by, "\x91\x05", 2);
		handshake_deinit(&h);
		ck_assert_int_eq(TAKE(&h, "\x93\x02\xa6"
					  "failed\x91\x81\xabimported_by\x05"),
				 HANDSHAKE_NOTHING);
		ck_assert_ptr_null(h.imported_by); /* no array */
		ck_assert_ptr_null(h.summary);
		handshake_deinit(&h);
	}
END_TEST

START_TEST(a_pong_is_remembered)
	{
		struct handshake h = { 0 };

		ck_assert_int_eq(TAKE(&h, "\x93\x02\xa4pong\x91\x81\xa3seq\x09"), HANDSHAKE_NOTHING);
		ck_assert_uint_eq(h.pong, 9);
		handshake_deinit(&h);
	}
END_TEST

RUN_SUITE("handshake", hello_then_ready_is_what_is_expected, the_hello_of_its_template_stands_for_that_of_one_that_goes_on,
	  one_with_files_of_before_says_hello_nevertheless,
	  fault_55_hello_twice_ready_twice_and_ready_first_are_broken,
	  what_is_malformed_or_of_another_protocol_is_broken, unknown_news_and_unknown_keys_are_ignored,
	  a_phase_ends_the_one_before_and_many_share_the_last_place, the_first_failure_counts_and_is_made_valid_text,
	  a_failure_keeps_its_summary_and_who_imported, a_pong_is_remembered)

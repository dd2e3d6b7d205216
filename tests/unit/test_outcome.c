#include "daemon/pool/outcome.h"

#include "tests/unit/pool_support.h"

START_TEST(an_error_has_the_execution_of_its_code_and_nothing_else)
	{
		struct outcome o;

		for (enum error_code code = ERROR_NONE + 1; code < ERROR_N; code++) {
			memset(&o, 0xff, sizeof(o));
			outcome_error(&o, code, "%s %d", "text", 7);
			ck_assert_int_eq(o.code, code);
			ck_assert_int_eq(o.executed, error_executed(code));
			ck_assert_str_eq(o.message, "text 7");
			ck_assert(!o.abandoned && !o.cause.len && !o.worker && !o.retry_after_ms && !o.phase &&
				  !o.value.blob);
		}
	}
END_TEST

START_TEST(a_message_that_is_too_long_is_cut_between_characters)
	{
		char text[2000] = "";
		struct outcome o;

		for (unsigned i = 0; i < 600; i++)
			strcat(text, "\xe2\x82\xac");
		outcome_error(&o, ERROR_APP_ERROR, "%s", text);
		ck_assert_uint_eq(strlen(o.message), sizeof(o.message) - 1);
		for (size_t i = 0; i + 3 < sizeof(o.message) - 1; i += 3)
			ck_assert_mem_eq(o.message + i, "\xe2\x82\xac", 3);
	}
END_TEST

START_TEST(a_value_is_a_success_that_was_executed)
	{
		struct slice value = { .span = SPAN_LIT("\x05") };
		struct outcome o;

		outcome_value(&o, value);
		ck_assert_int_eq(o.code, ERROR_NONE);
		ck_assert_int_eq(o.executed, EXECUTED_YES);
		ck_assert_ptr_eq(o.value.span.p, value.span.p);
	}
END_TEST

RUN_SUITE("outcome", an_error_has_the_execution_of_its_code_and_nothing_else,
	  a_message_that_is_too_long_is_cut_between_characters, a_value_is_a_success_that_was_executed)

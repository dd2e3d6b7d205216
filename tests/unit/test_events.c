#include "proto/events.h"

#include <check.h>

#include "tests/support/suite.h"

START_TEST(every_kind_is_found_by_its_name)
	{
		for (int k = 0; k < EVENT_N_KINDS; k++)
			ck_assert_int_eq(event_kind_find(span_str(event_kind_name(k))), k);
		ck_assert_int_eq(event_kind_find(span_str("work")), EVENT_N_KINDS);
		ck_assert_int_eq(event_kind_find(span_str("workers")), EVENT_N_KINDS);
		ck_assert_int_eq(event_kind_find(SPAN_LIT("pool\0")), EVENT_N_KINDS);
		ck_assert_int_eq(event_kind_find(SPAN_LIT("")), EVENT_N_KINDS);
	}
END_TEST

START_TEST(the_list_names_every_kind)
	{
		ck_assert_str_eq(event_kind_list(), "worker session lease breaker pool config output");
	}
END_TEST

START_TEST(only_output_must_be_asked_for)
	{
		for (int k = 0; k < EVENT_N_KINDS; k++)
			ck_assert_int_eq(event_kind_is_usual(k), k != EVENT_OUTPUT);
	}
END_TEST

RUN_SUITE("events", every_kind_is_found_by_its_name, the_list_names_every_kind, only_output_must_be_asked_for)

/* What calls and edits write to the values of a session, and what is never committed. */
#include "daemon/pool/session_values.h"

#include "tests/unit/session_support.h"

START_TEST(a_call_that_fails_writes_nothing)
	{
		struct scene sc;
		struct session *s;

		scene_begin(&sc, 1);
		call(&sc, &sc.one, 1, "chat");
		s = found(&sc, "chat");
		scene_child(&sc)->script.call = SIM_CALL_ERROR;
		sim_execute_in(&sc.one, 2, "chat");
		scene_pass(&sc, 10 * MS);
		ck_told(&sc.one, 2, ERROR_APP_ERROR, EXECUTED_YES);
		ck_assert_uint_eq(sim_session_n(s), 1);
		scene_child(&sc)->script.call = SIM_CALL_REPLY;
		call(&sc, &sc.one, 3, "chat");
		ck_assert_uint_eq(sim_session_n(s), 2);
		ck_assert_uint_eq(s->sends, 1);
		scene_end(&sc);
	}
END_TEST

START_TEST(a_success_that_comes_after_the_deadline_is_not_committed_and_the_worker_gets_the_values_anew)
	{
		struct scene sc;
		struct session *s;

		scene_begin(&sc, 1);
		call(&sc, &sc.one, 1, "chat");
		s = found(&sc, "chat");
		hold_calls(scene_child(&sc));
		sim_submit_in(&sc.one, "chat",
			      &(struct request_spec){ .kind = REQUEST_EXECUTE, .id = 2, .timeout = 100 * MS });
		scene_pass(&sc, 200 * MS);
		ck_told(&sc.one, 2, ERROR_DEADLINE_EXCEEDED, EXECUTED_MAYBE);
		sim_child_reply(scene_child(&sc), scene_child(&sc)->call); /* within the grace */
		scene_pass(&sc, 10 * MS);
		ck_assert_uint_eq(sim_session_n(s), 1);
		scene_child(&sc)->script.call = SIM_CALL_REPLY;
		call(&sc, &sc.one, 3, "chat");
		ck_assert_uint_eq(sim_session_n(s), 2);
		ck_assert_uint_eq(s->sends, 2);
		scene_end(&sc);
	}
END_TEST

START_TEST(writes_over_the_limit_are_an_error_and_nothing_is_written)
	{
		struct pool_settings settings = sim_settings();
		struct scene sc;

		settings.session_max_bytes = 2; /* "n" and its value take 3 */
		sessions_begin(&sc, &settings, 1, false);
		sim_execute_in(&sc.one, 1, "chat");
		scene_pass(&sc, 10 * MS);
		ck_told(&sc.one, 1, ERROR_SESSION_FULL, EXECUTED_YES);
		ck_assert_ptr_nonnull(strstr(told(&sc.one, 1)->message, "session_max_bytes is 2"));
		ck_assert_uint_eq(found(&sc, "chat")->values.n, 0);
		scene_end(&sc);
	}
END_TEST

START_TEST(fault_38_writes_that_are_malformed_end_the_worker_and_write_nothing)
	{
		static const uint8_t writes[][8] = { { 5 },                            /* no map */
						     { 0x81, 0xa3, 's', 'e', 't', 1 }, /* set is none */
						     { 0x81, 0xa3, 'd', 'e', 'l', 0x91, 1 } };
		static const size_t len[] = { 1, 6, 7 };

		for (size_t i = 0; i < ARRAY_SIZE(len); i++) {
			uint8_t reply[32] = { 0x95, 1, 0, 0xc0, 0xc0, 0x81, 0xa7, 's', 'e', 's', 's', 'i', 'o', 'n' };
			struct scene sc;

			scene_begin(&sc, 1);
			scene_child(&sc)->script.call = SIM_CALL_MANUAL;
			sim_execute_in(&sc.one, 1, "chat");
			scene_pass(&sc, 10 * MS);
			reply[2] = (uint8_t)scene_child(&sc)->call;
			memcpy(reply + 14, writes[i], len[i]);
			sim_child_write_calls(scene_child(&sc), reply, 14 + len[i]);
			scene_pass(&sc, 10 * MS);
			ck_told(&sc.one, 1, ERROR_WORKER_PROTOCOL, EXECUTED_MAYBE);
			ck_assert_uint_eq(found(&sc, "chat")->values.n, 0);
			ck_assert(found(&sc, "chat")->lost);
			scene_end(&sc);
		}
	}
END_TEST

START_TEST(a_put_waits_for_the_call_that_runs)
	{
		static const uint8_t map[] = { 0x81, 0xa1, 'n', 40 };
		struct scene sc;
		struct session *s;

		scene_begin(&sc, 1);
		scene_child(&sc)->script.call_after = 50 * MS;
		sim_execute_in(&sc.one, 1, "chat");
		s = found(&sc, "chat");
		sim_edit(&sc.one, "chat", 2, REQUEST_PUT, (struct span){ map, sizeof(map) });
		sim_execute_in(&sc.one, 3, "chat");
		scene_pass(&sc, 20 * MS);
		ck_waits(&sc.one, 2);
		scene_pass(&sc, 50 * MS);
		ck_told(&sc.one, 2, ERROR_NONE, EXECUTED_YES);
		ck_assert_uint_eq(sim_session_n(s), 40);
		scene_pass(&sc, 50 * MS);
		ck_assert_uint_eq(sim_session_n(s), 41); /* its worker was sent what was put */
		scene_end(&sc);
	}
END_TEST

RUN_SUITE("session values", a_call_that_fails_writes_nothing,
	  a_success_that_comes_after_the_deadline_is_not_committed_and_the_worker_gets_the_values_anew,
	  writes_over_the_limit_are_an_error_and_nothing_is_written,
	  fault_38_writes_that_are_malformed_end_the_worker_and_write_nothing, a_put_waits_for_the_call_that_runs)

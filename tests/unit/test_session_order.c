/* Calls of one session never overlap, also when one of them was answered while its worker went on with it. */
#include "daemon/pool/account.h"
#include "tests/sim/sim_pair.h"
#include "tests/unit/session_support.h"

static void begin(struct scene *sc, bool prefer, bool hooks)
{
	struct pool_settings s = sim_settings();

	s.affinity_prefer = prefer;
	sessions_begin(sc, &s, 3, hooks);
}

/* Calls 1 and 2 of the session: the second is cancelled, and its worker goes on with it. */
static struct sim_child *linger(struct scene *sc)
{
	struct sim_child *c;

	call(sc, &sc->one, 1, "chat");
	c = carrier(sc, "chat");
	hold_calls(c);
	sim_execute_in(&sc->one, 2, "chat");
	scene_pass(sc, 10 * MS);
	request_cancel(registry_find_by_id(&sc->stage.registry, sc->one.caller.id, 2));
	ck_told(&sc->one, 2, ERROR_CANCELLED, EXECUTED_MAYBE);
	return c;
}

/* The call that was cancelled ends. */
static void end_call(struct scene *sc, struct sim_child *c)
{
	c->script.call = SIM_CALL_REPLY;
	sim_child_reply(c, c->call);
	scene_pass(sc, 20 * MS);
}

static struct session *reopen(struct scene *sc)
{
	struct outcome o;
	bool fresh;

	return session_open(sc->stage.pool, &sc->one.caller, SPAN_LIT("chat"), 0, false, &fresh, &o);
}

START_TEST(a_call_waits_for_an_answered_one_of_its_session_that_still_runs)
	{
		for (unsigned prefer = 0; prefer < 2; prefer++) {
			struct sim_child *c;
			struct scene sc;

			begin(&sc, prefer, false);
			c = linger(&sc);
			sim_execute_in(&sc.two, 3, "chat");
			sim_execute_in(&sc.two, 4, "other");
			scene_pass(&sc, 100 * MS);
			ck_waits(&sc.two, 3);
			end_call(&sc, c);
			ck_told(&sc.two, 3, ERROR_NONE, EXECUTED_YES);
			ck_told(&sc.two, 4, ERROR_NONE, EXECUTED_YES);
			ck_assert_uint_eq(sim_session_n(found(&sc, "chat")), 2);
			scene_end(&sc);
		}
	}
END_TEST

START_TEST(a_call_that_was_answered_before_its_worker_read_it_is_waited_for_too)
	{
		struct sim_child *c;
		struct scene sc;

		begin(&sc, true, false);
		call(&sc, &sc.one, 1, "chat");
		c = carrier(&sc, "chat");
		c->script.hears_after = 100 * MS;
		sim_execute_in(&sc.one, 2, "chat");
		scene_pass(&sc, 10 * MS);
		request_cancel(registry_find_by_id(&sc.stage.registry, sc.one.caller.id, 2));
		sim_execute_in(&sc.one, 3, "chat");
		scene_pass(&sc, 50 * MS);
		ck_assert_uint_eq(c->n_calls, 1);
		ck_waits(&sc.one, 3);
		scene_pass(&sc, S);
		ck_told(&sc.one, 3, ERROR_NONE, EXECUTED_YES);
		scene_end(&sc);
	}
END_TEST

START_TEST(it_waits_until_the_worker_is_dead)
	{
		struct sim_child *c;
		struct scene sc;

		begin(&sc, true, false);
		c = linger(&sc);
		c->script.ignores_term = true;
		sim_execute_in(&sc.one, 3, "chat");
		scene_pass(&sc, 900 * MS); /* the grace is over; it was told to leave */
		ck_assert_uint_eq(c->n_terms, 1);
		ck_waits(&sc.one, 3);
		scene_pass(&sc, 200 * MS);
		ck_told(&sc.one, 3, ERROR_NONE, EXECUTED_YES);
		scene_end(&sc);
	}
END_TEST

START_TEST(a_lost_session_that_is_opened_again_waits_for_the_worker_that_it_was_lost_with)
	{
		struct sim_child *c;
		struct scene sc;

		begin(&sc, false, false);
		c = linger(&sc);
		c->script.ignores_term = true;
		scene_pass(&sc, 510 * MS);
		ck_assert(found(&sc, "chat")->lost);
		ck_assert_ptr_nonnull(reopen(&sc));
		sim_execute_in(&sc.one, 3, "chat");
		scene_pass(&sc, 400 * MS);
		ck_assert(!c->dead);
		ck_waits(&sc.one, 3);
		scene_pass(&sc, 200 * MS);
		ck_told(&sc.one, 3, ERROR_NONE, EXECUTED_YES);
		scene_end(&sc);
	}
END_TEST

START_TEST(the_wait_counts_and_its_queue_timeout_tells_what_it_waited_for)
	{
		struct worker *w;
		struct scene sc;
		char text[64];

		begin(&sc, true, false);
		(void)linger(&sc);
		w = found(&sc, "chat")->worker;
		(void)sim_submit_in(
			&sc.one, "chat",
			&(struct request_spec){ .kind = REQUEST_EXECUTE, .id = 3, .queue_timeout = 100 * MS });
		scene_pass(&sc, 105 * MS);
		ck_told(&sc.one, 3, ERROR_QUEUE_TIMEOUT, EXECUTED_NEVER);
		(void)snprintf(text, sizeof(text), "worker %d (pid %d) still runs", (int)w->id, (int)w->last_pid);
		ck_assert_msg(strstr(told(&sc.one, 3)->message, text), "%s", told(&sc.one, 3)->message);
		ck_assert_ptr_nonnull(strstr(told(&sc.one, 3)->message, "session \"chat\""));
		scene_end(&sc);
	}
END_TEST

START_TEST(an_edit_does_not_wait_for_it)
	{
		static const uint8_t map[] = { 0x81, 0xa1, 'n', 40 };
		struct sim_child *c;
		struct scene sc;

		begin(&sc, true, false);
		c = linger(&sc);
		sim_edit(&sc.one, "chat", 3, REQUEST_PUT, (struct span){ map, sizeof(map) });
		sim_execute_in(&sc.one, 4, "chat");
		ck_told(&sc.one, 3, ERROR_NONE, EXECUTED_YES);
		ck_waits(&sc.one, 4);
		end_call(&sc, c);
		ck_told(&sc.one, 4, ERROR_NONE, EXECUTED_YES);
		ck_assert_uint_eq(sim_session_n(found(&sc, "chat")), 41);
		scene_end(&sc);
	}
END_TEST

START_TEST(a_new_session_of_its_name_waits_for_it_and_for_the_hook)
	{
		for (unsigned i = 0; i < 4; i++) {
			bool prefer = i & 1, hooks = i & 2;
			struct sim_child *c;
			struct scene sc;

			begin(&sc, prefer, hooks);
			c = linger(&sc);
			session_close(found(&sc, "chat"));
			sim_execute_in(&sc.two, 3, "chat");
			scene_pass(&sc, 100 * MS);
			ck_waits(&sc.two, 3);
			ck_assert_uint_eq(c->n_closed, 0);
			end_call(&sc, c);
			ck_told(&sc.two, 3, ERROR_NONE, EXECUTED_YES);
			ck_assert_uint_eq(c->n_closed, hooks);
			ck_assert_uint_eq(sim_session_n(found(&sc, "chat")), 1);
			ck_assert_uint_eq(sc.stage.pool->n_sessions, 1);
			scene_end(&sc);
		}
	}
END_TEST

START_TEST(a_hook_that_goes_on_is_waited_for_too)
	{
		struct sim_child *c;
		struct scene sc;

		begin(&sc, true, true);
		call(&sc, &sc.one, 1, "chat");
		c = carrier(&sc, "chat");
		hold_calls(c);
		session_close(found(&sc, "chat"));
		scene_pass(&sc, 10 * MS);
		ck_assert_uint_eq(c->n_closed, 1);
		sim_execute_in(&sc.one, 2, "chat");
		scene_pass(&sc, 1100 * MS);
		ck_assert_uint_eq(sc.stage.pool->self.n_requests, 0); /* stop_timeout is over */
		ck_waits(&sc.one, 2);
		end_call(&sc, c);
		ck_told(&sc.one, 2, ERROR_NONE, EXECUTED_YES);
		ck_assert_uint_eq(sc.stage.pool->n_sessions, 1);
		scene_end(&sc);
	}
END_TEST

START_TEST(a_lease_of_the_session_is_not_given_before)
	{
		struct sim_child *c;
		struct scene sc;

		begin(&sc, true, false);
		c = linger(&sc);
		(void)sim_submit_in(&sc.one, "chat", &(struct request_spec){ .kind = REQUEST_CHECKOUT, .id = 3 });
		scene_pass(&sc, 100 * MS);
		ck_waits(&sc.one, 3);
		end_call(&sc, c);
		ck_assert_uint_ne(told(&sc.one, 3)->lease, 0);
		scene_end(&sc);
	}
END_TEST

START_TEST(a_call_that_goes_on_after_its_lease_is_waited_for)
	{
		struct sim_child *c;
		struct lease *l;
		struct scene sc;

		begin(&sc, true, false);
		l = lend(&sc, 1, false);
		c = scene_child_of(&sc, l->worker);
		hold_calls(c);
		sim_execute_in(&sc.one, 2, "chat");
		scene_pass(&sc, 10 * MS);
		request_cancel(registry_find_by_id(&sc.stage.registry, sc.one.caller.id, 2));
		lease_end(l, LEASE_END_CHECKIN);
		sim_execute_in(&sc.two, 3, "chat");
		scene_pass(&sc, 100 * MS);
		ck_waits(&sc.two, 3);
		end_call(&sc, c);
		ck_told(&sc.two, 3, ERROR_NONE, EXECUTED_YES);
		scene_end(&sc);
	}
END_TEST

START_TEST(a_new_session_of_its_name_waits_for_the_lease_of_the_one_before)
	{
		struct lease *l;
		struct scene sc;

		begin(&sc, true, false);
		l = lend(&sc, 1, false);
		session_close(found(&sc, "chat"));
		sim_execute_in(&sc.two, 2, "chat");
		scene_pass(&sc, 100 * MS);
		ck_waits(&sc.two, 2);
		lease_end(l, LEASE_END_CHECKIN);
		scene_pass(&sc, 20 * MS);
		ck_told(&sc.two, 2, ERROR_NONE, EXECUTED_YES);
		ck_assert_uint_eq(sc.stage.pool->n_sessions, 1);
		scene_end(&sc);
	}
END_TEST

START_TEST(a_direct_lease_that_its_worker_still_serves_is_waited_for)
	{
		struct sim_child *c;
		struct lease *l;
		struct scene sc;

		begin(&sc, true, false);
		for (c = sc.stage.machine.children; c; c = c->next)
			hold_calls(c);
		l = lend(&sc, 1, true);
		c = scene_child_of(&sc, l->worker);
		lease_end(l, LEASE_END_CHECKIN);
		sim_pair_client_close(sc.stage.loop, told(&sc.one, 1)->fd);
		for (struct sim_child *other = sc.stage.machine.children; other; other = other->next)
			other->script.call = SIM_CALL_REPLY;
		sim_execute_in(&sc.two, 2, "chat");
		scene_pass(&sc, 100 * MS);
		ck_waits(&sc.two, 2);
		sim_child_reply_counts(c, c->call, 1, 0);
		scene_pass(&sc, 20 * MS);
		ck_told(&sc.two, 2, ERROR_NONE, EXECUTED_YES);
		scene_end(&sc);
	}
END_TEST

START_TEST(a_stop_does_not_wait_for_what_waits_for_it)
	{
		for (unsigned prefer = 0; prefer < 2; prefer++) {
			struct scene sc;

			begin(&sc, prefer, true);
			(void)linger(&sc);
			sim_execute_in(&sc.one, 3, "chat");
			session_close(found(&sc, "chat"));
			sim_execute_in(&sc.one, 4, "chat");
			scene_pass(&sc, 10 * MS);
			pool_drain(sc.stage.pool);
			ck_told(&sc.one, 3, ERROR_DRAINING, EXECUTED_NEVER);
			ck_told(&sc.one, 4, ERROR_DRAINING, EXECUTED_NEVER);
			ck_assert_uint_eq(sc.stage.pool->n_requests, 0);
			scene_pass(&sc, 3 * S);
			ck_assert_uint_eq(sc.stage.n_stopped, 1);
			scene_end(&sc);
		}
	}
END_TEST

START_TEST(a_session_that_is_closed_meanwhile_is_charged_until_then)
	{
		struct sim_child *c;
		struct scene sc;

		begin(&sc, true, false);
		c = linger(&sc);
		session_close(found(&sc, "chat"));
		scene_pass(&sc, 100 * MS);
		ck_assert_uint_eq(sc.one.caller.account->sessions, 1);
		end_call(&sc, c);
		ck_assert_uint_eq(sc.one.caller.account->sessions, 0);
		scene_end(&sc);
	}
END_TEST

RUN_SUITE("session order", a_call_waits_for_an_answered_one_of_its_session_that_still_runs,
	  a_call_that_was_answered_before_its_worker_read_it_is_waited_for_too, it_waits_until_the_worker_is_dead,
	  a_lost_session_that_is_opened_again_waits_for_the_worker_that_it_was_lost_with,
	  the_wait_counts_and_its_queue_timeout_tells_what_it_waited_for, an_edit_does_not_wait_for_it,
	  a_new_session_of_its_name_waits_for_it_and_for_the_hook, a_hook_that_goes_on_is_waited_for_too,
	  a_lease_of_the_session_is_not_given_before, a_call_that_goes_on_after_its_lease_is_waited_for,
	  a_new_session_of_its_name_waits_for_the_lease_of_the_one_before,
	  a_direct_lease_that_its_worker_still_serves_is_waited_for, a_stop_does_not_wait_for_what_waits_for_it,
	  a_session_that_is_closed_meanwhile_is_charged_until_then)

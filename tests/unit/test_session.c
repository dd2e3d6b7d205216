#include "daemon/pool/session.h"

#include <signal.h>

#include "daemon/pool/account.h"
#include "tests/unit/pool_support.h"

static struct session *found(struct scene *sc, const char *name)
{
	return session_find(sc->stage.pool, sc->one.caller.uid, span_str(name));
}

static void scene_settings(struct scene *sc, unsigned workers, struct pool_settings *s)
{
	s->min_workers = s->max_workers = workers;
	scene_prepare(sc, s);
	sim_stage_start(&sc->stage);
}

static struct sim_child *child_of(struct scene *sc, const struct worker *w)
{
	return sim_machine_find(&sc->stage.machine, w->proc.pid);
}

/* One call, to its end. */
static void call(struct scene *sc, struct sim_caller *c, uint64_t id, const char *name)
{
	sim_execute_in(c, id, name);
	scene_pass(sc, 10 * MS);
	ck_told(c, id, ERROR_NONE, EXECUTED_YES);
}

START_TEST(calls_of_a_session_run_in_one_worker_in_order)
	{
		struct scene sc;
		struct session *s;
		struct sim_child *c;

		scene_begin(&sc, 3);
		for (uint64_t id = 1; id <= 6; id++)
			sim_execute_in(id % 2 ? &sc.one : &sc.two, id, "chat");
		scene_pass(&sc, 100 * MS);
		s = found(&sc, "chat");
		ck_assert_ptr_nonnull(s->worker);
		c = child_of(&sc, s->worker);
		ck_assert_uint_eq(c->n_calls, 6);
		for (uint64_t id = 1; id <= 6; id++)
			ck_told(id % 2 ? &sc.one : &sc.two, id, ERROR_NONE, EXECUTED_YES);
		ck_assert_uint_eq(sim_session_n(s), 6);
		ck_assert_uint_eq(s->sends, 1); /* its copy was current all the time */
		scene_end(&sc);
	}
END_TEST

START_TEST(fault_63_two_first_calls_at_once_land_on_one_worker)
	{
		struct scene sc;

		scene_begin(&sc, 2);
		sim_execute_in(&sc.one, 1, "chat");
		sim_execute_in(&sc.two, 1, "chat");
		scene_pass(&sc, 50 * MS);
		ck_assert_uint_eq(sim_session_n(found(&sc, "chat")), 2);
		ck_assert_uint_eq(child_of(&sc, found(&sc, "chat")->worker)->n_calls, 2);
		scene_end(&sc);
	}
END_TEST

START_TEST(sessions_are_spread_over_workers_but_for_the_reserve)
	{
		struct pool_settings settings = sim_settings();
		unsigned carriers = 0;
		struct scene sc;
		char name[8];

		settings.session_reserve = 1;
		scene_settings(&sc, 3, &settings);
		for (uint64_t id = 1; id <= 8; id++) {
			(void)snprintf(name, sizeof(name), "s%d", (int)id);
			call(&sc, &sc.one, id, name);
		}
		for (struct worker *w = sc.stage.pool->workers; w; w = w->next) {
			carriers += w->n_bound != 0;
			ck_assert(w->n_bound == 0 || w->n_bound == 4);
		}
		ck_assert_uint_eq(carriers, 2);
		scene_end(&sc);
	}
END_TEST

START_TEST(fault_67_the_reserve_serves_when_all_other_workers_are_held_by_sessions)
	{
		struct pool_settings settings = sim_settings();
		struct scene sc;

		settings.session_reserve = 1;
		scene_settings(&sc, 2, &settings);
		call(&sc, &sc.one, 1, "a");
		child_of(&sc, found(&sc, "a")->worker)->script.call = SIM_CALL_HANG;
		sim_execute_in(&sc.one, 2, "a");
		scene_pass(&sc, 10 * MS);
		sim_submit_in(&sc.two, "b", &(struct request_spec){ .kind = REQUEST_EXECUTE, .id = 2, .queue_timeout = S });
		sim_execute(&sc.two, 1, 0, 0);
		scene_pass(&sc, 100 * MS);
		ck_told(&sc.two, 1, ERROR_NONE, EXECUTED_YES);
		ck_waits(&sc.two, 2);
		scene_pass(&sc, S);
		ck_told(&sc.two, 2, ERROR_QUEUE_TIMEOUT, EXECUTED_NEVER);
		scene_end(&sc);
	}
END_TEST

START_TEST(a_pool_of_one_worker_serves_sessions_and_others_in_turn)
	{
		struct pool_settings settings = sim_settings();
		struct scene sc;

		settings.session_reserve = 1;
		scene_settings(&sc, 1, &settings);
		call(&sc, &sc.one, 1, "a");
		scene_child(&sc)->script.call_after = 10 * MS;
		for (uint64_t id = 2; id < 12; id++) {
			sim_execute_in(&sc.one, id, "a");
			sim_execute(&sc.two, id, 0, 0);
		}
		scene_pass(&sc, 105 * MS);
		for (uint64_t id = 2; id < 6; id++) {
			ck_told(&sc.one, id, ERROR_NONE, EXECUTED_YES);
			ck_told(&sc.two, id, ERROR_NONE, EXECUTED_YES);
		}
		scene_pass(&sc, S);
		scene_end(&sc);
	}
END_TEST

START_TEST(fault_62_the_death_of_its_worker_loses_a_session)
	{
		struct scene sc;
		struct session *s;

		scene_begin(&sc, 2);
		call(&sc, &sc.one, 1, "chat");
		s = found(&sc, "chat");
		child_of(&sc, s->worker)->script.call = SIM_CALL_HANG;
		sim_execute_in(&sc.one, 2, "chat");
		sim_execute_in(&sc.one, 3, "chat");
		scene_pass(&sc, 10 * MS);
		sim_child_die(child_of(&sc, s->worker), 0, SIGKILL);
		scene_pass(&sc, 10 * MS);
		ck_told(&sc.one, 2, ERROR_SESSION_LOST, EXECUTED_MAYBE);
		ck_assert_ptr_nonnull(strstr(told(&sc.one, 2)->message, "SIGKILL"));
		ck_told(&sc.one, 3, ERROR_SESSION_LOST, EXECUTED_NEVER);
		sim_execute_in(&sc.one, 4, "chat");
		ck_told(&sc.one, 4, ERROR_SESSION_LOST, EXECUTED_NEVER);
		ck_assert_ptr_nonnull(strstr(told(&sc.one, 4)->message, "SIGKILL"));
		ck_assert_uint_eq(sim_session_n(s), 1); /* its values are there */
		scene_end(&sc);
	}
END_TEST

START_TEST(a_lost_session_that_is_opened_again_has_its_values_unless_they_are_reset)
	{
		struct scene sc;
		struct session *s;
		struct outcome o;
		bool fresh;

		scene_begin(&sc, 2);
		for (unsigned reset = 0; reset < 2; reset++) {
			call(&sc, &sc.one, 1 + 10 * reset, "chat");
			s = found(&sc, "chat");
			sim_child_die(child_of(&sc, s->worker), 0, SIGKILL);
			scene_pass(&sc, S);
			ck_assert(s->lost);
			ck_assert_ptr_eq(session_open(sc.stage.pool, &sc.one.caller, span_str("chat"), 0, reset, &fresh, &o), s);
			ck_assert(fresh && !s->lost);
			call(&sc, &sc.one, 2 + 10 * reset, "chat");
			ck_assert_uint_eq(sim_session_n(s), reset ? 1 : 2);
		}
		scene_end(&sc);
	}
END_TEST

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
		scene_child(&sc)->script.call = SIM_CALL_MANUAL;
		scene_child(&sc)->script.ignores_interrupt = true;
		sim_submit_in(&sc.one, "chat", &(struct request_spec){ .kind = REQUEST_EXECUTE, .id = 2, .timeout = 100 * MS });
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
		scene_settings(&sc, 1, &settings);
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
		static const uint8_t writes[][8] = { { 5 },			      /* no map */
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

START_TEST(a_session_that_prefers_its_worker_moves_when_that_is_busy_with_its_values)
	{
		struct pool_settings settings = sim_settings();
		struct worker *first;
		struct scene sc;
		struct session *s;

		settings.affinity_prefer = true;
		scene_settings(&sc, 2, &settings);
		call(&sc, &sc.one, 1, "chat");
		s = found(&sc, "chat");
		first = s->worker;
		call(&sc, &sc.one, 2, "chat");
		ck_assert_ptr_eq(s->worker, first);
		child_of(&sc, first)->script.call = SIM_CALL_HANG;
		sim_execute(&sc.two, 1, 0, 0);
		if (first->state == WORKER_IDLE)
			sim_execute(&sc.two, 2, 0, 0);
		scene_pass(&sc, 10 * MS);
		call(&sc, &sc.one, 3, "chat");
		ck_assert_ptr_ne(s->worker, first);
		ck_assert_uint_eq(sim_session_n(s), 3);
		ck_assert_ptr_null(child_of(&sc, first)->copies.list); /* it was told to forget it */
		scene_end(&sc);
	}
END_TEST

START_TEST(a_session_that_prefers_its_worker_survives_it)
	{
		struct pool_settings settings = sim_settings();
		struct scene sc;
		struct session *s;

		settings.affinity_prefer = true;
		scene_settings(&sc, 2, &settings);
		call(&sc, &sc.one, 1, "chat");
		s = found(&sc, "chat");
		child_of(&sc, s->worker)->script.call = SIM_CALL_DIE;
		child_of(&sc, s->worker)->script.signal = SIGKILL;
		sim_execute_in(&sc.one, 2, "chat");
		sim_execute_in(&sc.one, 3, "chat");
		scene_pass(&sc, S);
		ck_told(&sc.one, 2, ERROR_WORKER_DIED, EXECUTED_MAYBE);
		ck_told(&sc.one, 3, ERROR_NONE, EXECUTED_YES);
		ck_assert_uint_eq(sim_session_n(s), 2);
		scene_end(&sc);
	}
END_TEST

START_TEST(fault_64_a_session_that_is_not_used_ends_with_its_ttl)
	{
		struct pool_settings settings = sim_settings();
		struct scene sc;

		settings.session_ttl = S;
		scene_settings(&sc, 1, &settings);
		sim_execute_in(&sc.one, 1, "chat");
		scene_pass(&sc, 500 * MS);
		call(&sc, &sc.one, 2, "chat");
		scene_pass(&sc, 980 * MS);
		ck_assert_ptr_nonnull(found(&sc, "chat"));
		scene_pass(&sc, 30 * MS);
		ck_assert_ptr_null(found(&sc, "chat"));
		ck_assert_uint_eq(sc.stage.pool->n_sessions, 0);
		ck_assert_uint_eq(sc.one.caller.account->sessions, 0);
		ck_assert_ptr_null(scene_child(&sc)->copies.list);
		scene_end(&sc);
	}
END_TEST

START_TEST(a_session_does_not_end_while_a_call_runs_or_waits)
	{
		struct pool_settings settings = sim_settings();
		struct scene sc;

		settings.session_ttl = 100 * MS;
		scene_settings(&sc, 1, &settings);
		scene_child(&sc)->script.call_after = 500 * MS;
		sim_execute_in(&sc.one, 1, "chat");
		sim_execute_in(&sc.one, 2, "chat");
		scene_pass(&sc, 1050 * MS);
		ck_told(&sc.one, 2, ERROR_NONE, EXECUTED_YES);
		ck_assert_uint_eq(sim_session_n(found(&sc, "chat")), 2);
		scene_pass(&sc, S);
		ck_assert_ptr_null(found(&sc, "chat"));
		scene_end(&sc);
	}
END_TEST

START_TEST(the_hook_runs_in_the_worker_of_the_session_after_its_waiting_calls)
	{
		struct scene sc;
		struct pool_settings s = sim_settings();

		s.min_workers = s.max_workers = 1;
		scene_prepare(&sc, &s);
		sc.stage.machine.script.session_close = true;
		sim_stage_start(&sc.stage);
		call(&sc, &sc.one, 1, "chat");
		scene_child(&sc)->script.call_after = 50 * MS;
		sim_execute_in(&sc.one, 2, "chat");
		sim_execute_in(&sc.one, 3, "chat");
		session_close(found(&sc, "chat"));
		ck_assert_ptr_null(found(&sc, "chat"));
		scene_pass(&sc, 110 * MS);
		ck_told(&sc.one, 3, ERROR_NONE, EXECUTED_YES);
		ck_assert_uint_eq(scene_child(&sc)->n_closed, 1);
		ck_assert_uint_eq(scene_child(&sc)->n_calls, 4);
		ck_assert_uint_eq(sc.stage.pool->n_sessions, 1);
		scene_pass(&sc, 100 * MS);
		ck_assert_uint_eq(sc.stage.pool->n_sessions, 0);
		scene_end(&sc);
	}
END_TEST

/* One session with a hook, of a worker that is busy with a call of it for 3 s. */
static void begin_hooked(struct scene *sc, const struct pool_settings *s)
{
	scene_prepare(sc, s);
	sc->stage.machine.script.session_close = true;
	sim_stage_start(&sc->stage);
	call(sc, &sc->one, 1, "chat");
	scene_child(sc)->script.call_after = 3 * S;
	(void)sim_submit_in(&sc->one, "chat", &(struct request_spec){ .kind = REQUEST_EXECUTE, .id = 2, .timeout = 4 * S });
	scene_pass(sc, 0);
}

START_TEST(the_hook_runs_also_when_a_call_before_it_takes_longer_than_stop_timeout)
	{
		struct scene sc;
		struct pool_settings s = sim_settings();

		s.queue_timeout = s.stop_timeout = 500 * MS;
		begin_hooked(&sc, &s);
		session_close(found(&sc, "chat"));
		scene_pass(&sc, 3100 * MS);
		ck_told(&sc.one, 2, ERROR_NONE, EXECUTED_YES);
		ck_assert_uint_eq(scene_child(&sc)->n_closed, 1);
		scene_end(&sc);
	}
END_TEST

START_TEST(a_hook_that_takes_longer_than_stop_timeout_is_interrupted)
	{
		struct scene sc;
		struct pool_settings s = sim_settings();

		s.stop_timeout = 500 * MS;
		begin_hooked(&sc, &s);
		session_close(found(&sc, "chat"));
		scene_pass(&sc, 3490 * MS);
		ck_assert_uint_eq(scene_child(&sc)->n_closed, 1);
		ck_assert_uint_eq(scene_child(&sc)->n_interrupts, 0);
		scene_pass(&sc, 100 * MS);
		ck_assert_uint_eq(scene_child(&sc)->n_interrupts, 1);
		ck_assert_uint_eq(sc.stage.pool->n_sessions, 0);
		scene_end(&sc);
	}
END_TEST

START_TEST(fault_99_hooks_are_charged_to_nobody)
	{
		struct scene sc;
		struct pool_settings s = sim_settings();

		s.min_workers = s.max_workers = 1;
		scene_prepare(&sc, &s);
		sc.stage.machine.script.session_close = true;
		sim_stage_start(&sc.stage);
		call(&sc, &sc.one, 1, "chat");
		session_close(found(&sc, "chat"));
		ck_assert_uint_eq(sc.stage.pool->n_requests, 1);
		ck_assert_uint_eq(sc.stage.pool->self.account->calls, 0);
		scene_pass(&sc, 100 * MS);
		ck_assert_uint_eq(scene_child(&sc)->n_closed, 1);
		scene_end(&sc);
	}
END_TEST

START_TEST(fault_28_calls_that_wait_for_the_worker_of_their_session_count_against_max_queue)
	{
		struct scene sc;
		struct pool_settings s = sim_settings();
		char name[] = "a";

		s.max_queue = 3;
		scene_settings(&sc, 1, &s);
		scene_child(&sc)->script.call_after = 50 * MS;
		sim_execute_in(&sc.one, 1, "chat");
		scene_pass(&sc, 10 * MS);
		for (uint64_t id = 2; id <= 6; id++, name[0]++)
			sim_execute_in(&sc.one, id, name);
		ck_assert_uint_eq(pool_waiting(sc.stage.pool), 3);
		ck_told(&sc.one, 5, ERROR_OVERLOADED, EXECUTED_NEVER);
		ck_told(&sc.one, 6, ERROR_OVERLOADED, EXECUTED_NEVER);
		scene_pass(&sc, 300 * MS);
		for (uint64_t id = 1; id <= 4; id++)
			ck_told(&sc.one, id, ERROR_NONE, EXECUTED_YES);
		ck_assert_uint_eq(pool_waiting(sc.stage.pool), 0);
		scene_end(&sc);
	}
END_TEST

START_TEST(a_name_that_was_closed_is_free_at_once)
	{
		struct scene sc;
		struct session *old;

		scene_begin(&sc, 1);
		sim_execute_in(&sc.one, 1, "chat");
		sim_execute_in(&sc.one, 2, "chat");
		old = found(&sc, "chat");
		session_close(old);
		sim_execute_in(&sc.one, 3, "chat");
		ck_assert_ptr_ne(found(&sc, "chat"), old);
		scene_pass(&sc, 100 * MS);
		for (uint64_t id = 1; id <= 3; id++)
			ck_told(&sc.one, id, ERROR_NONE, EXECUTED_YES);
		ck_assert_uint_eq(sim_session_n(found(&sc, "chat")), 1);
		ck_assert_uint_eq(sc.stage.pool->n_sessions, 1);
		scene_end(&sc);
	}
END_TEST

START_TEST(a_new_session_of_a_name_waits_for_the_hook_of_the_one_before)
	{
		struct scene sc;
		struct pool_settings s = sim_settings();

		s.min_workers = s.max_workers = 3;
		scene_prepare(&sc, &s);
		sc.stage.machine.script.session_close = true;
		sc.stage.machine.script.call_after = 50 * MS;
		sim_stage_start(&sc.stage);
		sim_execute_in(&sc.one, 1, "chat");
		scene_pass(&sc, 60 * MS);
		for (uint64_t id = 2; id <= 4; id++) { /* each in a session of its own, closed at once */
			sim_execute_in(&sc.one, id, "chat");
			session_close(found(&sc, "chat"));
		}
		sim_execute_in(&sc.one, 5, "chat");
		ck_assert_uint_eq(sc.stage.pool->n_sessions, 4);
		for (uint64_t id = 2; id <= 4; id++) {
			scene_pass(&sc, 50 * MS); /* the call, while later ones wait */
			ck_told(&sc.one, id, ERROR_NONE, EXECUTED_YES);
			ck_waits(&sc.one, id + 1);
			scene_pass(&sc, 50 * MS); /* the hook */
			ck_waits(&sc.one, id + 1);
		}
		scene_pass(&sc, 60 * MS);
		ck_told(&sc.one, 5, ERROR_NONE, EXECUTED_YES);
		ck_assert_uint_eq(sim_session_n(found(&sc, "chat")), 1);
		ck_assert_uint_eq(sc.stage.pool->n_sessions, 1);
		scene_end(&sc);
	}
END_TEST

START_TEST(fault_65_another_user_has_sessions_of_its_own)
	{
		struct scene sc;
		struct sim_caller other;

		scene_begin(&sc, 1);
		sim_caller_init_as(&other, &sc.stage, 4711);
		call(&sc, &sc.one, 1, "chat");
		call(&sc, &other, 1, "chat");
		ck_assert_uint_eq(sim_session_n(found(&sc, "chat")), 1);
		ck_assert_uint_eq(sc.stage.pool->n_sessions, 2);
		caller_gone(&other.caller);
		scene_end(&sc);
	}
END_TEST

START_TEST(there_are_sessions_up_to_max_sessions)
	{
		struct pool_settings settings = sim_settings();
		struct scene sc;

		settings.max_sessions = 2;
		scene_settings(&sc, 1, &settings);
		call(&sc, &sc.one, 1, "a");
		call(&sc, &sc.one, 2, "b");
		sim_execute_in(&sc.one, 3, "c");
		ck_told(&sc.one, 3, ERROR_QUOTA, EXECUTED_NEVER);
		session_close(found(&sc, "a"));
		scene_pass(&sc, 10 * MS);
		call(&sc, &sc.one, 4, "c");
		scene_end(&sc);
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

START_TEST(a_session_lease_keeps_others_out)
	{
		struct scene sc;
		struct session *s;
		struct lease *l;

		scene_begin(&sc, 2);
		call(&sc, &sc.one, 1, "chat");
		s = found(&sc, "chat");
		sim_submit_in(&sc.one, "chat", &(struct request_spec){ .kind = REQUEST_CHECKOUT, .id = 2 });
		scene_pass(&sc, 10 * MS);
		l = registry_find_lease(&sc.stage.registry, told(&sc.one, 2)->lease);
		ck_assert_ptr_nonnull(l);
		ck_assert_ptr_eq(l->session, s);
		ck_assert_ptr_eq(l->worker, s->worker);
		sim_execute_in(&sc.two, 1, "chat");
		ck_told(&sc.two, 1, ERROR_SESSION_BUSY, EXECUTED_NEVER);
		call(&sc, &sc.one, 3, "chat"); /* the holder's own */
		ck_assert_uint_eq(sim_session_n(s), 2);
		lease_end(l, LEASE_END_CHECKIN);
		scene_pass(&sc, 10 * MS);
		call(&sc, &sc.two, 2, "chat");
		ck_assert_uint_eq(sim_session_n(s), 3);
		scene_end(&sc);
	}
END_TEST

START_TEST(calls_that_waited_before_a_session_lease_go_on_after_it)
	{
		struct scene sc;

		scene_begin(&sc, 1);
		sim_execute_in(&sc.one, 1, "chat");
		sim_submit_in(&sc.one, "chat", &(struct request_spec){ .kind = REQUEST_CHECKOUT, .id = 2, .ttl = S });
		sim_execute_in(&sc.two, 1, "chat");
		scene_pass(&sc, 500 * MS);
		ck_assert_uint_ne(told(&sc.one, 2)->lease, 0);
		ck_waits(&sc.two, 1);
		scene_pass(&sc, 600 * MS);
		ck_told(&sc.two, 1, ERROR_NONE, EXECUTED_YES);
		scene_end(&sc);
	}
END_TEST

START_TEST(fault_69_a_worker_that_is_due_serves_its_sessions_until_they_are_closed)
	{
		struct pool_settings settings = sim_settings();
		struct worker *old;
		struct scene sc;
		struct session *s;

		settings.max_requests = 4;
		scene_settings(&sc, 1, &settings);
		call(&sc, &sc.one, 1, "chat");
		s = found(&sc, "chat");
		old = s->worker;
		for (uint64_t id = 2; id <= 8; id++)
			call(&sc, &sc.one, id, "chat");
		scene_pass(&sc, S);
		ck_assert_int_eq(old->state, WORKER_DRAINING);
		ck_assert_uint_eq(sc.stage.pool->in_state[WORKER_IDLE], 1);
		call(&sc, &sc.one, 9, "chat");
		ck_assert_ptr_eq(s->worker, old);
		ck_assert_uint_eq(sim_session_n(s), 9);
		session_close(s);
		scene_pass(&sc, 10 * MS);
		ck_assert_int_eq(old->state, WORKER_DEAD);
		scene_end(&sc);
	}
END_TEST

START_TEST(fault_69_or_until_drain_timeout)
	{
		struct pool_settings settings = sim_settings();
		struct worker *old;
		struct scene sc;

		settings.max_requests = 2;
		settings.drain_timeout = 3 * S;
		scene_settings(&sc, 1, &settings);
		for (uint64_t id = 1; id <= 4; id++)
			call(&sc, &sc.one, id, "chat");
		old = found(&sc, "chat")->worker;
		scene_pass(&sc, 2 * S);
		ck_assert_int_eq(old->state, WORKER_DRAINING);
		scene_pass(&sc, 1100 * MS);
		ck_assert_int_eq(old->state, WORKER_DEAD);
		ck_assert(found(&sc, "chat")->lost);
		ck_assert_ptr_nonnull(strstr(found(&sc, "chat")->how, "drain_timeout"));
		scene_end(&sc);
	}
END_TEST

START_TEST(waiting_calls_of_a_caller_that_is_gone_are_never_run)
	{
		struct scene sc;

		scene_begin(&sc, 1);
		scene_child(&sc)->script.call_after = 50 * MS;
		sim_execute_in(&sc.two, 1, "chat");
		for (uint64_t id = 1; id < 5; id++)
			sim_execute_in(&sc.one, id, "chat");
		sim_execute_in(&sc.two, 2, "chat");
		scene_pass(&sc, 10 * MS);
		caller_gone(&sc.one.caller);
		scene_pass(&sc, 100 * MS);
		ck_told(&sc.two, 2, ERROR_NONE, EXECUTED_YES);
		ck_assert_uint_eq(scene_child(&sc)->n_calls, 2);
		sim_caller_init(&sc.one, &sc.stage);
		scene_end(&sc);
	}
END_TEST

START_TEST(at_a_stop_waiting_calls_of_sessions_are_answered)
	{
		struct scene sc;

		scene_begin(&sc, 1);
		scene_child(&sc)->script.call_after = 50 * MS;
		sim_execute_in(&sc.one, 1, "chat");
		sim_execute_in(&sc.one, 2, "chat");
		sim_execute_in(&sc.one, 3, "other");
		scene_pass(&sc, 10 * MS);
		pool_drain(sc.stage.pool);
		scene_pass(&sc, 100 * MS);
		ck_told(&sc.one, 1, ERROR_NONE, EXECUTED_YES);
		ck_told(&sc.one, 2, ERROR_DRAINING, EXECUTED_NEVER);
		ck_told(&sc.one, 3, ERROR_DRAINING, EXECUTED_NEVER);
		scene_end(&sc);
	}
END_TEST

RUN_SUITE("session", calls_of_a_session_run_in_one_worker_in_order, fault_63_two_first_calls_at_once_land_on_one_worker,
	  sessions_are_spread_over_workers_but_for_the_reserve,
	  fault_67_the_reserve_serves_when_all_other_workers_are_held_by_sessions,
	  a_pool_of_one_worker_serves_sessions_and_others_in_turn, fault_62_the_death_of_its_worker_loses_a_session,
	  a_lost_session_that_is_opened_again_has_its_values_unless_they_are_reset, a_call_that_fails_writes_nothing,
	  a_success_that_comes_after_the_deadline_is_not_committed_and_the_worker_gets_the_values_anew,
	  writes_over_the_limit_are_an_error_and_nothing_is_written,
	  fault_38_writes_that_are_malformed_end_the_worker_and_write_nothing,
	  a_session_that_prefers_its_worker_moves_when_that_is_busy_with_its_values,
	  a_session_that_prefers_its_worker_survives_it, fault_64_a_session_that_is_not_used_ends_with_its_ttl,
	  a_session_does_not_end_while_a_call_runs_or_waits,
	  the_hook_runs_in_the_worker_of_the_session_after_its_waiting_calls,
	  the_hook_runs_also_when_a_call_before_it_takes_longer_than_stop_timeout,
	  a_hook_that_takes_longer_than_stop_timeout_is_interrupted, fault_99_hooks_are_charged_to_nobody,
	  fault_28_calls_that_wait_for_the_worker_of_their_session_count_against_max_queue, a_name_that_was_closed_is_free_at_once,
	  a_new_session_of_a_name_waits_for_the_hook_of_the_one_before, fault_65_another_user_has_sessions_of_its_own, there_are_sessions_up_to_max_sessions,
	  a_put_waits_for_the_call_that_runs, a_session_lease_keeps_others_out,
	  calls_that_waited_before_a_session_lease_go_on_after_it,
	  fault_69_a_worker_that_is_due_serves_its_sessions_until_they_are_closed, fault_69_or_until_drain_timeout,
	  waiting_calls_of_a_caller_that_is_gone_are_never_run, at_a_stop_waiting_calls_of_sessions_are_answered)

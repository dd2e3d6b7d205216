#include "daemon/pool/direct.h"

#include <errno.h>
#include <signal.h>

#include "tests/sim/sim_pair.h"
#include "tests/unit/pool_support.h"

/* A direct lease of `one`, and its end of the socket. */
struct held {
	struct lease *lease;
	uint64_t id;
	int fd;
	struct worker *worker;
	struct sim_child *child;
};

static struct held hold_as(struct scene *sc, enum sim_call call, uint64_t ttl)
{
	const struct sim_answer *a;
	struct held h;

	sc->stage.machine.children->script.call = call;
	sim_checkout_direct(&sc->one, 1, ttl);
	scene_pass(sc, 0);
	a = told(&sc->one, 1);
	ck_assert_int_eq(a->code, ERROR_NONE);
	h.lease = registry_find_lease(&sc->stage.registry, a->lease);
	ck_assert_ptr_nonnull(h.lease);
	ck_assert(h.lease->direct);
	h.id = a->lease;
	h.fd = a->fd;
	ck_assert_int_ge(h.fd, 0);
	h.worker = h.lease->worker;
	h.child = sim_machine_find(&sc->stage.machine, h.worker->proc.pid);
	scene_pass(sc, MS);
	ck_assert(h.child->direct);
	return h;
}

static bool is_over(struct scene *sc, const struct held *h)
{
	return sim_pair_client_is_over(sc->stage.loop, h->fd);
}

static void drop(struct scene *sc, const struct held *h)
{
	sim_pair_client_close(sc->stage.loop, h->fd);
}

static void ck_lost(const struct sim_caller *c, const struct held *h, const char *reason)
{
	ck_assert_uint_eq(c->n_news, 1);
	ck_assert_uint_eq(c->news[0].lease, h->id);
	ck_assert_str_eq(c->news[0].reason, reason);
}

static void ck_ended(struct scene *sc, const struct held *h, const char *how)
{
	const char *text = caller_find_ended(&sc->one.caller, h->id, loop_now(sc->stage.loop));

	ck_assert_ptr_null(registry_find_lease(&sc->stage.registry, h->id));
	ck_assert_msg(text && strstr(text, how), "%s", text);
	ck_assert_uint_eq(sc->stage.pool->n_direct, 0);
	ck_assert(is_over(sc, h));
}

START_TEST(a_direct_lease_takes_the_slot_with_a_call_that_nobody_asked_for)
	{
		struct scene sc;
		struct held h;
		uint64_t call;

		scene_begin(&sc, 1);
		h = hold_as(&sc, SIM_CALL_REPLY, 0);
		call = h.worker->slot.call;
		ck_assert_uint_ne(call, 0);
		ck_assert_uint_eq(h.child->call, call);
		ck_assert_ptr_null(registry_find_call(&sc.stage.registry, call));
		ck_assert(!slot_is_abandoned(h.worker));
		ck_assert_uint_eq(sc.stage.pool->n_running, 0);
		ck_assert_uint_eq(sc.stage.pool->stats.completed, 1); /* the checkout */
		ck_assert_uint_eq(sc.stage.pool->n_direct, 1);
		scene_pass(&sc, 5 * S);
		ck_assert(!is_over(&sc, &h));
		ck_assert_int_eq(h.worker->state, WORKER_BUSY);
		drop(&sc, &h);
		scene_end(&sc);
	}
END_TEST

START_TEST(checkin_ends_the_socket_and_counts_what_the_worker_tells)
	{
		struct scene sc;
		struct held h;

		scene_begin(&sc, 1);
		h = hold_as(&sc, SIM_CALL_REPLY, 0);
		scene_pass(&sc, 10 * MS);
		lease_end(h.lease, LEASE_END_CHECKIN);
		ck_ended(&sc, &h, "checked in");
		scene_pass(&sc, MS);
		ck_assert_int_eq(h.worker->state, WORKER_IDLE);
		ck_assert_uint_eq(h.worker->calls_done, 2);
		ck_assert_uint_eq(sc.stage.pool->stats.direct_calls, 2);
		ck_assert_uint_eq(sc.stage.pool->stats.direct_errors, 1);
		ck_assert_uint_eq(sc.one.n_news, 0);
		scene_pass(&sc, 5 * S);
		ck_assert_uint_eq(h.child->n_interrupts, 0); /* nothing ran: the end of the socket is all it needs */
		drop(&sc, &h);
		scene_end(&sc);
	}
END_TEST

START_TEST(fault_66_the_ttl_ends_it_and_interrupts_what_runs)
	{
		struct scene sc;
		struct held h;

		scene_begin(&sc, 1);
		h = hold_as(&sc, SIM_CALL_HANG, 300 * MS);
		scene_pass(&sc, 299 * MS);
		ck_ended(&sc, &h, "ttl");
		ck_lost(&sc.one, &h, "ttl");
		scene_pass(&sc, MS);
		ck_assert_uint_eq(h.child->n_interrupts, 1);
		ck_assert_int_eq(h.worker->state, WORKER_IDLE);
		drop(&sc, &h);
		scene_end(&sc);
	}
END_TEST

START_TEST(a_worker_that_does_not_give_it_up_is_killed_after_the_grace)
	{
		struct scene sc;
		struct held h;

		scene_begin(&sc, 1);
		h = hold_as(&sc, SIM_CALL_HANG, 0);
		h.child->script.ignores_interrupt = true;
		lease_end(h.lease, LEASE_END_CHECKIN);
		scene_pass(&sc, 499 * MS);
		ck_assert(slot_is_abandoned(h.worker));
		ck_assert_int_eq(h.worker->state, WORKER_BUSY);
		scene_pass(&sc, 10 * MS);
		ck_assert_ptr_eq(sc.stage.pool->dead, h.worker);
		ck_assert_int_eq(h.worker->why, WORKER_WHY_CANCELLED);
		drop(&sc, &h);
		scene_end(&sc);
	}
END_TEST

START_TEST(fault_77_the_next_holder_has_another_socket)
	{
		struct scene sc;
		struct held h;

		scene_begin(&sc, 1);
		h = hold_as(&sc, SIM_CALL_REPLY, 0);
		scene_pass(&sc, 10 * MS);
		sim_checkout_direct(&sc.two, 1, 0);
		scene_pass(&sc, 10 * MS);
		ck_waits(&sc.two, 1);
		lease_end(h.lease, LEASE_END_CHECKIN);
		scene_pass(&sc, 10 * MS);
		ck_told(&sc.two, 1, ERROR_NONE, EXECUTED_YES);
		ck_assert(is_over(&sc, &h));
		ck_assert_int_ne(told(&sc.two, 1)->fd, h.fd);
		ck_assert(!sim_pair_client_is_over(sc.stage.loop, told(&sc.two, 1)->fd));
		sim_pair_client_close(sc.stage.loop, told(&sc.two, 1)->fd);
		drop(&sc, &h);
		scene_end(&sc);
	}
END_TEST

START_TEST(fault_66_a_client_that_closes_its_socket_gives_the_lease_back)
	{
		struct scene sc;
		struct held h;

		scene_begin(&sc, 1);
		h = hold_as(&sc, SIM_CALL_HANG, 0);
		drop(&sc, &h);
		scene_pass(&sc, MS);
		ck_assert_ptr_null(registry_find_lease(&sc.stage.registry, h.id));
		ck_assert_uint_eq(h.child->n_interrupts, 1);
		ck_assert_int_eq(h.worker->state, WORKER_IDLE);
		ck_assert_uint_eq(sc.one.n_news, 0); /* it knows */
		scene_end(&sc);
	}
END_TEST

START_TEST(a_client_that_is_gone_gives_it_back_too)
	{
		struct scene sc;
		struct held h;

		scene_begin(&sc, 1);
		h = hold_as(&sc, SIM_CALL_HANG, 0);
		caller_gone(&sc.one.caller);
		ck_assert(is_over(&sc, &h));
		scene_pass(&sc, MS);
		ck_assert_int_eq(h.worker->state, WORKER_IDLE);
		ck_assert_uint_eq(sc.one.n_news, 0);
		drop(&sc, &h);
		scene_end(&sc);
	}
END_TEST

START_TEST(a_worker_that_dies_ends_it_and_its_caller_is_told_why)
	{
		struct scene sc;
		struct held h;

		scene_begin(&sc, 1);
		h = hold_as(&sc, SIM_CALL_HANG, 0);
		sim_child_die(h.child, 0, SIGSEGV);
		scene_pass(&sc, 0);
		ck_ended(&sc, &h, "worker ended");
		ck_lost(&sc.one, &h, "worker_died");
		ck_assert(sc.one.news[0].has_cause);
		ck_assert_ptr_nonnull(strstr(sc.one.news[0].message, "SIGSEGV"));
		drop(&sc, &h);
		scene_end(&sc);
	}
END_TEST

START_TEST(a_worker_that_gives_it_up_ends_it)
	{
		struct scene sc;
		struct held h;

		scene_begin(&sc, 1);
		h = hold_as(&sc, SIM_CALL_MANUAL, 0);
		sim_child_reply_counts(h.child, h.child->call, 7, 3);
		scene_pass(&sc, 0);
		ck_ended(&sc, &h, "socket was closed");
		ck_assert_uint_eq(sc.one.n_news, 0); /* it is told at the socket */
		ck_assert_int_eq(h.worker->state, WORKER_IDLE);
		ck_assert_uint_eq(sc.stage.pool->stats.direct_calls, 7);
		ck_assert_uint_eq(sc.stage.pool->stats.direct_errors, 3);
		drop(&sc, &h);
		scene_end(&sc);
	}
END_TEST

START_TEST(an_answer_without_counts_ends_it_all_the_same)
	{
		struct scene sc;
		struct held h;

		scene_begin(&sc, 1);
		h = hold_as(&sc, SIM_CALL_MANUAL, 0);
		sim_child_reply_error(h.child, h.child->call, "internal", "no channel");
		scene_pass(&sc, 0);
		ck_ended(&sc, &h, "socket was closed");
		ck_assert_uint_eq(sc.stage.pool->stats.direct_calls, 0);
		ck_assert_uint_eq(h.worker->calls_done, 0);
		ck_assert_int_eq(h.worker->state, WORKER_IDLE);
		drop(&sc, &h);
		scene_end(&sc);
	}
END_TEST

START_TEST(a_worker_that_breaks_the_protocol_meanwhile_is_killed)
	{
		struct scene sc;
		struct held h;

		scene_begin(&sc, 1);
		h = hold_as(&sc, SIM_CALL_MANUAL, 0);
		sim_child_reply_counts(h.child, h.child->call + 1, 0, 0);
		scene_pass(&sc, 0);
		ck_ended(&sc, &h, "worker ended");
		ck_lost(&sc.one, &h, "worker_died");
		ck_assert_ptr_nonnull(strstr(sc.one.news[0].message, "protocol"));
		drop(&sc, &h);
		scene_end(&sc);
	}
END_TEST

START_TEST(fault_104_an_answer_that_lies_ready_wins_over_the_ttl)
	{
		struct scene sc;
		struct held h;

		scene_begin(&sc, 1);
		h = hold_as(&sc, SIM_CALL_MANUAL, 300 * MS);
		sim_child_reply_counts(h.child, h.child->call, 1, 0);
		sim_freeze(sc.stage.loop, 10 * S);
		scene_pass(&sc, 0);
		ck_ended(&sc, &h, "socket was closed");
		ck_assert_uint_eq(h.child->n_interrupts, 0);
		drop(&sc, &h);
		scene_end(&sc);
	}
END_TEST

START_TEST(its_calls_make_a_worker_due_like_others)
	{
		struct pool_settings s = sim_settings();
		struct scene sc;
		struct held h;

		s.max_requests = 10;
		scene_prepare(&sc, &s);
		sim_stage_start(&sc.stage);
		h = hold_as(&sc, SIM_CALL_MANUAL, 0);
		lease_end(h.lease, LEASE_END_CHECKIN);
		scene_pass(&sc, MS);
		sim_child_reply_counts(h.child, h.child->call, 12, 0);
		scene_pass(&sc, S);
		ck_assert_ptr_eq(sc.stage.pool->dead, h.worker);
		ck_assert_int_eq(h.worker->why, WORKER_WHY_MAX_REQUESTS);
		drop(&sc, &h);
		scene_end(&sc);
	}
END_TEST

START_TEST(fault_69_a_worker_that_is_due_leaves_when_it_has_ended)
	{
		struct pool_settings s = sim_settings();
		struct scene sc;
		struct held h;

		s.max_age = 200 * MS;
		scene_prepare(&sc, &s);
		sim_stage_start(&sc.stage);
		h = hold_as(&sc, SIM_CALL_REPLY, 0);
		scene_pass(&sc, 500 * MS);
		ck_assert_int_eq(h.worker->state, WORKER_DRAINING);
		ck_assert(!is_over(&sc, &h));
		lease_end(h.lease, LEASE_END_CHECKIN);
		scene_pass(&sc, 100 * MS);
		ck_assert_int_eq(h.worker->state, WORKER_DEAD);
		ck_assert_int_eq(h.worker->why, WORKER_WHY_MAX_AGE);
		drop(&sc, &h);
		scene_end(&sc);
	}
END_TEST

START_TEST(fault_89_a_pool_that_drains_lets_what_was_sent_be_served)
	{
		struct scene sc;
		struct held h;

		scene_begin(&sc, 1);
		h = hold_as(&sc, SIM_CALL_HANG, 0);
		pool_drain(sc.stage.pool);
		scene_pass(&sc, 2 * S);
		ck_assert_int_eq(h.worker->state, WORKER_BUSY); /* its call goes on */
		ck_assert_uint_eq(h.child->n_interrupts + h.child->n_stops, 0);
		ck_assert(!is_over(&sc, &h));
		sim_child_reply_counts(h.child, h.child->call, 1, 0);
		scene_pass(&sc, 0);
		ck_ended(&sc, &h, "shutting down");
		ck_lost(&sc.one, &h, "shutdown");
		scene_pass(&sc, S);
		ck_assert_int_eq(sc.stage.pool->state, POOL_STOPPED);
		drop(&sc, &h);
		scene_end(&sc);
	}
END_TEST

START_TEST(a_pool_that_drains_does_not_wait_for_one_that_does_nothing)
	{
		struct scene sc;
		struct held h;

		scene_begin(&sc, 1);
		h = hold_as(&sc, SIM_CALL_REPLY, 0);
		scene_pass(&sc, 10 * MS);
		pool_drain(sc.stage.pool);
		scene_pass(&sc, 100 * MS);
		ck_lost(&sc.one, &h, "shutdown");
		ck_assert_int_eq(sc.stage.pool->state, POOL_STOPPED);
		drop(&sc, &h);
		scene_end(&sc);
	}
END_TEST

START_TEST(a_pool_that_stops_at_once_ends_it)
	{
		struct scene sc;
		struct held h;

		scene_begin(&sc, 1);
		h = hold_as(&sc, SIM_CALL_HANG, 0);
		pool_stop_now(sc.stage.pool);
		ck_ended(&sc, &h, "shutting down");
		scene_pass(&sc, 100 * MS);
		ck_assert_int_eq(sc.stage.pool->state, POOL_STOPPED);
		drop(&sc, &h);
		scene_end(&sc);
	}
END_TEST

START_TEST(fault_74_a_checkout_whose_socket_cannot_be_had_costs_nothing)
	{
		static const struct {
			int open_error, send_error;
			enum error_code code;
		} cases[] = { { 0, -ETOOMANYREFS, ERROR_QUOTA },
			      { 0, -EAGAIN, ERROR_OVERLOADED },
			      { -EMFILE, 0, ERROR_OVERLOADED },
			      { -ENOSPC, 0, ERROR_OVERLOADED } };

		for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
			struct scene sc;
			unsigned fds;

			scene_begin(&sc, 1);
			fds = sim_fds_open(sc.stage.loop);
			sc.stage.machine.fd_error = cases[i].send_error;
			sim_pair_error = cases[i].open_error;
			sim_checkout_direct(&sc.one, 1, 0);
			scene_pass(&sc, MS);
			sim_pair_error = 0;
			ck_told(&sc.one, 1, cases[i].code, EXECUTED_NEVER);
			ck_assert_int_eq(told(&sc.one, 1)->fd, -1);
			ck_assert_uint_eq(sim_fds_open(sc.stage.loop), fds);
			ck_assert_uint_eq(sc.one.caller.n_leases, 0);
			ck_assert_uint_eq(sc.one.n_news, 0);
			ck_assert_int_eq(scene_worker(&sc)->state, WORKER_IDLE);
			ck_assert_uint_eq(sc.stage.pool->n_direct, 0);
			sim_execute(&sc.one, 2, 0, 0);
			scene_pass(&sc, 10 * MS);
			ck_told(&sc.one, 2, ERROR_NONE, EXECUTED_YES);
			scene_end(&sc);
		}
	}
END_TEST

START_TEST(a_worker_that_has_just_died_ends_the_lease_that_it_is_given)
	{
		struct scene sc;

		scene_begin(&sc, 1);
		sc.stage.machine.fd_error = -EPIPE; /* its exit has not been seen yet */
		sim_checkout_direct(&sc.one, 1, 0);
		scene_pass(&sc, 0);
		ck_told(&sc.one, 1, ERROR_NONE, EXECUTED_YES);
		ck_assert_uint_eq(sc.one.n_news, 0);
		sim_child_die(scene_child(&sc), 1, 0);
		scene_pass(&sc, 0);
		ck_assert_uint_eq(sc.one.n_news, 1);
		ck_assert_str_eq(sc.one.news[0].reason, "worker_died");
		ck_assert(sim_pair_client_is_over(sc.stage.loop, told(&sc.one, 1)->fd));
		sim_pair_client_close(sc.stage.loop, told(&sc.one, 1)->fd);
		scene_end(&sc);
	}
END_TEST

START_TEST(it_is_not_a_slow_call)
	{
		struct pool_settings s = sim_settings();
		struct scene sc;
		struct held h;

		s.slow_call = 100 * MS;
		scene_prepare(&sc, &s);
		sim_stage_start(&sc.stage);
		sim_execute(&sc.two, 1, 0, 0); /* arms the timer */
		scene_pass(&sc, 50 * MS);
		h = hold_as(&sc, SIM_CALL_HANG, 0);
		scene_pass(&sc, 5 * S);
		ck_assert_uint_eq(h.child->n_dumps, 0);
		drop(&sc, &h);
		scene_end(&sc);
	}
END_TEST

RUN_SUITE("direct", a_direct_lease_takes_the_slot_with_a_call_that_nobody_asked_for,
	  checkin_ends_the_socket_and_counts_what_the_worker_tells, fault_66_the_ttl_ends_it_and_interrupts_what_runs,
	  a_worker_that_does_not_give_it_up_is_killed_after_the_grace, fault_77_the_next_holder_has_another_socket,
	  fault_66_a_client_that_closes_its_socket_gives_the_lease_back, a_client_that_is_gone_gives_it_back_too,
	  a_worker_that_dies_ends_it_and_its_caller_is_told_why, a_worker_that_gives_it_up_ends_it,
	  an_answer_without_counts_ends_it_all_the_same, a_worker_that_breaks_the_protocol_meanwhile_is_killed,
	  fault_104_an_answer_that_lies_ready_wins_over_the_ttl, its_calls_make_a_worker_due_like_others,
	  fault_69_a_worker_that_is_due_leaves_when_it_has_ended,
	  fault_89_a_pool_that_drains_lets_what_was_sent_be_served,
	  a_pool_that_drains_does_not_wait_for_one_that_does_nothing, a_pool_that_stops_at_once_ends_it,
	  fault_74_a_checkout_whose_socket_cannot_be_had_costs_nothing,
	  a_worker_that_has_just_died_ends_the_lease_that_it_is_given, it_is_not_a_slow_call)

#include "daemon/pool/glance.h"

#include <signal.h>

#include "daemon/pool/stack.h"
#include "tests/sim/sim_child_parts.h"
#include "tests/unit/pool_support.h"

struct watcher {
	struct glance_waiter gw;
	unsigned n;
	uint64_t at, call;
	bool complete;
	struct loop *loop;
	char activity[GLANCE_TEXT], place[STACK_TEXT];
};

static void on_done(struct glance_waiter *gw, const struct glance *g)
{
	struct watcher *e = container_of(gw, struct watcher, gw);

	e->n++;
	e->at = loop_now(e->loop);
	e->call = g->call;
	e->complete = g->complete;
	glance_activity(g, e->activity);
	stack_place(glance_stack(g), e->place);
}

static struct watcher watch(struct scene *sc)
{
	return (struct watcher){ .gw = { .done = on_done }, .loop = sc->stage.loop };
}

static void begin_busy(struct scene *sc)
{
	scene_begin(sc, 1);
	scene_child(sc)->script.call = SIM_CALL_MANUAL;
	sim_execute(&sc->one, 1, 0, 0);
	scene_pass(sc, MS);
	ck_assert(!slot_is_free(scene_worker(sc)));
}

START_TEST(a_glance_is_complete_when_stack_and_pong_have_come_and_waits_no_longer)
	{
		struct scene sc;
		struct watcher e;
		uint64_t asked;

		begin_busy(&sc);
		e = watch(&sc);
		scene_child(&sc)->script.hears_after = 5 * MS;
		asked = loop_now(sc.stage.loop);
		glance_ask(scene_worker(&sc), &e.gw, 40 * MS);
		scene_pass(&sc, 20 * MS);
		ck_assert_uint_eq(e.n, 1);
		ck_assert_uint_eq(e.at - asked, 5 * MS);
		ck_assert(e.complete);
		ck_assert_str_eq(e.activity, "running Python");
		ck_assert_str_eq(e.place, "app.py line 5 in slow");
		ck_assert_uint_eq(e.call, scene_worker(&sc)->slot.call);
		scene_end(&sc);
	}
END_TEST

START_TEST(without_a_pong_it_is_c_code_that_holds_the_gil_and_known_after_25_ms)
	{
		struct scene sc;
		struct watcher e;
		uint64_t asked;

		begin_busy(&sc);
		e = watch(&sc);
		scene_child(&sc)->script.ignores_ping = true;
		asked = loop_now(sc.stage.loop);
		glance_ask(scene_worker(&sc), &e.gw, 40 * MS);
		scene_pass(&sc, 100 * MS);
		ck_assert_uint_eq(e.n, 1);
		ck_assert_uint_eq(e.at - asked, 25 * MS);
		ck_assert_str_eq(e.activity, "in C code that holds the GIL");
		scene_child(&sc)->script.state = 'S';
		glance_ask(scene_worker(&sc), &e.gw, 40 * MS);
		scene_pass(&sc, 100 * MS);
		ck_assert_str_eq(e.activity, "asleep in C code that holds the GIL: read");
		scene_end(&sc);
	}
END_TEST

START_TEST(a_worker_that_sleeps_is_told_with_the_system_call)
	{
		struct scene sc;
		struct watcher e;

		begin_busy(&sc);
		e = watch(&sc);
		scene_child(&sc)->script.state = 'S';
		glance_ask(scene_worker(&sc), &e.gw, 40 * MS);
		scene_pass(&sc, 10 * MS);
		ck_assert_str_eq(e.activity, "asleep in read");
		scene_end(&sc);
	}
END_TEST

/* Of a worker that was taken up, whose numbers begin anew. */
START_TEST(the_late_answer_to_a_ping_of_another_daemon_is_no_ping_of_ours)
	{
		struct scene sc;
		struct watcher e;

		begin_busy(&sc);
		e = watch(&sc);
		ck_assert_uint_eq(scene_worker(&sc)->ping_seq, 0);
		sim_child_say_pong(scene_child(&sc), 57);
		scene_pass(&sc, MS);
		scene_child(&sc)->script.state = 'S';
		glance_ask(scene_worker(&sc), &e.gw, 40 * MS);
		scene_pass(&sc, 10 * MS);
		ck_assert_uint_eq(e.n, 1);
		ck_assert_str_eq(e.activity, "asleep in read");
		scene_end(&sc);
	}
END_TEST

START_TEST(a_stopped_worker_is_told_at_once_and_sent_no_signal)
	{
		struct scene sc;
		struct watcher e;

		begin_busy(&sc);
		e = watch(&sc);
		scene_child(&sc)->script.state = 'T';
		glance_ask(scene_worker(&sc), &e.gw, 40 * MS);
		ck_assert_uint_eq(e.n, 0); /* never before it returns */
		scene_pass(&sc, MS);
		ck_assert_uint_eq(e.n, 1);
		ck_assert_str_eq(e.activity, "stopped (state T)");
		ck_assert_uint_eq(scene_child(&sc)->n_dumps, 0);
		scene_end(&sc);
	}
END_TEST

START_TEST(a_worker_that_shows_nothing_is_waited_for_until_the_limit)
	{
		struct scene sc;
		struct watcher e;
		uint64_t asked;

		begin_busy(&sc);
		e = watch(&sc);
		scene_child(&sc)->script.shows_stack = false;
		scene_child(&sc)->script.ignores_ping = true;
		asked = loop_now(sc.stage.loop);
		glance_ask(scene_worker(&sc), &e.gw, 40 * MS);
		scene_pass(&sc, 100 * MS);
		ck_assert_uint_eq(e.n, 1);
		ck_assert_uint_eq(e.at - asked, 40 * MS);
		ck_assert(!e.complete);
		ck_assert_str_eq(e.activity, "running, without an answer");
		scene_end(&sc);
	}
END_TEST

START_TEST(many_wait_for_one_glance_and_who_went_is_not_told)
	{
		struct scene sc;
		struct watcher e[3];

		begin_busy(&sc);
		for (size_t i = 0; i < 3; i++) {
			e[i] = watch(&sc);
			glance_ask(scene_worker(&sc), &e[i].gw, 40 * MS);
		}
		glance_forget(&e[1].gw);
		scene_pass(&sc, 30 * MS);
		ck_assert_uint_eq(e[0].n, 1);
		ck_assert_uint_eq(e[1].n, 0);
		ck_assert_uint_eq(e[2].n, 1);
		ck_assert_uint_eq(scene_child(&sc)->n_dumps, 1);
		scene_end(&sc);
	}
END_TEST

START_TEST(a_glance_ends_with_its_call_and_is_not_given_to_the_next)
	{
		struct scene sc;
		struct watcher e;
		struct worker *w;

		begin_busy(&sc);
		w = scene_worker(&sc);
		e = watch(&sc);
		scene_child(&sc)->script.ignores_ping = true;
		sim_execute(&sc.one, 2, 0, 0);
		glance_ask(w, &e.gw, 40 * MS);
		sim_child_reply(scene_child(&sc), w->slot.call);
		scene_pass(&sc, MS);
		ck_assert_uint_eq(e.n, 1);
		ck_assert_str_eq(e.activity, "running Python"); /* it has answered */
		ck_assert(!slot_is_free(w));
		ck_assert_ptr_null(glance_last(w, S));
		scene_end(&sc);
	}
END_TEST

START_TEST(a_glance_ends_with_its_worker)
	{
		struct scene sc;
		struct watcher e;

		begin_busy(&sc);
		e = watch(&sc);
		scene_child(&sc)->script.ignores_ping = true;
		glance_ask(scene_worker(&sc), &e.gw, 40 * MS);
		sim_child_die(scene_child(&sc), 0, SIGKILL);
		scene_pass(&sc, MS);
		ck_assert_uint_eq(e.n, 1);
		scene_end(&sc);
	}
END_TEST

START_TEST(a_glance_is_remembered_for_as_long_as_is_asked)
	{
		struct scene sc;

		begin_busy(&sc);
		ck_assert_ptr_null(glance_last(scene_worker(&sc), S));
		glance_ask(scene_worker(&sc), NULL, 40 * MS);
		scene_pass(&sc, 500 * MS);
		ck_assert_ptr_nonnull(glance_last(scene_worker(&sc), S));
		scene_pass(&sc, 600 * MS);
		ck_assert_ptr_null(glance_last(scene_worker(&sc), S));
		scene_end(&sc);
	}
END_TEST

START_TEST(fault_45_who_waited_in_vain_is_told_where_the_holder_is_at_the_cost_of_one_look_a_second)
	{
		struct scene sc;

		begin_busy(&sc);
		for (uint64_t id = 2; id < 12; id++)
			sim_execute(&sc.one, id, 0, 100 * MS + id * MS);
		scene_pass(&sc, 200 * MS);
		for (uint64_t id = 2; id < 12; id++)
			ck_assert_ptr_nonnull(strstr(told(&sc.one, id)->message, " at app.py line 5 in slow)"));
		ck_assert_uint_eq(scene_child(&sc)->n_dumps, 1);
		scene_end(&sc);
	}
END_TEST

START_TEST(a_slow_call_is_looked_at_once_while_it_runs)
	{
		struct scene sc;
		struct pool_settings s = sim_settings();

		s.slow_call = 100 * MS;
		scene_prepare(&sc, &s);
		sim_stage_start(&sc.stage);
		scene_child(&sc)->script.call_after = 50 * MS;
		sim_execute(&sc.one, 1, 0, 0);
		scene_pass(&sc, 60 * MS); /* not slow */
		scene_child(&sc)->script.call = SIM_CALL_MANUAL;
		sim_execute(&sc.one, 2, 0, 0);
		scene_pass(&sc, 90 * MS);
		ck_assert_uint_eq(scene_child(&sc)->n_dumps, 0);
		scene_pass(&sc, S);
		ck_assert_uint_eq(scene_child(&sc)->n_dumps, 1);
		scene_end(&sc);
	}
END_TEST

RUN_SUITE("glance", a_glance_is_complete_when_stack_and_pong_have_come_and_waits_no_longer,
	  without_a_pong_it_is_c_code_that_holds_the_gil_and_known_after_25_ms,
	  a_worker_that_sleeps_is_told_with_the_system_call, the_late_answer_to_a_ping_of_another_daemon_is_no_ping_of_ours,
	  a_stopped_worker_is_told_at_once_and_sent_no_signal,
	  a_worker_that_shows_nothing_is_waited_for_until_the_limit, many_wait_for_one_glance_and_who_went_is_not_told,
	  a_glance_ends_with_its_call_and_is_not_given_to_the_next, a_glance_ends_with_its_worker,
	  a_glance_is_remembered_for_as_long_as_is_asked,
	  fault_45_who_waited_in_vain_is_told_where_the_holder_is_at_the_cost_of_one_look_a_second,
	  a_slow_call_is_looked_at_once_while_it_runs)

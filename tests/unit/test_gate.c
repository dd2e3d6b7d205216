#include "daemon/pool/gate.h"

#include "tests/unit/pool_support.h"

#define TICKETS 5

struct crowd {
	struct loop *loop;
	struct gate gate;
	struct gate_ticket tickets[TICKETS];
};

static void on_admitted(struct gate_ticket *t)
{
	ck_assert_int_eq(t->state, GATE_INSIDE);
}

static void crowd_begin(struct crowd *c, unsigned limit)
{
	c->loop = loop_new();
	gate_init(&c->gate, c->loop, limit);
	for (unsigned i = 0; i < TICKETS; i++) {
		gate_ticket_init(&c->tickets[i], &c->gate, on_admitted);
		gate_join(&c->tickets[i], false);
		ck_assert_int_eq(c->tickets[i].state, GATE_WAITING); /* never from inside */
	}
}

static void crowd_end(struct crowd *c)
{
	for (unsigned i = 0; i < TICKETS; i++)
		gate_leave(&c->tickets[i]);
	ck_assert_uint_eq(c->gate.inside, 0);
	gate_deinit(&c->gate);
	ck_assert_uint_eq(sim_timers_armed(c->loop), 0);
	loop_free(c->loop);
	ck_assert_uint_eq(log_bugs(), 0);
}

static void ck_inside(const struct crowd *c, const char *inside)
{
	for (unsigned i = 0; i < TICKETS; i++)
		ck_assert_msg((c->tickets[i].state == GATE_INSIDE) == (inside[i] == 'x'), "ticket %u", i);
}

START_TEST(fault_60_no_more_than_the_limit_are_inside_and_the_first_come_first)
	{
		struct crowd c;

		crowd_begin(&c, 2);
		sim_pass(c.loop, 0);
		ck_inside(&c, "xx...");
		gate_leave(&c.tickets[0]);
		sim_pass(c.loop, 0);
		ck_inside(&c, ".xx..");
		crowd_end(&c);
	}
END_TEST

START_TEST(a_place_in_line_can_be_given_up)
	{
		struct crowd c;

		crowd_begin(&c, 1);
		sim_pass(c.loop, 0);
		gate_leave(&c.tickets[1]);
		gate_leave(&c.tickets[1]);
		gate_leave(&c.tickets[0]);
		sim_pass(c.loop, 0);
		ck_inside(&c, "..x..");
		crowd_end(&c);
	}
END_TEST

START_TEST(who_takes_longer_than_its_slice_does_not_hold_up_the_others)
	{
		struct crowd c;

		crowd_begin(&c, 1);
		sim_pass(c.loop, GATE_SLICE - MS);
		ck_inside(&c, "x....");
		sim_pass(c.loop, MS);
		ck_inside(&c, ".x...");
		sim_pass(c.loop, GATE_SLICE);
		ck_inside(&c, "..x..");
		crowd_end(&c);
	}
END_TEST

RUN_SUITE("gate", fault_60_no_more_than_the_limit_are_inside_and_the_first_come_first, a_place_in_line_can_be_given_up,
	  who_takes_longer_than_its_slice_does_not_hold_up_the_others)

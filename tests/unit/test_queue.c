#include "daemon/pool/queue.h"

#include "daemon/pool/caller.h"
#include "daemon/pool/request.h"
#include "tests/unit/pool_support.h"

#define CALLERS 3
#define REQUESTS 4

/* Requests that are only as real as a queue needs them. */
struct crowd {
	struct registry registry;
	struct queue q;
	struct caller callers[CALLERS];
	struct request *requests[CALLERS][REQUESTS];
};

static void crowd_begin(struct crowd *c)
{
	*c = (struct crowd){ 0 };
	for (unsigned i = 0; i < CALLERS; i++) {
		caller_init(&c->callers[i], NULL, &c->registry, 0);
		for (unsigned n = 0; n < REQUESTS; n++) {
			c->requests[i][n] = calloc(1, sizeof(struct request) + 1);
			c->requests[i][n]->caller = &c->callers[i];
		}
	}
}

static void crowd_end(struct crowd *c)
{
	for (unsigned i = 0; i < CALLERS; i++) {
		caller_gone(&c->callers[i]);
		for (unsigned n = 0; n < REQUESTS; n++)
			free(c->requests[i][n]);
	}
	ck_assert_uint_eq(log_bugs(), 0);
}

static void push(struct crowd *c, unsigned caller, unsigned n)
{
	queue_push(&c->q, c->requests[caller][n]);
}

static void ck_pops(struct crowd *c, unsigned caller, unsigned n)
{
	ck_assert_ptr_eq(queue_pop(&c->q), c->requests[caller][n]);
}

START_TEST(an_empty_queue_gives_nothing)
	{
		struct queue q = { 0 };

		ck_assert_ptr_null(queue_pop(&q));
		ck_assert_ptr_null(queue_any(&q));
	}
END_TEST

START_TEST(first_in_is_first_out_within_one_caller)
	{
		struct crowd c;

		crowd_begin(&c);
		for (unsigned n = 0; n < REQUESTS; n++)
			push(&c, 0, n);
		ck_assert_uint_eq(c.q.count, REQUESTS);
		for (unsigned n = 0; n < REQUESTS; n++)
			ck_pops(&c, 0, n);
		ck_assert_uint_eq(c.q.count, 0);
		ck_assert_ptr_null(queue_pop(&c.q));
		crowd_end(&c);
	}
END_TEST

START_TEST(callers_take_turns_however_much_one_has_queued)
	{
		struct crowd c;

		crowd_begin(&c);
		for (unsigned n = 0; n < REQUESTS; n++)
			push(&c, 0, n);
		push(&c, 1, 0);
		push(&c, 2, 0);
		push(&c, 1, 1);
		ck_pops(&c, 0, 0);
		ck_pops(&c, 1, 0);
		ck_pops(&c, 2, 0);
		ck_pops(&c, 0, 1);
		ck_pops(&c, 1, 1);
		ck_pops(&c, 0, 2);
		ck_pops(&c, 0, 3);
		crowd_end(&c);
	}
END_TEST

/* Compared with what comes out. */
START_TEST(how_many_are_ahead_of_a_request_is_how_many_are_served_before_it)
	{
		static const unsigned pushes[][2] = { { 0, 0 }, { 0, 1 }, { 1, 0 }, { 0, 2 }, { 2, 0 }, { 2, 1 }, { 0, 3 } };
		unsigned n = sizeof(pushes) / sizeof(pushes[0]), ahead[CALLERS][REQUESTS], own;
		struct crowd c;

		crowd_begin(&c);
		for (unsigned i = 0; i < n; i++)
			push(&c, pushes[i][0], pushes[i][1]);
		for (unsigned i = 0; i < n; i++) {
			ahead[pushes[i][0]][pushes[i][1]] =
				queue_ahead(&c.q, c.requests[pushes[i][0]][pushes[i][1]], &own);
			ck_assert_uint_eq(own, pushes[i][1]);
		}
		for (unsigned served = 0; served < n; served++) {
			struct request *r = queue_pop(&c.q);

			for (unsigned i = 0; i < n; i++) {
				if (c.requests[pushes[i][0]][pushes[i][1]] == r)
					ck_assert_uint_eq(ahead[pushes[i][0]][pushes[i][1]], served);
			}
		}
		crowd_end(&c);
	}
END_TEST

START_TEST(a_request_leaves_from_the_middle_and_the_order_of_the_others_stays)
	{
		struct crowd c;

		crowd_begin(&c);
		for (unsigned n = 0; n < REQUESTS; n++)
			push(&c, 0, n);
		queue_remove(&c.q, c.requests[0][1]);
		ck_assert_ptr_null(c.requests[0][1]->lane);
		ck_assert_uint_eq(c.q.count, REQUESTS - 1);
		ck_pops(&c, 0, 0);
		ck_pops(&c, 0, 2);
		ck_pops(&c, 0, 3);
		crowd_end(&c);
	}
END_TEST

START_TEST(a_caller_whose_last_request_leaves_has_no_turn_any_more)
	{
		struct crowd c;

		crowd_begin(&c);
		push(&c, 0, 0);
		push(&c, 1, 0);
		push(&c, 2, 0);
		queue_remove(&c.q, c.requests[1][0]);
		ck_pops(&c, 0, 0);
		ck_pops(&c, 2, 0);
		ck_assert_ptr_null(queue_pop(&c.q));
		push(&c, 1, 0); /* and comes back into the same lane */
		ck_assert_ptr_null(c.callers[1].lanes->sibling);
		ck_pops(&c, 1, 0);
		crowd_end(&c);
	}
END_TEST

START_TEST(a_caller_has_a_lane_for_each_queue)
	{
		struct queue other = { 0 };
		struct crowd c;

		crowd_begin(&c);
		push(&c, 0, 0);
		queue_push(&other, c.requests[0][1]);
		ck_assert_ptr_eq(queue_pop(&other), c.requests[0][1]);
		ck_assert_ptr_null(queue_pop(&other));
		ck_pops(&c, 0, 0);
		crowd_end(&c);
	}
END_TEST

RUN_SUITE("queue", an_empty_queue_gives_nothing, first_in_is_first_out_within_one_caller,
	  callers_take_turns_however_much_one_has_queued,
	  how_many_are_ahead_of_a_request_is_how_many_are_served_before_it,
	  a_request_leaves_from_the_middle_and_the_order_of_the_others_stays,
	  a_caller_whose_last_request_leaves_has_no_turn_any_more, a_caller_has_a_lane_for_each_queue)

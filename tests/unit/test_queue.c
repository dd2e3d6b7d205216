#include "daemon/pool/queue.h"

#include <limits.h>
#include <time.h>

#include "daemon/pool/caller.h"
#include "daemon/pool/request.h"
#include "tests/unit/pool_support.h"

#define CALLERS 5
#define REQUESTS 4

/* Callers 0, 1, 2 are of one uid, 3 of another, 4 of a third. */
static const uid_t uids[CALLERS] = { 1000, 1000, 1000, 1001, 1002 };

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
		caller_init(&c->callers[i], NULL, &c->registry, uids[i]);
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
	ck_assert_ptr_null(c->q.lanes);
	ck_assert_ptr_null(c->q.shares);
	registry_deinit(&c->registry);
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

START_TEST(fault_29_uids_take_turns_however_many_callers_one_has)
	{
		struct crowd c;

		crowd_begin(&c);
		for (unsigned n = 0; n < 2; n++) {
			push(&c, 0, n);
			push(&c, 1, n);
			push(&c, 2, n);
		}
		push(&c, 3, 0);
		push(&c, 3, 1);
		push(&c, 3, 2);
		push(&c, 4, 0);
		ck_pops(&c, 0, 0);
		ck_pops(&c, 3, 0);
		ck_pops(&c, 4, 0);
		ck_pops(&c, 1, 0);
		ck_pops(&c, 3, 1);
		ck_pops(&c, 2, 0);
		ck_pops(&c, 3, 2);
		ck_pops(&c, 0, 1);
		ck_pops(&c, 1, 1);
		push(&c, 3, 3); /* it comes back: the one that waits had a turn since */
		ck_pops(&c, 3, 3);
		ck_pops(&c, 2, 1);
		ck_assert_ptr_null(queue_pop(&c.q));
		crowd_end(&c);
	}
END_TEST

/* Else one that calls now and then would wait for a whole call more, each time, because another floods. */
START_TEST(fault_29_a_uid_that_comes_goes_before_those_that_had_a_turn_since_its_last)
	{
		struct crowd c;

		crowd_begin(&c);
		push(&c, 3, 0);
		ck_pops(&c, 3, 0);
		for (unsigned n = 0; n < REQUESTS; n++)
			push(&c, 0, n);
		ck_pops(&c, 0, 0);
		push(&c, 4, 0); /* it had no turn */
		push(&c, 3, 1);
		push(&c, 4, 1);
		ck_pops(&c, 4, 0);
		ck_pops(&c, 3, 1);
		push(&c, 3, 2); /* it had the last */
		ck_pops(&c, 0, 1);
		ck_pops(&c, 4, 1);
		ck_pops(&c, 3, 2);
		ck_pops(&c, 0, 2);
		ck_pops(&c, 0, 3);
		crowd_end(&c);
	}
END_TEST

/* Whose connections are new gains nothing by that. */
START_TEST(fault_29_a_uid_that_leaves_and_comes_takes_no_turn_of_others)
	{
		struct crowd c;

		crowd_begin(&c);
		push(&c, 0, 0);
		push(&c, 0, 1);
		push(&c, 3, 0);
		ck_pops(&c, 0, 0);
		ck_pops(&c, 3, 0);
		lane_free_all(&c.callers[3]);
		push(&c, 3, 1);
		ck_pops(&c, 0, 1);
		ck_pops(&c, 3, 1);
		crowd_end(&c);
	}
END_TEST

START_TEST(one_that_comes_back_is_served_next)
	{
		struct crowd c;

		crowd_begin(&c);
		for (unsigned caller = 0; caller < CALLERS; caller++) {
			push(&c, caller, 0);
			push(&c, caller, 1);
		}
		ck_pops(&c, 0, 0);
		ck_pops(&c, 3, 0);
		queue_push_front(&c.q, c.requests[0][0]);
		ck_pops(&c, 0, 0);
		queue_push_front(&c.q, c.requests[4][2]); /* its uid and its lane wait already */
		ck_pops(&c, 4, 2);
		ck_pops(&c, 3, 1);
		ck_pops(&c, 1, 0);
		queue_push_front(&c.q, c.requests[3][0]);
		ck_pops(&c, 3, 0);
		while (queue_pop(&c.q))
			;
		crowd_end(&c);
	}
END_TEST

/* Caller 2 is the pool itself, whose user has other callers too; its requests are hooks. */
START_TEST(hooks_come_first_in_their_order_and_take_nobody_the_turn)
	{
		struct crowd c;

		crowd_begin(&c);
		for (unsigned n = 0; n < REQUESTS; n++) {
			c.requests[2][n]->kind = REQUEST_CLOSE;
			push(&c, 0, n);
			push(&c, 3, n);
		}
		for (unsigned n = 0; n < REQUESTS; n++) {
			ck_pops(&c, 0, n); /* and with its end the hook has its turn */
			queue_push_hook(&c.q, c.requests[2][n]);
			ck_pops(&c, 2, n);
			ck_pops(&c, 3, n);
		}
		push(&c, 0, 0);
		for (unsigned n = 0; n < REQUESTS; n++)
			queue_push_hook(&c.q, c.requests[2][n]);
		push(&c, 4, 0);
		for (unsigned n = 0; n < REQUESTS; n++)
			ck_pops(&c, 2, n);
		ck_pops(&c, 4, 0); /* had no turn yet */
		ck_pops(&c, 0, 0);
		crowd_end(&c);
	}
END_TEST

/* Compared with what comes out. */
START_TEST(how_many_are_ahead_of_a_request_is_how_many_are_served_before_it)
	{
		static const unsigned pushes[][2] = { { 0, 0 }, { 0, 1 }, { 1, 0 }, { 3, 0 }, { 0, 2 }, { 2, 0 },
						      { 2, 1 }, { 3, 1 }, { 0, 3 }, { 4, 0 }, { 3, 2 }, { 3, 3 } };
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
		ck_assert_ptr_null(c.callers[1].lanes->caller_next);
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
		queue_deinit(&other);
		crowd_end(&c);
	}
END_TEST

START_TEST(a_transient_queue_keeps_nothing_that_is_empty)
	{
		struct queue own = { .transient = true };
		struct crowd c;

		crowd_begin(&c);
		push(&c, 0, 0);
		queue_push(&own, c.requests[0][1]);
		queue_push(&own, c.requests[0][2]);
		queue_push(&own, c.requests[3][0]);
		ck_assert_ptr_eq(queue_pop(&own), c.requests[0][1]);
		ck_assert_ptr_eq(queue_pop(&own), c.requests[3][0]);
		ck_assert_ptr_null(c.callers[3].lanes);
		queue_remove(&own, c.requests[0][2]);
		ck_assert_ptr_null(own.lanes);
		ck_assert_ptr_null(own.shares);
		ck_assert_ptr_eq(c.callers[0].lanes->queue, &c.q);
		ck_assert_ptr_null(c.callers[0].lanes->caller_next);
		ck_pops(&c, 0, 0);
		crowd_end(&c);
	}
END_TEST

START_TEST(a_queue_that_ends_leaves_nothing_with_its_callers)
	{
		struct queue other = { 0 };
		struct crowd c;

		crowd_begin(&c);
		for (unsigned caller = 0; caller < CALLERS; caller++)
			queue_push(&other, c.requests[caller][0]);
		while (queue_pop(&other))
			;
		ck_assert_ptr_nonnull(c.callers[0].lanes);
		queue_deinit(&other);
		for (unsigned caller = 0; caller < CALLERS; caller++)
			ck_assert_ptr_null(c.callers[caller].lanes);
		crowd_end(&c);
	}
END_TEST

/* What a queue promises, with arrays that are searched: whose turn came longest ago has the next. */
struct model {
	struct request *waiting[CALLERS * REQUESTS];
	unsigned n;
	bool forgets;                               /* who has nothing in it: it counts as one that had its turn with the last of these */
	uint64_t uid_turn[3], uid_since[3], forgotten;
	uint64_t caller_since[CALLERS], clock; /* since when it waits for its turn */
};

static unsigned model_caller(const struct crowd *c, const struct request *r)
{
	return (unsigned)(r->caller - c->callers);
}

static unsigned model_uid(const struct crowd *c, const struct request *r)
{
	return uids[model_caller(c, r)] - 1000;
}

static bool model_has(const struct model *m, const struct crowd *c, unsigned caller, unsigned uid)
{
	for (unsigned i = 0; i < m->n; i++) {
		if (caller == model_caller(c, m->waiting[i]) || uid == model_uid(c, m->waiting[i]))
			return true;
	}
	return false;
}

static void model_push(struct model *m, const struct crowd *c, struct request *r)
{
	if (!model_has(m, c, UINT_MAX, model_uid(c, r))) {
		m->uid_since[model_uid(c, r)] = ++m->clock;
		if (m->forgets)
			m->uid_turn[model_uid(c, r)] = m->forgotten;
	}
	if (!model_has(m, c, model_caller(c, r), UINT_MAX))
		m->caller_since[model_caller(c, r)] = ++m->clock;
	m->waiting[m->n++] = r;
}

static void model_remove(struct model *m, const struct crowd *c, const struct request *r)
{
	unsigned uid = model_uid(c, r);
	unsigned i = 0;

	while (m->waiting[i] != r)
		i++;
	memmove(&m->waiting[i], &m->waiting[i + 1], (--m->n - i) * sizeof(m->waiting[0]));
	if (!model_has(m, c, UINT_MAX, uid) && m->uid_turn[uid] > m->forgotten)
		m->forgotten = m->uid_turn[uid];
}

static bool model_uid_is_before(const struct model *m, unsigned a, unsigned b)
{
	return m->uid_turn[a] < m->uid_turn[b] || (m->uid_turn[a] == m->uid_turn[b] && m->uid_since[a] < m->uid_since[b]);
}

static struct request *model_pop(struct model *m, const struct crowd *c)
{
	struct request *best = m->n ? m->waiting[0] : NULL;

	for (unsigned i = 1; i < m->n; i++) {
		struct request *r = m->waiting[i];
		unsigned uid = model_uid(c, r), best_uid = model_uid(c, best);
		uint64_t caller = m->caller_since[model_caller(c, r)], best_caller = m->caller_since[model_caller(c, best)];

		if (model_uid_is_before(m, uid, best_uid) || (uid == best_uid && caller < best_caller))
			best = r; /* of one caller the first in the array came first */
	}
	if (!best)
		return NULL;
	m->uid_turn[model_uid(c, best)] = ++m->clock;
	model_remove(m, c, best);
	m->caller_since[model_caller(c, best)] = ++m->clock;
	return best;
}

START_TEST(whatever_comes_and_goes_the_turns_are_kept)
	{
		static struct model models[2];
		struct queue *queues[] = { &(struct queue){ 0 }, &(struct queue){ .transient = true } };
		struct crowd c;

		models[1].forgets = true;
		crowd_begin(&c);
		srandom(1);
		for (unsigned round = 0; round < 20000; round++) {
			struct queue *q = queues[round % 2];
			struct model *m = &models[round % 2];
			struct request *r = c.requests[random() % CALLERS][random() % REQUESTS];
			unsigned own;

			if (!r->lane) {
				queue_push(q, r);
				model_push(m, &c, r);
			} else if (r->lane->queue == q && random() % 2) {
				ck_assert_uint_lt(queue_ahead(q, r, &own), m->n);
				queue_remove(q, r);
				model_remove(m, &c, r);
			} else {
				ck_assert_ptr_eq(queue_pop(q), model_pop(m, &c));
			}
			ck_assert_uint_eq(q->count, m->n);
		}
		for (unsigned i = 0; i < 2; i++) {
			while (queue_pop(queues[i]))
				;
			queue_deinit(queues[i]);
		}
		crowd_end(&c);
	}
END_TEST

#define MANY 100000

/* In an order without order; walking to a request or its lane would take minutes. */
START_TEST(fault_100_of_100000_each_is_removed_without_a_walk)
	{
		struct request *all = calloc(MANY, sizeof(*all));
		struct crowd c;
		struct timespec cpu;

		crowd_begin(&c);
		for (unsigned i = 0; i < MANY; i++) {
			all[i].caller = &c.callers[i % CALLERS];
			queue_push(&c.q, &all[i]);
		}
		for (uint64_t i = 0; i < MANY; i++)
			queue_remove(&c.q, &all[i * 61057 % MANY]); /* coprime: each once */
		ck_assert_uint_eq(c.q.count, 0);
		ck_assert_int_eq(clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu), 0);
		ck_assert_int_lt(cpu.tv_sec, 3);
		free(all);
		crowd_end(&c);
	}
END_TEST

RUN_SUITE("queue", an_empty_queue_gives_nothing, first_in_is_first_out_within_one_caller,
	  callers_take_turns_however_much_one_has_queued, fault_29_uids_take_turns_however_many_callers_one_has,
	  fault_29_a_uid_that_comes_goes_before_those_that_had_a_turn_since_its_last,
	  fault_29_a_uid_that_leaves_and_comes_takes_no_turn_of_others,
	  one_that_comes_back_is_served_next, hooks_come_first_in_their_order_and_take_nobody_the_turn,
	  how_many_are_ahead_of_a_request_is_how_many_are_served_before_it,
	  a_request_leaves_from_the_middle_and_the_order_of_the_others_stays,
	  a_caller_whose_last_request_leaves_has_no_turn_any_more, a_caller_has_a_lane_for_each_queue,
	  a_transient_queue_keeps_nothing_that_is_empty, a_queue_that_ends_leaves_nothing_with_its_callers,
	  whatever_comes_and_goes_the_turns_are_kept, fault_100_of_100000_each_is_removed_without_a_walk)

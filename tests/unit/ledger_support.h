/*
 * A sequence of puts and removes that a number determines, and what a ledger must hold after so many of them.
 */
#pragma once

#include <check.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

#include "daemon/io/ledger.h"

#define MODEL_KINDS 3
#define MODEL_IDS 24
#define MODEL_BYTES                                                                                                    \
	30000 /* of one record, at most: some hundred kilobytes in all, which move to the other half bit by bit */

struct model_op {
	uint32_t kind;
	uint64_t id;
	bool removes;
	size_t len;
	uint64_t stamp; /* determines the bytes, and grows from op to op */
};

struct model {
	uint64_t seed, n;                           /* ops so far */
	struct model_op of[MODEL_KINDS][MODEL_IDS]; /* stamp 0: there is none */
};

static inline uint64_t mix(uint64_t z)
{
	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

/* Records are small and removed now and then; in some stretches of the sequence they are large, in others most are removed. */
static inline struct model_op model_op(uint64_t seed, uint64_t n)
{
	uint64_t r = mix(seed * UINT64_C(0x9e3779b97f4a7c15) + n + 1);
	unsigned stretch = n / 300 % 4;

	return (struct model_op){
		.kind = (uint32_t)(r % MODEL_KINDS),
		.id = (r >> 8) % MODEL_IDS,
		.removes = (r >> 20) % 16 < (stretch == 3 ? 12 : 2),
		.len = (r >> 32) % (stretch == 1 ? MODEL_BYTES : 90),
		.stamp = n + 1,
	};
}

static inline struct span model_bytes(const struct model_op *op, uint8_t buf[MODEL_BYTES])
{
	uint64_t word = mix(op->stamp);

	for (size_t i = 0; i < op->len; i++)
		buf[i] = (uint8_t)((word >> (i % 8 * 8)) + i / 8);
	return (struct span){ .p = buf, .len = op->len };
}

static inline bool ledger_do(struct ledger *l, const struct model_op *op)
{
	uint8_t buf[MODEL_BYTES];

	if (!op->removes)
		return ledger_put(l, op->kind, op->id, model_bytes(op, buf));
	ledger_remove(l, op->kind, op->id);
	return !ledger_is_void(l);
}

static inline void model_step(struct model *m)
{
	struct model_op op = model_op(m->seed, m->n++);

	m->of[op.kind][op.id] = op.removes ? (struct model_op){ 0 } : op;
}

struct model_walk {
	const struct model *model;
	uint64_t stamp; /* of the one before */
	unsigned n;
	bool wrong;
};

static inline void model_see(void *user, const struct ledger_entry *e)
{
	struct model_walk *w = user;
	const struct model_op *op = e->kind < MODEL_KINDS && e->id < MODEL_IDS ? &w->model->of[e->kind][e->id] : NULL;
	uint8_t buf[MODEL_BYTES];

	if (!op || op->stamp <= w->stamp || e->bytes.len != op->len ||
	    (op->len && memcmp(e->bytes.p, model_bytes(op, buf).p, op->len) != 0))
		w->wrong = true;
	w->stamp = op ? op->stamp : 0;
	w->n++;
}

/* By each, which also shows the order, and by find. */
static inline bool model_is(const struct model *m, const struct ledger *l)
{
	bool is = true;

	for (uint32_t k = 0; k < MODEL_KINDS; k++) {
		struct model_walk w = { .model = m };
		unsigned n = 0;

		ledger_each(l, k, model_see, &w);
		for (uint64_t id = 0; id < MODEL_IDS; id++) {
			struct span s = { 0 };
			bool there = m->of[k][id].stamp;

			n += there;
			is &= ledger_find(l, k, id, &s) == there && s.len == m->of[k][id].len;
		}
		is &= !w.wrong && w.n == n;
	}
	return is;
}

/* As another process would that was handed both, which are left as they are. */
static inline struct ledger *ledger_retake(const struct ledger *l, char *why, size_t why_size)
{
	return ledger_take(fcntl(ledger_fd(l, 0), F_DUPFD_CLOEXEC, 3), fcntl(ledger_fd(l, 1), F_DUPFD_CLOEXEC, 3), why,
			   why_size);
}

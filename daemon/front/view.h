/* A reply that is being written, for methods that look at things as they are now. */
#pragma once

#include <msgpack.h>
#include <stdint.h>

struct histogram;
struct pool;
struct query;
struct stats;
struct worker;

struct view {
	const struct query *q;
	msgpack_sbuffer buf;
	msgpack_packer pk;
	uint64_t now; /* ns */
};

void view_begin(struct view *v, const struct query *q);
/* Replies with what was packed. */
void view_send(struct view *v);
/* Packs key and the ms from now until `at`; nil for LOOP_NEVER. */
void view_pack_left(struct view *v, const char *key, uint64_t at);
/* "call": what w runs, nil when that is nothing. */
void view_pack_slot(struct view *v, const struct worker *w);
/* "last_failure": of a start, nil when the last went well. */
void view_pack_failure(msgpack_packer *pk, const struct pool *p);
/* What workers are forked from; nil with start = exec. */
void view_pack_template(msgpack_packer *pk, const struct pool *p);
/* The phases of w's init; nil without w. */
void view_pack_phases(msgpack_packer *pk, const char *key, const struct worker *w);
/* {count, sum_us, buckets: [[bound in µs, how many were at most that], ...]} */
void view_pack_histogram(msgpack_packer *pk, const char *key, const struct histogram *h);
/* Every reason, and how many workers died of it. */
void view_pack_deaths(msgpack_packer *pk, const struct stats *st);
/* "breaker" */
void view_pack_breaker(msgpack_packer *pk, const struct pool *p);

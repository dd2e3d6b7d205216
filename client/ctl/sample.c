#include "client/ctl/sample.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "client/ctl/cell.h"
#include "proto/cursor.h"
#include "proto/pack.h"

static uint64_t uint_of(struct span map, const char *key)
{
	struct span value = cell_of(map, key);
	uint64_t v = 0;

	(void)mp_read_uint(&value, &v); /* nil, or another type: 0 */
	return v;
}

static bool text_is(struct span map, const char *key, const char *wanted)
{
	struct span value = cell_of(map, key), text;

	return mp_read_text(&value, &text) && span_equals(text, wanted);
}

/* --- taking one --- */

static int compare_counts(const void *a, const void *b)
{
	uint64_t x = ((const struct sample_count *)a)->worker, y = ((const struct sample_count *)b)->worker;

	return x < y ? -1 : x > y;
}

static int sample_count(struct sample *s)
{
	struct span list = ctl_value(s->workers), w;
	uint32_t n;

	if (!mp_read_array(&list, &n))
		n = 0;
	s->counts = calloc(n ? n : 1, sizeof(*s->counts));
	if (!s->counts)
		return -ENOMEM;
	for (; n > 0 && mp_read_any(&list, &w); n--)
		s->counts[s->n_counts++] =
			(struct sample_count){ .worker = uint_of(w, "worker"), .calls = uint_of(w, "calls") };
	qsort(s->counts, s->n_counts, sizeof(*s->counts), compare_counts);
	return 0;
}

static int sample_ask(struct ctl *ctl, const char *method, const char *pool, struct pypool_reply **reply)
{
	struct pypool_span params = { 0 };
	void *packed = NULL;
	int r = 0;

	if (pool)
		r = pypool_packf(&packed, &params.size, "**{ss}", "pool", pool);
	params.data = packed;
	if (r == 0)
		r = pypool_call(ctl->pool, method, params, CTL_TIMEOUT_MS, reply);
	free(packed);
	return r;
}

int sample_take(struct ctl *ctl, const char *pool, struct sample *s)
{
	int r = sample_ask(ctl, "status", NULL, &s->status);

	if (r == -EREMOTEIO && strcmp(pypool_error_code(pypool_last_error(ctl->pool)), "denied") == 0)
		r = 0; /* of the pools it may yet tell */
	if (r == 0)
		r = sample_ask(ctl, "pools", pool, &s->pools);
	s->at_ms = ctl_now_ms();
	if (r == 0)
		r = sample_ask(ctl, "workers", pool, &s->workers);
	if (r == 0)
		r = sample_ask(ctl, "queue", pool, &s->queue);
	return r == 0 ? sample_count(s) : r;
}

void sample_clear(struct sample *s)
{
	(void)pypool_reply_free(s->status);
	(void)pypool_reply_free(s->pools);
	(void)pypool_reply_free(s->workers);
	(void)pypool_reply_free(s->queue);
	free(s->counts);
	*s = (struct sample){ 0 };
}

/* --- comparing two --- */

static double seconds_between(const struct sample *now, const struct sample *before)
{
	return now->at_ms > before->at_ms ? (double)(now->at_ms - before->at_ms) / 1000 : 0;
}

/* Of a counter; nil when it was not there before, or nothing can be said. */
static void pack_rate(msgpack_packer *pk, const char *key, bool known, uint64_t was, uint64_t is, double seconds)
{
	pack_text(pk, key);
	if (known && seconds > 0 && is >= was)
		msgpack_pack_double(pk, (double)(is - was) / seconds);
	else
		msgpack_pack_nil(pk);
}

/* The pairs of a map as they are, and room for more. */
static bool pack_and_more(msgpack_packer *pk, struct span map, uint32_t more)
{
	uint32_t pairs;

	if (!mp_read_map(&map, &pairs))
		return false;
	msgpack_pack_map(pk, pairs + more);
	pack_raw(pk, map);
	return true;
}

/* False: it was not there. */
static bool find_pool(const struct sample *s, struct span name, struct span *pool)
{
	struct span list = s ? ctl_value(s->pools) : (struct span){ 0 }, value;
	uint32_t n;

	if (!mp_read_array(&list, &n))
		return false;
	for (; n > 0 && mp_read_any(&list, pool); n--) {
		value = cell_of(*pool, "name");
		if (value.len == name.len && memcmp(value.p, name.p, name.len) == 0)
			return true;
	}
	return false;
}

bool sample_pack_pools(const struct sample *now, const struct sample *before, msgpack_packer *pk)
{
	double seconds = before ? seconds_between(now, before) : 0;
	struct span list = ctl_value(now->pools), pool, old = { 0 };
	uint32_t n;

	if (!mp_read_array(&list, &n))
		return false;
	msgpack_pack_array(pk, n);
	for (; n > 0 && mp_read_any(&list, &pool); n--) {
		bool known = find_pool(before, cell_of(pool, "name"), &old);

		if (!pack_and_more(pk, pool, 2))
			return false;
		pack_rate(pk, "calls_per_s", known, uint_of(old, "completed") + uint_of(old, "failed"),
			  uint_of(pool, "completed") + uint_of(pool, "failed"), seconds);
		pack_rate(pk, "failed_per_s", known, uint_of(old, "failed"), uint_of(pool, "failed"), seconds);
	}
	return true;
}

/* --- workers --- */

struct worker_row {
	struct span map;
	uint64_t id, busy_ms, calls, calls_before;
	bool known; /* it was there before */
};

static int compare_rows(const void *a, const void *b)
{
	const struct worker_row *x = a, *y = b;
	uint64_t more_x = x->known ? x->calls - x->calls_before : 0, more_y = y->known ? y->calls - y->calls_before : 0;

	if (x->busy_ms != y->busy_ms)
		return x->busy_ms > y->busy_ms ? -1 : 1;
	if (more_x != more_y)
		return more_x > more_y ? -1 : 1;
	if (x->calls != y->calls)
		return x->calls > y->calls ? -1 : 1;
	return x->id < y->id ? -1 : x->id > y->id;
}

static struct worker_row row_of(struct span w, const struct sample *before)
{
	const struct sample_count key = { .worker = uint_of(w, "worker") }, *old = NULL;
	struct span call = cell_of(w, "call");

	if (before)
		old = bsearch(&key, before->counts, before->n_counts, sizeof(key), compare_counts);
	return (struct worker_row){
		.map = w,
		.id = key.worker,
		.busy_ms = call.len ? uint_of(call, "ms") + 1 : 0, /* one that has just begun is busy too */
		.calls = uint_of(w, "calls"),
		.calls_before = old ? old->calls : 0,
		.known = old,
	};
}

static bool pack_rows(const struct worker_row *rows, size_t n, double seconds, msgpack_packer *pk)
{
	msgpack_pack_array(pk, n);
	for (size_t i = 0; i < n; i++) {
		const struct worker_row *row = &rows[i];

		if (!pack_and_more(pk, row->map, 2))
			return false;
		pack_rate(pk, "calls_per_s", row->known, row->calls_before, row->calls, seconds);
		pack_text(pk, "busy_ms");
		if (row->busy_ms)
			msgpack_pack_uint64(pk, row->busy_ms - 1);
		else
			msgpack_pack_nil(pk);
	}
	return true;
}

bool sample_pack_workers(const struct sample *now, const struct sample *before, msgpack_packer *pk)
{
	struct span list = ctl_value(now->workers), w;
	struct worker_row *rows;
	size_t n_rows = 0;
	uint32_t n;
	bool done;

	if (!mp_read_array(&list, &n))
		return false;
	rows = calloc(n ? n : 1, sizeof(*rows));
	if (!rows)
		return false;
	for (; n > 0 && mp_read_any(&list, &w); n--) {
		if (!text_is(w, "state", "dead"))
			rows[n_rows++] = row_of(w, before);
	}
	qsort(rows, n_rows, sizeof(*rows), compare_rows);
	done = pack_rows(rows, n_rows, before ? seconds_between(now, before) : 0, pk);
	free(rows);
	return done;
}

bool sample_pack_queue(const struct sample *now, msgpack_packer *pk)
{
	struct span list = ctl_value(now->queue), rest, call;
	uint32_t n, waiting = 0;

	if (!mp_read_array(&list, &n))
		return false;
	rest = list;
	for (uint32_t i = 0; i < n && mp_read_any(&rest, &call); i++)
		waiting += text_is(call, "state", "queued");
	msgpack_pack_array(pk, waiting);
	for (; n > 0 && mp_read_any(&list, &call); n--) {
		if (text_is(call, "state", "queued"))
			pack_raw(pk, call);
	}
	return true;
}

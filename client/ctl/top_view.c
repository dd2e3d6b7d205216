#include "client/ctl/top_view.h"

#include <stdlib.h>
#include <time.h>

#include "client/ctl/grid.h"
#include "client/ctl/json.h"
#include "proto/cursor.h"
#include "proto/pack.h"

static const struct grid_column pool_columns[] = {
	{ "POOL", "name", cell_any, false },
	{ "STATE", "state", cell_any, false },
	{ "IDLE", "idle", cell_any, true },
	{ "BUSY", "busy", cell_any, true },
	{ "INIT", "initializing", cell_any, true },
	{ "QUEUED", "queued", cell_any, true },
	{ "RUNNING", "running", cell_any, true },
	{ "CALLS/S", "calls_per_s", cell_rate, true },
	{ "FAILED/S", "failed_per_s", cell_rate, true },
	{ "DIED", "deaths", cell_deaths, true },
	{ "WAIT-P50", "wait_p50_us", cell_us, true },
	{ "WAIT-P99", "wait_p99_us", cell_us, true },
	{ "RUN-P50", "run_p50_us", cell_us, true },
	{ "RUN-P99", "run_p99_us", cell_us, true },
	{ NULL, NULL, NULL, false },
};

static const struct grid_column worker_columns[] = {
	{ "WORKER", "worker", cell_any, true },
	{ "POOL", "pool", cell_any, false },
	{ "PID", "pid", cell_any, true },
	{ "STATE", "state", cell_any, false },
	{ "BUSY", "busy_ms", cell_ms, true },
	{ "CALLS/S", "calls_per_s", cell_rate, true },
	{ "CALLS", "calls", cell_any, true },
	{ "LEASE", "lease", cell_id, true },
	{ "CALL", "call", cell_call, false },
	{ NULL, NULL, NULL, false },
};

static const struct grid_column queue_columns[] = {
	{ "CALL", "call", cell_any, true },
	{ "POOL", "pool", cell_any, false },
	{ "CLIENT", "client", cell_any, true },
	{ "TARGET", "target", cell_any, false },
	{ "WAITED", "waited_ms", cell_ms, true },
	{ "LEFT", "deadline_ms", cell_ms, true },
	{ NULL, NULL, NULL, false },
};

typedef bool pack_fn(const struct sample *now, const struct sample *before, msgpack_packer *pk);

static bool pack_queue(const struct sample *now, const struct sample *before, msgpack_packer *pk)
{
	(void)before; /* it has no rates */
	return sample_pack_queue(now, pk);
}

static bool write_table(FILE *out, const struct sample *now, const struct sample *before, pack_fn *pack,
			const struct grid_column *columns)
{
	msgpack_sbuffer buf;
	msgpack_packer pk;
	bool done;

	msgpack_sbuffer_init(&buf);
	msgpack_packer_init(&pk, &buf, msgpack_sbuffer_write);
	done = pack(now, before, &pk) &&
	       grid_write(out, (struct span){ .p = (const uint8_t *)buf.data, .len = buf.size }, columns) == CTL_OK;
	msgpack_sbuffer_destroy(&buf);
	return done;
}

static void write_item(FILE *out, const char *name, struct span map, const char *key, cell_fn *text)
{
	struct span value = cell_of(map, key);
	char *s = value.len ? text(value) : NULL;

	fprintf(out, "%s%s", name, s ? s : "-");
	free(s);
}

static void write_head(FILE *out, const struct sample *now)
{
	struct span status = now->status ? ctl_value(now->status) : (struct span){ 0 };

	if (!status.len)
		return;
	write_item(out, "pypoold ", status, "version", cell_any);
	write_item(out, ", ", status, "state", cell_any);
	write_item(out, ", pid ", status, "pid", cell_any);
	write_item(out, ", up ", status, "uptime_ms", cell_ms);
	write_item(out, ", clients: ", status, "clients", cell_any);
	write_item(out, ", worst stall ", status, "worst_stall_us", cell_us);
	fputs("\n\n", out);
}

static bool is_empty(struct span list)
{
	uint32_t n;

	return !mp_read_array(&list, &n) || n == 0;
}

bool top_view_write(FILE *out, const struct sample *now, const struct sample *before)
{
	write_head(out, now);
	if (!write_table(out, now, before, sample_pack_pools, pool_columns))
		return false;
	fputc('\n', out);
	if (!write_table(out, now, before, sample_pack_workers, worker_columns))
		return false;
	if (is_empty(ctl_value(now->queue)))
		return true;
	fputc('\n', out);
	return write_table(out, now, before, pack_queue, queue_columns);
}

static uint64_t wall_now_ms(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_REALTIME, &ts); /* cannot fail for this clock */
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

static bool pack_all(const struct sample *now, const struct sample *before, msgpack_packer *pk)
{
	msgpack_pack_map(pk, 6);
	pack_kv_uint(pk, "time_ms", wall_now_ms());
	pack_text(pk, "interval_ms");
	if (before)
		msgpack_pack_uint64(pk, now->at_ms - before->at_ms);
	else
		msgpack_pack_nil(pk);
	pack_text(pk, "status");
	if (now->status)
		pack_raw(pk, ctl_value(now->status));
	else
		msgpack_pack_nil(pk);
	pack_text(pk, "pools");
	if (!sample_pack_pools(now, before, pk))
		return false;
	pack_text(pk, "workers");
	if (!sample_pack_workers(now, before, pk))
		return false;
	pack_text(pk, "queue");
	return sample_pack_queue(now, pk);
}

bool top_view_write_json(FILE *out, const struct sample *now, const struct sample *before)
{
	msgpack_sbuffer buf;
	msgpack_packer pk;
	bool done;

	msgpack_sbuffer_init(&buf);
	msgpack_packer_init(&pk, &buf, msgpack_sbuffer_write);
	done = pack_all(now, before, &pk);
	if (done) {
		json_print(out, (struct span){ .p = (const uint8_t *)buf.data, .len = buf.size });
		fputc('\n', out);
	}
	msgpack_sbuffer_destroy(&buf);
	return done;
}

#include "daemon/pool/recorder.h"

#include "daemon/base/cleanup.h"
#include "daemon/base/log.h"
#include "daemon/base/packed.h"
#include "daemon/base/wall.h"
#include "daemon/pool/pool.h"
#include "daemon/pool/request.h"
#include "proto/pack.h"

#define FORMAT 1
#define RECORDS_MAX 100
#define BYTES_MAX (UINT64_C(256) * 1024 * 1024)
#define RETRY_AFTER (60 * NS_PER_S)
#define PER_SECOND_MAX 20 /* a storm of failures is many times the same one: the loop has better things to do */

/* The directory, if it is asked for and has not failed a moment ago. False: there is none. */
static bool recorder_open(struct pool *p)
{
	const struct pool_settings *s = p->settings;
	struct recorder *rec = &p->recorder;

	if (rec->archive.fd >= 0)
		return true;
	if (!rec->archive.path || loop_now(p->loop) < rec->retry)
		return false;
	if (archive_open(&rec->archive) < 0) {
		rec->retry = loop_now(p->loop) + RETRY_AFTER;
		return false;
	}
	rec->retry = 0;
	LOG(INFO, "recorder.open", KV("pool", s->name), KV("path", s->record_failures));
	return true;
}

void recorder_init(struct pool *p)
{
	const struct pool_settings *s = p->settings;

	if (!s->record_failures) {
		p->recorder.archive.fd = -1;
		return;
	}
	archive_init(&p->recorder.archive, s->record_failures, s->name, RECORDS_MAX, BYTES_MAX);
	(void)recorder_open(p); /* now, so that what is wrong with it is known early */
}

void recorder_deinit(struct pool *p)
{
	archive_deinit(&p->recorder.archive);
}

void recorder_take_settings(struct pool *p)
{
	const char *now = p->recorder.archive.path, *wanted = p->settings->record_failures;

	if ((!now && !wanted) || (now && wanted && strcmp(now, wanted) == 0))
		return;
	recorder_deinit(p);
	p->recorder = (struct recorder){ 0 };
	recorder_init(p);
}

bool recorder_is_on(const struct pool *p)
{
	return p->recorder.archive.fd >= 0;
}

const char *recorder_state_name(const struct pool *p)
{
	return recorder_is_on(p) ? "on" : p->recorder.archive.path ? "unusable" : "off";
}

static bool recorder_wants(const struct request *r, const struct outcome *o)
{
	if (r->kind != REQUEST_EXECUTE || r->state != REQUEST_RUNNING || o->abandoned || o->executed == EXECUTED_NEVER)
		return false;
	switch (o->code) {
	case ERROR_APP_ERROR:
	case ERROR_WORKER_DIED:
	case ERROR_WORKER_PROTOCOL:
	case ERROR_DEADLINE_EXCEEDED:
	case ERROR_UNSERIALIZABLE:
	case ERROR_TOO_LARGE:
		return true;
	default:
		return false;
	}
}

/* False: there were enough in this second. */
static bool recorder_admits(struct recorder *rec, const struct pool *p)
{
	uint64_t now = loop_now(p->loop);

	if (now - rec->second >= NS_PER_S) {
		if (rec->n_skipped)
			LOG(WARN, "recorder.skipped", KV("pool", p->settings->name), KV("n", rec->n_skipped));
		rec->second = now;
		rec->n_kept = 0;
		rec->n_skipped = 0;
	}
	if (rec->n_kept < PER_SECOND_MAX) {
		rec->n_kept++;
		return true;
	}
	rec->n_skipped++;
	return false;
}

static void pack_limits(msgpack_packer *pk, const struct pool_settings *s)
{
	pack_kv_uint(pk, "limit_nofile", s->limit_nofile);
	pack_kv_uint(pk, "limit_as", s->limit_as);
	pack_kv_uint(pk, "max_reply", s->max_reply);
	pack_text(pk, "uid");
	if (s->has_user)
		msgpack_pack_uint64(pk, s->uid);
	else
		msgpack_pack_nil(pk);
}

/* What a worker of the pool is given. */
static void pack_place(msgpack_packer *pk, const struct pool_settings *s)
{
	pack_kv_text(pk, "pool", s->name);
	pack_kv_text(pk, "app", s->app);
	pack_kv_list(pk, "path", s->path);
	pack_kv_list(pk, "modules", s->modules);
	pack_kv_text(pk, "warmup", s->warmup);
	pack_kv_text(pk, "python", s->python);
	pack_kv_list(pk, "environment", s->environment);
	pack_limits(pk, s);
}

static void pack_value_or_nil(msgpack_packer *pk, const char *key, struct span value)
{
	pack_text(pk, key);
	if (value.len)
		pack_raw(pk, value);
	else
		msgpack_pack_nil(pk);
}

/* How it ended. */
static void pack_end(msgpack_packer *pk, const struct request *r, const struct outcome *o)
{
	pack_kv_uint(pk, "call", r->call);
	pack_kv_uint(pk, "worker", o->worker);
	pack_kv_uint(pk, "run_ms", (loop_now(r->pool->loop) - r->started) / NS_PER_MS);
	pack_kv_uint(pk, "timeout_ms", r->deadline == LOOP_NEVER ? 0 : (r->deadline - r->received) / NS_PER_MS);
	pack_kv_text(pk, "code", error_name(o->code));
	pack_kv_text(pk, "message", o->message);
	pack_kv_text(pk, "executed", executed_name(o->executed));
	pack_value_or_nil(pk, "cause", o->cause);
}

/* The map up to the value of args, which comes last and is not copied. */
static void recorder_pack(msgpack_packer *pk, const struct request *r, const struct outcome *o, uint64_t now)
{
	msgpack_pack_map(pk, 25);
	pack_kv_uint(pk, "format", FORMAT);
	pack_kv_text(pk, "version", PYPOOL_VERSION);
	pack_kv_uint(pk, "time_ms", now);
	pack_place(pk, r->pool->settings);
	pack_end(pk, r, o);
	pack_kv_text(pk, "target", r->target);
	pack_kv_text(pk, "traceparent", r->traceparent);
	pack_text(pk, "args");
}

void recorder_note(const struct request *r, const struct outcome *o)
{
	static const uint8_t nil = 0xc0;
	struct recorder *rec = &r->pool->recorder;
	struct span parts[2];
	_cleanup_(msgpack_sbuffer_destroy) msgpack_sbuffer buf = { 0 };
	msgpack_packer pk;
	uint64_t now;

	if (!recorder_wants(r, o) || !recorder_open(r->pool) || request_is_spent(r) || !recorder_admits(rec, r->pool))
		return;
	now = wall_ms();
	packed_begin(&buf, &pk);
	recorder_pack(&pk, r, o, now);
	parts[0] = (struct span){ .p = (const uint8_t *)buf.data, .len = buf.size };
	parts[1] = r->args.len ? r->args : (struct span){ .p = &nil, .len = 1 };
	if (archive_keep(&rec->archive, now, r->call, parts, 2) == 0)
		LOG(INFO, "call.recorded", KV("pool", r->pool->settings->name), KV("call", r->call),
		    KV("worker", o->worker), KV("result", error_name(o->code)),
		    KV("bytes", parts[0].len + parts[1].len), KV_IF_ANY("traceparent", r->traceparent));
}

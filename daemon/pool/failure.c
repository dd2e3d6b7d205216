#include "daemon/pool/failure.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "daemon/base/cleanup.h"
#include "daemon/base/mem.h"
#include "daemon/base/packed.h"
#include "daemon/io/core.h"
#include "daemon/pool/pool.h"
#include "daemon/pool/postmortem.h"
#include "daemon/pool/stack.h"
#include "daemon/pool/text.h"
#include "daemon/pool/worker.h"
#include "proto/pack.h"

#define TRACEBACK_KEPT (64 * 1024)

void failure_clock(uint64_t wall_ms, char out[16])
{
	time_t t = (time_t)(wall_ms / 1000);
	struct tm tm;

	if (!localtime_r(&t, &tm) || !strftime(out, 16, "%H:%M:%S", &tm))
		(void)snprintf(out, 16, "?");
}

static const char *base_name(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

static char *describe_exception(const struct handshake *h)
{
	if (h->summary)
		return mem_printf("%s", h->summary);
	if (h->file && h->line)
		return mem_printf("%s: %s, %s line %llu", h->type, h->message, base_name(h->file),
				  (unsigned long long)h->line);
	return mem_printf("%s: %s", h->type, h->message);
}

/* "init was not finished in 5.0 s, in phase imports of app: importing models (app.py line 3) -> db (models.py line 7): db.py
 * line 2, asleep in clock_nanosleep" */
static char *describe_timeout(const struct worker *w)
{
	const struct handshake_phase *ph = handshake_last(&w->hs);
	struct span stack = w->hs.stack ? span_str(w->hs.stack) : (struct span){ 0 };
	const char *activity = w->hs.activity;
	char place[STACK_TEXT], chain[400], time[TEXT_DURATION];

	stack_place(stack, place);
	stack_imports(stack, chain, sizeof(chain));
	return mem_printf("init was not finished in %s, in phase %s%s%s%s%s%s%s%s%s",
			  text_duration(pool_settings_of(w)->init_timeout, time), ph->name, ph->module[0] ? " of " : "",
			  ph->module, chain[0] ? ": importing " : "", chain, place[0] ? ": " : "", place,
			  activity[0] ? ", " : "", activity);
}

static char *describe_exit(const struct worker *w)
{
	const struct handshake_phase *ph = handshake_last(&w->hs);
	struct span last = postmortem_last_line(w->proc.tail, 0);
	char how[POSTMORTEM_TEXT], place[STACK_TEXT], quoted[400] = "";

	if (last.len)
		envelope_quote(last, quoted, sizeof(quoted));
	if (!w->hs.hello && !w->hs.introduced)
		return mem_printf("%s %s before it was a worker%s%s", pool_settings_of(w)->python,
				  postmortem_exit_text(w, how), last.len ? "; its last words: " : ": is it a Python?",
				  quoted);
	stack_place(postmortem_fatal(w), place);
	return mem_printf("the worker %s in phase %s%s%s%s%s%s%s", postmortem_exit_text(w, how), ph->name,
			  ph->module[0] ? " of " : "", ph->module, place[0] ? ", " : "", place,
			  last.len ? "; its last words: " : "", quoted);
}

/* It lived on, and so nobody else would have told. */
static char *describe_wrong(const struct worker *w)
{
	const struct handshake_phase *ph = handshake_last(&w->hs);
	struct span last = postmortem_last_line(w->proc.tail, 0);
	char how[POSTMORTEM_TEXT], quoted[400] = "";

	if (last.len)
		envelope_quote(last, quoted, sizeof(quoted));
	return mem_printf("%s; it %s in phase %s%s%s%s%s", w->hs.wrong, postmortem_exit_text(w, how), ph->name,
			  ph->module[0] ? " of " : "", ph->module, last.len ? "; its last words: " : "", quoted);
}

/* Whose limit it was: the words of these errors do not say. */
static const char *spawn_hint(int error)
{
	switch (error) {
	case EMFILE:
		return " in pypoold itself (its LimitNOFILE)";
	case EAGAIN:
		return ", there are too many processes (TasksMax of the service, limits of the user)";
	default:
		return "";
	}
}

static char *describe_spawn(const struct worker *w)
{
	bool forked = strcmp(handshake_last(&w->hs)->name, "fork") == 0;

	if (w->unconfined)
		return mem_printf("the cgroup that limit_memory and limit_pids need cannot be made: %s",
				  strerror(-w->spawn_error));
	return mem_printf("cannot %s %s: %s%s", forked ? "fork the template of" : "start",
			  forked ? pool_settings_of(w)->app : pool_settings_of(w)->python, strerror(-w->spawn_error),
			  spawn_hint(-w->spawn_error));
}

static char *describe(const struct worker *w)
{
	if (w->why == WORKER_WHY_SPAWN_FAILED)
		return describe_spawn(w);
	if (w->why == WORKER_WHY_TEMPLATE_LOST)
		return mem_strdup("the template was lost before it had forked the worker");
	if (w->hs.failed)
		return describe_exception(&w->hs);
	if (w->why == WORKER_WHY_INIT_TIMEOUT)
		return describe_timeout(w);
	if (w->hs.wrong && w->why == WORKER_WHY_PROTOCOL)
		return describe_wrong(w);
	return describe_exit(w);
}

void failure_pack_phases(msgpack_packer *pk, const char *key, const struct worker *w)
{
	const struct handshake *h = &w->hs;
	uint64_t now = loop_now(w->pool->loop);

	pack_text(pk, key);
	msgpack_pack_array(pk, h->n_phases);
	for (unsigned i = 0; i < h->n_phases; i++) {
		const struct handshake_phase *ph = &h->phases[i];
		uint64_t end = ph->ended ? ph->ended : w->state == WORKER_DEAD ? w->since : now;

		msgpack_pack_map(pk, ph->module[0] ? 3 : 2);
		pack_kv_text(pk, "phase", ph->name);
		pack_kv_double(pk, "ms", end > ph->begun ? (double)(end - ph->begun) / 1e6 : 0);
		if (ph->module[0])
			pack_kv_text(pk, "module", ph->module);
	}
}

static unsigned failure_exception_keys(const struct handshake *h)
{
	return 3 + (h->file ? 2 : 0) + (h->imported_by ? 1 : 0);
}

static void failure_pack_exception(msgpack_packer *pk, const struct handshake *h)
{
	pack_kv_text(pk, "type", h->type);
	pack_kv_text(pk, "message", h->message);
	if (h->file) {
		pack_kv_text(pk, "file", h->file);
		pack_kv_uint(pk, "line", h->line);
	}
	if (h->imported_by) {
		pack_text(pk, "imported_by");
		pack_raw(pk, (struct span){ .p = h->imported_by, .len = h->imported_by_len });
	}
	pack_text(pk, "traceback");
	text_pack_safe(pk, span_str(h->traceback), TRACEBACK_KEPT);
}

/* What it was doing when its time was over or it was killed. */
static struct span failure_stack(const struct worker *w)
{
	return w->hs.stack ? span_str(w->hs.stack) : postmortem_fatal(w);
}

static void failure_pack_kill(msgpack_packer *pk, const struct worker *w)
{
	char core[400];

	pack_kv_uint(pk, "signal", (uint64_t)w->exit.signal);
	pack_kv_uint(pk, "max_rss_kib", w->exit.max_rss_kib);
	pack_text(pk, "core");
	if (w->exit.core_dumped)
		text_pack_safe(pk, span_str(core_where(w->last_pid, core, sizeof(core))), sizeof(core));
	else
		msgpack_pack_nil(pk);
}

static void failure_pack_cause(struct failure *f, const struct worker *w)
{
	const struct handshake *h = &w->hs;
	struct span stack = failure_stack(w);
	char how[POSTMORTEM_TEXT];
	msgpack_packer pk;

	packed_begin(&f->cause, &pk);
	msgpack_pack_map(&pk,
			 5 + (h->failed ? failure_exception_keys(h) : 0) + (stack.len != 0) + (h->activity[0] != 0) +
				 (w->exit.signal ? 3 : 0));
	pack_kv_text(&pk, "reason", worker_why_name(w->why));
	pack_kv_text(&pk, "phase", f->phase);
	failure_pack_phases(&pk, "init", w);
	pack_kv_text(&pk, "exit", w->why == WORKER_WHY_SPAWN_FAILED ? NULL : postmortem_exit_text(w, how));
	postmortem_pack_lines(&pk, "output", w->proc.tail, 0);
	if (h->failed)
		failure_pack_exception(&pk, h);
	if (stack.len)
		postmortem_pack_stack(&pk, "stack", stack);
	if (h->activity[0])
		pack_kv_text(&pk, "activity", h->activity);
	if (w->exit.signal)
		failure_pack_kill(&pk, w);
}

struct failure *failure_new(const struct worker *w)
{
	struct failure *f = MEM_NEW(struct failure);

	f->message = describe(w);
	text_make_utf8(f->message);
	(void)snprintf(f->phase, sizeof(f->phase), "%s", handshake_last(&w->hs)->name);
	failure_pack_cause(f, w);
	return f;
}

struct failure *failure_free(struct failure *f)
{
	if (!f)
		return NULL;
	free(f->message);
	msgpack_sbuffer_destroy(&f->cause);
	free(f);
	return NULL;
}

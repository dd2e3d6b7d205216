#include "tests/sim/sim_stage.h"

#include <stdio.h>
#include <stdlib.h>
#include <utlist.h>

#include "daemon/base/cleanup.h"
#include "daemon/base/mem.h"
#include "daemon/pool/session.h"
#include "daemon/pool/lease.h"
#include "daemon/pool/queue.h"
#include "daemon/pool/takeup.h"
#include "tests/sim/sim_pair.h"
#include "tests/sim/sim_process.h"

static void on_settled(struct pool *p)
{
	container_of(p->registry, struct sim_stage, registry)->n_settled++;
}

static void on_stopped(struct pool *p)
{
	container_of(p->registry, struct sim_stage, registry)->n_stopped++;
}

static const struct pool_ops pool_ops = { .settled = on_settled, .stopped = on_stopped };

struct pool_settings sim_settings(void)
{
	return (struct pool_settings){
		.name = (char *)"sim",
		.app = (char *)"app",
		.python = (char *)"/usr/bin/python3",
		.min_workers = 1,
		.max_workers = 1,
		.call_timeout = 2 * NS_PER_S,
		.queue_timeout = 5 * NS_PER_S,
		.init_timeout = 10 * NS_PER_S,
		.cancel_grace = 500 * NS_PER_MS,
		.stop_timeout = NS_PER_S,
		.lease_ttl = 10 * NS_PER_S,
		.max_reply = 1024 * 1024,
	};
}

/* What a daemon has of its own. */
static void stage_make(struct sim_stage *s)
{
	registry_init(&s->registry);
	gate_init(&s->gate, s->loop, s->gate_limit);
	s->pool = pool_new(&s->settings,
			   &(struct pool_env){ .loop = s->loop,
					       .blobs = &s->blobs,
					       .registry = &s->registry,
					       .gate = &s->gate,
					       .spawner = &s->machine.spawner,
					       .library = "/lib",
					       .seed = s->seed },
			   &pool_ops);
}

void sim_stage_init(struct sim_stage *s, const struct pool_settings *settings, unsigned gate, uint64_t seed,
		    const struct sim_machine_ops *ops)
{
	*s = (struct sim_stage){ .settings = *settings, .loop = loop_new(), .seed = seed, .gate_limit = gate };
	blob_pool_init(&s->blobs);
	sim_machine_init(&s->machine, s->loop, ops);
	sim_keeper_init(&s->keeper, s->loop);
	stage_make(s);
}

void sim_stage_keep(struct sim_stage *s)
{
	s->registry.keeper = &s->keeper.keeper;
	keep_daemon(&s->registry);
}

void sim_stage_start(struct sim_stage *s)
{
	pool_start(s->pool);
	(void)sim_pass(s->loop, 100 * NS_PER_MS);
}

unsigned sim_stage_end(struct sim_stage *s, bool politely)
{
	unsigned left;

	if (politely)
		pool_drain(s->pool);
	else
		pool_stop_now(s->pool);
	(void)sim_pass(s->loop, s->settings.stop_timeout + 10 * NS_PER_S);
	left = s->pool->state != POOL_STOPPED || s->n_stopped != 1;
	s->pool = pool_free(s->pool);
	gate_deinit(&s->gate);
	registry_deinit(&s->registry);
	left += sim_fds_open(s->loop) + sim_timers_armed(s->loop) + sim_tasks_marked(s->loop) +
		sim_machine_living(&s->machine) + sim_events_pending(s->loop);
	left += sim_keeper_deinit(&s->keeper);
	s->loop = loop_free(s->loop);
	left += s->blobs.n_live;
	blob_pool_deinit(&s->blobs);
	return left;
}

/* --- the end of one daemon, and another one --- */

static void cut_workers(struct worker *list)
{
	struct worker *w;

	DL_FOREACH (list, w) {
		if (w->lease && w->lease->direct)
			sim_pair_cut(&w->lease->socket);
		stream_close(&w->calls);
		sim_process_cut(&w->proc);
	}
}

void sim_stage_cut(struct sim_stage *s)
{
	s->registry.keeper = NULL;
	s->registry.feed = NULL;
	cut_workers(s->pool->workers);
	cut_workers(s->pool->templates);
}

/* As it was cut off it can do nothing but clear up after itself. */
static void exit_all(struct worker *list)
{
	const struct process_exit how = { .exit_code = -1 };
	struct worker *w, *next;

	DL_FOREACH_SAFE (list, w, next) {
		if (!process_is_running(&w->proc))
			continue;
		w->proc.pid = 0;
		w->proc.ops->exited(&w->proc, &how);
	}
}

void sim_stage_bury(struct sim_stage *s)
{
	unsigned n_settled = s->n_settled, n_stopped = s->n_stopped;

	pool_stop_now(s->pool);
	exit_all(s->pool->workers);
	exit_all(s->pool->templates);
	sim_bury(s->loop);
	s->pool = pool_free(s->pool);
	gate_deinit(&s->gate);
	registry_deinit(&s->registry);
	sim_bury(s->loop);
	s->n_settled = n_settled;
	s->n_stopped = n_stopped;
}

void sim_stage_come_back(struct sim_stage *s)
{
	stage_make(s);
	sim_keeper_begin(&s->keeper);
	if (!takeup_all(&(struct takeup){
		    .keeper = &s->keeper.keeper,
		    .registry = &s->registry,
		    .pools = &s->pool,
		    .n_pools = 1,
	    })) {
		sim_keeper_forget(&s->keeper);
		s->registry.keeper = &s->keeper.keeper;
	}
	keep_daemon(&s->registry);
	sim_keeper_drop_rest(&s->keeper);
}

/* --- callers --- */

/* The value of a success: an integer, or what a checkout answers. */
static void read_value(struct sim_answer *a, struct span value)
{
	uint32_t pairs;

	if (mp_read_uint(&value, &a->value) || !mp_read_map(&value, &pairs))
		return;
	while (pairs--) {
		struct span key;
		uint64_t v;

		if (!mp_read_text(&value, &key) || !mp_read_uint(&value, &v))
			return;
		if (span_equals(key, "lease"))
			a->lease = v;
	}
}

static void on_finished(struct caller *caller, const struct request *r, const struct outcome *o)
{
	struct sim_caller *c = container_of(caller, struct sim_caller, caller);
	struct sim_answer *a = &c->answers[c->n_answers++ % SIM_ANSWERS];

	*a = (struct sim_answer){
		.id = r->key.id,
		.code = o->code,
		.executed = o->executed,
		.abandoned = o->abandoned,
		.retry_after_ms = o->retry_after_ms,
		.at = loop_now(c->stage->loop),
		.has_cause = o->cause.len != 0,
		.fd = o->fd ? TAKE_FD(*o->fd) : -1,
	};
	(void)snprintf(a->message, sizeof(a->message), "%s", o->message);
	read_value(a, o->value.span);
}

static void read_news(struct sim_news *n, struct span params)
{
	uint32_t pairs = 0;

	(void)mp_read_map(&params, &pairs);
	while (pairs--) {
		struct span key, value, text;

		if (!mp_read_text(&params, &key) || !mp_read_any(&params, &value))
			return;
		n->has_cause |= span_equals(key, "cause");
		if (span_equals(key, "lease"))
			(void)mp_read_uint(&value, &n->lease);
		else if (span_equals(key, "reason") && mp_read_text(&value, &text))
			(void)snprintf(n->reason, sizeof(n->reason), "%.*s", (int)text.len, (const char *)text.p);
		else if (span_equals(key, "message") && mp_read_text(&value, &text))
			(void)snprintf(n->message, sizeof(n->message), "%.*s", (int)text.len, (const char *)text.p);
	}
}

static void on_news(struct caller *caller, const char *name, struct span params)
{
	struct sim_caller *c = container_of(caller, struct sim_caller, caller);

	if (strcmp(name, "lease_lost") != 0)
		abort(); /* there is no other */
	read_news(&c->news[c->n_news++ % SIM_NEWS], params);
}

static const struct caller_ops caller_ops = { .finished = on_finished, .news = on_news };

void sim_caller_init_as(struct sim_caller *c, struct sim_stage *s, uid_t uid)
{
	*c = (struct sim_caller){ .stage = s };
	caller_init(&c->caller, &caller_ops, &s->registry, uid);
}

void sim_caller_init(struct sim_caller *c, struct sim_stage *s)
{
	sim_caller_init_as(c, s, 1000);
}

const struct sim_answer *sim_caller_answer(const struct sim_caller *c, uint64_t id)
{
	const struct sim_answer *found = NULL;

	for (unsigned i = 0; i < c->n_answers && i < SIM_ANSWERS; i++) {
		if (c->answers[i].id != id)
			continue;
		if (found)
			abort(); /* answered twice */
		found = &c->answers[i];
	}
	return found;
}

static void submit_args(struct sim_caller *c, struct request_spec *spec, struct lease *l, struct span args)
{
	struct blob *b = blob_copy(&c->stage->blobs, args);

	spec->received = loop_now(c->stage->loop);
	spec->target = SPAN_LIT("app.work");
	spec->body = (struct slice){ .blob = b, .span = { .p = b->data, .len = args.len } };
	spec->args = spec->body.span;
	pool_submit(c->stage->pool, &c->caller, spec, l);
	blob_unref(b);
}

static void submit(struct sim_caller *c, struct request_spec *spec, struct lease *l)
{
	static const uint8_t args[] = { 0x91, 0x01 };

	submit_args(c, spec, l, (struct span){ .p = args, .len = sizeof(args) });
}

void sim_execute_as(struct sim_caller *c, struct request_spec *spec, uint8_t flavour, size_t size, struct lease *l)
{
	uint32_t n = (uint32_t)size - 5;
	uint8_t *args = mem_new(size);

	args[0] = 0xdd;
	for (unsigned i = 0; i < 4; i++)
		args[1 + i] = (uint8_t)(n >> (24 - 8 * i));
	args[5] = flavour;
	submit_args(c, spec, l, (struct span){ .p = args, .len = size });
	free(args);
}

void sim_execute(struct sim_caller *c, uint64_t id, uint64_t timeout, uint64_t queue_timeout)
{
	submit(c,
	       &(struct request_spec){
		       .kind = REQUEST_EXECUTE, .id = id, .timeout = timeout, .queue_timeout = queue_timeout },
	       NULL);
}

void sim_execute_leased(struct sim_caller *c, uint64_t id, struct lease *l)
{
	submit(c, &(struct request_spec){ .kind = REQUEST_EXECUTE, .id = id }, l);
}

void sim_checkout(struct sim_caller *c, uint64_t id, uint64_t ttl)
{
	submit(c, &(struct request_spec){ .kind = REQUEST_CHECKOUT, .id = id, .ttl = ttl }, NULL);
}

void sim_checkout_direct(struct sim_caller *c, uint64_t id, uint64_t ttl)
{
	submit(c, &(struct request_spec){ .kind = REQUEST_CHECKOUT, .id = id, .ttl = ttl, .direct = true }, NULL);
}

static void refuse(struct sim_caller *c, uint64_t id, const struct outcome *o)
{
	struct sim_answer *a = &c->answers[c->n_answers++ % SIM_ANSWERS];

	*a = (struct sim_answer){ .id = id, .code = o->code, .executed = o->executed, .at = loop_now(c->stage->loop) };
	(void)snprintf(a->message, sizeof(a->message), "%s", o->message);
}

bool sim_submit_in(struct sim_caller *c, const char *session, struct request_spec *spec)
{
	struct outcome o;

	spec->session = session_for(c->stage->pool, &c->caller, span_str(session), true, &o);
	if (!spec->session) {
		refuse(c, spec->id, &o);
		return false;
	}
	submit(c, spec, spec->session->lease);
	return true;
}

void sim_execute_in(struct sim_caller *c, uint64_t id, const char *session)
{
	(void)sim_submit_in(c, session, &(struct request_spec){ .kind = REQUEST_EXECUTE, .id = id });
}

void sim_edit(struct sim_caller *c, const char *session, uint64_t id, enum request_kind kind, struct span edit)
{
	struct request_spec spec = { .kind = kind, .id = id };
	struct outcome o;

	spec.session = session_for(c->stage->pool, &c->caller, span_str(session), true, &o);
	if (spec.session)
		submit_args(c, &spec, spec.session->lease, edit);
	else
		refuse(c, id, &o);
}

uint64_t sim_session_n(const struct session *session)
{
	struct span value;
	uint64_t n = 0;

	if (session && values_get(&session->values, SPAN_LIT("n"), &value))
		(void)mp_read_uint(&value, &n);
	return n;
}

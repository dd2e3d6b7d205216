#include "daemon/front/peek.h"

#include "daemon/base/cleanup.h"
#include "daemon/base/mem.h"
#include "daemon/front/client.h"
#include "daemon/front/method.h"
#include "daemon/front/router.h"
#include "daemon/front/server.h"
#include "daemon/front/view.h"
#include "daemon/pool/postmortem.h"
#include "proto/pack.h"

#define PEEK_TIME (NS_PER_S / 2) /* a person waits: a worker on a busy machine gets its time to answer */

static void peek_release(struct loop_grave *g)
{
	free(container_of(g, struct peek, grave));
}

static void peek_end(struct peek *p)
{
	struct loop *l = p->errand.client->server->loop;

	glance_forget(&p->waiter);
	loop_task_cancel(l, &p->again);
	errand_end(&p->errand);
	loop_bury(l, &p->grave, peek_release);
}

static void peek_drop(struct errand *e)
{
	peek_end(container_of(e, struct peek, errand));
}

/* The worker asked for, when there is a process to look at. NULL: q is answered. */
static struct worker *choose_worker(const struct query *q)
{
	const struct server *s = q->client->server;
	unsigned long long id = q->params.worker;
	struct worker *w = client_find_worker(q->client, id, q->needs);
	char how[POSTMORTEM_TEXT];

	if (!w && id && id <= s->registry->last_worker)
		query_fail(q, ERROR_BAD_REQUEST, "worker %llu is dead and not known any more", id);
	else if (!w)
		query_fail(q, ERROR_BAD_REQUEST, "there has been no worker %llu yet", id);
	else if (!query_is_of_pool(q, w))
		return NULL;
	else if (w->state == WORKER_DEAD && w->last_pid)
		query_fail(q, ERROR_BAD_REQUEST, "worker %llu is dead, it %s: there is no stack to show", id,
			   postmortem_exit_text(w, how));
	else if (w->state == WORKER_DEAD)
		query_fail(q, ERROR_BAD_REQUEST, "worker %llu is dead, it never had a process", id);
	else if (!process_is_running(&w->proc))
		query_fail(q, ERROR_BAD_REQUEST, "worker %llu has no process yet: it waits for its turn to be started",
			   id);
	else
		return w;
	return NULL;
}

/* What it ran when the glance began is still in its slot: a glance ends before the slot moves on. */
static void peek_pack(struct view *v, const struct worker *w, const struct glance *g)
{
	char activity[GLANCE_TEXT];

	msgpack_pack_map(&v->pk, 9);
	pack_kv_uint(&v->pk, "worker", w->id);
	pack_kv_text(&v->pk, "pool", w->pool->settings->name);
	pack_kv_uint(&v->pk, "pid", (uint64_t)w->last_pid);
	pack_kv_text(&v->pk, "state", worker_state_name(w->state));
	pack_kv_text(&v->pk, "phase", w->ready_at ? NULL : handshake_last(&w->hs)->name);
	view_pack_slot(v, w);
	pack_kv_text(&v->pk, "activity", glance_activity(g, activity)[0] ? activity : NULL);
	postmortem_pack_stack(&v->pk, "stack", glance_stack(g));
	pack_kv_bool(&v->pk, "complete", g->complete);
}

static void peek_on_done(struct glance_waiter *gw, const struct glance *g)
{
	struct peek *p = container_of(gw, struct peek, waiter);
	const struct query q = { .client = p->errand.client, .id = p->errand.id };
	struct loop *l = q.client->server->loop;
	struct view v;

	/* pinged: it could be asked. Its call ended or began before the stack was there, somebody else was in more of a hurry,
	 * or it is dead. */
	if (!g->complete && g->pinged && loop_now(l) < p->until) {
		loop_defer(l, &p->again);
		return;
	}
	view_begin(&v, &q);
	peek_pack(&v, container_of(g, struct worker, glance), g);
	peek_end(p);
	view_send(&v);
	client_note_reply(q.client);
}

static void peek_ask(struct peek *p, struct worker *w)
{
	uint64_t now = loop_now(p->errand.client->server->loop);

	glance_ask(w, &p->waiter, p->until > now ? p->until - now : 0);
}

static void peek_on_again(struct loop_task *t)
{
	struct peek *p = container_of(t, struct peek, again);
	const struct query q = { .client = p->errand.client, .id = p->errand.id, .params = { .worker = p->worker } };
	struct worker *w = choose_worker(&q);

	if (w) {
		peek_ask(p, w);
		return;
	}
	peek_end(p);
	client_note_reply(q.client);
}

void peek_start(struct client *c, uint64_t id, struct worker *w)
{
	struct peek *p = MEM_NEW(struct peek);

	p->worker = w->id;
	p->until = loop_now(c->server->loop) + PEEK_TIME;
	p->waiter.done = peek_on_done;
	p->again.run = peek_on_again;
	errand_begin(&p->errand, c, id, peek_drop);
	peek_ask(p, w);
}

void method_worker_stack(struct query *q)
{
	struct worker *w;

	if (!params_has(&q->params, PARAM_WORKER)) {
		query_fail(q, ERROR_BAD_REQUEST, "worker.stack needs worker: the number of a worker");
		return;
	}
	if (!query_may_wait(q))
		return;
	w = choose_worker(q);
	if (w)
		peek_start(q->client, q->id, w);
}

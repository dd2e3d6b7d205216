#include "daemon/pool/direct.h"

#include <errno.h>

#include "daemon/base/cleanup.h"
#include "daemon/base/log.h"
#include "daemon/pool/launch.h"
#include "daemon/pool/lease.h"
#include "daemon/pool/pool.h"
#include "daemon/pool/worker.h"
#include "proto/cursor.h"

/* Nobody was told to end it, but by the daemon that is leaving. */
static enum lease_end_how direct_end_of(const struct lease *l)
{
	return l->worker->pool->state == POOL_RUNNING ? LEASE_END_CLOSED : LEASE_END_SHUTDOWN;
}

/* Closed is to this socket what it is to a connection: a cancel of what runs. */
static void direct_on_hung_up(struct pair *p)
{
	struct lease *l = container_of(p, struct lease, socket);

	lease_end(l, direct_end_of(l));
}

static void direct_explain(const struct lease *l, int error, struct outcome *o)
{
	const struct worker *w = l->worker;

	if (error == -ETOOMANYREFS)
		outcome_error(o, ERROR_QUOTA,
			      "no socket for a direct lease: too many are on their way and not received");
	else if (error == -EMFILE || error == -ENFILE)
		outcome_error(o, ERROR_OVERLOADED,
			      "no socket for a direct lease: the daemon has no free file descriptor");
	else
		outcome_error(o, ERROR_OVERLOADED, "no socket for a direct lease of worker %llu (pid %d): %s",
			      (unsigned long long)w->id, (int)w->last_pid, strerrordesc_np(-error));
	o->worker = w->id;
}

/* 0 or a negative errno, and then there is no socket. */
static int direct_make_socket(struct lease *l)
{
	struct worker *w = l->worker;
	int r = pair_open(&l->socket, w->pool->loop, direct_on_hung_up);

	if (r < 0)
		return r;
	r = launch_send_channel(w, l->id, l->socket.worker);
	if (r == -EPIPE || r == -ECONNRESET)
		return 0; /* it has just died: its exit ends the lease, as it would a moment later */
	if (r < 0)
		pair_close(&l->socket);
	return r;
}

bool direct_open(struct lease *l, struct outcome *o)
{
	struct worker *w = l->worker;
	int r = direct_make_socket(l);

	if (r < 0) {
		direct_explain(l, r, o);
		LOG(WARN, "lease.no_socket", KV("pool", w->pool->settings->name), KV("lease", l->id),
		    KV("worker", w->id), KV("errno", -r));
		return false;
	}
	l->direct = true;
	w->pool->n_direct++;
	slot_start_direct(w, l);
	return true;
}

void direct_take_over(struct lease *l, int socket)
{
	struct pool *p = l->worker->pool;

	l->direct = true;
	p->n_direct++;
	if (pair_take(&l->socket, p->loop, socket, direct_on_hung_up) < 0)
		lease_end(l, LEASE_END_NO_SOCKET);
}

void direct_close(struct lease *l)
{
	struct pool *p = l->worker->pool;

	pair_close(&l->socket);
	p->n_direct--;
	pool_note_finished(p);
}

void direct_drain(struct lease *l)
{
	pair_shut_input(&l->socket);
}

static void direct_count(struct worker *w, uint64_t calls, uint64_t errors)
{
	struct stats *st = &w->pool->stats;

	st->direct_calls += calls;
	st->direct_errors += errors;
	slot_count(w, calls);
	if (calls)
		supply_note_reply(w);
}

void direct_note_answer(struct worker *w, struct span result)
{
	uint64_t calls = 0, errors = 0;
	uint32_t pairs = 0;

	if (!mp_read_map(&result, &pairs))
		pairs = 0;
	while (pairs--) {
		struct span key, value;

		if (!mp_read_text(&result, &key) || !mp_read_any(&result, &value))
			break;
		if (span_equals(key, "calls"))
			(void)mp_read_uint(&value, &calls); /* of another type: not told */
		else if (span_equals(key, "errors"))
			(void)mp_read_uint(&value, &errors);
	}
	direct_count(w, calls, errors);
	if (w->lease)
		lease_end(w->lease, direct_end_of(w->lease));
}

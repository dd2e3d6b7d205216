#include "daemon/pool/account.h"

#include "daemon/base/log.h"
#include "daemon/base/mem.h"
#include "daemon/pool/outcome.h"
#include "daemon/pool/registry.h"

#define MESSAGES_PER_TURN 128

static struct account *account_find(const struct registry *g, uid_t uid)
{
	struct account *a;

	HASH_FIND(hh, g->accounts, &uid, sizeof(uid), a);
	return a;
}

static struct account *account_get(struct registry *g, uid_t uid)
{
	struct account *a = account_find(g, uid);

	if (!a) {
		a = MEM_NEW(struct account);
		a->uid = uid;
		a->registry = g;
		HASH_ADD(hh, g->accounts, uid, sizeof(a->uid), a);
	}
	return a;
}

static void account_maybe_free(struct account *a)
{
	if (a->callers || a->connections || a->calls || a->sessions || a->leases)
		return;
	if (a->bytes || a->out)
		LOG_BUG("an account's bytes are not zero at its end");
	HASH_DEL(a->registry->accounts, a);
	free(a);
}

/* What is not charged cannot be given back: better a count that is too low than one that wraps. */
static void account_release(struct account *a, unsigned *count)
{
	if (*count)
		--*count;
	else
		LOG_BUG("an account gives back what it was not charged");
	account_maybe_free(a);
}

struct account *account_add_caller(struct registry *g, uid_t uid)
{
	struct account *a = account_get(g, uid);

	a->callers++;
	return a;
}

struct account *account_add_connection(struct registry *g, uid_t uid)
{
	struct account *a = account_get(g, uid);

	g->n_connected += !a->connections++;
	return a;
}

struct account *account_add_session(struct registry *g, uid_t uid)
{
	struct account *a = account_get(g, uid);

	a->sessions++;
	return a;
}

void account_remove_caller(struct account *a)
{
	account_release(a, &a->callers);
}

void account_remove_connection(struct account *a)
{
	a->registry->n_connected -= a->connections == 1;
	account_release(a, &a->connections);
}

unsigned account_connections(const struct registry *g, uid_t uid)
{
	const struct account *a = account_find(g, uid);

	return a ? a->connections : 0;
}

bool account_may_take(struct account *a, uint64_t turn)
{
	if (a->turn != turn)
		a->taken = 0;
	a->turn = turn;
	return a->taken++ < MESSAGES_PER_TURN || a->registry->n_connected <= 1;
}

bool account_may_submit(const struct account *a, size_t bytes, struct outcome *o)
{
	const struct account_limits *l = &a->registry->limits;

	if (l->uid_max_calls && a->calls >= l->uid_max_calls)
		outcome_error(o, ERROR_QUOTA, "uid %u has %u calls in flight, uid_max_calls is %u", a->uid, a->calls,
			      l->uid_max_calls);
	else if (l->uid_max_bytes && a->bytes + bytes > l->uid_max_bytes)
		outcome_error(o, ERROR_QUOTA,
			      "uid %u has %zu bytes of calls in flight and sends %zu more, uid_max_bytes is %llu",
			      a->uid, a->bytes, bytes, (unsigned long long)l->uid_max_bytes);
	else
		return true;
	return false;
}

bool account_may_lease(const struct account *a, struct outcome *o)
{
	unsigned limit = a->registry->limits.uid_max_leases;

	if (!limit || a->leases < limit)
		return true;
	outcome_error(o, ERROR_QUOTA, "uid %u has %u leases, with the checkouts that wait; uid_max_leases is %u",
		      a->uid, a->leases, limit);
	return false;
}

bool account_may_open(const struct account *a, struct outcome *o)
{
	unsigned limit = a->registry->limits.uid_max_sessions;

	if (!limit || a->sessions < limit)
		return true;
	outcome_error(o, ERROR_QUOTA, "uid %u has %u sessions, uid_max_sessions is %u", a->uid, a->sessions, limit);
	return false;
}

void account_charge_call(struct account *a, size_t bytes)
{
	a->calls++;
	a->bytes += bytes;
}

void account_release_call(struct account *a, size_t bytes)
{
	a->bytes -= bytes;
	account_release(a, &a->calls);
}

void account_charge_lease(struct account *a)
{
	a->leases++;
}

void account_release_lease(struct account *a)
{
	account_release(a, &a->leases);
}

void account_charge_session(struct account *a)
{
	a->sessions++;
}

void account_release_session(struct account *a)
{
	account_release(a, &a->sessions);
}

#include "daemon/pool/caller.h"

#include "daemon/base/log.h"
#include "daemon/base/mem.h"
#include "daemon/io/loop.h"
#include "daemon/pool/lease.h"
#include "daemon/pool/queue.h"
#include "daemon/pool/registry.h"
#include "daemon/pool/request.h"

#define ENDED_KEPT (60 * NS_PER_S)

void caller_init(struct caller *c, const struct caller_ops *ops, struct registry *g, uid_t uid)
{
	*c = (struct caller){
		.ops = ops,
		.id = registry_next(g, &g->last_caller),
		.uid = uid,
		.account = account_add_caller(g, uid),
	};
}

void caller_gone(struct caller *c)
{
	while (c->requests)
		request_abandon(c->requests);
	while (c->leases)
		lease_end(c->leases, LEASE_END_OWNER_GONE);
	lane_free_all(c);
	free(c->ended);
	c->ended = NULL;
	if (c->n_requests || c->body_bytes || c->n_leases)
		LOG_BUG("a caller's counters are not zero at its end");
	if (c->account)
		account_remove_caller(c->account);
	c->account = NULL;
}

void caller_note_ended(struct caller *c, uint64_t lease, uint64_t now, const char *how)
{
	if (!c->ended)
		c->ended = mem_new(CALLER_ENDED_LEASES * sizeof(*c->ended));
	c->ended[c->n_ended++ % CALLER_ENDED_LEASES] = (struct caller_ended_lease){ .id = lease, .at = now, .how = how };
}

const char *caller_find_ended(const struct caller *c, uint64_t lease, uint64_t now)
{
	for (unsigned i = 0; c->ended && i < CALLER_ENDED_LEASES; i++) {
		if (c->ended[i].id == lease && c->ended[i].how && now - c->ended[i].at <= ENDED_KEPT)
			return c->ended[i].how;
	}
	return NULL;
}

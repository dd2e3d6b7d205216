#include "daemon/pool/registry.h"

#include "daemon/base/log.h"
#include "daemon/pool/lease.h"
#include "daemon/pool/request.h"

void registry_init(struct registry *g)
{
	*g = (struct registry){ 0 };
}

void registry_deinit(struct registry *g)
{
	if (g->by_call || g->by_caller_id)
		LOG_BUG("the daemon ends with calls in its registry");
	if (g->leases)
		LOG_BUG("the daemon ends with leases in its registry");
	if (g->accounts)
		LOG_BUG("the daemon ends with something charged to an account");
}

void registry_add_request(struct registry *g, struct request *r)
{
	HASH_ADD(hh_id, g->by_caller_id, key, sizeof(r->key), r);
	HASH_ADD(hh_call, g->by_call, call, sizeof(r->call), r);
}

void registry_remove_request(struct registry *g, struct request *r)
{
	HASH_DELETE(hh_id, g->by_caller_id, r);
	HASH_DELETE(hh_call, g->by_call, r);
}

struct request *registry_find_by_id(const struct registry *g, uint64_t caller, uint64_t id)
{
	struct request_key key = { .caller = caller, .id = id };
	struct request *r;

	HASH_FIND(hh_id, g->by_caller_id, &key, sizeof(key), r);
	return r;
}

struct request *registry_find_call(const struct registry *g, uint64_t call)
{
	struct request *r;

	HASH_FIND(hh_call, g->by_call, &call, sizeof(call), r);
	return r;
}

void registry_add_lease(struct registry *g, struct lease *l)
{
	HASH_ADD(hh, g->leases, id, sizeof(l->id), l);
}

void registry_remove_lease(struct registry *g, struct lease *l)
{
	HASH_DEL(g->leases, l);
}

struct lease *registry_find_lease(const struct registry *g, uint64_t id)
{
	struct lease *l;

	HASH_FIND(hh, g->leases, &id, sizeof(id), l);
	return l;
}

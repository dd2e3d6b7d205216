#include "daemon/front/account.h"

#include "daemon/base/log.h"
#include "daemon/base/mem.h"

static struct account *account_find(struct account *table, uid_t uid)
{
	struct account *a;

	HASH_FIND(hh, table, &uid, sizeof(uid), a);
	return a;
}

struct account *account_join(struct account **table, uid_t uid)
{
	struct account *a = account_find(*table, uid);

	if (!a) {
		a = MEM_NEW(struct account);
		a->uid = uid;
		HASH_ADD(hh, *table, uid, sizeof(a->uid), a);
	}
	a->connections++;
	return a;
}

void account_leave(struct account **table, struct account *a)
{
	if (--a->connections)
		return;
	if (a->calls || a->bytes || a->out)
		LOG_BUG("an account's counters are not zero at its end");
	HASH_DEL(*table, a);
	free(a);
}

unsigned account_connections(struct account *table, uid_t uid)
{
	struct account *a = account_find(table, uid);

	return a ? a->connections : 0;
}

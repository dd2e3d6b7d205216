#include "daemon/io/ledger_index.h"

#include <stdlib.h>
#include <utlist.h>

#include "daemon/base/mem.h"
#include "daemon/io/ledger_half.h"

struct ledger_item *ledger_index_find(const struct ledger_index *x, uint32_t kind, uint64_t id)
{
	const struct ledger_key key = { .id = id, .kind = kind };
	struct ledger_item *item;

	HASH_FIND(hh, x->by_key, &key, sizeof(key), item);
	return item;
}

/* Out of the order, and out of the way of a walk. */
static void index_unlink(struct ledger_index *x, struct ledger_item *item)
{
	if (x->walk == item)
		x->walk = item->next;
	x->live_bytes -= ledger_record_size(item->len);
	DL_DELETE(x->order, item);
}

static struct ledger_item *index_add(struct ledger_index *x, uint32_t kind, uint64_t id)
{
	struct ledger_item *item = MEM_NEW(struct ledger_item);

	item->key = (struct ledger_key){ .id = id, .kind = kind };
	HASH_ADD(hh, x->by_key, key, sizeof(item->key), item);
	return item;
}

struct ledger_item *ledger_index_put(struct ledger_index *x, uint32_t kind, uint64_t id, size_t len)
{
	struct ledger_item *item = ledger_index_find(x, kind, id);

	if (item)
		index_unlink(x, item);
	else
		item = index_add(x, kind, id);
	item->len = len;
	x->live_bytes += ledger_record_size(len);
	DL_APPEND(x->order, item);
	if (x->walking && !x->walk)
		x->walk = item;
	return item;
}

void ledger_index_remove(struct ledger_index *x, struct ledger_item *item)
{
	index_unlink(x, item);
	HASH_DEL(x->by_key, item);
	free(item);
}

void ledger_index_clear(struct ledger_index *x)
{
	struct ledger_item *item, *tmp;

	HASH_CLEAR(hh, x->by_key);
	DL_FOREACH_SAFE(x->order, item, tmp)
		free(item);
	*x = (struct ledger_index){ 0 };
}

void ledger_index_walk(struct ledger_index *x)
{
	x->walking = true;
	x->walk = x->order;
}

struct ledger_item *ledger_index_step(struct ledger_index *x)
{
	struct ledger_item *item = x->walk;

	if (item)
		x->walk = item->next;
	else
		x->walking = false;
	return item;
}

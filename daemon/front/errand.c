#include "daemon/front/errand.h"

#include <utlist.h>

#include "daemon/front/client.h"

void errand_begin(struct errand *e, struct client *c, uint64_t id, void (*drop)(struct errand *e))
{
	e->client = c;
	e->id = id;
	e->drop = drop;
	DL_APPEND(c->errands, e);
	c->n_errands++;
}

void errand_end(struct errand *e)
{
	DL_DELETE(e->client->errands, e);
	e->client->n_errands--;
}

bool errand_is_on(const struct client *c, uint64_t id)
{
	const struct errand *e;

	DL_FOREACH (c->errands, e) {
		if (e->id == id)
			return true;
	}
	return false;
}

void errand_drop_all(struct client *c)
{
	while (c->errands)
		c->errands->drop(c->errands);
}

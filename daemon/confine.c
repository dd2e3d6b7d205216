#include "daemon/confine.h"

#include <stdio.h>

#include "daemon/base/cleanup.h"
#include "daemon/daemon.h"

static unsigned controllers_of(const struct pool_settings *s)
{
	return (s->limit_memory ? BIT(CGROUP_MEMORY) : 0) | (s->limit_pids ? BIT(CGROUP_PIDS) : 0);
}

static bool confine_pool(struct daemon *d, const struct pool_settings *s, char *why, size_t why_size)
{
	char reason[512];

	if (cgroups_prepare(&d->groups, controllers_of(s), reason, sizeof(reason)) == 0)
		return true;
	(void)snprintf(why, why_size, "pool \"%s\": %s%s%s cannot be kept: %s", s->name,
		       s->limit_memory ? "limit_memory" : "", s->limit_memory && s->limit_pids ? " and " : "",
		       s->limit_pids ? "limit_pids" : "", reason);
	return false;
}

bool confine_prepare(struct daemon *d, const struct config *c, char *why, size_t why_size)
{
	unsigned before = d->groups.controllers;
	bool fine = true;

	for (unsigned i = 0; fine && i < c->n_pools; i++)
		fine = confine_pool(d, &c->pools[i], why, why_size);
	if (d->groups.controllers != before) { /* we may have moved: the counter is that of another group */
		oom_deinit(&d->oom);
		oom_init(&d->oom, d->groups.proc, d->groups.root);
	}
	return fine;
}

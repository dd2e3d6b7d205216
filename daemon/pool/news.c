#include "daemon/pool/news.h"

#include <stdio.h>

#include "daemon/base/cleanup.h"
#include "daemon/base/packed.h"
#include "daemon/pool/caller.h"
#include "daemon/pool/lease.h"
#include "daemon/pool/pool.h"
#include "daemon/pool/postmortem.h"
#include "daemon/pool/worker.h"
#include "proto/pack.h"

/* Of a worker that is dead. All that it printed since the lease began is the lease's own. */
static void pack_cause(msgpack_packer *pk, const struct lease *l)
{
	const struct worker *w = l->worker;
	struct span fatal = postmortem_fatal(w);

	pack_text(pk, "cause");
	msgpack_pack_map(pk, POSTMORTEM_EXIT_KEYS + 1 + (fatal.len != 0));
	postmortem_pack_exit(pk, w);
	if (fatal.len)
		postmortem_pack_stack(pk, "stack", fatal);
	postmortem_pack_lines(pk, "output", w->proc.tail, l->tail_mark);
}

void news_lease_lost(const struct lease *l, const char *reason, const char *how)
{
	const struct worker *w = l->worker;
	char fate[POSTMORTEM_FATE], message[400];
	_cleanup_(msgpack_sbuffer_destroy) msgpack_sbuffer buf = { 0 };
	msgpack_packer pk;
	bool dead = w->state == WORKER_DEAD;

	if (!l->caller->ops->news)
		return;
	(void)snprintf(message, sizeof(message), "lease %llu has ended: %s", (unsigned long long)l->id,
		       how ? how : postmortem_fate_text(w, fate));
	packed_begin(&buf, &pk);
	msgpack_pack_map(&pk, 4 + dead);
	pack_kv_uint(&pk, "lease", l->id);
	pack_kv_uint(&pk, "worker", w->id);
	pack_kv_text(&pk, "reason", reason);
	pack_kv_text(&pk, "message", message);
	if (dead)
		pack_cause(&pk, l);
	l->caller->ops->news(l->caller, "lease_lost", (struct span){ .p = (const uint8_t *)buf.data, .len = buf.size });
}

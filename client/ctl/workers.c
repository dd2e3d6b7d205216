/* pypoolctl workers */
#include "client/ctl/ctl.h"
#include "client/ctl/grid.h"
#include "client/ctl/pss.h"

static const struct grid_column workers_columns[] = {
	{ "WORKER", "worker", cell_any, true },
	{ "POOL", "pool", cell_any, false },
	{ "PID", "pid", cell_any, true },
	{ "STATE", "state", cell_any, false },
	{ "SINCE", "since_ms", cell_ms, true },
	{ "GEN", "generation", cell_any, true },
	{ "CALLS", "calls", cell_any, true },
	{ "LEASE", "lease", cell_id, true },
	{ "PYTHON", "python", cell_any, false },
	{ "CODEC", "codec", cell_any, false },
	{ "MAX-RSS", "max_rss_kib", cell_kib, true },
	{ "PSS", "pss_kib", cell_kib, true },
	{ "INIT-MS", "init", cell_init, false },
	{ "CALL", "call", cell_call, false },
	{ "WHY", "why", cell_any, false },
	{ "EXIT", "exit", cell_first_line, false },
	{ NULL, NULL, NULL, false },
};

int command_workers(struct ctl *ctl, int argc, char **argv)
{
	struct pypool_reply *reply;
	const char *pool = NULL;
	msgpack_sbuffer weighed;
	struct span list;
	int r;

	if (!ctl_options(ctl, argc, argv, &pool, &r))
		return r;
	r = ctl_ask_about(ctl, "workers", pool, &reply);
	if (r != CTL_OK)
		return r;
	msgpack_sbuffer_init(&weighed);
	list = ctl_value(reply);
	if (pss_add(list, &weighed))
		list = (struct span){ .p = (const uint8_t *)weighed.data, .len = weighed.size };
	r = grid_show(ctl, list, workers_columns);
	msgpack_sbuffer_destroy(&weighed);
	(void)pypool_reply_free(reply);
	return r;
}

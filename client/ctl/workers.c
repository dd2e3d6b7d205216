/* pypoolctl workers */
#include "client/ctl/ctl.h"
#include "client/ctl/grid.h"

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
	{ "INIT-MS", "init", cell_init, false },
	{ "CALL", "call", cell_call, false },
	{ "WHY", "why", cell_any, false },
	{ "EXIT", "exit", cell_first_line, false },
	{ NULL, NULL, NULL, false },
};

int command_workers(struct ctl *ctl, int argc, char **argv)
{
	const char *pool = NULL;
	int exit;

	if (!ctl_options(ctl, argc, argv, &pool, &exit))
		return exit;
	return grid_command(ctl, "workers", pool, workers_columns);
}

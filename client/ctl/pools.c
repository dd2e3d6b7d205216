/* pypoolctl pools */
#include "client/ctl/ctl.h"
#include "client/ctl/grid.h"

static const struct grid_column pools_columns[] = {
	{ "NAME", "name", cell_any, false },
	{ "STATE", "state", cell_any, false },
	{ "APP", "app", cell_any, false },
	{ "GEN", "generation", cell_any, true },
	{ "RELOAD", "reload", cell_any, false },
	{ "TEMPLATE", "template", cell_template, false },
	{ "MIN", "min_workers", cell_any, true },
	{ "MAX", "max_workers", cell_any, true },
	{ "IDLE", "idle", cell_any, true },
	{ "BUSY", "busy", cell_any, true },
	{ "INIT", "initializing", cell_any, true },
	{ "QUEUED", "queued", cell_any, true },
	{ "RUNNING", "running", cell_any, true },
	{ "DONE", "completed", cell_any, true },
	{ "FAILED", "failed", cell_any, true },
	{ "DIED", "deaths", cell_deaths, true },
	{ "WAIT-P50", "wait_p50_us", cell_us, true },
	{ "WAIT-P99", "wait_p99_us", cell_us, true },
	{ "RUN-P50", "run_p50_us", cell_us, true },
	{ "RUN-P99", "run_p99_us", cell_us, true },
	{ "LAST-FAILURE", "last_failure", cell_first_line, false },
	{ NULL, NULL, NULL, false },
};

int command_pools(struct ctl *ctl, int argc, char **argv)
{
	const char *pool = NULL;
	int exit;

	if (!ctl_options(ctl, argc, argv, &pool, &exit))
		return exit;
	return grid_command(ctl, "pools", pool, pools_columns);
}

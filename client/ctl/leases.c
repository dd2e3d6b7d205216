/* pypoolctl leases */
#include "client/ctl/ctl.h"
#include "client/ctl/grid.h"

static const struct grid_column leases_columns[] = {
	{ "LEASE", "lease", cell_any, true },      { "POOL", "pool", cell_any, false },
	{ "WORKER", "worker", cell_id, true },     { "PID", "pid", cell_any, true },
	{ "CLIENT", "client", cell_any, true },    { "UID", "uid", cell_any, true },
	{ "SESSION", "session", cell_any, false }, { "DIRECT", "direct", cell_any, false },
	{ "WAITING", "waiting", cell_any, true },  { "AGE", "age_ms", cell_ms, true },
	{ "LEFT", "expires_ms", cell_ms, true },   { NULL, NULL, NULL, false },
};

int command_leases(struct ctl *ctl, int argc, char **argv)
{
	const char *pool = NULL;
	int exit;

	if (!ctl_options(ctl, argc, argv, &pool, &exit))
		return exit;
	return grid_command(ctl, "leases", pool, leases_columns);
}

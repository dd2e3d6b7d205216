/* pypoolctl sessions */
#include "client/ctl/ctl.h"
#include "client/ctl/grid.h"

static const struct grid_column sessions_columns[] = {
	{ "SESSION", "session", cell_any, false }, { "POOL", "pool", cell_any, false },
	{ "UID", "uid", cell_any, true },          { "STATE", "state", cell_any, false },
	{ "WORKER", "worker", cell_id, true },     { "WAITING", "waiting", cell_any, true },
	{ "LEASED", "leased", cell_any, false },   { "KEYS", "keys", cell_any, true },
	{ "BYTES", "bytes", cell_bytes, true },    { "IDLE", "idle_ms", cell_ms, true },
	{ "LEFT", "expires_ms", cell_ms, true },   { NULL, NULL, NULL, false },
};

int command_sessions(struct ctl *ctl, int argc, char **argv)
{
	const char *pool = NULL;
	int exit;

	if (!ctl_options(ctl, argc, argv, &pool, &exit))
		return exit;
	return grid_command(ctl, "sessions", pool, sessions_columns);
}

/* pypoolctl clients */
#include "client/ctl/ctl.h"
#include "client/ctl/grid.h"

static const struct grid_column clients_columns[] = {
	{ "CLIENT", "client", cell_any, true },
	{ "NAME", "name", cell_any, false },
	{ "UID", "uid", cell_any, true },
	{ "PID", "pid", cell_any, true },
	{ "ROLE", "role", cell_any, false },
	{ "FRAMING", "framing", cell_any, false },
	{ "CALLS", "calls", cell_any, true },
	{ "LEASES", "leases", cell_any, true },
	{ "IN", "bytes_in", cell_bytes, true },
	{ "OUT", "bytes_out", cell_bytes, true },
	{ "CONNECTED", "connected_ms", cell_ms, true },
	{ NULL, NULL, NULL, false },
};

int command_clients(struct ctl *ctl, int argc, char **argv)
{
	int exit;

	if (!ctl_options(ctl, argc, argv, NULL, &exit))
		return exit;
	return grid_command(ctl, "clients", NULL, clients_columns);
}

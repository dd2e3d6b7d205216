/* pypoolctl queue */
#include "client/ctl/ctl.h"
#include "client/ctl/grid.h"

static const struct grid_column queue_columns[] = {
	{ "CALL", "call", cell_any, true },
	{ "POOL", "pool", cell_any, false },
	{ "CLIENT", "client", cell_any, true },
	{ "TARGET", "target", cell_any, false },
	{ "STATE", "state", cell_any, false },
	{ "WAITED", "waited_ms", cell_ms, true },
	{ "LEFT", "deadline_ms", cell_ms, true },
	{ "WORKER", "worker", cell_id, true },
	{ NULL, NULL, NULL, false },
};

int command_queue(struct ctl *ctl, int argc, char **argv)
{
	const char *pool = NULL;
	int exit;

	if (!ctl_options(ctl, argc, argv, &pool, &exit))
		return exit;
	return grid_command(ctl, "queue", pool, queue_columns);
}

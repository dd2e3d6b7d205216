/* pypoolctl status: a few lines about the daemon, then its pools. */
#include <stdlib.h>

#include "client/ctl/ctl.h"
#include "client/ctl/grid.h"

static const struct grid_column status_columns[] = {
	{ "POOL", "name", cell_any, false },
	{ "STATE", "state", cell_any, false },
	{ "WORKERS", "workers", cell_any, true },
	{ "IDLE", "idle", cell_any, true },
	{ "BUSY", "busy", cell_any, true },
	{ "STARTING", "starting", cell_any, true },
	{ "QUEUED", "queued", cell_any, true },
	{ "LAST-FAILURE", "last_failure", cell_first_line, false },
	{ NULL, NULL, NULL, false },
};

static void status_print_item(const char *name, struct span map, const char *key, cell_fn *text)
{
	struct span value = cell_of(map, key);
	char *s = value.len > 0 ? text(value) : NULL;

	printf("%s%s", name, s ? s : "-");
	free(s);
}

static int status_print(struct span status)
{
	static const char *const counts[] = { "accepted",  "completed", "failed", "cancelled",
					      "abandoned", "queued",    "running" };
	struct span calls = cell_of(status, "calls"), pools = cell_of(status, "pools");

	status_print_item("pypoold ", status, "version", cell_any);
	status_print_item(", ", status, "state", cell_any);
	status_print_item(", pid ", status, "pid", cell_any);
	status_print_item(", up ", status, "uptime_ms", cell_ms);
	status_print_item(", clients: ", status, "clients", cell_any);
	printf("\ncalls: ");
	for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
		printf("%s%s ", i ? ", " : "", counts[i]);
		status_print_item("", calls, counts[i], cell_any);
	}
	printf("\n\n");
	if (pools.len > 0)
		return grid_print(pools, status_columns);
	printf("no pools are told\n");
	return CTL_OK;
}

int command_status(struct ctl *ctl, int argc, char **argv)
{
	struct pypool_reply *reply;
	int r;

	if (!ctl_options(ctl, argc, argv, NULL, &r))
		return r;
	r = ctl_ask_about(ctl, "status", NULL, &reply);
	return r == CTL_OK ? ctl_show(ctl, reply, status_print) : r;
}

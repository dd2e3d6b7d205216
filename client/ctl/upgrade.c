/* pypoolctl upgrade: the daemon executes its program anew. */
#include <stdio.h>

#include "client/ctl/ctl.h"
#include "client/ctl/why.h"

#define UPGRADE_TIMEOUT_MS (24 * 3600 * 1000) /* it waits for drain_timeout at most, whatever that is */

static int upgrade_print(struct span answer)
{
	fputs("pypoold ", stdout);
	why_put(answer, "from", cell_any);
	fputs(" goes on as ", stdout);
	why_put(answer, "to", cell_any);
	printf("; nobody was served for %.1f ms\n", (double)why_uint(answer, "paused_us") / 1000);
	return CTL_OK;
}

int command_upgrade(struct ctl *ctl, int argc, char **argv)
{
	static const struct option options[] = { { NULL, 0, NULL, 0 } };
	struct pypool_reply *reply;
	int c, r;

	while ((c = ctl_option(ctl, argc, argv, "h", options)) != -1)
		return c == 'h' ? CTL_OK : CTL_USAGE;
	if (optind != argc)
		return ctl_usage(ctl, "nothing else is expected");
	r = ctl_ask(ctl, "upgrade", (struct pypool_span){ 0 }, UPGRADE_TIMEOUT_MS, &reply);
	return r == CTL_OK ? ctl_show(ctl, reply, upgrade_print) : r;
}

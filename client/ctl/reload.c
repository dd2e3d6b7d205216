/* pypoolctl reload: new workers with the code as it is now, one pool after the other. */
#include "client/ctl/ctl.h"
#include "client/ctl/why.h"
#include "proto/cursor.h"

static int reload_print_begun(struct span answer)
{
	printf("pool ");
	why_put(answer, "pool", cell_any);
	puts(" is being reloaded; pypoolctl pools shows how far it is");
	return CTL_OK;
}

static int reload_print_done(struct span answer)
{
	printf("pool ");
	why_put(answer, "pool", cell_any);
	printf(" is at generation ");
	why_put(answer, "generation", cell_any);
	printf(": ");
	why_put(answer, "replaced", cell_any);
	printf(" workers replaced in ");
	why_put(answer, "ms", cell_any);
	puts(" ms");
	return CTL_OK;
}

/* Waiting takes as long as it takes. */
static int reload_one(struct ctl *ctl, struct span pool, bool wait)
{
	struct pypool_reply *reply;
	int r = ctl_askf(ctl, "pool.reload", wait ? 0 : CTL_TIMEOUT_MS, &reply, "**{stsb}", "pool", pool.p, pool.len, "wait", wait);

	if (r == CTL_OK)
		r = ctl_show(ctl, reply, wait ? reload_print_done : reload_print_begun);
	(void)fflush(stdout); /* the next pool may take long; what cannot be written shows at the end */
	return r;
}

/* All that the daemon has; one that fails does not hold up the others. */
static int reload_all(struct ctl *ctl, bool wait)
{
	struct pypool_reply *reply;
	struct span pools, name, pool;
	int r = ctl_ask_about(ctl, "pools", NULL, &reply), worst = CTL_OK;
	uint32_t n = 0;

	if (r != CTL_OK)
		return r;
	pools = ctl_value(reply);
	if (!mp_read_array(&pools, &n))
		n = 0;
	while (n-- && mp_read_any(&pools, &pool)) {
		name = cell_of(pool, "name");
		if (!mp_read_text(&name, &pool))
			continue;
		r = reload_one(ctl, pool, wait);
		worst = r > worst ? r : worst;
	}
	(void)pypool_reply_free(reply);
	return worst;
}

int command_reload(struct ctl *ctl, int argc, char **argv)
{
	static const struct option options[] = { { "wait", no_argument, NULL, 'w' }, { NULL, 0, NULL, 0 } };
	bool wait = false;
	int c, r, worst = CTL_OK;

	while ((c = ctl_option(ctl, argc, argv, "hw", options)) != -1) {
		if (c != 'w')
			return c == 'h' ? CTL_OK : CTL_USAGE;
		wait = true;
	}
	if (optind == argc)
		return reload_all(ctl, wait);
	for (; optind < argc; optind++) {
		r = reload_one(ctl, span_str(argv[optind]), wait);
		worst = r > worst ? r : worst;
	}
	return worst;
}

/* pypoolctl reload: new workers with the code and the configuration as they are now, one pool after the other. */
#include <stdlib.h>

#include "client/ctl/ctl.h"
#include "client/ctl/each.h"
#include "client/ctl/wait.h"
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
	printf(why_uint(answer, "replaced") == 1 ? " worker replaced in " : " workers replaced in ");
	why_put(answer, "ms", cell_any);
	puts(" ms");
	return CTL_OK;
}

static int reload_print_tried(struct span answer)
{
	printf("pool ");
	why_put(answer, "pool", cell_any);
	printf(" can be reloaded: a worker was ready in ");
	why_put(answer, "ms", cell_any);
	printf(" ms; ");
	why_put(answer, "replaced", cell_any);
	puts(" would be replaced");
	if (cell_of(answer, "template").len > 1) { /* not nil */
		printf("template: ");
		why_put(answer, "template", cell_init);
		puts(" ms");
	}
	printf("worker: ");
	why_put(answer, "init", cell_init);
	puts(" ms");
	return CTL_OK;
}

enum reload_way {
	RELOAD_BEGIN,
	RELOAD_WAIT,
	RELOAD_TRY, /* the first worker only */
};

/* Waiting takes as long as it takes. */
static int reload_ask(struct ctl *ctl, struct span pool, enum reload_way way, struct pypool_reply **reply)
{
	struct pypool_span params = { 0 };
	void *packed = NULL;
	int r;

	if (pypool_packf(&packed, &params.size, "**{stsbsb}", "pool", pool.p, pool.len, "wait", way != RELOAD_BEGIN, "dry_run",
			 way == RELOAD_TRY) < 0) {
		fprintf(stderr, "pypoolctl: out of memory\n");
		return CTL_FAILED;
	}
	params.data = packed;
	if (way == RELOAD_BEGIN)
		r = ctl_ask(ctl, "pool.reload", params, CTL_TIMEOUT_MS, reply);
	else
		r = wait_for_reload(ctl, pool, params, reply);
	free(packed);
	return r;
}

static int reload_one(struct ctl *ctl, struct span pool, void *arg)
{
	static int (*const print[])(struct span answer) = { reload_print_begun, reload_print_done, reload_print_tried };
	enum reload_way way = *(const enum reload_way *)arg;
	struct pypool_reply *reply;
	int r = reload_ask(ctl, pool, way, &reply);

	if (r == CTL_OK)
		r = ctl_show(ctl, reply, print[way]);
	(void)fflush(stdout); /* the next pool may take long; what cannot be written shows at the end */
	return r;
}

int command_reload(struct ctl *ctl, int argc, char **argv)
{
	static const struct option options[] = { { "wait", no_argument, NULL, 'w' },
						 { "dry-run", no_argument, NULL, 'n' },
						 { NULL, 0, NULL, 0 } };
	enum reload_way way = RELOAD_BEGIN;
	int c;

	while ((c = ctl_option(ctl, argc, argv, "hwn", options)) != -1) {
		if (c != 'w' && c != 'n')
			return c == 'h' ? CTL_OK : CTL_USAGE;
		way = c == 'n' ? RELOAD_TRY : way == RELOAD_TRY ? way : RELOAD_WAIT;
	}
	return each_pool(ctl, argc, argv, reload_one, &way);
}

#include "client/ctl/each.h"

#include "client/ctl/cell.h"
#include "client/ctl/ctl.h"
#include "proto/cursor.h"

typedef int each_fn(struct ctl *ctl, struct span pool, void *arg);

static int worse(int a, int b)
{
	return a > b ? a : b;
}

static int each_of_all(struct ctl *ctl, each_fn *one, void *arg)
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
		if (mp_read_text(&name, &pool))
			worst = worse(worst, one(ctl, pool, arg));
	}
	(void)pypool_reply_free(reply);
	return worst;
}

int each_pool(struct ctl *ctl, int argc, char **argv, each_fn *one, void *arg)
{
	int worst = CTL_OK;

	if (optind == argc)
		return each_of_all(ctl, one, arg);
	for (int i = optind; i < argc; i++)
		worst = worse(worst, one(ctl, span_str(argv[i]), arg));
	return worst;
}

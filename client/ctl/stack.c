/* pypoolctl stack: the Python stack of a worker as it is now. */
#include <string.h>

#include "client/ctl/json.h"
#include "client/ctl/text.h"
#include "client/ctl/why.h"
#include "proto/pack.h"

/* N, or POOL/N as pypoolctl logs writes it. 0, or an exit status when it is done. */
static int stack_parse(struct ctl *ctl, int argc, char **argv, uint64_t *worker)
{
	const char *slash;

	if (argc != 1)
		return ctl_usage(ctl, "which one? the number of a worker");
	slash = strrchr(argv[0], '/');
	if (!ctl_number(slash ? slash + 1 : argv[0], worker))
		return ctl_usage(ctl, "a worker has a number, got '%s'", argv[0]);
	return 0;
}

static int stack_ask(struct ctl *ctl, uint64_t worker, struct pypool_reply **reply)
{
	msgpack_sbuffer params;
	msgpack_packer pk;
	int r;

	msgpack_sbuffer_init(&params);
	msgpack_packer_init(&pk, &params, msgpack_sbuffer_write);
	msgpack_pack_map(&pk, 1);
	pack_kv_uint(&pk, "worker", worker);
	r = ctl_ask(ctl, "worker.stack", (struct pypool_span){ params.data, params.size }, CTL_TIMEOUT_MS, reply);
	msgpack_sbuffer_destroy(&params);
	return r;
}

static void stack_print_facts(struct span worker)
{
	printf("worker ");
	why_put(worker, "worker", cell_any);
	printf(" (pid ");
	why_put(worker, "pid", cell_id);
	printf(") of pool ");
	why_put(worker, "pool", cell_any);
	printf(" is ");
	why_put(worker, "state", cell_any);
	if (why_has(worker, "activity")) {
		printf(", ");
		why_put(worker, "activity", cell_any);
	}
	putchar('\n');
	if (why_has(worker, "phase"))
		why_line("phase", "", worker, "phase", cell_any, "");
	why_print_slot(worker);
}

static const char *stack_reason(struct span worker)
{
	if (why_is(worker, "state", "starting"))
		return "it is only being started, and has none to show yet";
	return "it did not answer";
}

static void stack_print(struct span worker)
{
	struct span value = cell_of(worker, "stack"), text = { 0 };

	stack_print_facts(worker);
	putchar('\n');
	if (mp_read_text(&value, &text) && text.len)
		text_write_indented(stdout, text, 0);
	if (!text.len)
		printf("No stack: %s.\n", stack_reason(worker));
	else if (!why_true(worker, "complete"))
		puts("That is not all of it: the rest did not come in time.");
}

int command_stack(struct ctl *ctl, int argc, char **argv)
{
	static const struct option none[] = { { NULL, 0, NULL, 0 } };
	struct pypool_reply *reply;
	uint64_t worker;
	int r, c = ctl_option(ctl, argc, argv, "h", none);

	if (c != -1)
		return c == 'h' ? CTL_OK : CTL_USAGE;
	r = stack_parse(ctl, argc - optind, argv + optind, &worker);
	if (r == 0)
		r = stack_ask(ctl, worker, &reply);
	if (r != CTL_OK)
		return r;
	if (ctl->json) {
		json_print(stdout, ctl_value(reply));
		putchar('\n');
	} else {
		stack_print(ctl_value(reply));
	}
	(void)pypool_reply_free(reply);
	return CTL_OK;
}

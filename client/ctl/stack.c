/* pypoolctl stack: the Python stack of a worker as it is now. */
#include <string.h>

#include "client/ctl/text.h"
#include "client/ctl/why.h"

/* 0, or an exit status when it is done. */
static int stack_parse(struct ctl *ctl, int argc, char **argv, uint64_t *worker)
{
	if (argc != 1)
		return ctl_usage(ctl, "which one? the number of a worker");
	if (!ctl_worker(argv[0], worker))
		return ctl_usage(ctl, "a worker has a number, got '%s'", argv[0]);
	return 0;
}

static void stack_print_facts(struct span worker)
{
	why_print_who(worker);
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

static int stack_print(struct span worker)
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
	return CTL_OK;
}

/* POOL/N must be of that pool. */
static int stack_ask(struct ctl *ctl, const char *word, uint64_t worker, struct pypool_reply **reply)
{
	const char *slash = strrchr(word, '/');

	if (!slash)
		return ctl_askf(ctl, "worker.stack", CTL_TIMEOUT_MS, reply, "**{sU}", "worker", worker);
	return ctl_askf(ctl, "worker.stack", CTL_TIMEOUT_MS, reply, "**{stsU}", "pool", word, (size_t)(slash - word), "worker",
			worker);
}

int command_stack(struct ctl *ctl, int argc, char **argv)
{
	static const struct option none[] = { { NULL, 0, NULL, 0 } };
	struct pypool_reply *reply;
	uint64_t worker = 0;
	int r, c = ctl_option(ctl, argc, argv, "h", none);

	if (c != -1)
		return c == 'h' ? CTL_OK : CTL_USAGE;
	r = stack_parse(ctl, argc - optind, argv + optind, &worker);
	if (r == 0)
		r = stack_ask(ctl, argv[optind], worker, &reply);
	return r == CTL_OK ? ctl_show(ctl, reply, stack_print) : r;
}

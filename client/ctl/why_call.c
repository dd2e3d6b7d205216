#include "client/ctl/why.h"

#include "client/ctl/grid.h"

static const struct grid_column why_holders[] = {
	{ "WORKER", "worker", cell_any, true },  { "PID", "pid", cell_id, true },
	{ "STATE", "state", cell_any, false },   { "FOR", "ms", cell_ms, true },
	{ "PHASE", "phase", cell_any, false },   { "CALL", "call", cell_any, true },
	{ "TARGET", "target", cell_any, false }, { "LEFT", "deadline_ms", cell_ms, true },
	{ "LEASE", "lease", cell_id, true },     { NULL, NULL, NULL, false },
};

static void why_print_place(struct span call)
{
	uint64_t ahead = why_uint(call, "ahead"), own = why_uint(call, "ahead_own");

	why_label("place");
	if (why_uint(call, "held")) {
		printf("held back: with these arguments it has killed ");
		why_plural(why_uint(call, "held"), "worker", "workers");
		puts(", and as many of them run as may");
		return;
	}
	if (!ahead) {
		puts("it is the next");
		return;
	}
	why_plural(ahead, "call comes first", "calls come first");
	printf(", %llu of the same client\n", (unsigned long long)own);
}

static void why_print_start(struct span call)
{
	why_label("start");
	if (why_has(call, "start_ms")) {
		printf("in about ");
		why_put(call, "start_ms", cell_ms);
	} else {
		printf("nobody can say");
	}
	if (why_has(call, "run_mean_us")) {
		printf("; a call of this pool takes ");
		why_put(call, "run_mean_us", cell_us);
		printf(" on average");
	} else {
		printf(": no call of this pool has ended yet");
	}
	putchar('\n');
}

static void why_print_limits(struct span call)
{
	if (why_has(call, "queue_ms"))
		why_line("queue", "it fails in ", call, "queue_ms", cell_ms, " if it is not started until then");
	if (why_has(call, "deadline_ms"))
		why_line("deadline", "in ", call, "deadline_ms", cell_ms, "");
	if (why_uint(call, "lease"))
		why_line("lease", "", call, "lease", cell_any, ": only the worker of that lease may run it");
	if (why_has(call, "session"))
		why_line("session", "", call, "session", cell_any, ": its calls run one after the other");
	if (why_uint(call, "lingers"))
		why_line("waits for", "worker ", call, "lingers", cell_any,
			 ", which still runs a call of that session that was answered");
}

static int why_print_waiting(struct span call)
{
	printf(" waits in pool ");
	why_put(call, "pool", cell_any);
	printf(" for ");
	why_put(call, "waited_ms", cell_ms);
	putchar('\n');
	why_print_place(call);
	why_print_start(call);
	why_print_limits(call);
	printf("\nThe workers that it could be given to:\n");
	return grid_print(cell_of(call, "workers"), why_holders);
}

static int why_print_running(struct span call)
{
	printf(" runs on worker ");
	why_put(call, "worker", cell_any);
	printf(" (pid ");
	why_put(call, "pid", cell_any);
	printf(") of pool ");
	why_put(call, "pool", cell_any);
	printf(" for ");
	why_put(call, "run_ms", cell_ms);
	putchar('\n');
	why_line("waited", "", call, "waited_ms", cell_ms, " before it was started");
	why_print_limits(call);
	if (why_true(call, "stack_asked")) {
		why_label("stack");
		puts("is being fetched");
	}
	return CTL_OK;
}

int why_print_call(struct span call)
{
	printf("call ");
	why_put(call, "call", cell_any);
	printf(" (");
	why_put(call, "target", cell_any);
	printf(", of client ");
	why_put(call, "client", cell_any);
	putchar(')');
	return why_is(call, "state", "running") ? why_print_running(call) : why_print_waiting(call);
}

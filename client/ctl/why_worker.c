#include "client/ctl/why.h"

#include <stdlib.h>

#include "client/ctl/text.h"

static void why_print_history(struct span worker)
{
	struct span list = cell_of(worker, "history"), move;
	uint32_t n;

	if (!mp_read_array(&list, &n) || !n)
		return;
	printf("\nHistory:\n");
	for (; n > 0 && mp_read_any(&list, &move); n--) {
		struct span ms = cell_of(move, "ms");
		char *ago = cell_ms(ms);

		printf("  %8s ago  ", ago ? ago : "-");
		free(ago);
		why_put(move, "from", cell_any);
		printf(" -> ");
		why_put(move, "to", cell_any);
		if (why_has(move, "why")) {
			printf("  (");
			why_put(move, "why", cell_any);
			putchar(')');
		}
		putchar('\n');
	}
}

static void why_print_output(struct span worker)
{
	struct span list = cell_of(worker, "output"), line, text;
	uint32_t n;

	if (!mp_read_array(&list, &n) || !n)
		return;
	printf("\nLast output:\n");
	for (; n > 0 && mp_read_any(&list, &line); n--)
		if (mp_read_text(&line, &text)) {
			printf("  ");
			text_write(stdout, text, false);
			putchar('\n');
		}
}

void why_print_who(struct span worker)
{
	printf("worker ");
	why_put(worker, "worker", cell_any);
	printf(" (pid ");
	why_put(worker, "pid", cell_id);
	printf(") of pool ");
	why_put(worker, "pool", cell_any);
	printf(" is ");
	why_put(worker, "state", cell_any);
}

void why_print_slot(struct span worker)
{
	struct span call = cell_of(worker, "call");

	if (!call.len)
		return;
	why_label("call");
	why_put(call, "call", cell_any);
	printf(" (");
	why_put(call, "target", cell_any);
	printf(") for ");
	why_put(call, "ms", cell_ms);
	if (why_has(call, "deadline_ms")) {
		printf(", deadline in ");
		why_put(call, "deadline_ms", cell_ms);
	}
	puts(why_true(call, "answered") ? "; its caller has an answer already, it is being interrupted" : "");
}

static void why_print_facts(struct span worker)
{
	why_label("age");
	why_put(worker, "age_ms", cell_ms);
	printf(", ");
	why_plural(why_uint(worker, "calls"), "call", "calls");
	printf(" done, generation ");
	why_put(worker, "generation", cell_any);
	fputs(why_true(worker, "probe") ? ", started to see whether the pool works again" : "", stdout);
	puts(why_true(worker, "adopted") ? ", started by a daemon before this one" : "");
	why_print_slot(worker);
	if (why_uint(worker, "lease"))
		why_line("lease", "", worker, "lease", cell_any, "");
	if (why_has(worker, "due"))
		why_line("due", "", worker, "due", cell_any, ": it leaves as soon as it can be replaced");
	if (why_uint(worker, "misses"))
		why_line("pings", "", worker, "misses", cell_any, " in a row have had no answer");
	if (why_has(worker, "init"))
		why_line("init", "", worker, "init", cell_init, " (ms)");
	if (why_has(worker, "exit"))
		why_line("exit", "", worker, "exit", cell_any, "");
}

int why_print_worker(struct span worker)
{
	why_print_who(worker);
	printf(" for ");
	why_put(worker, "since_ms", cell_ms);
	if (why_has(worker, "why")) {
		printf(": ");
		why_put(worker, "why", cell_any);
	}
	putchar('\n');
	why_print_facts(worker);
	why_print_history(worker);
	why_print_output(worker);
	return CTL_OK;
}

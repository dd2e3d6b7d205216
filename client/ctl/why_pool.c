#include "client/ctl/why.h"

#include "client/ctl/failure.h"

static const char *why_meaning(struct span pool)
{
	static const char *const meanings[][2] = {
		{ "serving", "" },
		{ "starting", ": it has not served its minimum yet" },
		{ "degraded", ": it serves, but a worker could not be started" },
		{ "down", ": it has no worker and takes no calls" },
		{ "open", ": it failed too often and takes no calls" },
		{ "draining", ": the daemon is shutting down" },
	};

	for (size_t i = 0; i < sizeof(meanings) / sizeof(meanings[0]); i++)
		if (why_is(pool, "state", meanings[i][0]))
			return meanings[i][1];
	return "";
}

static void why_print_workers(struct span pool)
{
	static const char *const states[] = { "idle", "busy", "starting", "initializing", "draining", "stopping" };
	bool any = false;

	why_label("workers");
	for (size_t i = 0; i < sizeof(states) / sizeof(states[0]); i++) {
		if (!why_uint(pool, states[i]))
			continue;
		printf("%s%llu %s", any ? ", " : "", (unsigned long long)why_uint(pool, states[i]), states[i]);
		any = true;
	}
	printf("%s (from %llu to %llu)\n", any ? "" : "none", (unsigned long long)why_uint(pool, "min_workers"),
	       (unsigned long long)why_uint(pool, "max_workers"));
}

static void why_print_calls(struct span pool)
{
	struct span eldest = cell_of(pool, "eldest");

	why_label("calls");
	printf("%llu running, %llu waiting", (unsigned long long)why_uint(pool, "running"),
	       (unsigned long long)why_uint(pool, "queued"));
	if (eldest.len) {
		printf("; longest waits ");
		why_put(eldest, "call", cell_any);
		printf(" (");
		why_put(eldest, "target", cell_any);
		printf("), for ");
		why_put(eldest, "waited_ms", cell_ms);
	}
	putchar('\n');
}

static void why_print_causes(struct span breaker)
{
	struct span list = cell_of(breaker, "last"), cause;
	uint32_t n;

	if (!mp_read_array(&list, &n))
		return;
	for (; n > 0 && mp_read_any(&list, &cause); n--) {
		printf("              ");
		why_clock(why_uint(cause, "time_ms"));
		printf("  ");
		why_put(cause, "what", cell_first_line);
		putchar('\n');
	}
}

static void why_print_breaker(struct span pool)
{
	struct span b = cell_of(pool, "breaker");

	if (!b.len || (!why_uint(b, "failures") && why_is(b, "state", "closed")))
		return;
	why_label("breaker");
	why_put(b, "state", cell_any);
	printf(", ");
	why_plural(why_uint(b, "failures"), "failure", "failures");
	printf(" in a row");
	if (why_uint(b, "threshold"))
		printf(" (%llu open it)", (unsigned long long)why_uint(b, "threshold"));
	if (why_uint(b, "failures")) {
		printf(" since ");
		why_clock(why_uint(b, "since_ms"));
	}
	if (why_uint(b, "retry_after_ms")) {
		printf("; tries again in ");
		why_put(b, "retry_after_ms", cell_ms);
	}
	printf(". The last failures:\n");
	why_print_causes(b);
}

static void why_print_failure(struct span pool)
{
	struct span f = cell_of(pool, "last_failure"), cause;

	if (!f.len)
		return;
	why_label("init");
	printf("failed ");
	why_plural(why_uint(f, "times"), "time", "times");
	printf(" since ");
	why_clock(why_uint(f, "since_ms"));
	printf(", last in phase ");
	why_put(f, "phase", cell_any);
	printf(": ");
	why_put(f, "message", cell_any);
	putchar('\n');
	cause = cell_of(f, "cause");
	if (cause.len)
		failure_print_fields(stdout, cause, 12);
}

static void why_print_reload(struct span pool)
{
	struct span f = cell_of(pool, "reload_failure"), cause;

	if (!f.len)
		return;
	why_label("reload");
	printf("the last one failed in phase ");
	why_put(f, "phase", cell_any);
	printf(", and changed nothing: ");
	why_put(f, "message", cell_any);
	putchar('\n');
	cause = cell_of(f, "cause");
	if (cause.len)
		failure_print_fields(stdout, cause, 12);
}

static void why_print_recycling(struct span pool)
{
	struct span list = cell_of(pool, "recycling"), w;
	uint32_t n;

	if (!mp_read_array(&list, &n))
		return;
	for (; n > 0 && mp_read_any(&list, &w); n--) {
		why_label("replaced");
		printf("worker ");
		why_put(w, "worker", cell_any);
		printf(", ");
		why_put(w, "why", cell_any);
		printf(", is ");
		why_put(w, "state", cell_any);
		printf(" for ");
		why_put(w, "since_ms", cell_ms);
		putchar('\n');
	}
}

int why_print_pool(struct span pool)
{
	printf("pool ");
	why_put(pool, "pool", cell_any);
	printf(" is ");
	why_put(pool, "state", cell_any);
	puts(why_meaning(pool));
	why_print_workers(pool);
	why_print_calls(pool);
	if (why_has(pool, "next_try_ms"))
		why_line("next try", "a worker is started in ", pool, "next_try_ms", cell_ms, "");
	why_print_breaker(pool);
	why_print_failure(pool);
	why_print_reload(pool);
	why_print_recycling(pool);
	return CTL_OK;
}

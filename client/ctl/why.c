/* pypoolctl why: what a call, a worker or a pool is doing, laid out for people. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "client/ctl/ctl.h"
#include "client/ctl/failure.h"
#include "client/ctl/grid.h"
#include "client/ctl/json.h"
#include "client/ctl/text.h"
#include "proto/cursor.h"
#include "proto/pack.h"

/* What is asked about. */
struct why_subject {
	const char *kind; /* "call", "worker", "pool": the key of the params too */
	const char *name;
	uint64_t number;
	bool guessed; /* the kind was not said */
};

static bool why_number(const char *text, uint64_t *v)
{
	char *end;

	errno = 0;
	*v = strtoull(text, &end, 10);
	return *text >= '0' && *text <= '9' && *end == '\0' && errno == 0;
}

static bool why_is_kind(const char *word)
{
	return strcmp(word, "call") == 0 || strcmp(word, "worker") == 0 || strcmp(word, "pool") == 0;
}

/* Without a kind: a number is a call's, POOL/N a worker as pypoolctl logs writes it, all else a pool. */
static void why_guess(struct why_subject *s, const char *word)
{
	const char *slash = strrchr(word, '/');

	s->name = word;
	s->guessed = true;
	if (why_number(word, &s->number))
		s->kind = "call";
	else if (slash && why_number(slash + 1, &s->number))
		s->kind = "worker";
	else
		s->kind = "pool";
}

/* 0, or CTL_USAGE when it has complained. */
static int why_parse(const struct ctl *ctl, int argc, char **argv, struct why_subject *s)
{
	if (argc == 1 && !why_is_kind(argv[0])) {
		why_guess(s, argv[0]);
		return 0;
	}
	if (argc < 1 || argc > 2)
		return ctl_usage(ctl, "which one? the number of a call, a worker or the name of a pool");
	if (!why_is_kind(argv[0]))
		return ctl_usage(ctl, "'%s' is none of call, worker and pool", argv[0]);
	if (argc == 1)
		return ctl_usage(ctl, "which %s?", argv[0]);
	s->kind = argv[0];
	s->name = argv[1];
	if (strcmp(s->kind, "pool") != 0 && !why_number(s->name, &s->number))
		return ctl_usage(ctl, "a %s has a number, got '%s'", s->kind, s->name);
	return 0;
}

/* --- words --- */

static void why_put(struct span map, const char *key, cell_fn *text)
{
	struct span value = cell_of(map, key);
	char *s = value.len ? text(value) : NULL;

	fputs(s ? s : "-", stdout);
	free(s);
}

static bool why_has(struct span map, const char *key)
{
	return cell_of(map, key).len > 0;
}

static uint64_t why_uint(struct span map, const char *key)
{
	struct span value = cell_of(map, key);
	uint64_t v = 0;

	return mp_read_uint(&value, &v) ? v : 0;
}

static bool why_true(struct span map, const char *key)
{
	struct span value = cell_of(map, key);
	bool v = false;

	return mp_read_bool(&value, &v) && v;
}

static bool why_is(struct span map, const char *key, const char *word)
{
	struct span value = cell_of(map, key), text;

	return mp_read_text(&value, &text) && span_equals(text, word);
}

/* A line of its own begins. */
static void why_label(const char *label)
{
	printf("  %-10s", label);
}

static void why_line(const char *label, const char *before, struct span map, const char *key, cell_fn *text,
		     const char *after)
{
	why_label(label);
	fputs(before, stdout);
	why_put(map, key, text);
	puts(after);
}

static void why_plural(uint64_t n, const char *one, const char *many)
{
	printf("%llu %s", (unsigned long long)n, n == 1 ? one : many);
}

/* UNIX ms as "11:40:02". */
static void why_clock(uint64_t ms)
{
	time_t s = (time_t)(ms / 1000);
	struct tm tm;

	if (localtime_r(&s, &tm))
		printf("%02d:%02d:%02d", tm.tm_hour, tm.tm_min, tm.tm_sec);
	else
		printf("%llu ms", (unsigned long long)ms);
}

/* --- a call --- */

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

static int why_print_call(struct span call)
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

/* --- a worker --- */

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

static void why_print_slot(struct span worker)
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
	puts(why_true(worker, "probe") ? ", started to see whether the pool works again" : "");
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

static int why_print_worker(struct span worker)
{
	printf("worker ");
	why_put(worker, "worker", cell_any);
	printf(" (pid ");
	why_put(worker, "pid", cell_id);
	printf(") of pool ");
	why_put(worker, "pool", cell_any);
	printf(" is ");
	why_put(worker, "state", cell_any);
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

/* --- a pool --- */

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

static int why_print_pool(struct span pool)
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
	why_print_recycling(pool);
	return CTL_OK;
}

/* --- the command --- */

/* What the daemon does not know is not explained: CTL_FAILED, so that a script sees it. */
static bool why_is_gone(struct span answer)
{
	return why_is(answer, "state", "finished") || why_is(answer, "state", "forgotten") ||
	       why_is(answer, "state", "unknown");
}

static int why_complain(struct span answer, const struct why_subject *s)
{
	unsigned long long n = s->number;

	if (why_is(answer, "state", "finished"))
		fprintf(stderr,
			"pypoolctl: call %llu is not known any more: it has ended, and its caller was told how\n", n);
	else if (why_is(answer, "state", "forgotten"))
		fprintf(stderr,
			"pypoolctl: worker %llu is not known any more: it is dead, and others have died after it\n", n);
	else
		fprintf(stderr, "pypoolctl: there has been no %s %llu yet\n", s->kind, n);
	if (s->guessed && strcmp(s->kind, "call") == 0)
		fprintf(stderr, "A bare number is that of a call; for a worker: pypoolctl why worker %llu\n", n);
	return CTL_FAILED;
}

static int why_print(struct span answer)
{
	if (why_is(answer, "kind", "call"))
		return why_print_call(answer);
	if (why_is(answer, "kind", "worker"))
		return why_print_worker(answer);
	return why_print_pool(answer);
}

static int why_ask(struct ctl *ctl, const struct why_subject *s, struct pypool_reply **reply)
{
	msgpack_sbuffer params;
	msgpack_packer pk;
	int r;

	msgpack_sbuffer_init(&params);
	msgpack_packer_init(&pk, &params, msgpack_sbuffer_write);
	msgpack_pack_map(&pk, 1);
	if (strcmp(s->kind, "pool") == 0)
		pack_kv_text(&pk, s->kind, s->name);
	else
		pack_kv_uint(&pk, s->kind, s->number);
	r = ctl_ask(ctl, "why", (struct pypool_span){ params.data, params.size }, CTL_TIMEOUT_MS, reply);
	msgpack_sbuffer_destroy(&params);
	return r;
}

int command_why(struct ctl *ctl, int argc, char **argv)
{
	static const struct option none[] = { { NULL, 0, NULL, 0 } };
	struct why_subject subject = { 0 };
	struct pypool_reply *reply;
	int r, c = ctl_option(ctl, argc, argv, "h", none);

	if (c != -1)
		return c == 'h' ? CTL_OK : CTL_USAGE;
	r = why_parse(ctl, argc - optind, argv + optind, &subject);
	if (r == 0)
		r = why_ask(ctl, &subject, &reply);
	if (r != CTL_OK)
		return r;
	if (ctl->json) {
		json_print(stdout, ctl_value(reply));
		putchar('\n');
		r = why_is_gone(ctl_value(reply)) ? CTL_FAILED : CTL_OK;
	} else {
		r = why_is_gone(ctl_value(reply)) ? why_complain(ctl_value(reply), &subject)
						  : why_print(ctl_value(reply));
	}
	(void)pypool_reply_free(reply);
	return r;
}

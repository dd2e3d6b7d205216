/* pypoolctl why: what a call, a worker or a pool is doing, laid out for people. */
#include <stdlib.h>
#include <string.h>

#include "client/ctl/json.h"
#include "client/ctl/why.h"

/* What is asked about. */
struct why_subject {
	const char *kind; /* "call", "worker", "pool": the key of the params too */
	const char *name;
	uint64_t number;
	bool guessed; /* the kind was not said */
};

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
	if (ctl_number(word, &s->number))
		s->kind = "call";
	else if (slash && ctl_number(slash + 1, &s->number))
		s->kind = "worker";
	else
		s->kind = "pool";
}

static bool why_number(struct why_subject *s)
{
	if (strcmp(s->kind, "worker") == 0)
		return ctl_worker(s->name, &s->number);
	return ctl_number(s->name, &s->number);
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
	if (strcmp(s->kind, "pool") != 0 && !why_number(s))
		return ctl_usage(ctl, "a %s has a number, got '%s'", s->kind, s->name);
	return 0;
}

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

/* Was it asked for as POOL/N, and is it of another pool? */
static bool why_is_elsewhere(struct span answer, const struct why_subject *s)
{
	const char *slash = strcmp(s->kind, "worker") == 0 ? strrchr(s->name, '/') : NULL;
	struct span value = cell_of(answer, "pool"), pool;

	return slash && mp_read_text(&value, &pool) &&
	       (pool.len != (size_t)(slash - s->name) || memcmp(pool.p, s->name, pool.len) != 0);
}

static int why_complain_of_pool(struct span answer, const struct why_subject *s)
{
	char *pool = cell_any(cell_of(answer, "pool"));

	fprintf(stderr, "pypoolctl: worker %llu is of pool %s\n", (unsigned long long)s->number, pool ? pool : "-");
	free(pool);
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
	if (strcmp(s->kind, "pool") == 0)
		return ctl_askf(ctl, "why", CTL_TIMEOUT_MS, reply, "**{ss}", s->kind, s->name);
	return ctl_askf(ctl, "why", CTL_TIMEOUT_MS, reply, "**{sU}", s->kind, s->number);
}

int command_why(struct ctl *ctl, int argc, char **argv)
{
	static const struct option none[] = { { NULL, 0, NULL, 0 } };
	struct why_subject subject = { .kind = "call" };
	struct pypool_reply *reply;
	int r, c = ctl_option(ctl, argc, argv, "h", none);

	if (c != -1)
		return c == 'h' ? CTL_OK : CTL_USAGE;
	r = why_parse(ctl, argc - optind, argv + optind, &subject);
	if (r == 0)
		r = why_ask(ctl, &subject, &reply);
	if (r != CTL_OK)
		return r;
	if (why_is_elsewhere(ctl_value(reply), &subject)) {
		r = why_complain_of_pool(ctl_value(reply), &subject);
	} else if (ctl->json) {
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

/* pypoolctl call TARGET [JSON...] [--kw KEY=VALUE]... [--pool POOL] [--session SESSION] [--timeout TIME] [--idempotent]
 * Options are read by hand: -5 is an argument here, not an option. */
#include <stdlib.h>
#include <string.h>

#include "client/ctl/ctl.h"
#include "client/ctl/duration.h"
#include "client/ctl/json.h"
#include "proto/pack.h"

struct call_plan {
	const char *target;
	struct pypool_options options;
	msgpack_sbuffer list;  /* encoded arguments, one after the other */
	msgpack_sbuffer named; /* encoded keys and values in turn */
	uint32_t n_list;
	uint32_t n_named;
};

/* The word that is no JSON may be meant as text: say how to write that. */
static int call_bad_argument(struct ctl *ctl, const char *word, const struct json_error *e)
{
	char first = *word;

	if (first == '"' || first == '[' || first == '{')
		return ctl_usage(ctl, "%s: %s (at character %zu)", word, e->message, e->offset + 1);
	return ctl_usage(ctl, "'%s' is not JSON: %s; text needs quotes of its own: '\"%s\"'", word, e->message, word);
}

static int call_add_argument(struct ctl *ctl, struct call_plan *plan, const char *word)
{
	struct json_error error;

	if (!plan->target) {
		plan->target = word;
		return CTL_OK;
	}
	if (!json_parse(span_str(word), &plan->list, &error))
		return call_bad_argument(ctl, word, &error);
	plan->n_list++;
	return CTL_OK;
}

/* KEY=VALUE; a value that is no JSON is text as it stands. */
static int call_add_named(struct ctl *ctl, struct call_plan *plan, const char *word)
{
	const char *equals = strchr(word, '=');
	struct json_error error;
	msgpack_packer pk;

	if (!equals || equals == word)
		return ctl_usage(ctl, "--kw takes KEY=VALUE, got '%s'", word);
	msgpack_packer_init(&pk, &plan->named, msgpack_sbuffer_write);
	pack_text_n(&pk, word, (size_t)(equals - word));
	if (!json_parse(span_str(equals + 1), &plan->named, &error))
		pack_text(&pk, equals + 1);
	plan->n_named++;
	return CTL_OK;
}

static int call_set_timeout(struct ctl *ctl, struct call_plan *plan, const char *word)
{
	const char *error;

	if (!duration_parse(word, &plan->options.timeout_ms, &error))
		return ctl_usage(ctl, "--timeout %s: %s", word, error);
	return CTL_OK;
}

static int call_set(struct ctl *ctl, struct call_plan *plan, const char *option, const char *value)
{
	if (strcmp(option, "--kw") == 0)
		return call_add_named(ctl, plan, value);
	if (strcmp(option, "--timeout") == 0)
		return call_set_timeout(ctl, plan, value);
	if (strcmp(option, "--pool") == 0)
		plan->options.pool = value;
	else if (strcmp(option, "--session") == 0)
		plan->options.session = value;
	else
		ctl->socket = value;
	return CTL_OK;
}

/* An option with a value, as --name VALUE or --name=VALUE. *i is moved on. */
static int call_take_option(struct ctl *ctl, struct call_plan *plan, char **argv, int *i)
{
	static const char *const names[] = { "--kw", "--timeout", "--pool", "--session", "--socket" };
	const char *word = argv[*i];

	for (size_t k = 0; k < sizeof(names) / sizeof(names[0]); k++) {
		size_t n = strlen(names[k]);

		if (strncmp(word, names[k], n) != 0 || (word[n] != '\0' && word[n] != '='))
			continue;
		if (word[n] == '=')
			return call_set(ctl, plan, names[k], word + n + 1);
		if (!argv[*i + 1])
			return ctl_usage(ctl, "%s needs a value", names[k]);
		return call_set(ctl, plan, names[k], argv[++*i]);
	}
	return ctl_usage(ctl, "unknown option %s", word);
}

static int call_read(struct ctl *ctl, struct call_plan *plan, int argc, char **argv)
{
	bool words_only = false;
	int r = CTL_OK;

	for (int i = 1; i < argc && r == CTL_OK; i++) {
		if (words_only || strncmp(argv[i], "--", 2) != 0)
			r = call_add_argument(ctl, plan, argv[i]);
		else if (strcmp(argv[i], "--") == 0)
			words_only = true;
		else if (strcmp(argv[i], "--json") == 0)
			ctl->json = true;
		else if (strcmp(argv[i], "--idempotent") == 0)
			plan->options.idempotent = true;
		else
			r = call_take_option(ctl, plan, argv, &i);
	}
	if (r == CTL_OK && !plan->target)
		r = ctl_usage(ctl, "no target");
	if (r == CTL_OK && plan->n_list > 0 && plan->n_named > 0)
		r = ctl_usage(ctl, "a call has positional arguments or --kw, not both");
	return r;
}

static int call_run(struct ctl *ctl, const struct call_plan *plan)
{
	const msgpack_sbuffer *body = plan->n_named > 0 ? &plan->named : &plan->list;
	struct pypool_reply *reply;
	msgpack_sbuffer args;
	msgpack_packer pk;
	int r = ctl_connect(ctl);

	if (r != CTL_OK)
		return r;
	msgpack_sbuffer_init(&args);
	msgpack_packer_init(&pk, &args, msgpack_sbuffer_write);
	if (plan->n_named > 0)
		msgpack_pack_map(&pk, plan->n_named);
	else
		msgpack_pack_array(&pk, plan->n_list);
	pack_raw(&pk, (struct span){ .p = (const uint8_t *)body->data, .len = body->size });
	if (pypool_execute(ctl->pool, plan->target, (struct pypool_span){ args.data, args.size }, &plan->options,
			   &reply) == 0) {
		json_print(stdout, ctl_value(reply));
		putchar('\n');
		(void)pypool_reply_free(reply);
	} else {
		r = ctl_fail(ctl);
	}
	msgpack_sbuffer_destroy(&args);
	return r;
}

/* -h may be meant as an argument where there are others. */
static bool call_wants_help(int argc, char **argv)
{
	if (argc == 2 && strcmp(argv[1], "-h") == 0)
		return true;
	for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++)
		if (strcmp(argv[i], "--help") == 0)
			return true;
	return false;
}

int command_call(struct ctl *ctl, int argc, char **argv)
{
	struct call_plan plan = { 0 };
	int r;

	if (call_wants_help(argc, argv)) {
		char *help[] = { (char *)"help", (char *)ctl->command->name, NULL };

		return command_help(ctl, 2, help);
	}
	msgpack_sbuffer_init(&plan.list);
	msgpack_sbuffer_init(&plan.named);
	r = call_read(ctl, &plan, argc, argv);
	if (r == CTL_OK)
		r = call_run(ctl, &plan);
	msgpack_sbuffer_destroy(&plan.list);
	msgpack_sbuffer_destroy(&plan.named);
	return r;
}

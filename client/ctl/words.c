/* pypoolctl words [COMMAND|KIND]: for the completion of shells, hence in no help. Without an argument: what may stand before a
 * command; of a command: its options and arguments, as its usage line has them; of a kind (a word in capitals): what there
 * is of it now. One a line; an option that takes a value is followed by the kind of that. */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "client/ctl/cell.h"
#include "client/ctl/ctl.h"
#include "proto/cursor.h"
#include "proto/events.h"

static void words_print_token(struct span token, const char *end)
{
	printf("%.*s%s", (int)token.len, (const char *)token.p, end);
}

/* The next word of a usage line; *line is left behind it. */
static bool words_next(const char **line, struct span *token)
{
	*line += strspn(*line, " []|.");
	*token = (struct span){ .p = (const uint8_t *)*line, .len = strcspn(*line, " []|.") };
	*line += token->len;
	return token->len > 0;
}

/* "--pool POOL" is an option with a value, "--wait [TIME]" one that needs none. */
static bool words_has_value(struct span token, const char *rest)
{
	return token.p[0] == '-' && rest[0] == ' ' && isupper((unsigned char)rest[1]);
}

static void words_of_command(const struct command *c)
{
	const char *line = c->arguments;
	struct span token;

	while (words_next(&line, &token)) {
		bool more = words_has_value(token, line);

		words_print_token(token, more ? " " : "\n");
		if (more && words_next(&line, &token))
			words_print_token(token, "\n");
	}
	puts("--json\n--socket PATH\n--help");
}

static int words_commands(void)
{
	for (const struct command *c = command_list(); c->name; c++)
		puts(c->name);
	return CTL_OK;
}

/* Of which method's list, and what of each item; with the pool before it for what has a number in a pool. */
static const struct words_kind {
	const char *name;
	const char *method;
	const char *key;
	bool with_pool;
} words_kinds[] = {
	{ "POOL", "pools", "name", false },
	{ "WORKER", "workers", "worker", true },
	{ "CALL", "queue", "call", false },
	{ "SESSION", "sessions", "session", false },
};

static void words_put(struct span item, const char *key, const char *end)
{
	struct span value = cell_of(item, key);
	char *text = value.len ? cell_any(value) : NULL;

	printf("%s%s", text ? text : "", end);
	free(text);
}

static int words_of_kind(struct ctl *ctl, const struct words_kind *k)
{
	struct pypool_reply *reply;
	struct span list, item;
	uint32_t n;
	int r = ctl_ask_about(ctl, k->method, NULL, &reply);

	if (r != CTL_OK)
		return r;
	list = ctl_value(reply);
	if (!mp_read_array(&list, &n))
		n = 0;
	for (; n > 0 && mp_read_any(&list, &item); n--) {
		if (k->with_pool)
			words_put(item, "pool", "/");
		words_put(item, k->key, "\n");
	}
	(void)pypool_reply_free(reply);
	return CTL_OK;
}

static int words_event_kinds(void)
{
	for (int k = 0; k < EVENT_N_KINDS; k++)
		puts(event_kind_name((enum event_kind)k));
	return CTL_OK;
}

static int words_of(struct ctl *ctl, const char *name)
{
	const struct command *c = command_find(name);

	if (c) {
		words_of_command(c);
		return CTL_OK;
	}
	if (strcmp(name, "COMMAND") == 0)
		return words_commands();
	if (strcmp(name, "KIND") == 0)
		return words_event_kinds();
	for (size_t i = 0; i < sizeof(words_kinds) / sizeof(words_kinds[0]); i++)
		if (strcmp(name, words_kinds[i].name) == 0)
			return words_of_kind(ctl, &words_kinds[i]);
	return CTL_OK; /* of other kinds nothing is known */
}

int command_words(struct ctl *ctl, int argc, char **argv)
{
	if (argc > 2)
		return ctl_usage(ctl, "at most one word");
	if (argc == 2)
		return words_of(ctl, argv[1]);
	puts("COMMAND\n--json\n--socket PATH\n--help\n--version");
	return CTL_OK;
}

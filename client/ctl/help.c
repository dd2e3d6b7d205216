/* pypoolctl help [COMMAND] */
#include "client/ctl/ctl.h"
#include "client/ctl/json.h"
#include "proto/pack.h"

static const char call_help[] =
	"\n"
	"Each argument is one JSON value: 5, true, '\"text\"', '[1, 2]', '{\"a\": null}'. Keyword arguments: --kw "
	"KEY=VALUE,\n"
	"where a VALUE that is no JSON is text. Both at once is not possible. What JSON has no word for is written as\n"
	"{\"$bin\": BASE64}, {\"$float\": \"nan\"}, {\"$ext\": [TYPE, BASE64]}, {\"$str\": BASE64} (invalid UTF-8) "
	"and\n"
	"{\"$map\": [[KEY, VALUE], ...]} (keys that are not text), in arguments and in results.\n"
	"--timeout TIME: 250ms, 30s, 5m, 1h. Without it the pool's call_timeout holds.\n"
	"--session SESSION: a call of this session, which is opened by its first call.\n"
	"--idempotent: should its worker be lost, the call may be given to another one; its handler must be marked so too.\n";

static const char why_help[] =
	"\n"
	"A number is that of a call, as queue shows it; POOL/N is worker N, as logs writes it; all else is a pool. A word\n"
	"before it says so: why worker 3, why pool 17. Exit status 1: the call has ended, or there is no such thing.\n";

static const char top_help[] =
	"\n"
	"On a terminal it is drawn in place: q ends it, a blank looks at once. Elsewhere, and with -n or --once, tables are printed\n"
	"one after the other, the first when SECONDS (2) have gone by: rates need two looks. --json: one object a line.\n";

static const char events_help[] =
	"\n"
	"Kinds: worker session lease breaker pool config output. Without any: all but output, the lines that workers print.\n"
	"--json: one object a line. Goes on until it is stopped, by Ctrl-C; exit status 1: the connection was lost.\n";

static const char logs_help[] =
	"\n"
	"N and POOL/N are a worker, all else is a pool. -f, --follow: go on with the lines that come, until Ctrl-C; with --json\n"
	"one object a line.\n";

static void help_pack(msgpack_packer *pk, const struct command *c)
{
	msgpack_pack_map(pk, 3);
	pack_kv_text(pk, "command", c->name);
	pack_kv_text(pk, "arguments", c->arguments);
	pack_kv_text(pk, "summary", c->summary);
}

/* All commands, or the one. */
static int help_json(const struct command *one)
{
	msgpack_sbuffer buf;
	msgpack_packer pk;
	size_t n = 0;

	while (command_list()[n].name)
		n++;
	msgpack_sbuffer_init(&buf);
	msgpack_packer_init(&pk, &buf, msgpack_sbuffer_write);
	msgpack_pack_array(&pk, one ? 1 : n);
	if (one)
		help_pack(&pk, one);
	for (const struct command *c = command_list(); !one && c->name; c++)
		help_pack(&pk, c);
	json_print(stdout, (struct span){ .p = (const uint8_t *)buf.data, .len = buf.size });
	putchar('\n');
	msgpack_sbuffer_destroy(&buf);
	return CTL_OK;
}

int ctl_help(struct ctl *ctl, const char *name)
{
	const struct command *c = command_find(name);

	if (!c) {
		fprintf(stderr, "pypoolctl: no command '%s'; try 'pypoolctl help'\n", name);
		return CTL_USAGE;
	}
	if (ctl->json)
		return help_json(c);
	printf("Usage: pypoolctl [--socket PATH] [--json] %s %s\n%s\n", c->name, c->arguments, c->summary);
	if (c->run == command_call)
		fputs(call_help, stdout);
	if (c->run == command_why)
		fputs(why_help, stdout);
	if (c->run == command_top)
		fputs(top_help, stdout);
	if (c->run == command_events)
		fputs(events_help, stdout);
	if (c->run == command_logs)
		fputs(logs_help, stdout);
	return CTL_OK;
}

int command_help(struct ctl *ctl, int argc, char **argv)
{
	static const struct option none[] = { { NULL, 0, NULL, 0 } };
	int c = ctl_option(ctl, argc, argv, "h", none);

	if (c != -1)
		return c == 'h' ? CTL_OK : CTL_USAGE;
	if (optind == argc - 1)
		return ctl_help(ctl, argv[optind]);
	if (optind < argc)
		return ctl_usage(ctl, "at most one command");
	if (ctl->json)
		return help_json(NULL);
	printf("Usage: pypoolctl [--socket PATH] [--json] COMMAND [ARGUMENT]...\n\n");
	for (const struct command *c = command_list(); c->name; c++)
		printf("  %-9s %s\n", c->name, c->summary);
	printf("\n"
	       "  --socket PATH  the daemon's socket; else $PYPOOL_SOCKET, else /run/pypoold/pypoold.sock,\n"
	       "                 or $XDG_RUNTIME_DIR/pypoold/pypoold.sock for an ordinary user\n"
	       "  --json         all that the daemon says, for machines\n"
	       "\n"
	       "Exit status: 0 done, 1 the call failed, 2 wrong usage, 3 cannot connect.\n"
	       "'pypoolctl help COMMAND' tells more.\n");
	return CTL_OK;
}

/* pypoolctl config: the configuration in force, as a file that says it; the comment behind each option says where it is given. */
#include <stdlib.h>
#include <string.h>

#include "client/ctl/cell.h"
#include "client/ctl/ctl.h"
#include "client/ctl/text.h"
#include "proto/cursor.h"

#define COMMENT_COLUMN 48

static struct span text_of(struct span map, const char *key)
{
	struct span value = cell_of(map, key), text = { 0 };

	(void)mp_read_text(&value, &text); /* else it stays empty */
	return text;
}

/* Ends a line that has `used` columns so far. */
static void put_source(size_t used, struct span map)
{
	printf("%*s# ", used < COMMENT_COLUMN ? (int)(COMMENT_COLUMN - used) : 1, "");
	text_write(stdout, text_of(map, "source"), false);
	putchar('\n');
}

/* The daemon's text has its control characters behind backslashes already. */
static void put_option(struct span name, struct span option, const char *indent)
{
	struct span text = text_of(option, "text");

	printf("%s", indent);
	text_write(stdout, name, false);
	printf(" = ");
	text_write(stdout, text, false);
	put_source(strlen(indent) + name.len + 3 + text.len, option);
}

static void put_options(struct span map, const char *indent)
{
	struct span name, option;
	uint32_t n;

	if (!mp_read_map(&map, &n))
		return;
	for (; n > 0 && mp_read_text(&map, &name) && mp_read_any(&map, &option); n--)
		put_option(name, option, indent);
}

/* kind "NAME" {   # source */
static void open_section(const char *kind, struct span map)
{
	struct span name = text_of(map, "name");

	printf("\n%s \"", kind);
	text_write(stdout, name, false);
	printf("\" {");
	put_source(strlen(kind) + name.len + 5, map);
}

/* Left out when it is empty, which means all. */
static void put_names(struct span map, const char *key)
{
	struct span list = cell_of(map, key), name;
	const char *before = "";
	uint32_t n;

	if (!mp_read_array(&list, &n) || !n)
		return;
	printf("  %s = {", key);
	for (; n > 0 && mp_read_text(&list, &name); n--) {
		printf("%s\"", before);
		text_write(stdout, name, false);
		putchar('"');
		before = ", ";
	}
	puts("}");
}

static void put_access(struct span rule)
{
	open_section("access", rule);
	put_names(rule, "uid");
	put_names(rule, "gid");
	printf("  role = ");
	text_write(stdout, text_of(rule, "role"), false);
	putchar('\n');
	put_names(rule, "pools");
	puts("}");
}

static void put_pool(struct span pool)
{
	open_section("pool", pool);
	put_options(cell_of(pool, "options"), "  ");
	puts("}");
}

static void put_each(struct span list, void (*put)(struct span item))
{
	struct span item;
	uint32_t n;

	if (!mp_read_array(&list, &n))
		return;
	for (; n > 0 && mp_read_any(&list, &item); n--)
		put(item);
}

static int config_print(struct span answer)
{
	put_options(cell_of(answer, "options"), "");
	put_each(cell_of(answer, "access"), put_access);
	put_each(cell_of(answer, "pools"), put_pool);
	return CTL_OK;
}

static int config_print_pools(struct span answer)
{
	put_each(cell_of(answer, "pools"), put_pool);
	return CTL_OK;
}

int command_config(struct ctl *ctl, int argc, char **argv)
{
	static const struct option none[] = { { NULL, 0, NULL, 0 } };
	const char *pool = NULL;
	struct pypool_reply *reply;
	int r, c = ctl_option(ctl, argc, argv, "h", none);

	if (c != -1)
		return c == 'h' ? CTL_OK : CTL_USAGE;
	if (optind < argc)
		pool = argv[optind++];
	if (optind < argc)
		return ctl_usage(ctl, "at most one pool");
	r = ctl_ask_about(ctl, "config.show", pool, &reply);
	return r == CTL_OK ? ctl_show(ctl, reply, pool ? config_print_pools : config_print) : r;
}

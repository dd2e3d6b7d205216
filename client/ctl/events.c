/* pypoolctl events: what happens in the daemon, a line each. */
#include <stdlib.h>
#include <string.h>

#include "client/ctl/cell.h"
#include "client/ctl/follow.h"
#include "client/ctl/json.h"
#include "client/ctl/stamp.h"
#include "client/ctl/text.h"
#include "proto/cursor.h"

/* They have a place of their own in a line, or none. */
static bool events_is_placed(struct span key)
{
	static const char *const keys[] = { "kind", "what", "time_ms", "pool", "worker", "dropped" };
	bool is = false;

	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]) && !is; i++)
		is = span_equals(key, keys[i]);
	return is;
}

static void events_print_value(struct span value)
{
	struct span rest = value, text;
	char *s = cell_any(value);
	bool quoted = mp_read_text(&rest, &text) && (text.len == 0 || memchr(text.p, ' ', text.len));

	printf(quoted ? "\"%s\"" : "%s", s ? s : "-");
	free(s);
}

/* key=value for what is known: neither nil nor false. */
static void events_print_pair(struct span key, struct span value)
{
	struct span rest = value;
	char *name;
	bool is;

	if (events_is_placed(key) || mp_read_nil(&rest) || (mp_read_bool(&rest, &is) && !is))
		return;
	name = text_escape(key);
	printf(" %s=", name ? name : "-");
	free(name);
	events_print_value(value);
}

static void events_print_item(struct span event, const char *key, cell_fn *text, const char *before)
{
	struct span value = cell_of(event, key);
	char *s = value.len ? text(value) : NULL;

	if (s)
		printf("%s%s", before, s);
	free(s);
}

/* TIME KIND POOL/WORKER WHAT KEY=VALUE... */
static void events_print(struct span event)
{
	struct span pairs = event, key, name, value;
	uint32_t n;

	stamp_print(cell_of(event, "time_ms"));
	events_print_item(event, "kind", cell_any, "");
	events_print_item(event, "pool", cell_any, " ");
	events_print_item(event, "worker", cell_id, "/");
	events_print_item(event, "what", cell_any, " ");
	if (!mp_read_map(&pairs, &n))
		n = 0;
	for (; n > 0 && mp_read_any(&pairs, &key) && mp_read_any(&pairs, &value); n--) {
		if (mp_read_text(&key, &name))
			events_print_pair(name, value);
	}
	putchar('\n');
}

static void events_on_told(struct follow *f, struct span event)
{
	if (!f->ctl->json) {
		events_print(event);
		return;
	}
	json_print(stdout, event);
	putchar('\n');
}

int command_events(struct ctl *ctl, int argc, char **argv)
{
	static const struct option options[] = { { "pool", required_argument, NULL, 'p' }, { NULL, 0, NULL, 0 } };
	struct follow f = { .ctl = ctl, .told = events_on_told, .what = "events" };
	const char *pool = NULL;
	int c, r;

	while ((c = ctl_option(ctl, argc, argv, "h", options)) == 'p')
		pool = optarg;
	if (c != -1)
		return c == 'h' ? CTL_OK : CTL_USAGE;
	r = follow_begin(&f, argv + optind, (size_t)(argc - optind), pool);
	return r == CTL_OK ? follow_run(&f) : r;
}

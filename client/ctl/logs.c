/* pypoolctl logs: what workers printed. One line each, so that grep and tail work. */
#include "client/ctl/logs.h"

#include <stdlib.h>
#include <string.h>

#include "client/ctl/cell.h"
#include "client/ctl/stamp.h"
#include "proto/cursor.h"
#include "proto/pack.h"

enum { OPTION_POOL = 512, OPTION_WORKER };

/* N or POOL/N is a worker, all else a pool. The word is cut. */
static void logs_take_argument(struct logs_filter *f, char *word)
{
	char *slash = strrchr(word, '/');

	f->has_worker = ctl_number(slash ? slash + 1 : word, &f->worker);
	if (f->has_worker && slash)
		*slash = '\0';
	if (!f->has_worker || slash)
		f->pool = word;
}

/* 0: go on. Else -1, and *exit is set. */
static int logs_options(struct ctl *ctl, int argc, char **argv, struct logs_filter *f, bool *follow, int *exit)
{
	static const struct option options[] = {
		{ "pool", required_argument, NULL, OPTION_POOL },
		{ "worker", required_argument, NULL, OPTION_WORKER },
		{ "lines", required_argument, NULL, 'n' },
		{ "follow", no_argument, NULL, 'f' },
		{ NULL, 0, NULL, 0 },
	};
	int c;

	while ((c = ctl_option(ctl, argc, argv, "hn:f", options)) != -1) {
		if (c == OPTION_POOL) {
			f->pool = optarg;
		} else if (c == OPTION_WORKER && ctl_worker(optarg, &f->worker)) {
			f->has_worker = true;
		} else if (c == 'n' && ctl_number(optarg, &f->lines)) {
			f->has_lines = true;
		} else if (c == 'f') {
			*follow = true;
		} else {
			*exit = c == 'h'   ? CTL_OK
				: c == '?' ? CTL_USAGE
					   : ctl_usage(ctl, "'%s' is not a number", optarg);
			return -1;
		}
	}
	if (optind + 1 < argc) {
		*exit = ctl_usage(ctl, "at most one worker or pool");
		return -1;
	}
	if (optind < argc)
		logs_take_argument(f, argv[optind]);
	return 0;
}

static void logs_print_item(struct span line, const char *key, const char *end)
{
	struct span value = cell_of(line, key);
	char *s = value.len > 0 ? cell_any(value) : NULL;

	printf("%s%s", s ? s : "-", end);
	free(s);
}

void logs_print_line(struct span line)
{
	stamp_print(cell_of(line, "time_ms"));
	logs_print_item(line, "pool", "/");
	logs_print_item(line, "worker", " ");
	logs_print_item(line, "source", ": ");
	logs_print_item(line, "text", "\n");
}

static int logs_print(struct span list)
{
	struct span line;
	uint32_t n;

	if (!mp_read_array(&list, &n))
		n = 0;
	for (; n > 0 && mp_read_any(&list, &line); n--)
		logs_print_line(line);
	return CTL_OK;
}

static void logs_pack(const struct logs_filter *f, msgpack_sbuffer *b)
{
	msgpack_packer pk;

	msgpack_packer_init(&pk, b, msgpack_sbuffer_write);
	msgpack_pack_map(&pk, (size_t)(f->pool != NULL) + f->has_worker + f->has_lines);
	if (f->pool)
		pack_kv_text(&pk, "pool", f->pool);
	if (f->has_worker)
		pack_kv_uint(&pk, "worker", f->worker);
	if (f->has_lines)
		pack_kv_uint(&pk, "lines", f->lines);
}

int logs_ask(struct ctl *ctl, const struct logs_filter *f, struct pypool_reply **reply)
{
	msgpack_sbuffer params;
	int r;

	msgpack_sbuffer_init(&params);
	logs_pack(f, &params);
	r = ctl_ask(ctl, "logs", (struct pypool_span){ params.data, params.size }, CTL_TIMEOUT_MS, reply);
	msgpack_sbuffer_destroy(&params);
	return r;
}

int command_logs(struct ctl *ctl, int argc, char **argv)
{
	struct logs_filter filter = { 0 };
	struct pypool_reply *reply;
	bool follow = false;
	int r;

	if (logs_options(ctl, argc, argv, &filter, &follow, &r) < 0)
		return r;
	if (follow)
		return logs_follow(ctl, &filter);
	r = logs_ask(ctl, &filter, &reply);
	return r == CTL_OK ? ctl_show(ctl, reply, logs_print) : r;
}

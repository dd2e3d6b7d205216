/* pypoolctl logs: what workers printed. One line each, so that grep and tail work. */
#include <stdlib.h>
#include <time.h>

#include "client/ctl/ctl.h"
#include "client/ctl/grid.h"
#include "client/ctl/text.h"
#include "proto/cursor.h"
#include "proto/pack.h"

enum { OPTION_POOL = 512, OPTION_WORKER };

struct logs_filter {
	const char *pool;
	uint64_t worker;
	bool has_worker;
	uint64_t lines;
	bool has_lines;
};

/* 0: go on. Else -1, and *exit is set. */
static int logs_options(struct ctl *ctl, int argc, char **argv, struct logs_filter *f, int *exit)
{
	static const struct option options[] = {
		{ "pool", required_argument, NULL, OPTION_POOL },
		{ "worker", required_argument, NULL, OPTION_WORKER },
		{ "lines", required_argument, NULL, 'n' },
		{ NULL, 0, NULL, 0 },
	};
	int c;

	while ((c = ctl_option(ctl, argc, argv, "hn:", options)) != -1) {
		if (c == OPTION_POOL) {
			f->pool = optarg;
		} else if (c == OPTION_WORKER && ctl_worker(optarg, &f->worker)) {
			f->has_worker = true;
		} else if (c == 'n' && ctl_number(optarg, &f->lines)) {
			f->has_lines = true;
		} else {
			*exit = c == 'h'   ? CTL_OK
				: c == '?' ? CTL_USAGE
					   : ctl_usage(ctl, "'%s' is not a number", optarg);
			return -1;
		}
	}
	if (optind < argc) {
		*exit = ctl_usage(ctl, "no argument is expected, got '%s'", argv[optind]);
		return -1;
	}
	return 0;
}

/* time_ms: of the wall clock. */
static void logs_print_time(struct span value)
{
	struct tm tm;
	uint64_t ms;
	time_t s;

	if (!mp_read_uint(&value, &ms)) {
		printf("- ");
		return;
	}
	s = (time_t)(ms / 1000);
	if (!localtime_r(&s, &tm)) {
		printf("%llu ", (unsigned long long)ms);
		return;
	}
	printf("%04d-%02d-%02d %02d:%02d:%02d.%03u ", tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday, tm.tm_hour,
	       tm.tm_min, tm.tm_sec, (unsigned)(ms % 1000));
}

static void logs_print_item(struct span line, const char *key, const char *end)
{
	struct span value = cell_of(line, key);
	char *s = value.len > 0 ? cell_any(value) : NULL;

	printf("%s%s", s ? s : "-", end);
	free(s);
}

static int logs_print(struct span list)
{
	struct span line;
	uint32_t n;

	if (!mp_read_array(&list, &n))
		n = 0;
	for (; n > 0 && mp_read_any(&list, &line); n--) {
		logs_print_time(cell_of(line, "time_ms"));
		logs_print_item(line, "pool", "/");
		logs_print_item(line, "worker", " ");
		logs_print_item(line, "source", ": ");
		logs_print_item(line, "text", "\n");
	}
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

int command_logs(struct ctl *ctl, int argc, char **argv)
{
	struct logs_filter filter = { 0 };
	struct pypool_reply *reply;
	msgpack_sbuffer params;
	int r;

	if (logs_options(ctl, argc, argv, &filter, &r) < 0)
		return r;
	msgpack_sbuffer_init(&params);
	logs_pack(&filter, &params);
	r = ctl_ask(ctl, "logs", (struct pypool_span){ params.data, params.size }, CTL_TIMEOUT_MS, &reply);
	msgpack_sbuffer_destroy(&params);
	return r == CTL_OK ? ctl_show(ctl, reply, logs_print) : r;
}

/* Options that all commands share, and the connection. */
#include "client/ctl/ctl.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "client/ctl/failure.h"
#include "client/ctl/json.h"

enum { OPTION_JSON = 256, OPTION_SOCKET, OPTION_POOL };

#define CTL_OPTIONS_MAX 16

int ctl_usage(const struct ctl *ctl, const char *format, ...)
{
	va_list args;

	fprintf(stderr, "pypoolctl %s: ", ctl->command->name);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fprintf(stderr, "\nUsage: pypoolctl %s %s\n", ctl->command->name, ctl->command->arguments);
	return CTL_USAGE;
}

int ctl_option(struct ctl *ctl, int argc, char **argv, const char *letters, const struct option *options)
{
	struct option all[CTL_OPTIONS_MAX] = {
		{ "json", no_argument, NULL, OPTION_JSON },
		{ "socket", required_argument, NULL, OPTION_SOCKET },
		{ "help", no_argument, NULL, 'h' },
	};
	int n = 3, c;

	for (; options->name && n < CTL_OPTIONS_MAX - 1; options++)
		all[n++] = *options;
	for (;;) {
		c = getopt_long(argc, argv, letters, all, NULL);
		if (c == OPTION_JSON) {
			ctl->json = true;
		} else if (c == OPTION_SOCKET) {
			ctl->socket = optarg;
		} else if (c == 'h') {
			(void)ctl_help(ctl, ctl->command->name); /* cannot fail: the command exists */
			return 'h';
		} else {
			if (c == '?')
				fprintf(stderr, "Usage: pypoolctl %s %s\n", ctl->command->name,
					ctl->command->arguments);
			return c;
		}
	}
}

bool ctl_options(struct ctl *ctl, int argc, char **argv, const char **pool, int *exit)
{
	static const struct option none[] = { { NULL, 0, NULL, 0 } };
	static const struct option with_pool[] = { { "pool", required_argument, NULL, OPTION_POOL },
						   { NULL, 0, NULL, 0 } };
	int c;

	while ((c = ctl_option(ctl, argc, argv, "h", pool ? with_pool : none)) == OPTION_POOL && pool)
		*pool = optarg;
	if (c == 'h')
		*exit = CTL_OK;
	else if (c == '?')
		*exit = CTL_USAGE;
	else if (optind < argc)
		*exit = ctl_usage(ctl, "no argument is expected, got '%s'", argv[optind]);
	else
		return true;
	return false;
}

uint64_t ctl_now_ms(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts); /* cannot fail for this clock */
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

bool ctl_number(const char *text, uint64_t *v)
{
	char *end;

	errno = 0;
	*v = strtoull(text, &end, 10);
	return *text >= '0' && *text <= '9' && *end == '\0' && errno == 0;
}

bool ctl_worker(const char *text, uint64_t *v)
{
	const char *slash = strrchr(text, '/');

	return ctl_number(slash ? slash + 1 : text, v);
}

int ctl_connect(struct ctl *ctl)
{
	if (ctl->pool)
		return CTL_OK;
	if (pypool_new(&ctl->pool) < 0) {
		fprintf(stderr, "pypoolctl: out of memory\n");
		return CTL_CANNOT_CONNECT;
	}
	if (pypool_set_name(ctl->pool, "pypoolctl") == 0 && pypool_connect(ctl->pool, ctl->socket, CTL_CONNECT_MS) == 0)
		return CTL_OK;
	failure_print(stderr, pypool_last_error(ctl->pool), ctl->json);
	ctl->pool = pypool_free(ctl->pool);
	return CTL_CANNOT_CONNECT;
}

int ctl_fail(struct ctl *ctl)
{
	failure_print(stderr, pypool_last_error(ctl->pool), ctl->json);
	return CTL_FAILED;
}

int ctl_ask(struct ctl *ctl, const char *method, struct pypool_span params, uint32_t timeout_ms,
	    struct pypool_reply **reply)
{
	int r = ctl_connect(ctl);

	if (r != CTL_OK)
		return r;
	if (pypool_call(ctl->pool, method, params, timeout_ms, reply) < 0)
		return ctl_fail(ctl);
	return CTL_OK;
}

int ctl_askf(struct ctl *ctl, const char *method, uint32_t timeout_ms, struct pypool_reply **reply, const char *format, ...)
{
	struct pypool_span params = { 0 };
	void *packed = NULL;
	va_list ap;
	int r;

	va_start(ap, format);
	r = pypool_vpackf(&packed, &params.size, format, ap);
	va_end(ap);
	if (r < 0) {
		fprintf(stderr, "pypoolctl: out of memory\n");
		return CTL_FAILED;
	}
	params.data = packed;
	r = ctl_ask(ctl, method, params, timeout_ms, reply);
	free(packed);
	return r;
}

int ctl_ask_about(struct ctl *ctl, const char *method, const char *pool, struct pypool_reply **reply)
{
	if (!pool)
		return ctl_ask(ctl, method, (struct pypool_span){ 0 }, CTL_TIMEOUT_MS, reply);
	return ctl_askf(ctl, method, CTL_TIMEOUT_MS, reply, "**{ss}", "pool", pool);
}

int ctl_show(const struct ctl *ctl, struct pypool_reply *reply, int (*print)(struct span answer))
{
	int r = CTL_OK;

	if (ctl->json) {
		json_print(stdout, ctl_value(reply));
		putchar('\n');
	} else {
		r = print(ctl_value(reply));
	}
	(void)pypool_reply_free(reply);
	return r;
}

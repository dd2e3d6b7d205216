/* pypoolctl ping [--wait [TIME]] */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "client/ctl/ctl.h"
#include "client/ctl/duration.h"
#include "client/ctl/failure.h"

#define PING_WAIT_MS 30000
#define PING_PAUSE_MS 50
#define PING_ONE_MS 1000

/* Until the daemon answers or the time is over; each attempt has a connection of its own. */
static int ping_wait(struct ctl *ctl, struct pypool *p, uint32_t wait_ms)
{
	uint64_t end = ctl_now_ms() + wait_ms;

	for (;;) {
		uint64_t now = ctl_now_ms();
		uint32_t left = now < end ? (uint32_t)(end - now) : 0;
		int r = pypool_connect(p, ctl->socket, left < PING_ONE_MS ? left : PING_ONE_MS);
		bool connected = r == 0;

		if (connected)
			r = pypool_ping(p, left > 0 ? left : 1);
		if (r == 0)
			return CTL_OK;
		if (ctl_now_ms() >= end || r == -EACCES || r == -ENAMETOOLONG) {
			failure_print(stderr, pypool_last_error(p), ctl->json);
			return connected ? CTL_FAILED : CTL_CANNOT_CONNECT;
		}
		pypool_disconnect(p);
		(void)poll(NULL, 0, PING_PAUSE_MS); /* an interrupted pause is a shorter one */
	}
}

static int ping_once(struct ctl *ctl)
{
	struct pypool_reply *reply;
	int r = ctl_ask(ctl, "ping", (struct pypool_span){ 0 }, CTL_TIMEOUT_MS, &reply);

	if (r == CTL_OK)
		(void)pypool_reply_free(reply);
	return r;
}

/* "5s", or a bare number of seconds. */
static int ping_read_time(struct ctl *ctl, const char *text, uint32_t *wait_ms)
{
	const char *error;
	char seconds[16];

	if (strlen(text) < 8 && strspn(text, "0123456789") == strlen(text)) {
		(void)snprintf(seconds, sizeof(seconds), "%ss", text); /* fits: less than 8 digits */
		text = seconds;
	}
	if (duration_parse(text, wait_ms, &error))
		return CTL_OK;
	return ctl_usage(ctl, "--wait %s: %s", text, error);
}

static int ping_run(struct ctl *ctl, bool wait, uint32_t wait_ms)
{
	struct pypool *p;
	int r;

	if (!wait) {
		r = ping_once(ctl);
	} else if (pypool_new(&p) < 0) {
		return CTL_CANNOT_CONNECT;
	} else {
		r = ping_wait(ctl, p, wait_ms);
		(void)pypool_free(p);
	}
	if (r == CTL_OK)
		puts(ctl->json ? "\"pong\"" : "pong");
	return r;
}

int command_ping(struct ctl *ctl, int argc, char **argv)
{
	static const struct option options[] = { { "wait", optional_argument, NULL, 'w' }, { NULL, 0, NULL, 0 } };
	uint32_t wait_ms = PING_WAIT_MS;
	bool wait = false;
	int c, r = CTL_OK;

	while ((c = ctl_option(ctl, argc, argv, "h", options)) == 'w') {
		wait = true;
		if (!optarg && optind < argc && argv[optind][0] != '-')
			optarg = argv[optind++];
		if (optarg)
			r = ping_read_time(ctl, optarg, &wait_ms);
		if (r != CTL_OK)
			return r;
	}
	if (c != -1)
		return c == 'h' ? CTL_OK : CTL_USAGE;
	if (optind < argc)
		return ctl_usage(ctl, "no argument is expected, got '%s'", argv[optind]);
	return ping_run(ctl, wait, wait_ms);
}

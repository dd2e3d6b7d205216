/* pypoolctl ping [--wait [TIME]] [--ready] */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "client/ctl/cell.h"
#include "client/ctl/ctl.h"
#include "client/ctl/duration.h"
#include "client/ctl/failure.h"
#include "proto/cursor.h"

#define PING_WAIT_MS 30000
#define PING_PAUSE_MS 50
#define PING_ONE_MS 1000

/* Has every pool settled? What does not is an error of ours: then there is none of p's. */
static int ping_ready(struct pypool *p, uint32_t timeout_ms, bool *ready)
{
	struct pypool_reply *reply;
	struct span state, text;
	int r = pypool_call(p, "status", (struct pypool_span){ 0 }, timeout_ms, &reply);

	if (r < 0)
		return r;
	state = cell_of(ctl_value(reply), "state");
	*ready = mp_read_text(&state, &text) && span_equals(text, "running");
	(void)pypool_reply_free(reply);
	return 0;
}

/* Waiting changes nothing about that. */
static bool ping_is_denied(const struct pypool *p, int r)
{
	return r == -EREMOTEIO && strcmp(pypool_error_code(pypool_last_error(p)), "denied") == 0;
}

static void ping_complain(const struct ctl *ctl, const struct pypool *p, int r)
{
	if (r < 0)
		failure_print(stderr, pypool_last_error(p), ctl->json);
	else
		fprintf(stderr, "pypoolctl: the daemon answers, but is not ready: pypoolctl status shows its pools\n");
}

/* One question, over a connection of its own. 0, and *ready says the rest; *connected: whether there was one. */
static int ping_try(const struct ctl *ctl, struct pypool *p, uint32_t left_ms, bool *connected, bool *ready)
{
	bool ask = *ready;
	int r = pypool_connect(p, ctl->socket, left_ms < PING_ONE_MS ? left_ms : PING_ONE_MS);

	*connected = r == 0;
	if (r == 0)
		r = pypool_ping(p, left_ms > 0 ? left_ms : PING_ONE_MS);
	if (r == 0 && ask)
		r = ping_ready(p, left_ms > 0 ? left_ms : PING_ONE_MS, ready);
	return r;
}

/* Until the daemon answers or the time is over; each attempt has a connection of its own. */
static int ping_wait(struct ctl *ctl, struct pypool *p, uint32_t wait_ms, bool wants_ready)
{
	uint64_t end = ctl_now_ms() + wait_ms;

	for (;;) {
		uint64_t now = ctl_now_ms();
		uint32_t left = now < end ? (uint32_t)(end - now) : 0;
		bool connected, ready = wants_ready;
		int r = ping_try(ctl, p, left, &connected, &ready);

		if (r == 0 && (ready || !wants_ready))
			return CTL_OK;
		if (ctl_now_ms() >= end || r == -EACCES || r == -ENAMETOOLONG || ping_is_denied(p, r)) {
			ping_complain(ctl, p, r);
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

static int ping_run(struct ctl *ctl, bool wait, uint32_t wait_ms, bool ready)
{
	struct pypool *p;
	int r;

	if (!wait && !ready) {
		r = ping_once(ctl);
	} else if (pypool_new(&p) < 0) {
		return CTL_CANNOT_CONNECT;
	} else {
		r = ping_wait(ctl, p, wait ? wait_ms : 0, ready);
		(void)pypool_free(p);
	}
	if (r == CTL_OK)
		puts(ctl->json ? "\"pong\"" : "pong");
	return r;
}

int command_ping(struct ctl *ctl, int argc, char **argv)
{
	static const struct option options[] = { { "wait", optional_argument, NULL, 'w' },
						 { "ready", no_argument, NULL, 'r' },
						 { NULL, 0, NULL, 0 } };
	uint32_t wait_ms = PING_WAIT_MS;
	bool wait = false, ready = false;
	int c, r = CTL_OK;

	while ((c = ctl_option(ctl, argc, argv, "h", options)) == 'w' || c == 'r') {
		ready |= c == 'r';
		if (c == 'r')
			continue;
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
	return ping_run(ctl, wait, wait_ms, ready);
}

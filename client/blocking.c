/* Blocking calls: submit, then drive the non-blocking core until the answer is there. */
#include "client/blocking.h"

#include <errno.h>
#include <poll.h>

#include "client/handle.h"
#include "proto/pack.h"

static void blocking_on_done(struct pypool *p, struct pypool_reply *reply, void *data)
{
	(void)p; /* the waiter has it */
	*(struct pypool_reply **)data = reply;
}

/* One round of the loop. Whatever goes wrong ends the connection, which answers every call: nobody waits for ever. */
void blocking_turn(struct pypool *p)
{
	struct pollfd pfd = { .fd = watch_is_on(p) ? p->epoll : p->main.fd, .events = pypool_events(p) };
	int r = poll(&pfd, 1, pypool_timeout_ms(p)) < 0 ? -errno : 0;

	if (r < 0 && r != -EINTR) {
		(void)handle_fail(p, -ENOTCONN, "connection_lost", PYPOOL_MAYBE, "poll failed: %s",
				  strerrordesc_np(-r));
		handle_lose(p, -ENOTCONN);
	}
	(void)handle_turn(p); /* a lost connection shows in the replies */
}

int blocking_check(struct pypool *p)
{
	int r = handle_check(p);

	if (r < 0)
		return r;
	if (p->delivering)
		return handle_fail(p, -EBUSY, "busy", PYPOOL_NEVER, "a blocking call inside a callback");
	return 0;
}

int blocking_call(struct link *link, const char *method, const struct span *params, size_t n, uint32_t limit_ms,
		  struct pypool_reply **out)
{
	struct pypool_reply *reply = NULL;
	struct pypool *p = link->p;
	int r = call_submit(p, link, method, params, n, limit_ms, blocking_on_done, &reply, NULL);

	if (r < 0)
		return r;
	transport_flush(link);
	while (!reply)
		blocking_turn(p);
	if (reply->failed)
		return handle_fail_reply(p, reply);
	*out = reply;
	return 0;
}

int pypool_connect(struct pypool *p, const char *path, uint32_t timeout_ms)
{
	int r = blocking_check(p);

	if (r < 0)
		return r;
	r = pypool_connect_start(p, path, timeout_ms);
	if (r < 0)
		return r;
	while (p->retry_ns)
		blocking_turn(p);
	return p->main.fd >= 0 ? 0 : p->lost;
}

static void blocking_on_ping(struct pypool *p, struct pypool_reply *reply, void *data)
{
	(void)p; /* the waiter has it */
	*(bool *)data = true;
	(void)pypool_reply_free(reply);
}

/* The daemon answers hello before what comes after it, so a ping is a wait for it that has a time limit. */
int pypool_hello(struct pypool *p, struct pypool_span *answer, uint32_t timeout_ms)
{
	uint32_t limit_ms = timeout_ms ? timeout_ms : p->timeout_ms;
	bool over = false;
	int r = blocking_check(p);

	if (r < 0)
		return r;
	if (!p->hello || !handle_is_up(p)) {
		r = call_submit(p, &p->main, "ping", NULL, 0, limit_ms, blocking_on_ping, &over, NULL);
		if (r < 0)
			return r;
		transport_flush(&p->main);
		while (!over)
			blocking_turn(p);
	}
	if (!handle_is_up(p))
		return p->lost;
	if (p->hello) {
		*answer = p->hello->value;
		return 0;
	}
	return handle_fail(p, -ETIMEDOUT, "deadline_exceeded", PYPOOL_MAYBE, "no answer to hello in time");
}

int pypool_ping(struct pypool *p, uint32_t timeout_ms)
{
	struct pypool_reply *reply;
	int r = pypool_call(p, "ping", (struct pypool_span){ 0 }, timeout_ms, &reply);

	if (r < 0)
		return r;
	(void)pypool_reply_free(reply);
	return 0;
}

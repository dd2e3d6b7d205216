/* The handle: its making and end, its last failure, and the non-blocking core that an event loop drives. */
#include "client/pypool.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "client/handle.h"

const char *pypool_version(void)
{
	return PYPOOL_VERSION;
}

uint64_t handle_now_ns(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts); /* cannot fail for this clock */
	return (uint64_t)ts.tv_sec * UINT64_C(1000000000) + (uint64_t)ts.tv_nsec;
}

int handle_fail(struct pypool *p, int number, const char *code, enum pypool_executed executed, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	answer_fail(p->last, number, code, executed, format, args);
	va_end(args);
	return number;
}

int handle_fail_reply(struct pypool *p, struct pypool_reply *reply)
{
	int number = reply->error.number;

	(void)pypool_reply_free(p->last);
	p->last = reply;
	return number;
}

int handle_check(struct pypool *p)
{
	int pid = getpid();

	if (pid == p->pid)
		return 0;
	return handle_fail(p, -EPERM, "wrong_process", PYPOOL_NEVER,
			   "this connection belongs to process %d; after fork() process %d must make its own", p->pid,
			   pid);
}

int pypool_new(struct pypool **pp)
{
	struct pypool *p;

	if (!pp)
		return -EINVAL;
	p = calloc(1, sizeof(*p));
	if (!p)
		return -ENOMEM;
	p->last = answer_new();
	if (!p->last) {
		free(p);
		return -ENOMEM;
	}
	p->last->failed = false;
	p->fd = -1;
	p->pid = getpid();
	p->next_id = 1;
	p->max_frame = FRAME_MAX_LIMIT;
	p->seed = handle_now_ns() ^ ((uint64_t)p->pid << 32);
	p->lost = -ENOTCONN;
	frame_reader_init(&p->reader, FRAME_PREFIXED, FRAME_MAX_LIMIT);
	*pp = p;
	return 0;
}

static void handle_deinit(struct pypool *p)
{
	if (p->fd >= 0)
		(void)close(p->fd); /* in a child: its copy of the number only */
	transport_deinit(p);
	calls_deinit(p);
	(void)pypool_reply_free(p->hello);
	(void)pypool_reply_free(p->last);
	free(p->name);
	free(p->path);
	free(p);
}

struct pypool *pypool_free(struct pypool *p)
{
	if (!p)
		return NULL;
	if (getpid() == p->pid) {
		if (p->delivering)
			return p;
		pypool_disconnect(p);
	}
	handle_deinit(p);
	return NULL;
}

int pypool_set_name(struct pypool *p, const char *name)
{
	size_t n = name ? strlen(name) : 0;
	char *copy;

	if (n < 1 || n > 255)
		return handle_fail(p, -EINVAL, "bad_argument", PYPOOL_NEVER, "a client's name has 1 to 255 bytes");
	copy = strdup(name);
	if (!copy)
		return handle_fail(p, -ENOMEM, "no_memory", PYPOOL_NEVER, "out of memory");
	free(p->name);
	p->name = copy;
	return 0;
}

void pypool_set_timeout(struct pypool *p, uint32_t timeout_ms)
{
	p->timeout_ms = timeout_ms > CLIENT_TIMEOUT_MAX ? CLIENT_TIMEOUT_MAX : timeout_ms;
}

void handle_lose(struct pypool *p, int number)
{
	if (!handle_is_up(p))
		return;
	if (p->fd >= 0)
		(void)close(p->fd); /* the socket's fate is sealed; nothing is left to report */
	p->fd = -1;
	p->retry_ns = 0;
	p->lost = number;
	calls_lose(p);
	transport_deinit(p);
}

void pypool_disconnect(struct pypool *p)
{
	if (handle_check(p) < 0)
		return;
	if (handle_is_up(p)) {
		(void)handle_fail(p, -ENOTCONN, "connection_lost", PYPOOL_NEVER,
				  "the connection was closed by this process");
		handle_lose(p, -ENOTCONN);
	}
	calls_deliver(p);
}

const struct pypool_error *pypool_last_error(const struct pypool *p)
{
	return &p->last->error;
}

size_t pypool_in_flight(const struct pypool *p)
{
	const struct call *call;
	size_t n = 0;

	for (call = p->in_flight; call; call = call->next)
		n += call->done && call->id != p->hello_id;
	for (call = p->answered; call; call = call->next)
		n += call->done && call->id != p->hello_id;
	return n;
}

int pypool_fd(const struct pypool *p)
{
	if (getpid() != p->pid)
		return -EPERM;
	if (p->fd >= 0)
		return p->fd;
	return p->retry_ns ? -EAGAIN : -ENOTCONN;
}

short pypool_events(const struct pypool *p)
{
	if (p->fd < 0)
		return 0;
	return p->out ? POLLIN | POLLOUT : POLLIN;
}

int pypool_timeout_ms(const struct pypool *p)
{
	uint64_t at = p->next_deadline_ns, now = handle_now_ns();

	if (p->answered)
		return 0;
	if (p->retry_ns && (!at || p->retry_ns < at))
		at = p->retry_ns;
	if (!at)
		return -1;
	if (at <= now)
		return 0;
	at = (at - now + 999999) / 1000000; /* up: waking a little early would spin */
	return at > INT32_MAX ? INT32_MAX : (int)at;
}

int pypool_dispatch(struct pypool *p)
{
	int r = handle_check(p);
	uint64_t now;

	if (r < 0)
		return r;
	if (p->delivering)
		return handle_fail(p, -EBUSY, "busy", PYPOOL_NEVER, "pypool_dispatch() was called inside a callback");
	connect_continue(p, handle_now_ns());
	transport_flush(p);
	transport_read(p); /* before looking at the time: an answer that lies ready wins over its deadline */
	now = handle_now_ns();
	calls_expire(p, now);
	calls_deliver(p);
	transport_flush(p); /* what callbacks submitted, cancels of expired calls */
	return handle_is_up(p) ? 0 : p->lost;
}

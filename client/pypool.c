/* The handle: its making and end, its last failure, and the non-blocking core that an event loop drives. */
#include "client/pypool.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/mman.h>
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

/* Each function asks whether it runs in a forked child, and getpid() costs a good part of what a direct call does. A
 * page that the kernel empties at fork() tells it for nothing; without one the kernel is asked. */
static void handle_make_mark(struct pypool *p)
{
	long size = sysconf(_SC_PAGESIZE);
	uint8_t *page;

	if (size <= 0)
		return;
	page = mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (page == MAP_FAILED)
		return;
	if (madvise(page, (size_t)size, MADV_WIPEONFORK) < 0) {
		(void)munmap(page, (size_t)size);
		return;
	}
	*page = 1;
	p->mark = page;
	p->mark_size = (size_t)size;
}

bool handle_is_ours(const struct pypool *p)
{
	return p->mark ? *p->mark : getpid() == p->pid;
}

int handle_check(struct pypool *p)
{
	if (handle_is_ours(p))
		return 0;
	return handle_fail(p, -EPERM, "wrong_process", PYPOOL_NEVER,
			   "this connection belongs to process %d; after fork() process %d must make its own", p->pid,
			   getpid());
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
	p->epoll = -1;
	p->pid = getpid();
	handle_make_mark(p);
	p->next_id = 1;
	p->max_frame = FRAME_MAX_LIMIT;
	p->seed = handle_now_ns() ^ ((uint64_t)p->pid << 32);
	p->lost = -ENOTCONN;
	transport_init(&p->main, p, NULL, -1);
	*pp = p;
	return 0;
}

static void handle_close_fds(struct pypool *p)
{
	while (p->n_fds > 0)
		(void)close(p->fds[--p->n_fds]); /* were never used */
	if (p->epoll >= 0)
		(void)close(p->epoll); /* in a child, as what follows: its copy of the number only */
	if (p->main.fd >= 0)
		(void)close(p->main.fd); /* the socket's fate is sealed; nothing is left to report */
	p->epoll = p->main.fd = -1;
}

static void handle_deinit(struct pypool *p)
{
	leases_deinit(p);
	handle_close_fds(p);
	transport_deinit(&p->main);
	calls_deinit(p);
	(void)pypool_reply_free(p->hello);
	(void)pypool_reply_free(p->last);
	free(p->name);
	free(p->path);
	if (p->mark)
		(void)munmap(p->mark, p->mark_size); /* our own page: cannot fail */
	free(p);
}

struct pypool *pypool_free(struct pypool *p)
{
	if (!p)
		return NULL;
	if (handle_is_ours(p)) {
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

void pypool_set_notify(struct pypool *p, pypool_notify *notify, void *data)
{
	p->notify = notify;
	p->notify_data = data;
}

void pypool_set_timeout(struct pypool *p, uint32_t timeout_ms)
{
	p->timeout_ms = timeout_ms > CLIENT_TIMEOUT_MAX ? CLIENT_TIMEOUT_MAX : timeout_ms;
}

void handle_lose(struct pypool *p, int number)
{
	if (!handle_is_up(p))
		return;
	watch_remove(&p->main);
	p->retry_ns = 0;
	p->lost = number;
	calls_lose(p);
	leases_lose(p);
	handle_close_fds(p);
	transport_deinit(&p->main);
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
	if (!handle_is_ours(p))
		return -EPERM;
	if (watch_is_on(p))
		return p->epoll;
	if (p->main.fd >= 0)
		return p->main.fd;
	return p->retry_ns ? -EAGAIN : -ENOTCONN;
}

short pypool_events(const struct pypool *p)
{
	if (watch_is_on(p))
		return POLLIN;
	if (p->main.fd < 0)
		return 0;
	return p->main.out ? POLLIN | POLLOUT : POLLIN;
}

int pypool_timeout_ms(const struct pypool *p)
{
	uint64_t at = p->next_deadline_ns, due = leases_due(p), now = handle_now_ns();

	if (p->answered)
		return 0;
	if (p->retry_ns && (!at || p->retry_ns < at))
		at = p->retry_ns;
	if (due && (!at || due < at))
		at = due;
	if (!at)
		return -1;
	if (at <= now)
		return 0;
	at = (at - now + 999999) / 1000000; /* up: waking a little early would spin */
	return at > INT32_MAX ? INT32_MAX : (int)at;
}

static void handle_flush(struct pypool *p)
{
	transport_flush(&p->main);
	leases_flush(p);
}

int handle_turn(struct pypool *p)
{
	uint64_t now;

	leases_bury(p);
	connect_continue(p, handle_now_ns());
	handle_flush(p);
	if (watch_is_on(p)) /* before looking at the time: an answer that lies ready wins over its deadline */
		watch_read(p);
	else
		transport_read(&p->main);
	now = handle_now_ns();
	calls_expire(p, now);
	leases_expire(p, now);
	calls_deliver(p);
	handle_flush(p); /* what callbacks submitted, cancels of expired calls */
	return handle_is_up(p) ? 0 : p->lost;
}

int pypool_dispatch(struct pypool *p)
{
	int r = handle_check(p);

	if (r < 0)
		return r;
	if (p->delivering)
		return handle_fail(p, -EBUSY, "busy", PYPOOL_NEVER, "pypool_dispatch() was called inside a callback");
	return handle_turn(p);
}

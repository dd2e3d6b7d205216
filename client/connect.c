/*
 * Getting a connection. connect(2) on a Unix socket never waits when the socket is non-blocking: EAGAIN says that the
 * backlog is full, ECONNREFUSED that nobody listens (yet). Both are tried again, with growing pauses and jitter so that
 * many clients do not come back together.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "client/handle.h"
#include "proto/pack.h"

#define CONNECT_PAUSE_MS 4
#define CONNECT_PAUSE_MAX_MS 200

/* ---- where ---- */

static char *connect_default_path(void)
{
	const char *path = secure_getenv("PYPOOL_SOCKET"), *run;
	char *out;

	if (path && *path)
		return strdup(path);
	run = geteuid() == 0 ? NULL : secure_getenv("XDG_RUNTIME_DIR");
	return asprintf(&out, "%s/pypoold/pypoold.sock", run && *run ? run : "/run") < 0 ? NULL : out;
}

static int connect_set_path(struct pypool *p, const char *path)
{
	char *copy = path ? strdup(path) : connect_default_path();

	if (!copy)
		return handle_fail(p, -ENOMEM, "no_memory", PYPOOL_NEVER, "out of memory");
	free(p->path);
	p->path = copy;
	if (strlen(copy) >= sizeof(((struct sockaddr_un *)NULL)->sun_path))
		return handle_fail(p, -ENAMETOOLONG, "cannot_connect", PYPOOL_NEVER,
				   "cannot connect to %s: a socket's path has at most 107 bytes", copy);
	return 0;
}

const char *pypool_path(const struct pypool *p)
{
	return p->path ? p->path : "";
}

/* ---- hello ---- */

static void connect_lose(struct pypool *p, const char *code, const char *message)
{
	(void)handle_fail(p, -EPROTO, "cannot_connect", PYPOOL_NEVER, "the daemon did not agree to protocol %d: %s: %s",
			  PYPOOL_PROTOCOL, code, message);
	handle_lose(p, -EPROTO);
}

static void connect_on_hello(struct pypool *p, struct pypool_reply *reply, void *data)
{
	struct pypool_span value;
	int64_t max_frame;

	(void)data; /* nothing but p is needed */
	if (reply->failed) {
		if (reply->error.number == -EREMOTEIO)
			connect_lose(p, reply->error.code, reply->error.message);
		(void)pypool_reply_free(reply);
		return;
	}
	(void)pypool_reply_free(p->hello);
	p->hello = reply;
	if (pypool_get_key(reply->value, "max_frame", &value) == 0 && pypool_get_int(value, &max_frame) == 0 &&
	    max_frame > 0 && max_frame < FRAME_MAX_LIMIT)
		p->max_frame = (uint32_t)max_frame;
}

static int connect_say_hello(struct pypool *p)
{
	struct scratch s = { 0 };
	struct span params;
	msgpack_packer pk;

	msgpack_packer_init(&pk, &s, scratch_write);
	msgpack_pack_map(&pk, p->name ? 2 : 1);
	pack_kv_uint(&pk, "protocol", PYPOOL_PROTOCOL);
	if (p->name)
		pack_kv_text(&pk, "client", p->name);
	params = scratch_span(&s);
	return call_submit(p, &p->main, "hello", &params, 1, 0, connect_on_hello, NULL, &p->hello_id);
}

static int connect_begin(struct pypool *p)
{
	int r = handle_check(p);

	if (r < 0)
		return r;
	if (handle_is_up(p))
		return handle_fail(p, -EISCONN, "bad_argument", PYPOOL_NEVER, "already connected");
	p->hello = pypool_reply_free(p->hello);
	p->max_frame = FRAME_MAX_LIMIT;
	p->lost = -ENOTCONN;
	return 0;
}

/* ---- attempts ---- */

/* A connected socket, or a negative errno. */
static int connect_try(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd, r;

	(void)snprintf(address.sun_path, sizeof(address.sun_path), "%s", path); /* its length was checked */
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0)
		return fd;
	r = -errno;
	(void)close(fd); /* was never connected */
	return r;
}

/* Between half the pause and all of it. xorshift: good enough to spread clients. */
static uint64_t connect_jitter_ns(struct pypool *p)
{
	uint64_t half_ns = (uint64_t)p->pause_ms * 500000;

	p->seed ^= p->seed << 13;
	p->seed ^= p->seed >> 7;
	p->seed ^= p->seed << 17;
	return half_ns + p->seed % half_ns;
}

static void connect_give_up(struct pypool *p, int r)
{
	bool full = r == -EAGAIN;
	int number = full ? -ETIMEDOUT : r;

	(void)handle_fail(p, number, "cannot_connect", PYPOOL_NEVER, "cannot connect to %s: %s", p->path,
			  full ? "the daemon's backlog is full" : strerrordesc_np(-r));
	handle_lose(p, number);
}

void connect_continue(struct pypool *p, uint64_t now_ns)
{
	int r;

	if (!p->retry_ns || now_ns < p->retry_ns)
		return;
	r = connect_try(p->path);
	if (r >= 0) {
		p->main.fd = r;
		p->retry_ns = 0;
		return;
	}
	if ((r != -EAGAIN && r != -ECONNREFUSED && r != -EINTR) || now_ns >= p->give_up_ns) {
		connect_give_up(p, r);
		return;
	}
	p->retry_ns = now_ns + connect_jitter_ns(p);
	if (p->retry_ns > p->give_up_ns)
		p->retry_ns = p->give_up_ns; /* one last attempt exactly then */
	p->pause_ms = p->pause_ms * 2 > CONNECT_PAUSE_MAX_MS ? CONNECT_PAUSE_MAX_MS : p->pause_ms * 2;
}

int pypool_connect_start(struct pypool *p, const char *path, uint32_t timeout_ms)
{
	uint64_t now = handle_now_ns();
	int r = connect_begin(p);

	if (r < 0)
		return r;
	r = connect_set_path(p, path);
	if (r < 0)
		return r;
	p->retry_ns = now;
	p->give_up_ns = now + (uint64_t)timeout_ms * 1000000;
	p->pause_ms = CONNECT_PAUSE_MS;
	r = connect_say_hello(p);
	if (r < 0) {
		handle_lose(p, -ENOTCONN);
		return r;
	}
	connect_continue(p, now);
	if (handle_is_up(p)) {
		transport_flush(&p->main);
		return 0;
	}
	calls_deliver(p);
	return p->lost;
}

int pypool_attach(struct pypool *p, int fd)
{
	int r = connect_begin(p);

	if (r < 0) {
		(void)close(fd); /* was handed to us */
		return r;
	}
	p->main.fd = fd;
	r = connect_say_hello(p);
	if (r < 0) {
		handle_lose(p, -ENOTCONN);
		return r;
	}
	transport_flush(&p->main);
	return 0;
}

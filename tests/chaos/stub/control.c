#include "tests/chaos/stub/control.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "proto/envelope.h"
#include "proto/pack.h"
#include "tests/chaos/stub/log.h"
#include "tests/chaos/stub/params.h"
#include "tests/chaos/stub/stub.h"

void control_tell(const char *name, const char *key, uint64_t value)
{
	msgpack_sbuffer buf;
	msgpack_packer pk;

	msgpack_sbuffer_init(&buf);
	msgpack_packer_init(&pk, &buf, msgpack_sbuffer_write);
	msgpack_pack_array(&pk, 3);
	msgpack_pack_int(&pk, ENVELOPE_NOTIFICATION);
	pack_text(&pk, name);
	msgpack_pack_array(&pk, 1);
	msgpack_pack_map(&pk, 6);
	pack_kv_bool(&pk, "session_close", true); /* of ready; the others do not mind */
	pack_kv_uint(&pk, key, value);
	pack_kv_uint(&pk, "pid", (uint64_t)getpid());
	pack_kv_text(&pk, "python", "3.0.0");
	pack_kv_text(&pk, "codec", "c");
	pack_kv_uint(&pk, "t_ns", log_now_ns());
	if (send(FD_CONTROL, buf.data, buf.size, MSG_NOSIGNAL) < 0)
		_exit(1);
	msgpack_sbuffer_destroy(&buf);
}

/* One message, and the fd that came with it, or -1. */
static ssize_t read_control(void *buf, size_t size, int *fd)
{
	char control[CMSG_SPACE(sizeof(int))];
	struct iovec iov = { .iov_base = buf, .iov_len = size };
	struct msghdr m = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)
	};
	ssize_t n = recvmsg(FD_CONTROL, &m, MSG_CMSG_CLOEXEC);

	*fd = -1;
	if (n > 0 && CMSG_FIRSTHDR(&m))
		memcpy(fd, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof(int));
	return n;
}

void control_serve(struct stub *s)
{
	uint8_t buf[64 * 1024];
	int fd;
	ssize_t n = read_control(buf, sizeof(buf), &fd);
	struct envelope e;
	struct complaint c;

	if (n < 0 && errno == EINTR)
		return;
	if (n <= 0)
		_exit(1);
	if (!envelope_parse((struct span){ .p = buf, .len = (size_t)n }, &e, &c))
		_exit(8);
	if (span_equals(e.method, "init"))
		s->worker = params_uint(e.params, "worker");
	else if (span_equals(e.method, "ping"))
		control_tell("pong", "seq", params_uint(e.params, "seq"));
	else if (span_equals(e.method, "channel"))
		s->channel = fd;
	else if (span_equals(e.method, "forget"))
		session_forget(s, params_uint(e.params, "session"), params_uint(e.params, "send"));
	else if (span_equals(e.method, "stop"))
		_exit(0);
}

/*
 * Preloaded into a daemon under valgrind, which (3.19) knows no pidfds: the two calls that make and use them are made
 * outside of valgrind, by tests/support/pidfds.py, whose socket is PYPOOL_PIDFDS. Polling, waiting and closing work there.
 * And valgrind keeps the hard limit of open files for itself, so that a worker's is not set.
 */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/un.h>
#include <unistd.h>

struct request {
	int32_t pid;    /* whose pidfd is wanted, when no fd comes with it */
	int32_t signal; /* to be sent by the fd that comes with it */
};

union control {
	struct cmsghdr align;
	char space[CMSG_SPACE(sizeof(int))];
};

static int ask_connect(void)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	const char *path = getenv("PYPOOL_PIDFDS");
	int fd;

	if (!path || strlen(path) >= sizeof(sa.sun_path))
		abort();
	strcpy(sa.sun_path, path);
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -1;
	if (connect(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0)
		abort();
	return fd;
}

static void ask_send(int to, struct request r, int fd)
{
	struct iovec iov = { .iov_base = &r, .iov_len = sizeof(r) };
	union control control;
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };

	memset(&control, 0, sizeof(control));
	if (fd >= 0) {
		m.msg_control = &control;
		m.msg_controllen = sizeof(control);
		*CMSG_FIRSTHDR(&m) = (struct cmsghdr){ CMSG_LEN(sizeof(fd)), SOL_SOCKET, SCM_RIGHTS };
		memcpy(CMSG_DATA(CMSG_FIRSTHDR(&m)), &fd, sizeof(fd));
	}
	if (sendmsg(to, &m, MSG_NOSIGNAL) != sizeof(r))
		abort();
}

/* An errno, or 0 and perhaps an fd. */
static int32_t ask_receive(int from, int *fdp)
{
	int32_t error = 0;
	struct iovec iov = { .iov_base = &error, .iov_len = sizeof(error) };
	union control control;
	struct msghdr m = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)
	};

	memset(&control, 0, sizeof(control));
	if (recvmsg(from, &m, MSG_CMSG_CLOEXEC) != sizeof(error))
		abort();
	if (CMSG_FIRSTHDR(&m))
		memcpy(fdp, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof(*fdp));
	return error;
}

static int ask(struct request r, int fd)
{
	int s = ask_connect(), got = 0;
	int32_t error;

	if (s < 0)
		return -1;
	ask_send(s, r, fd);
	error = ask_receive(s, &got);
	(void)close(s);
	errno = error;
	return error ? -1 : got;
}

int pidfd_open(pid_t pid, unsigned int flags)
{
	(void)flags;
	return ask((struct request){ .pid = pid }, -1);
}

int pidfd_send_signal(int pidfd, int signal, void *info, unsigned int flags)
{
	(void)info;
	(void)flags;
	return ask((struct request){ .signal = signal }, pidfd);
}

int setrlimit(__rlimit_resource_t resource, const struct rlimit *limit)
{
	return resource == RLIMIT_NOFILE ? 0 : (int)syscall(SYS_prlimit64, 0, resource, limit, NULL);
}

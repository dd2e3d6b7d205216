#include "tests/bench/frames.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define SOCKET_BUFFER (1024 * 1024) /* as the daemon's call sockets have it */

void die(const char *what)
{
	perror(what);
	exit(1);
}

void frames_init(struct frames *f, int fd)
{
	*f = (struct frames){ .fd = fd, .room = 64 * 1024 };
	f->buf = malloc(f->room);
	if (!f->buf)
		die("malloc");
}

static size_t frame_length(const uint8_t *p)
{
	return 4 + ((size_t)p[0] << 24 | (size_t)p[1] << 16 | (size_t)p[2] << 8 | p[3]);
}

uint8_t *frames_next(struct frames *f, size_t *len)
{
	uint8_t *p = f->buf + f->start;
	size_t have = f->end - f->start;

	if (have < 4 || have < frame_length(p)) {
		size_t need = have < 4 ? 4 : frame_length(p);

		memmove(f->buf, p, have);
		f->start = 0;
		f->end = have;
		if (need > f->room) {
			f->room = need;
			f->buf = realloc(f->buf, need);
			if (!f->buf)
				die("realloc");
		}
		return NULL;
	}
	*len = frame_length(p);
	f->start += *len;
	if (f->start == f->end)
		f->start = f->end = 0;
	return p;
}

int frames_fill(struct frames *f)
{
	ssize_t n;

	do {
		n = read(f->fd, f->buf + f->end, f->room - f->end);
	} while (n < 0 && errno == EINTR);
	if (n < 0 && errno == EAGAIN)
		return 1;
	if (n < 0)
		die("read");
	f->end += (size_t)n;
	return n > 0;
}

void put_all(int fd, const void *p, size_t len)
{
	const uint8_t *at = p;

	while (len) {
		ssize_t n = send(fd, at, len, MSG_NOSIGNAL);

		if (n < 0 && errno == EAGAIN) {
			(void)poll(&(struct pollfd){ .fd = fd, .events = POLLOUT }, 1, -1);
			continue;
		}
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			die("send");
		at += n;
		len -= (size_t)n;
	}
}

int spawn_bare_worker(const char *python, const char *script)
{
	const int size = SOCKET_BUFFER;
	int fds[2];
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
		die("socketpair");
	(void)setsockopt(fds[0], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	(void)setsockopt(fds[1], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	pid = fork();
	if (pid < 0)
		die("fork");
	if (pid == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (fds[1] == 3)
			(void)fcntl(3, F_SETFD, 0);
		else if (dup2(fds[1], 3) < 0)
			_exit(127);
		(void)execl(python, python, script, (char *)NULL);
		_exit(127);
	}
	(void)close(fds[1]);
	return fds[0];
}

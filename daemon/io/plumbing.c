#include "daemon/io/plumbing.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/base/cleanup.h"

#define CALLS_BUFFER (1024 * 1024) /* large frames need fewer wake-ups */

void plumbing_close(struct plumbing *pl)
{
	for (unsigned i = 0; i < PLUMB_N; i++) {
		cleanup_close(&pl->ours[i]);
		cleanup_close(&pl->theirs[i]);
	}
	if (pl->page)
		(void)munmap(pl->page, PLUMBING_PAGE_BYTES); /* a mapping of our own */
}

static int fd_set_nonblocking(int fd)
{
	int flags = fcntl(fd, F_GETFL);

	return flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 ? -errno : 0;
}

/* Only our end is non-blocking: the two ends are two descriptions. */
static int plumbing_pipe(struct plumbing *pl, enum plumb which, int flags)
{
	int fds[2];

	if (pipe2(fds, O_CLOEXEC | flags) < 0)
		return -errno;
	pl->ours[which] = fds[0];
	pl->theirs[which] = fds[1];
	return fd_set_nonblocking(fds[0]);
}

static int plumbing_socket(struct plumbing *pl, enum plumb which, int type)
{
	int fds[2];

	if (socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, fds) < 0)
		return -errno;
	pl->ours[which] = fds[0];
	pl->theirs[which] = fds[1];
	return fd_set_nonblocking(fds[0]);
}

void *plumbing_map(int page_fd)
{
	void *page = mmap(NULL, PLUMBING_PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, page_fd, 0);

	return page == MAP_FAILED ? NULL : page;
}

/* The page can be neither cut, which would kill the daemon on its next write, nor grown. */
static int plumbing_page(struct plumbing *pl)
{
	int fd = memfd_create("pypoold-page", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	void *page;

	if (fd < 0)
		return -errno;
	pl->theirs[PLUMB_PAGE] = fd;
	if (ftruncate(fd, PLUMBING_PAGE_BYTES) < 0)
		return -errno;
	if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
		return -errno;
	page = plumbing_map(fd);
	if (!page)
		return -errno;
	pl->page = page;
	return 0;
}

int plumbing_open_calls(struct plumbing *pl)
{
	const int size = CALLS_BUFFER;
	int r = plumbing_socket(pl, PLUMB_CALLS, SOCK_STREAM);

	if (r < 0)
		return r;
	/* a wish: the kernel may allow less */
	(void)setsockopt(pl->ours[PLUMB_CALLS], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	(void)setsockopt(pl->theirs[PLUMB_CALLS], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	return 0;
}

int plumbing_open(struct plumbing *pl)
{
	int r;

	pl->theirs[PLUMB_STDIN] = open("/dev/null", O_RDONLY | O_CLOEXEC);
	if (pl->theirs[PLUMB_STDIN] < 0)
		return -errno;
	if ((r = plumbing_pipe(pl, PLUMB_STDOUT, 0)) < 0 || (r = plumbing_pipe(pl, PLUMB_STDERR, 0)) < 0 ||
	    (r = plumbing_open_calls(pl)) < 0 || (r = plumbing_socket(pl, PLUMB_CONTROL, SOCK_SEQPACKET)) < 0 ||
	    (r = plumbing_pipe(pl, PLUMB_DUMP, O_NONBLOCK)) < 0)
		return r;
	return plumbing_page(pl);
}

int plumbing_connect(struct plumbing *pl, struct process *p)
{
	p->out.fd = TAKE_FD(pl->ours[PLUMB_STDOUT]);
	p->err.fd = TAKE_FD(pl->ours[PLUMB_STDERR]);
	p->control.fd = TAKE_FD(pl->ours[PLUMB_CONTROL]);
	p->dump.fd = TAKE_FD(pl->ours[PLUMB_DUMP]);
	p->page_fd = TAKE_FD(pl->theirs[PLUMB_PAGE]);
	p->page = TAKE_PTR(pl->page);
	return TAKE_FD(pl->ours[PLUMB_CALLS]);
}

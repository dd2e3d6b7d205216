#include "daemon/vigil.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "daemon/base/cleanup.h"
#include "daemon/base/log.h"
#include "daemon/base/mem.h"
#include "daemon/io/leftovers.h"
#include "daemon/io/systemd.h"

#define LOCK SYSTEMD_STORED "lock"

/* In the first RuntimeDirectory= of the unit; NULL: it has none. */
static char *lock_path(void)
{
	const char *dirs = getenv("RUNTIME_DIRECTORY");

	return dirs && *dirs ? mem_printf("%.*s/kept.lock", (int)strcspn(dirs, ":"), dirs) : NULL;
}

/* Always a new file: nobody else holds its lock. Without the file nobody keeps vigil, which would find the lock free. */
static int lock_new(const char *path)
{
	_cleanup_close_ int fd = -1;
	int r;

	(void)unlink(path); /* most likely there is none */
	fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0)
		return TAKE_FD(fd);
	r = errno;
	(void)unlink(path);
	LOG(WARN, "vigil.no_lock", KV("path", path), KV("errno", r));
	return -1;
}

int vigil_lock(struct named_fds *left)
{
	_cleanup_free_ char *path = lock_path();
	int fd = named_fds_take(left, LOCK);

	if (fd >= 0 || !path)
		return fd;
	fd = lock_new(path);
	if (fd >= 0)
		systemd_store(LOCK, &fd, 1);
	return fd;
}

void vigil_unlock(int fd)
{
	_cleanup_free_ char *path = lock_path();

	if (path)
		(void)unlink(path);
	systemd_unstore(LOCK);
	cleanup_close(&fd);
}

static void keep_vigil(const char *path)
{
	_cleanup_(leftovers_deinit) struct leftovers all = { 0 };
	_cleanup_close_ int fd = open(path, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
	int r;

	if (fd < 0)
		return;
	(void)setsid(); /* a child is no leader yet */
	leftovers_find(&all);
	while ((r = flock(fd, LOCK_EX)) < 0 && errno == EINTR)
		;
	if (r == 0)
		leftovers_kill_found(&all);
}

void vigil_begin(void)
{
	_cleanup_free_ char *path = lock_path();
	pid_t pid = path ? fork() : -1;

	if (pid != 0)
		return; /* without it what does not end by itself is left until the next start */
	keep_vigil(path);
	_exit(EXIT_SUCCESS);
}

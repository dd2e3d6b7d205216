#include "daemon/front/descent.h"

#include <poll.h>
#include <sys/pidfd.h>
#include <unistd.h>

#include "daemon/base/cleanup.h"
#include "daemon/io/mark.h"
#include "daemon/io/procfs.h"
#include "daemon/io/systemd.h"
#include "daemon/io/unit.h"

/* Orphans of workers are the daemon's own children: it is a subreaper. A process whose parents cannot be seen is none of
 * them, if it is root's and the daemon is not: a worker that becomes root has no need to ask us. pid 0: it is outside of
 * our pid namespace, where no child of ours gets. */
static bool may_be_descendant(pid_t pid, uid_t uid)
{
	const pid_t self = getpid();

	while (pid > 1) {
		pid = procfs_parent(pid);
		if (pid == self)
			return true;
		if (pid < 0)
			return uid != 0 || geteuid() == 0;
	}
	return false;
}

/* Workers that another daemon has started are no children of this one, nor are their orphans. Their marks tell, and of one that has
 * removed it the unit that it is in. Root has business there that is no worker's: ExecReload=. */
static bool may_be_taken_up(pid_t pid, uid_t uid)
{
	struct unit own;

	if (mark_read(pid))
		return true;
	return uid != 0 && systemd_has_store() && unit_own(&own) && unit_has(&own, pid);
}

/* Its number is nobody else's while it runs. As another user it is looked at again. */
static bool is_known_stranger(const struct descent *d, pid_t pid, uid_t uid)
{
	struct pollfd ended = { .fd = d->pidfd, .events = POLLIN };

	return d->pidfd >= 0 && d->pid == pid && d->uid == uid && poll(&ended, 1, 0) == 0;
}

void descent_deinit(struct descent *d)
{
	cleanup_close(&d->pidfd);
	d->pidfd = -1;
}

static bool may_be_ours(pid_t pid, uid_t uid)
{
	return may_be_descendant(pid, uid) || may_be_taken_up(pid, uid);
}

/* It is looked at once more behind its pidfd, as the number may have passed to another one before that. Where there are no
 * descriptors to do so, it is not remembered. */
static void remember_stranger(struct descent *d, pid_t pid, uid_t uid)
{
	bool comes_again = d->pidfd < 0 && d->pid == pid && d->uid == uid;

	descent_deinit(d);
	*d = (struct descent){ .pidfd = comes_again ? pidfd_open(pid, 0) : -1, .pid = pid, .uid = uid };
	if (d->pidfd >= 0 && may_be_ours(pid, uid))
		descent_deinit(d);
}

bool descent_is_ours(struct descent *d, pid_t pid, uid_t uid)
{
	if (is_known_stranger(d, pid, uid))
		return false;
	if (may_be_ours(pid, uid))
		return true;
	remember_stranger(d, pid, uid);
	return false;
}

/* Does a daemon answer at the socket, and if not, which of the many reasons is it? */
#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "client/ctl/doctor.h"

#define CHECK "socket"
#define NAME_MAX_BYTES 64

/* ---- words */

static const char *user_name(uid_t uid, char out[NAME_MAX_BYTES])
{
	const struct passwd *user = getpwuid(uid);

	if (user)
		(void)snprintf(out, NAME_MAX_BYTES, "%s", user->pw_name); /* a cut name is still one */
	else
		(void)snprintf(out, NAME_MAX_BYTES, "%u", uid);
	return out;
}

static const char *group_name(gid_t gid, char out[NAME_MAX_BYTES])
{
	const struct group *group = getgrgid(gid);

	if (group)
		(void)snprintf(out, NAME_MAX_BYTES, "%s", group->gr_name); /* as above */
	else
		(void)snprintf(out, NAME_MAX_BYTES, "%u", gid);
	return out;
}

/* "PATH (0660 root:pypool)" */
static char *describe(const char *path, const struct stat *st)
{
	char user[NAME_MAX_BYTES], group[NAME_MAX_BYTES], *s;

	if (asprintf(&s, "%s (%04o %s:%s)", path, st->st_mode & 07777, user_name(st->st_uid, user), group_name(st->st_gid, group)) < 0)
		return NULL;
	return s;
}

/* ---- the directories above it */

/* Of path, "/" first; `one` is asked until it says that it has found something. */
static bool each_directory(struct doctor *d, const char *path, bool (*one)(struct doctor *d, const char *dir))
{
	char *copy = strdup(path);
	bool found = false;

	for (char *slash = copy; slash && !found && (slash = strchr(slash, '/')); slash++) {
		*slash = '\0';
		found = one(d, *copy ? copy : "/");
		*slash = '/';
	}
	free(copy);
	return found;
}

static bool tell_closed(struct doctor *d, const char *dir)
{
	struct stat st;
	char *what;

	if (access(dir, X_OK) == 0 || stat(dir, &st) < 0)
		return false;
	what = describe(dir, &st);
	doctor_tell(d, DOCTOR_ERROR, CHECK, NULL, "the directory %s is closed to uid %u", what ? what : dir, geteuid());
	doctor_advise(d, "Open it to those who use the daemon (RuntimeDirectoryMode=0755 in the unit), or run this as root.");
	free(what);
	return true;
}

static bool tell_missing(struct doctor *d, const char *dir)
{
	if (access(dir, F_OK) == 0 || errno != ENOENT)
		return false;
	doctor_tell(d, DOCTOR_ERROR, CHECK, NULL, "there is no directory %s: the daemon does not run, or listens elsewhere", dir);
	return true;
}

/* Who may write there can put a socket of their own in this one's place. */
static bool tell_open(struct doctor *d, const char *dir)
{
	struct stat st;

	if (stat(dir, &st) < 0 || !(st.st_mode & S_IWOTH) || (st.st_mode & S_ISVTX))
		return false;
	doctor_tell(d, DOCTOR_WARNING, CHECK, NULL, "everybody may put another socket in its place: %s has mode %04o", dir,
		    st.st_mode & 07777);
	doctor_advise(d, "chmod o-w %s", dir);
	return true;
}

/* ---- reasons */

static void advise_start(struct doctor *d)
{
	doctor_advise(d, "Start it: systemctl start pypoold, or pypoold --config FILE.\n"
			 "If it listens elsewhere: --socket PATH, or PYPOOL_SOCKET in the environment.");
}

static bool is_in_group(gid_t gid)
{
	gid_t groups[1024];
	int n = getgroups((int)(sizeof(groups) / sizeof(groups[0])), groups);

	for (int i = 0; i < n; i++) {
		if (groups[i] == gid)
			return true;
	}
	return getegid() == gid;
}

/* In the database, though perhaps not since this session began. */
static bool is_member(gid_t gid)
{
	const struct passwd *me = getpwuid(geteuid());
	const struct group *group = getgrgid(gid);

	for (char **member = group ? group->gr_mem : NULL; me && member && *member; member++) {
		if (strcmp(*member, me->pw_name) == 0)
			return true;
	}
	return false;
}

static void tell_forbidden(struct doctor *d, const char *path)
{
	char user[NAME_MAX_BYTES], group[NAME_MAX_BYTES], *what;
	struct stat st;

	if (each_directory(d, path, tell_closed))
		return;
	if (stat(path, &st) < 0) {
		doctor_tell(d, DOCTOR_ERROR, CHECK, NULL, "%s may not be looked at: %s", path, strerror(errno));
		return;
	}
	what = describe(path, &st);
	doctor_tell(d, DOCTOR_ERROR, CHECK, NULL, "%s may not be used by uid %u", what ? what : path, geteuid());
	free(what);
	(void)user_name(geteuid(), user), (void)group_name(st.st_gid, group);
	if (!(st.st_mode & S_IWGRP))
		doctor_advise(d, "Open it to a group: socket_mode and socket_group in the configuration, SocketMode and SocketGroup in "
				 "the socket unit.");
	else if (!is_in_group(st.st_gid) && is_member(st.st_gid))
		doctor_advise(d, "%s is a member of %s, but not since this session began: log in again.", user, group);
	else
		doctor_advise(d, "usermod --append --groups %s %s, then log in again.", group, user);
}

static void tell_refused(struct doctor *d, const char *path)
{
	struct stat st;

	if (stat(path, &st) == 0 && !S_ISSOCK(st.st_mode)) {
		doctor_tell(d, DOCTOR_ERROR, CHECK, NULL, "%s is no socket", path);
		doctor_advise(d, "Name the daemon's: --socket PATH, or PYPOOL_SOCKET in the environment.");
		return;
	}
	doctor_tell(d, DOCTOR_ERROR, CHECK, NULL, "%s is stale: nobody listens there any more", path);
	doctor_advise(d, "Start the daemon: it takes the place of a stale socket.");
}

static void tell_why(struct doctor *d, const char *path, int r)
{
	if (r == -ENOENT || r == -ENOTDIR) {
		if (!each_directory(d, path, tell_missing))
			doctor_tell(d, DOCTOR_ERROR, CHECK, NULL,
				    "there is no socket %s: the daemon does not run, or listens elsewhere", path);
		advise_start(d);
	} else if (r == -EACCES) {
		tell_forbidden(d, path);
	} else if (r == -ECONNREFUSED) {
		tell_refused(d, path);
	} else if (r == -ETIMEDOUT) {
		doctor_tell(d, DOCTOR_ERROR, CHECK, NULL, "the daemon at %s does not answer: its loop hangs, or its backlog is full", path);
		doctor_advise(d, "Look at its log, and at what it does: strace -p PID. WatchdogSec= in the unit restarts one that hangs;\n"
				 "pypoold-admin.socket has a backlog for admins.");
	} else {
		doctor_tell(d, DOCTOR_ERROR, CHECK, NULL, "%s", pypool_error_message(pypool_last_error(d->ctl->pool)));
		advise_start(d);
	}
}

static void tell_reached(struct doctor *d, const char *path)
{
	struct stat st;
	char *what = stat(path, &st) == 0 ? describe(path, &st) : NULL;

	d->reached = true;
	doctor_tell(d, DOCTOR_OK, CHECK, NULL, "%s answers", what ? what : path);
	free(what);
	(void)each_directory(d, path, tell_open);
}

void doctor_check_socket(struct doctor *d)
{
	struct ctl *ctl = d->ctl;
	struct pypool_span hello;
	int r;

	if (pypool_new(&ctl->pool) < 0) {
		doctor_tell(d, DOCTOR_ERROR, CHECK, NULL, "out of memory");
		return;
	}
	r = pypool_set_name(ctl->pool, "pypoolctl");
	if (r == 0)
		r = pypool_connect(ctl->pool, ctl->socket, 0);
	if (r == 0)
		r = pypool_hello(ctl->pool, &hello, CTL_CONNECT_MS);
	if (r == 0)
		tell_reached(d, pypool_path(ctl->pool));
	else
		tell_why(d, pypool_path(ctl->pool), r);
}

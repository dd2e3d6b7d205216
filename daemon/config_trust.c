#include "daemon/config_trust.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "daemon/base/cleanup.h"
#include "daemon/base/mem.h"

static bool owner_is_trusted(const struct config_trust *trust, uid_t uid)
{
	if (uid == 0)
		return true;
	for (unsigned i = 0; i < trust->n_uids; i++) {
		if (trust->uids[i] == uid)
			return true;
	}
	return false;
}

static bool check_one(const struct config_trust *trust, const char *path, bool is_parent, char *why, size_t size)
{
	struct stat st;
	bool kept;

	if (stat(path, &st) < 0)
		return true;
	kept = is_parent && (st.st_mode & S_ISVTX);
	if (!owner_is_trusted(trust, st.st_uid))
		(void)snprintf(why, size, "%s belongs to uid %u", path, (unsigned)st.st_uid); /* may be cut */
	else if ((st.st_mode & S_IWOTH) && !kept && !S_ISCHR(st.st_mode))
		(void)snprintf(why, size, "everybody can write to %s", path); /* may be cut */
	else if ((st.st_mode & S_IWGRP) && !kept && st.st_gid != 0 && st.st_gid != trust->gid)
		(void)snprintf(why, size, "gid %u can write to %s", (unsigned)st.st_gid, path); /* may be cut */
	else
		return true;
	return false;
}

/* path and its parents by name; /dev/null and its like may be writable: nothing stays there. */
static bool check_way(const struct config_trust *trust, const char *path, char *why, size_t size)
{
	_cleanup_free_ char *copy = mem_strdup(path);
	bool is_parent = false;

	for (;;) {
		char *slash;

		if (!check_one(trust, *copy ? copy : "/", is_parent, why, size))
			return false;
		slash = strrchr(copy, '/');
		if (!*copy || !slash)
			return true;
		*slash = '\0';
		is_parent = true;
	}
}

bool config_trust_check(const struct config_trust *trust, const char *path, char *why, size_t size)
{
	_cleanup_free_ char *real = realpath(path, NULL);

	/* where the links are, too: who can replace a link decides where it leads */
	return check_way(trust, path, why, size) && (!real || check_way(trust, real, why, size));
}

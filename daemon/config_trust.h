/*
 * When the daemon is root: may a file decide what root does, or run as root? Only if nobody but root, or who is trusted
 * anyway, can write to it or replace it.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct config_trust {
	uid_t uids
		[3]; /* besides root: the pool's own user, and the owner of python_worker/, which runs in every worker */
	unsigned n_uids;
	gid_t gid; /* besides root's: the pool's own group; 0 for none */
};

/* Checks what is at path, following links, and each directory on the way. A directory with the sticky bit may be writable
 * by all when something in it is meant (nobody can replace that), not when it is meant itself. What does not exist is not
 * complained about. False: why is filled in. */
bool config_trust_check(const struct config_trust *trust, const char *path, char *why, size_t size);

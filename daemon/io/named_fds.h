/*
 * Files that were open before this process began, under the names that whoever opened them gave: listening sockets from systemd, and
 * what a daemon before this one has left. Several may have the same name.
 */
#pragma once

#include <stddef.h>

struct named_fd {
	char *name; /* owns */
	int fd;     /* owns; -1 once it is taken */
};

struct named_fds {
	struct named_fd *all; /* owns */
	size_t n;
};

/* Takes the fd; copies the name. */
void named_fds_add(struct named_fds *s, const char *name, int fd);
/* One of that name that is not taken yet, the caller's from then on; -1: there is none. */
int named_fds_take(struct named_fds *s, const char *name);
/* Closes what is still there. */
void named_fds_deinit(struct named_fds *s);

#include "daemon/io/remains.h"

#include <sys/stat.h>

#include <stdlib.h>
#include <string.h>

#include "daemon/base/cleanup.h"

static struct remains_file file_of(int fd)
{
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return (struct remains_file){ 0 };
	return (struct remains_file){ .dev = st.st_dev, .inode = st.st_ino };
}

static bool file_is(const struct remains_file *f, int fd)
{
	struct remains_file it = file_of(fd);

	return f->inode && it.dev == f->dev && it.inode == f->inode;
}

void remains_of(struct remains *r, const struct process *p, int fds[PROCESS_FDS], unsigned *n)
{
	int all[PROCESS_FDS];

	process_fds(p, all);
	r->pid = p->pid;
	*n = 0;
	for (unsigned i = 0; i < PROCESS_FDS; i++) {
		r->files[i] = file_of(all[i]);
		if (r->files[i].inode)
			fds[(*n)++] = all[i];
	}
}

/* All pidfds may have one inode between them: each process has one only. */
static int take_file(const struct remains_file *f, struct named_fds *left, const char *name)
{
	for (size_t i = 0; i < left->n; i++) {
		struct named_fd *it = &left->all[i];

		if (it->fd >= 0 && strcmp(it->name, name) == 0 && file_is(f, it->fd))
			return TAKE_FD(it->fd);
	}
	return -1;
}

bool remains_find(const struct remains *r, struct named_fds *left, const char *name, int fds[PROCESS_FDS])
{
	bool whole = true;

	for (unsigned i = 0; i < PROCESS_FDS; i++) {
		fds[i] = take_file(&r->files[i], left, name);
		whole &= fds[i] >= 0 || i >= PROCESS_FD_OUT;
	}
	for (unsigned i = 0; i < PROCESS_FDS && !whole; i++) {
		cleanup_close(&fds[i]);
		fds[i] = -1;
	}
	return whole;
}

/* The second implementation of daemon/io/remains.h, but for remains_find(), which is the business of sim_keeper.c. */
#include "daemon/io/remains.h"

#include "tests/sim/sim_loop.h"

static struct remains_file file_of(const struct process *p, int fd)
{
	const struct sim_file *file = sim_fd_file(p->loop, fd);

	return file ? (struct remains_file){ .dev = 1, .inode = file->inode } : (struct remains_file){ 0 };
}

void remains_of(struct remains *r, const struct process *p, int fds[PROCESS_FDS], unsigned *n)
{
	int all[PROCESS_FDS];

	process_fds(p, all);
	r->pid = p->pid;
	*n = 0;
	for (unsigned i = 0; i < PROCESS_FDS; i++) {
		r->files[i] = file_of(p, all[i]);
		if (r->files[i].inode)
			fds[(*n)++] = all[i];
	}
}

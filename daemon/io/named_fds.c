#include "daemon/io/named_fds.h"

#include <string.h>

#include "daemon/base/cleanup.h"
#include "daemon/base/mem.h"

void named_fds_add(struct named_fds *s, const char *name, int fd)
{
	s->all = mem_resize(s->all, s->n + 1, sizeof(*s->all));
	s->all[s->n++] = (struct named_fd){ .name = mem_strdup(name), .fd = fd };
}

int named_fds_take(struct named_fds *s, const char *name)
{
	for (size_t i = 0; i < s->n; i++) {
		if (s->all[i].fd >= 0 && strcmp(s->all[i].name, name) == 0)
			return TAKE_FD(s->all[i].fd);
	}
	return -1;
}

void named_fds_deinit(struct named_fds *s)
{
	for (size_t i = 0; i < s->n; i++) {
		cleanup_close(&s->all[i].fd);
		free(s->all[i].name);
	}
	free(s->all);
	*s = (struct named_fds){ 0 };
}

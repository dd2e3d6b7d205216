#include "tests/sim/sim_pipe.h"

#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "daemon/base/mem.h"
#include "tests/sim/sim_child_parts.h"
#include "tests/sim/sim_loop.h"
#include "tests/sim/sim_pair.h"

struct sim_message *sim_message_new(const void *data, size_t len)
{
	struct sim_message *m = mem_new(sizeof(*m) + len);

	m->len = len;
	memcpy(m->data, data, len);
	return m;
}

void sim_message_free(struct sim_message *m)
{
	sim_child_release_unborn(m);
	if (m->pair)
		sim_pair_drop(m->pair);
	free(m);
}

void sim_messages_free(struct sim_message *list)
{
	struct sim_message *m, *next;

	DL_FOREACH_SAFE(list, m, next)
		sim_message_free(m);
}

void sim_pipe_update(struct loop *l, struct sim_pipe *p)
{
	sim_fd_set_readable(l, p->fd, p->messages || p->over);
}

void sim_pipe_write(struct loop *l, struct sim_pipe *p, const void *data, size_t len)
{
	struct sim_message *m;

	if (p->fd < 0 || p->over)
		return;
	m = sim_message_new(data, len);
	DL_APPEND(p->messages, m);
	sim_pipe_update(l, p);
}

struct sim_message *sim_pipe_take(struct loop *l, struct sim_pipe *p)
{
	struct sim_message *m = sim_is_dead(l) ? NULL : p->messages;

	if (m)
		DL_DELETE(p->messages, m);
	sim_pipe_update(l, p);
	return m;
}

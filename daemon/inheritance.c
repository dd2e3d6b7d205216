#include "daemon/inheritance.h"

#include <linux/close_range.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/base/cleanup.h"
#include "daemon/daemon.h"
#include "daemon/front/handover.h"
#include "daemon/io/mark.h"

static bool refuse(char *why, size_t why_size, const char *what)
{
	(void)snprintf(why, why_size, "what the program before has handed over %s", what);
	return false;
}

bool inheritance_open(struct inheritance *in, char *why, size_t why_size)
{
	const char *number = getenv(HANDOVER_VARIABLE);
	_cleanup_close_ int fd = number ? atoi(number) : -1;
	struct span formats, from;
	struct stat st;

	*in = (struct inheritance){ 0 };
	if (!number)
		return true;
	(void)unsetenv(HANDOVER_VARIABLE);
	(void)close_range(STDERR_FILENO + 1, ~0U, CLOSE_RANGE_CLOEXEC); /* none of them is for a worker */
	if (fstat(fd, &st) < 0 || st.st_size <= 0)
		return refuse(why, why_size, "cannot be found");
	in->size = (size_t)st.st_size;
	in->memory = mmap(NULL, in->size, PROT_READ, MAP_PRIVATE, fd, 0);
	if (in->memory == MAP_FAILED) {
		in->memory = NULL;
		return refuse(why, why_size, "cannot be mapped");
	}
	in->u.rest = (struct span){ .p = in->memory, .len = in->size };
	formats = unpack_text(&in->u);
	from = unpack_text(&in->u);
	in->stopped = unpack_uint(&in->u);
	if (in->u.bad || !formats.p || !span_equals(formats, upgrade_formats()))
		return refuse(why, why_size, "is of another version");
	(void)snprintf(in->from, sizeof(in->from), "%.*s", (int)from.len, (const char *)from.p); /* cut: for people */
	return true;
}

void inheritance_close(struct inheritance *in)
{
	if (in->memory)
		(void)munmap(in->memory, in->size); /* a mapping of our own */
	in->memory = NULL;
}

static struct caller *inheritance_find_caller(const struct handover_callers *h, uint64_t id)
{
	return server_find_caller(&container_of(h, struct daemon, callers)->server, id);
}

static void take_registry(struct unpacker *u, struct registry *g)
{
	uint64_t *const last[] = { &g->last_call,  &g->last_worker, &g->last_template,
				   &g->last_lease, &g->last_caller, &g->last_session };

	mark_go_on(unpack_uint(u));
	for (size_t i = 0; i < ARRAY_SIZE(last); i++)
		*last[i] = unpack_uint(u);
}

/* The configuration has all of them: the program before has looked, and a restart is what takes pools away. */
static void take_pools(struct unpacker *u, struct daemon *d)
{
	d->callers.find = inheritance_find_caller;
	for (uint32_t n = unpack_array(u); n && !u->bad; n--) {
		struct span name = unpack_text(u);
		struct pool *p = daemon_find_pool(d, name);

		u->bad |= !p;
		if (p)
			handover_take_pool(p, u, &d->callers);
	}
}

bool inheritance_take(struct inheritance *in, struct daemon *d)
{
	struct unpacker *u = &in->u;
	uint64_t caller;
	int a, b;

	take_registry(u, &d->registry);
	caller = d->registry.last_caller;
	a = unpack_fd(u);
	b = unpack_fd(u);
	listener_take_over(&d->server.listener, d->loop, u, &server_listener_ops);
	listener_take_over(&d->server.admin_listener, d->loop, u, &server_admin_listener_ops);
	server_take_clients(&d->server, u);
	d->registry.last_caller = caller; /* each has its own number */
	take_pools(u, d);
	keeping_go_on(&d->keeping, d, a, b);
	return !u->bad;
}

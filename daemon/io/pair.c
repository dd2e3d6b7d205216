#include "daemon/io/pair.h"

#include <errno.h>
#include <sys/socket.h>

#include "daemon/base/cleanup.h"

#define BUFFER_BYTES (1024 * 1024) /* as between daemon and worker: see spawn.c */

static void pair_on_hup(struct loop_hup *h)
{
	struct pair *p = container_of(h, struct pair, hup);

	p->hung_up(p);
}

static void pair_set_buffer(int fd)
{
	const int size = BUFFER_BYTES;

	(void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size)); /* it works with less, too */
}

int pair_open(struct pair *p, struct loop *l, void (*hung_up)(struct pair *p))
{
	_cleanup_close_ int worker = -1, client = -1;
	int ends[2], r;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0)
		return -errno;
	worker = ends[0];
	client = ends[1];
	pair_set_buffer(worker);
	pair_set_buffer(client);
	*p = (struct pair){ .worker = -1, .client = -1, .hung_up = hung_up };
	r = loop_hup_start(&p->hup, l, worker, pair_on_hup);
	if (r < 0)
		return r;
	p->worker = TAKE_FD(worker);
	p->client = TAKE_FD(client);
	return 0;
}

int pair_take(struct pair *p, struct loop *l, int worker, void (*hung_up)(struct pair *p))
{
	_cleanup_close_ int owned = worker;
	int r;

	*p = (struct pair){ .worker = -1, .client = -1, .hung_up = hung_up };
	r = loop_hup_start(&p->hup, l, worker, pair_on_hup);
	if (r == 0)
		p->worker = TAKE_FD(owned);
	return r;
}

void pair_shut_input(struct pair *p)
{
	(void)shutdown(p->worker, SHUT_RD); /* it fails when that has been done, or the peer is gone: the same */
}

void pair_close(struct pair *p)
{
	if (p->worker < 0)
		return;
	loop_hup_stop(&p->hup);
	(void)shutdown(p->worker, SHUT_RDWR); /* as above */
	cleanup_close(&p->worker);
	cleanup_close(&p->client);
	p->worker = p->client = -1;
}

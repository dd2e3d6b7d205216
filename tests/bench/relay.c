/*
 * Floor F2: the least that a broker can do. One thread, one epoll, whole frames from clients to free workers and back. No
 * limits, no deadlines, no checks. usage: relay SOCKET PYTHON SCRIPT WORKERS
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "tests/bench/frames.h"

#define MAX_PEERS 512
#define MAX_WAITING 65536

struct peer {
	struct frames in;
	int is_worker;
	int serves; /* index of the client whose call the worker has */
};

struct waiting {
	uint8_t *frame; /* owns */
	size_t len;
	int client;
};

struct relay {
	int epoll, listener;
	struct peer peers[MAX_PEERS];
	int n_peers;
	int idle[MAX_PEERS];
	int n_idle;
	struct waiting waiting[MAX_WAITING];
	unsigned head, tail;
};

static int relay_add(struct relay *r, int fd, int is_worker)
{
	struct epoll_event e = { .events = EPOLLIN, .data.u32 = (uint32_t)r->n_peers };

	if (r->n_peers == MAX_PEERS)
		die("too many peers");
	frames_init(&r->peers[r->n_peers].in, fd);
	r->peers[r->n_peers].is_worker = is_worker;
	if (epoll_ctl(r->epoll, EPOLL_CTL_ADD, fd, &e) < 0)
		die("epoll_ctl");
	return r->n_peers++;
}

static void relay_give(struct relay *r, int worker, int client, const uint8_t *frame, size_t len)
{
	r->peers[worker].serves = client;
	put_all(r->peers[worker].in.fd, frame, len);
}

static void relay_request(struct relay *r, int client, const uint8_t *frame, size_t len)
{
	struct waiting *w = &r->waiting[r->tail % MAX_WAITING];

	if (r->n_idle) {
		relay_give(r, r->idle[--r->n_idle], client, frame, len);
		return;
	}
	w->frame = malloc(len);
	if (!w->frame)
		die("malloc");
	memcpy(w->frame, frame, len);
	w->len = len;
	w->client = client;
	r->tail++;
}

static void relay_reply(struct relay *r, int worker, const uint8_t *frame, size_t len)
{
	struct waiting *w;

	put_all(r->peers[r->peers[worker].serves].in.fd, frame, len);
	if (r->head == r->tail) {
		r->idle[r->n_idle++] = worker;
		return;
	}
	w = &r->waiting[r->head++ % MAX_WAITING];
	relay_give(r, worker, w->client, w->frame, w->len);
	free(w->frame);
}

static void relay_take(struct relay *r, int i)
{
	struct peer *p = &r->peers[i];
	uint8_t *frame;
	size_t len;

	if (!frames_fill(&p->in)) {
		(void)epoll_ctl(r->epoll, EPOLL_CTL_DEL, p->in.fd, NULL);
		return;
	}
	while ((frame = frames_next(&p->in, &len))) {
		if (p->is_worker)
			relay_reply(r, i, frame, len);
		else
			relay_request(r, i, frame, len);
	}
}

static int listen_on(const char *path)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	(void)snprintf(sa.sun_path, sizeof(sa.sun_path), "%s", path);
	if (fd < 0 || bind(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0 || listen(fd, 128) < 0)
		die(path);
	return fd;
}

int main(int argc, char **argv)
{
	static struct relay r;
	struct epoll_event e = { .events = EPOLLIN, .data.u32 = UINT32_MAX };

	if (argc != 5)
		die("usage: relay SOCKET PYTHON SCRIPT WORKERS");
	r.epoll = epoll_create1(EPOLL_CLOEXEC);
	for (int i = 0; i < atoi(argv[4]); i++)
		r.idle[r.n_idle++] = relay_add(&r, spawn_bare_worker(argv[2], argv[3]), 1);
	r.listener = listen_on(argv[1]);
	if (epoll_ctl(r.epoll, EPOLL_CTL_ADD, r.listener, &e) < 0)
		die("epoll_ctl");
	for (;;) {
		struct epoll_event events[64];
		int n = epoll_wait(r.epoll, events, 64, -1);

		for (int i = 0; i < n; i++) {
			if (events[i].data.u32 == UINT32_MAX)
				(void)relay_add(&r, accept4(r.listener, NULL, NULL, SOCK_CLOEXEC), 0);
			else
				relay_take(&r, (int)events[i].data.u32);
		}
	}
}

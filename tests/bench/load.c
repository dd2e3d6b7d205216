/*
 * The load: CONNECTIONS connections, each with DEPTH calls of SIZE bytes in flight, COUNT calls in all. Prints one line:
 * p50 and p99 of a call in µs, calls per second.
 * usage: load (socket PATH | worker PYTHON SCRIPT) TARGET CONNECTIONS DEPTH SIZE COUNT
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <msgpack.h>

#include "tests/bench/frames.h"

#define WARM_UP_MAX 200
#define MAX_CONNECTIONS 256

struct load {
	const char *target;
	unsigned connections, depth;
	size_t size;
	unsigned long count;      /* calls that are measured */
	unsigned long warm_up;    /* calls before them */
	unsigned long sent, done; /* warm-up included */
	uint64_t *began;          /* owns: by call number, ns */
	uint64_t *took;           /* owns: ns, of the measured calls in order of their end */
	uint8_t *body;            /* owns: what follows the id in a request */
	size_t body_len;
	struct frames peers[MAX_CONNECTIONS];
};

static uint64_t now_ns(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static int connect_to(const char *path)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	(void)snprintf(sa.sun_path, sizeof(sa.sun_path), "%s", path);
	if (fd < 0 || connect(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0)
		die(path);
	return fd;
}

/* "execute", [{"target": target, "args": [bin]}] */
static void make_body(struct load *l)
{
	msgpack_sbuffer buf;
	msgpack_packer pk;
	char *payload = calloc(1, l->size ? l->size : 1);

	msgpack_sbuffer_init(&buf);
	msgpack_packer_init(&pk, &buf, msgpack_sbuffer_write);
	msgpack_pack_str_with_body(&pk, "execute", 7);
	msgpack_pack_array(&pk, 1);
	msgpack_pack_map(&pk, 2);
	msgpack_pack_str_with_body(&pk, "target", 6);
	msgpack_pack_str_with_body(&pk, l->target, strlen(l->target));
	msgpack_pack_str_with_body(&pk, "args", 4);
	if (strcmp(l->target, "run") == 0) { /* of the scripted worker: [tag, what, n] */
		msgpack_pack_array(&pk, 3);
		msgpack_pack_str_with_body(&pk, "tag", 3);
		msgpack_pack_str_with_body(&pk, "echo", 4);
		msgpack_pack_int(&pk, 0);
	} else {
		msgpack_pack_array(&pk, 1);
		msgpack_pack_bin_with_body(&pk, payload, l->size);
	}
	free(payload);
	l->body_len = buf.size;
	l->body = malloc(buf.size + 16);
	memcpy(l->body + 16, buf.data, buf.size);
	msgpack_sbuffer_destroy(&buf);
}

/* Prefix, [0, id, then the body that stands right behind them: one write. */
static void send_call(struct load *l, struct frames *f)
{
	uint8_t *p = l->body + 16 - 11;
	uint32_t id = (uint32_t)l->sent++, len = (uint32_t)(7 + l->body_len);
	const uint8_t head[11] = { (uint8_t)(len >> 24), (uint8_t)(len >> 16), (uint8_t)(len >> 8), (uint8_t)len, 0x94, 0, 0xce,
				   (uint8_t)(id >> 24),	 (uint8_t)(id >> 16),  (uint8_t)(id >> 8),  (uint8_t)id };

	memcpy(p, head, sizeof(head));
	l->began[id] = now_ns();
	put_all(f->fd, p, sizeof(head) + l->body_len);
}

/* [1, id, nil, value]: any encoding of the id */
static uint32_t reply_id(const uint8_t *p)
{
	if (p[6] < 0x80)
		return p[6];
	if (p[6] == 0xcc)
		return p[7];
	if (p[6] == 0xcd)
		return (uint32_t)p[7] << 8 | p[8];
	return (uint32_t)p[7] << 24 | (uint32_t)p[8] << 16 | (uint32_t)p[9] << 8 | p[10];
}

static void take_reply(struct load *l, const uint8_t *frame, size_t len)
{
	uint32_t id = reply_id(frame);

	if (len < l->size) {
		(void)fprintf(stderr, "load: call %u failed: %.*s\n", id, (int)len - 4, (const char *)frame + 4);
		exit(1);
	}
	if (id >= l->warm_up)
		l->took[l->done - l->warm_up] = now_ns() - l->began[id];
	l->done++;
}

static void pump(struct load *l, struct frames *f, unsigned long total)
{
	uint8_t *frame;
	size_t len;

	if (!frames_fill(f)) {
		(void)fprintf(stderr, "load: the connection was closed\n");
		exit(1);
	}
	while ((frame = frames_next(f, &len))) {
		take_reply(l, frame, len);
		if (l->sent < total)
			send_call(l, f);
	}
}

static void start(struct load *l, unsigned long total)
{
	for (unsigned d = 0; d < l->depth; d++) {
		for (unsigned c = 0; c < l->connections; c++) {
			if (l->sent < total)
				send_call(l, &l->peers[c]);
		}
	}
}

/* A single connection waits in read(): no epoll between the measure and what is measured. */
static void run(struct load *l, unsigned long total)
{
	int epoll = epoll_create1(EPOLL_CLOEXEC);

	for (unsigned c = 0; c < l->connections; c++) {
		struct epoll_event e = { .events = EPOLLIN, .data.u32 = c };

		(void)epoll_ctl(epoll, EPOLL_CTL_ADD, l->peers[c].fd, &e);
	}
	start(l, total);
	while (l->done < total) {
		struct epoll_event events[64];
		int n;

		if (l->connections == 1) {
			pump(l, &l->peers[0], total);
			continue;
		}
		n = epoll_wait(epoll, events, 64, -1);
		for (int i = 0; i < n; i++)
			pump(l, &l->peers[events[i].data.u32], total);
	}
	(void)close(epoll);
}

static int compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
	static struct load l;
	int worker = argc > 1 && strcmp(argv[1], "worker") == 0;
	char **a = argv + (worker ? 4 : 3);
	uint64_t begin;
	double seconds;

	if (argc != (worker ? 9 : 8))
		die("usage: load (socket PATH | worker PYTHON SCRIPT) TARGET CONNECTIONS DEPTH SIZE COUNT");
	l.target = a[0];
	l.connections = (unsigned)atoi(a[1]);
	l.depth = (unsigned)atoi(a[2]);
	l.size = (size_t)atol(a[3]);
	l.count = (unsigned long)atol(a[4]);
	l.warm_up = l.count < 10 * WARM_UP_MAX ? l.count / 10 : WARM_UP_MAX;
	l.began = calloc(l.count + l.warm_up, sizeof(*l.began));
	l.took = calloc(l.count + l.warm_up, sizeof(*l.took));
	make_body(&l);
	for (unsigned c = 0; c < l.connections; c++)
		frames_init(&l.peers[c], worker ? spawn_bare_worker(argv[2], argv[3]) : connect_to(argv[2]));
	run(&l, l.warm_up);
	begin = now_ns();
	run(&l, l.warm_up + l.count);
	seconds = (double)(now_ns() - begin) / 1e9;
	qsort(l.took, l.count, sizeof(*l.took), compare);
	(void)printf("%.2f %.2f %.3f\n", (double)l.took[l.count / 2] / 1000, (double)l.took[l.count * 99 / 100] / 1000,
		     (double)l.count / seconds);
	return 0;
}

/*
 * The load: CONNECTIONS connections, each with DEPTH calls of SIZE bytes in flight, COUNT calls in all. Prints one line:
 * p50 and p99 of a call in µs, calls per second.
 * With `direct` the calls go over the socket of a direct lease, with `session` each is one of a session, with `lease` and
 * `lease-direct` a call is a checkout and its checkin.
 * usage: load ((socket | session | direct | lease | lease-direct) PATH | worker PYTHON SCRIPT) TARGET CONNECTIONS DEPTH SIZE COUNT
 */
#include <stdbool.h>
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
	bool session;
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
	msgpack_pack_map(&pk, 2 + l->session);
	if (l->session) {
		msgpack_pack_str_with_body(&pk, "session", 7);
		msgpack_pack_str_with_body(&pk, "bench", 5);
	}
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

static uint32_t reply_number(const uint8_t *p)
{
	if (p[0] < 0x80)
		return p[0];
	if (p[0] == 0xcc)
		return p[1];
	if (p[0] == 0xcd)
		return (uint32_t)p[1] << 8 | p[2];
	return (uint32_t)p[1] << 24 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 8 | p[4];
}

/* [1, id, nil, value]: any encoding of the id */
static uint32_t reply_id(const uint8_t *p)
{
	return reply_number(p + 6);
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

/* A reply of at most size bytes, and the fd that comes with it (-1: none). */
static size_t take_answer(int sock, uint8_t *reply, size_t size, int *fd)
{
	union {
		struct cmsghdr header;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control;
	struct iovec part = { .iov_base = reply, .iov_len = size };
	struct msghdr m = { .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control) };
	ssize_t got = recvmsg(sock, &m, MSG_CMSG_CLOEXEC);
	struct cmsghdr *c = got > 0 ? CMSG_FIRSTHDR(&m) : NULL;

	*fd = -1;
	if (c && c->cmsg_type == SCM_RIGHTS)
		memcpy(fd, CMSG_DATA(c), sizeof(*fd));
	if (got < 8 || reply[7] != 0xc0)
		die("a lease was refused");
	return (size_t)got;
}

/* With id 1; direct: with a socket. Returns the number of the lease. */
static uint32_t checkout(int sock, bool direct, int *fd)
{
	static const char plain[] = "\0\0\0\x1d\x94\0\x01\xa8" "checkout\x91\x81\xa4" "type\xa9" "anonymous";
	static const char with_socket[] = "\0\0\0\x25\x94\0\x01\xa8" "checkout\x91\x82\xa4" "type\xa9" "anonymous\xa6" "direct\xc3";
	uint8_t reply[256];

	put_all(sock, direct ? with_socket : plain, direct ? sizeof(with_socket) - 1 : sizeof(plain) - 1);
	(void)take_answer(sock, reply, sizeof(reply), fd);
	return reply_number(reply + 15);
}

static void checkin(int sock, uint32_t lease)
{
	uint8_t call[] = { 0, 0, 0, 24, 0x94, 0, 1, 0xa7, 'c', 'h', 'e', 'c', 'k', 'i', 'n', 0x91, 0x81, 0xa5, 'l', 'e', 'a', 's', 'e',
			   0xce, (uint8_t)(lease >> 24), (uint8_t)(lease >> 16), (uint8_t)(lease >> 8), (uint8_t)lease };
	uint8_t reply[64];
	int fd;

	put_all(sock, call, sizeof(call));
	(void)take_answer(sock, reply, sizeof(reply), &fd);
}

static int open_direct(int sock)
{
	int fd;

	(void)checkout(sock, true, &fd);
	if (fd < 0)
		die("a direct lease without its socket");
	return fd; /* sock stays open: the lease ends with it */
}

/* Pairs of checkout and checkin in the place of calls. */
static void run_leases(struct load *l, int sock, bool direct)
{
	for (unsigned long i = 0; i < l->warm_up + l->count; i++) {
		uint64_t began = now_ns();
		int fd;

		checkin(sock, checkout(sock, direct, &fd));
		if (fd >= 0)
			(void)close(fd);
		if (i >= l->warm_up)
			l->took[i - l->warm_up] = now_ns() - began;
	}
}

static int compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

static int show(struct load *l, uint64_t begin)
{
	double seconds = (double)(now_ns() - begin) / 1e9;

	qsort(l->took, l->count, sizeof(*l->took), compare);
	(void)printf("%.2f %.2f %.3f\n", (double)l->took[l->count / 2] / 1000, (double)l->took[l->count * 99 / 100] / 1000,
		     (double)l->count / seconds);
	return 0;
}

int main(int argc, char **argv)
{
	static struct load l;
	int worker = argc > 1 && strcmp(argv[1], "worker") == 0;
	char **a = argv + (worker ? 4 : 3);
	uint64_t begin;

	if (argc != (worker ? 9 : 8))
		die("usage: load ((socket | session | direct | lease | lease-direct) PATH | worker PYTHON SCRIPT) TARGET CONNECTIONS DEPTH SIZE COUNT");
	l.target = a[0];
	l.session = strcmp(argv[1], "session") == 0;
	l.connections = (unsigned)atoi(a[1]);
	l.depth = (unsigned)atoi(a[2]);
	l.size = (size_t)atol(a[3]);
	l.count = (unsigned long)atol(a[4]);
	l.warm_up = l.count < 10 * WARM_UP_MAX ? l.count / 10 : WARM_UP_MAX;
	l.began = calloc(l.count + l.warm_up, sizeof(*l.began));
	l.took = calloc(l.count + l.warm_up, sizeof(*l.took));
	make_body(&l);
	if (strncmp(argv[1], "lease", 5) == 0) {
		begin = now_ns();
		run_leases(&l, connect_to(argv[2]), strcmp(argv[1], "lease-direct") == 0);
		return show(&l, begin);
	}
	for (unsigned c = 0; c < l.connections; c++) {
		int fd = worker ? spawn_bare_worker(argv[2], argv[3]) : connect_to(argv[2]);

		frames_init(&l.peers[c], strcmp(argv[1], "direct") == 0 ? open_direct(fd) : fd);
	}
	run(&l, l.warm_up);
	begin = now_ns();
	run(&l, l.warm_up + l.count);
	return show(&l, begin);
}

/*
 * A worker in C that does what each call tells it to, good or bad: a pool's `python` that starts within a millisecond.
 * It speaks docs/worker-protocol.md. The arguments of a call are [tag, what, n]: `tag` is unique over all callers, `what`
 * names a row of the table below, `n` is its parameter. It keeps a log of its own in the file named by STUB_LOG, one line
 * a write: LETTER worker call tag nanoseconds, where the letter is
 *   R ready (the call is its pid)   S a call was begun   E its reply is about to be written   I it was interrupted
 *   F a file descriptor that it should not have   B bytes of a call before it was ready
 *   D it was started during an outage (the call is its pid)
 *   L a direct lease was begun   M it is over
 *   X the hooks of a session were run (the call is the session's number, the tag its name)
 *   H it was sent half of what a call had written (the call is the session's number)
 * Calls over the socket of a direct lease are the same; each has the number of the lease's own call.
 * A call in a session counts: what it answers ends with the count in the session's values, and with how many calls of the
 * session this worker has begun. The count is written twice, under two keys, so that half of it can be told from all.
 * STUB_FLAKY=n: every n-th worker of the daemon dies before it says hello, and every n-th before it is ready.
 * STUB_DOWN=path: as long as there is such a file, none gets as far as hello. STUB_SLOW=n: a start takes n ms.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "proto/envelope.h"
#include "proto/frame.h"
#include "proto/pack.h"

#define TAG_MAX 64
#define NEVER (24 * 3600 * UINT64_C(1000))

enum fd_number { FD_CALLS = 3, FD_CONTROL, FD_DUMP, FD_PAGE, FD_N };

struct page {
	volatile uint64_t wanted, reason;
};

/* Where replies go: the call channel, or the socket of a direct lease, whose messages have ids of their client's. */
static struct {
	int fd;
	bool direct, over; /* over: nobody reads it any more */
	uint64_t id;
	uint64_t calls, errors;
} wire = { .fd = FD_CALLS };

/* What this worker has of a session. */
struct session {
	uint64_t id, send;
	bool has_copy;
	uint64_t count; /* in its copy of the values */
	uint64_t begun; /* calls of the session here: in memory, whatever becomes of the copy */
};

#define WRONG_COUNT 1000000 /* more, in replies that must not be believed */

static struct {
	struct session *list; /* owns */
	size_t n, room;
	size_t current; /* index + 1 of that in which the call runs; 0: none */
} sessions;

struct stub {
	int log;
	int channel; /* owns: the socket of the next direct lease; -1: none */
	uint64_t worker;
	struct page *page;
	uint64_t call; /* that it runs */
	char tag[TAG_MAX];
	uint64_t n;  /* its parameter */
	uint8_t *in; /* owns: what came on the call channel */
	size_t in_used, in_room;
};

static uint64_t now_ns(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static void note(const struct stub *s, char letter, uint64_t call)
{
	char line[160];
	int n = snprintf(line, sizeof(line), "%c %llu %llu %s %llu\n", letter, (unsigned long long)s->worker,
			 (unsigned long long)call, s->tag[0] ? s->tag : "-", (unsigned long long)now_ns());

	if (write(s->log, line, (size_t)n) != n)
		_exit(9);
}

static void put(int fd, const void *bytes, size_t len)
{
	const uint8_t *at = bytes;

	while (len) {
		ssize_t n = wire.direct && fd == wire.fd ? send(fd, at, len, MSG_NOSIGNAL) : write(fd, at, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0 && wire.direct) {
			wire.over = true;
			return;
		}
		if (n <= 0)
			_exit(0); /* the daemon is gone */
		at += n;
		len -= (size_t)n;
	}
}

/* --- control --- */

static void tell(const char *name, const char *key, uint64_t value)
{
	msgpack_sbuffer buf;
	msgpack_packer pk;

	msgpack_sbuffer_init(&buf);
	msgpack_packer_init(&pk, &buf, msgpack_sbuffer_write);
	msgpack_pack_array(&pk, 3);
	msgpack_pack_int(&pk, ENVELOPE_NOTIFICATION);
	pack_text(&pk, name);
	msgpack_pack_array(&pk, 1);
	msgpack_pack_map(&pk, 6);
	pack_kv_bool(&pk, "session_close", true); /* of ready; the others do not mind */
	pack_kv_uint(&pk, key, value);
	pack_kv_uint(&pk, "pid", (uint64_t)getpid());
	pack_kv_text(&pk, "python", "3.0.0");
	pack_kv_text(&pk, "codec", "c");
	pack_kv_uint(&pk, "t_ns", now_ns());
	if (send(FD_CONTROL, buf.data, buf.size, MSG_NOSIGNAL) < 0)
		_exit(1);
	msgpack_sbuffer_destroy(&buf);
}

static uint64_t find_uint(struct span map, const char *name)
{
	uint32_t pairs = 0;
	uint64_t v = 0;

	(void)mp_read_map(&map, &pairs);
	while (pairs--) {
		struct span key, value;

		if (!mp_read_text(&map, &key) || !mp_read_any(&map, &value))
			break;
		if (span_equals(key, name))
			(void)mp_read_uint(&value, &v);
	}
	return v;
}

static struct span find_any(struct span map, const char *name)
{
	uint32_t pairs = 0;
	struct span key, value;

	(void)mp_read_map(&map, &pairs);
	while (pairs--) {
		if (!mp_read_text(&map, &key) || !mp_read_any(&map, &value))
			break;
		if (span_equals(key, name))
			return value;
	}
	return (struct span){ 0 };
}

/* --- sessions --- */

/* The current one, NULL. */
static struct session *session_here(void)
{
	return sessions.current ? &sessions.list[sessions.current - 1] : NULL;
}

static void session_choose(uint64_t id)
{
	for (sessions.current = 1; sessions.current <= sessions.n; sessions.current++) {
		if (session_here()->id == id)
			return;
	}
	if (sessions.n == sessions.room) {
		sessions.room = sessions.room ? 2 * sessions.room : 64;
		sessions.list = realloc(sessions.list, sessions.room * sizeof(*sessions.list));
	}
	sessions.list[sessions.n++] = (struct session){ .id = id };
}

static void session_forget(uint64_t id, uint64_t send)
{
	for (size_t i = 0; i < sessions.n; i++) {
		if (sessions.list[i].id == id && sessions.list[i].send <= send)
			sessions.list[i].has_copy = false;
	}
}

/* One message, and the fd that came with it, or -1. */
static ssize_t read_control(void *buf, size_t size, int *fd)
{
	char control[CMSG_SPACE(sizeof(int))];
	struct iovec iov = { .iov_base = buf, .iov_len = size };
	struct msghdr m = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)
	};
	ssize_t n = recvmsg(FD_CONTROL, &m, MSG_CMSG_CLOEXEC);

	*fd = -1;
	if (n > 0 && CMSG_FIRSTHDR(&m))
		memcpy(fd, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof(int));
	return n;
}

/* One message; leaves when told to, or when the daemon is gone. */
static void serve_control(struct stub *s)
{
	uint8_t buf[64 * 1024];
	int fd;
	ssize_t n = read_control(buf, sizeof(buf), &fd);
	struct envelope e;
	struct complaint c;

	if (n < 0 && errno == EINTR)
		return;
	if (n <= 0)
		_exit(1);
	if (!envelope_parse((struct span){ .p = buf, .len = (size_t)n }, &e, &c))
		_exit(8);
	if (span_equals(e.method, "init"))
		s->worker = find_uint(e.params, "worker");
	else if (span_equals(e.method, "ping"))
		tell("pong", "seq", find_uint(e.params, "seq"));
	else if (span_equals(e.method, "channel"))
		s->channel = fd;
	else if (span_equals(e.method, "forget"))
		session_forget(find_uint(e.params, "session"), find_uint(e.params, "send"));
	else if (span_equals(e.method, "stop"))
		_exit(0);
}

/* --- replies --- */

static void pack_head(msgpack_packer *pk, uint64_t call)
{
	msgpack_pack_array(pk, wire.direct ? 4 : 5);
	msgpack_pack_int(pk, ENVELOPE_RESPONSE);
	msgpack_pack_uint64(pk, wire.direct ? wire.id : call);
}

/* count: what the call writes into its session, unless that is 0. */
static void pack_meta(msgpack_packer *pk, uint64_t count)
{
	if (wire.direct)
		return;
	msgpack_pack_map(pk, 1 + (count != 0));
	pack_kv_uint(pk, "run_us", 1);
	if (!count)
		return;
	pack_text(pk, "session");
	msgpack_pack_map(pk, 1);
	pack_text(pk, "set");
	msgpack_pack_map(pk, 2);
	pack_kv_uint(pk, "a", count);
	pack_kv_uint(pk, "b", count);
}

static void put_frame(const msgpack_sbuffer *buf, size_t len)
{
	uint8_t *whole = malloc(FRAME_PREFIX + buf->size);

	frame_put_prefix(whole, (uint32_t)buf->size);
	memcpy(whole + FRAME_PREFIX, buf->data, buf->size);
	put(wire.fd, whole, FRAME_PREFIX + len); /* one write: what follows cannot come between */
	free(whole);
}

/* Text and the two counts; returns what is written into the session. */
static uint64_t pack_counted(msgpack_packer *pk, const char *text)
{
	struct session *here = session_here();
	char counts[64];
	int n;

	if (!here || strcmp(text, "WRONG") == 0) {
		pack_text(pk, text);
		return here ? here->count + WRONG_COUNT : 0;
	}
	here->count++;
	n = snprintf(counts, sizeof(counts), " %llu %llu", (unsigned long long)here->count,
		     (unsigned long long)here->begun);
	msgpack_pack_str(pk, strlen(text) + (size_t)n);
	msgpack_pack_str_body(pk, text, strlen(text));
	msgpack_pack_str_body(pk, counts, (size_t)n);
	return here->count;
}

/* cut: how many bytes of the end are left out. */
static void reply_text(uint64_t call, const char *text, size_t cut)
{
	msgpack_sbuffer buf;
	msgpack_packer pk;

	msgpack_sbuffer_init(&buf);
	msgpack_packer_init(&pk, &buf, msgpack_sbuffer_write);
	pack_head(&pk, call);
	msgpack_pack_nil(&pk);
	pack_meta(&pk, pack_counted(&pk, text));
	put_frame(&buf, buf.size - cut);
	msgpack_sbuffer_destroy(&buf);
}

/* What it writes into its session must not be believed. */
static void reply_error(uint64_t call, const char *code)
{
	msgpack_sbuffer buf;
	msgpack_packer pk;

	bool ran = strcmp(code, "app_error") == 0 || strcmp(code, "cancelled") == 0 ||
		   strcmp(code, "deadline_exceeded") == 0;

	wire.errors++;
	msgpack_sbuffer_init(&buf);
	msgpack_packer_init(&pk, &buf, msgpack_sbuffer_write);
	pack_head(&pk, call);
	msgpack_pack_map(&pk, wire.direct ? 3 : 2);
	if (wire.direct)
		pack_kv_text(&pk, "executed", ran ? "yes" : "never");
	pack_kv_text(&pk, "code", code);
	pack_kv_text(&pk, "message", "on purpose");
	msgpack_pack_nil(&pk);
	pack_meta(&pk, session_here() ? session_here()->count + WRONG_COUNT : 0);
	put_frame(&buf, buf.size);
	msgpack_sbuffer_destroy(&buf);
}

static void finish(struct stub *s)
{
	note(s, 'E', s->call);
	reply_text(s->call, s->tag, 0);
}

/* --- what calls can ask for --- */

static bool was_interrupted(const struct stub *s)
{
	return s->page->wanted == s->call;
}

/* False: the call was interrupted. Control is served meanwhile. */
static bool wait_ms(struct stub *s, uint64_t ms)
{
	uint64_t end = now_ns() + ms * 1000000;
	sigset_t open;

	sigemptyset(&open);
	for (;;) {
		uint64_t now = now_ns(), left = end > now ? end - now : 0;
		struct timespec ts = { .tv_sec = (time_t)(left / 1000000000), .tv_nsec = (long)(left % 1000000000) };
		struct pollfd p = { .fd = FD_CONTROL, .events = POLLIN };

		if (was_interrupted(s))
			return false;
		if (!left)
			return true;
		if (ppoll(&p, 1, &ts, &open) > 0)
			serve_control(s);
	}
}

/* Deaf to interrupts, which stay blocked outside of wait_ms(); SIGUSR2 takes a stack and it sleeps on. */
static void nap_ms(uint64_t ms)
{
	uint64_t end = now_ns() + ms * 1000000;
	const struct timespec ts = { .tv_sec = (time_t)(end / 1000000000), .tv_nsec = (long)(end % 1000000000) };

	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL) == EINTR)
		;
}

static void do_sleep(struct stub *s)
{
	if (wait_ms(s, s->n))
		return finish(s);
	note(s, 'I', s->call);
	reply_error(s->call, s->page->reason == 2 ? "deadline_exceeded" : "cancelled");
}

static void do_big(struct stub *s)
{
	char *text = malloc(s->n + TAG_MAX + 1);

	memset(text, '.', s->n + TAG_MAX);
	memcpy(text, s->tag, strlen(s->tag));
	text[strlen(s->tag) + s->n] = '\0';
	note(s, 'E', s->call);
	reply_text(s->call, text, 0);
	free(text);
}

static void do_fail(struct stub *s)
{
	note(s, 'E', s->call);
	reply_error(s->call, "app_error");
}

static void do_die(struct stub *s)
{
	if (s->n < 100)
		_exit((int)s->n);
	(void)kill(getpid(), (int)s->n - 100);
}

static void do_reply_and_die(struct stub *s)
{
	finish(s);
	do_die(s);
}

static void do_cut(struct stub *s)
{
	note(s, 'E', s->call);
	reply_text(s->call, s->tag, 1 + s->n % 8);
	_exit(0);
}

static void do_garbage(struct stub *s)
{
	static const struct span kinds[] = {
		{ .p = (const uint8_t *)"\x00\x00\x00\x02\xc1\xc1", .len = 6 },             /* no MessagePack */
		{ .p = (const uint8_t *)"\x00\x00\x00\x00", .len = 4 },                     /* a length of 0 */
		{ .p = (const uint8_t *)"\x7f\xff\xff\xff\x94", .len = 5 },                 /* oversized */
		{ .p = (const uint8_t *)"\x00\x00\x00\x05\x95\x01\x01\xc0\xc0", .len = 9 }, /* cut */
		{ .p = (const uint8_t *)"\x00\x00\x00\x04\x94\x00\x01\xa0", .len = 8 },
		{ .p = (const uint8_t *)"\x00\x00\x00\x01\xc0", .len = 5 }, /* no array */
		{ .p = (const uint8_t *)"\x00\x00\x00\x05\x92\x01\x01\xc0\xc0", .len = 9 },
	};
	const struct span *g = &kinds[s->n % (sizeof(kinds) / sizeof(kinds[0]))];

	put(FD_CALLS, g->p, g->len);
}

static void do_wrong_id(struct stub *s)
{
	reply_text(s->call + 1000000 + s->n, "WRONG", 0);
}

static void do_twice(struct stub *s)
{
	finish(s);
	if (s->n)
		(void)wait_ms(s, s->n);
	reply_text(s->call, "WRONG", 0);
}

static void do_unasked(struct stub *s)
{
	finish(s);
	if (s->n)
		(void)wait_ms(s, s->n);
	reply_text(s->call + 1000000, "WRONG", 0);
}

static void do_request(struct stub *s)
{
	msgpack_sbuffer buf;
	msgpack_packer pk;

	msgpack_sbuffer_init(&buf);
	msgpack_packer_init(&pk, &buf, msgpack_sbuffer_write);
	msgpack_pack_array(&pk, 4);
	msgpack_pack_int(&pk, ENVELOPE_REQUEST);
	msgpack_pack_uint64(&pk, s->call);
	pack_text(&pk, "execute");
	msgpack_pack_array(&pk, 0);
	put_frame(&buf, buf.size);
	msgpack_sbuffer_destroy(&buf);
}

static void do_hang(struct stub *s)
{
	(void)s;
	nap_ms(NEVER);
}

static void do_wall(struct stub *s)
{
	(void)signal(SIGTERM, SIG_IGN);
	do_hang(s);
}

static void do_late(struct stub *s)
{
	nap_ms(s->n);
	finish(s);
}

static void do_noise(struct stub *s)
{
	char line[1024];

	memset(line, 'x', sizeof(line));
	line[sizeof(line) - 1] = '\n';
	for (uint64_t i = 0; i < s->n; i++)
		put(STDERR_FILENO, line, sizeof(line));
	finish(s);
}

static void do_close(struct stub *s)
{
	for (int fd = FD_CALLS; fd < FD_N; fd++) {
		if (s->n == 0 || s->n == (uint64_t)fd)
			(void)close(fd);
	}
	do_hang(s);
}

/* Dies and leaves a child behind that holds all its files. */
static void do_orphan(struct stub *s)
{
	if (fork() == 0) {
		nap_ms(s->n);
		_exit(0);
	}
	finish(s);
	_exit(0);
}

static void do_stop(struct stub *s)
{
	(void)raise(SIGSTOP);
	finish(s);
}

static const struct action {
	const char *name;
	void (*run)(struct stub *s);
} actions[] = {
	{ "echo", finish },
	{ "sleep", do_sleep }, /* n ms, ends early when it is interrupted */
	{ "big", do_big },     /* n bytes more in the reply */
	{ "fail", do_fail },   /* app_error */
	{ "die", do_die },     /* without a reply: exit status n, or signal n - 100 */
	{ "reply_and_die", do_reply_and_die },
	{ "cut", do_cut },         /* a reply without its end, then exit */
	{ "garbage", do_garbage }, /* of kind n */
	{ "wrong_id", do_wrong_id },
	{ "twice", do_twice },     /* replies again after n ms */
	{ "unasked", do_unasked }, /* replies to a call that never was, after n ms */
	{ "request", do_request },
	{ "hang", do_hang },     /* deaf to interrupts */
	{ "wall", do_wall },     /* deaf to TERM too */
	{ "late", do_late },     /* deaf to interrupts, replies after n ms */
	{ "noise", do_noise },   /* n KiB of stderr */
	{ "close", do_close },   /* closes fd n, 0: all of 3 to 6, and lives on */
	{ "orphan", do_orphan }, /* its child lives for n ms */
	{ "stop", do_stop },     /* SIGSTOPs itself */
};

/* --- calls --- */

/* The copy is what came with the call, if something did. False: the daemon takes for current what is not here. */
static bool take_session(struct stub *s, struct span told)
{
	struct span values = find_any(told, "values");
	struct session *here;

	session_choose(find_uint(told, "id"));
	here = session_here();
	here->send = find_uint(told, "send");
	here->has_copy |= values.len != 0;
	if (values.len) {
		here->count = find_uint(values, "a");
		if (here->count != find_uint(values, "b"))
			note(s, 'H', here->id);
	}
	return here->has_copy;
}

static void run_call(struct stub *s, const struct envelope *e)
{
	struct span args = find_any(e->params, "args"), told = find_any(e->params, "session"), tag = { 0 },
		    what = { 0 };
	uint32_t n = 0;

	s->n = 0;
	s->tag[0] = '\0';
	sessions.current = 0;
	if (told.len && !take_session(s, told))
		return reply_error(s->call, "internal");
	if (!mp_read_array(&args, &n) || n < 3 || !mp_read_text(&args, &tag) || !mp_read_text(&args, &what) ||
	    !mp_read_uint(&args, &s->n) || tag.len >= TAG_MAX)
		return reply_error(s->call, "bad_request");
	memcpy(s->tag, tag.p, tag.len);
	s->tag[tag.len] = '\0';
	if (session_here())
		session_here()->begun++;
	note(s, 'S', s->call);
	for (size_t i = 0; i < sizeof(actions) / sizeof(actions[0]); i++) {
		if (span_equals(what, actions[i].name))
			return actions[i].run(s);
	}
	reply_error(s->call, "unknown_target");
}

/* --- a direct lease --- */

/* False: it is no message that a client may send, so the lease is over. */
static bool take_direct_call(struct stub *s, struct span body)
{
	struct envelope e;
	struct complaint c;

	if (cursor_check(body) != CURSOR_DONE || !envelope_parse(body, &e, &c) || e.type != ENVELOPE_REQUEST)
		return false;
	wire.id = e.id;
	wire.calls++;
	if (span_equals(e.method, "execute"))
		run_call(s, &e);
	else if (span_equals(e.method, "ping"))
		reply_text(s->call, "pong", 0);
	else
		reply_error(s->call, "unknown_method");
	return true;
}

/* Takes the whole messages out of in. False: the lease is over. */
static bool take_direct_calls(struct stub *s, uint8_t *in, size_t *used, size_t room)
{
	while (*used >= FRAME_PREFIX) {
		uint32_t len = (uint32_t)in[0] << 24 | (uint32_t)in[1] << 16 | (uint32_t)in[2] << 8 | in[3];

		if (!len || len > room - FRAME_PREFIX)
			return false;
		if (*used < FRAME_PREFIX + len)
			return true;
		if (!take_direct_call(s, (struct span){ .p = in + FRAME_PREFIX, .len = len }) || wire.over)
			return false;
		*used -= FRAME_PREFIX + len;
		memmove(in, in + FRAME_PREFIX + len, *used);
	}
	return true;
}

static void serve_channel(struct stub *s, int fd)
{
	static uint8_t in[1024 * 1024];
	size_t used = 0;
	ssize_t n;

	do {
		struct pollfd fds[] = { { .fd = fd, .events = POLLIN }, { .fd = FD_CONTROL, .events = POLLIN } };

		n = 1;
		if (poll(fds, 2, -1) < 0)
			continue;
		if (fds[1].revents)
			serve_control(s);
		if (!fds[0].revents)
			continue;
		n = read(fd, in + used, sizeof(in) - used);
		used += n > 0 ? (size_t)n : 0;
	} while (n > 0 && take_direct_calls(s, in, &used, sizeof(in)));
}

static void reply_counts(uint64_t call)
{
	msgpack_sbuffer buf;
	msgpack_packer pk;

	msgpack_sbuffer_init(&buf);
	msgpack_packer_init(&pk, &buf, msgpack_sbuffer_write);
	pack_head(&pk, call);
	msgpack_pack_nil(&pk);
	msgpack_pack_map(&pk, 2);
	pack_kv_uint(&pk, "calls", wire.calls);
	pack_kv_uint(&pk, "errors", wire.errors);
	pack_meta(&pk, 0);
	put_frame(&buf, buf.size);
	msgpack_sbuffer_destroy(&buf);
}

static void serve_lease(struct stub *s)
{
	int fd;

	while (s->channel < 0)
		serve_control(s);
	fd = s->channel;
	s->channel = -1;
	sessions.current = 0;
	s->tag[0] = '\0';
	note(s, 'L', s->call);
	wire.fd = fd;
	wire.direct = true;
	wire.over = false;
	wire.calls = wire.errors = 0;
	serve_channel(s, fd);
	wire.fd = FD_CALLS;
	wire.direct = false;
	(void)close(fd);
	s->tag[0] = '\0';
	note(s, 'M', s->call);
	reply_counts(s->call);
}

/* --- the call channel --- */

static void close_session(struct stub *s, struct span told)
{
	struct span name = find_any(told, "name"), text = { 0 };

	s->tag[0] = '\0';
	if (!take_session(s, told))
		return reply_error(s->call, "internal");
	if (mp_read_text(&name, &text) && text.len < TAG_MAX) {
		memcpy(s->tag, text.p, text.len);
		s->tag[text.len] = '\0';
	}
	note(s, 'X', session_here()->id);
	session_here()->has_copy = false;
	sessions.current = 0;
	reply_text(s->call, s->tag, 0);
}

static void take_call(struct stub *s, struct span body)
{
	struct envelope e;
	struct complaint c;

	if (!envelope_parse(body, &e, &c) || e.type != ENVELOPE_REQUEST)
		_exit(8);
	s->call = e.id;
	if (span_equals(e.method, "direct"))
		serve_lease(s);
	else if (span_equals(e.method, "session_close"))
		close_session(s, find_any(e.params, "session"));
	else
		run_call(s, &e);
}

static void read_calls(struct stub *s)
{
	ssize_t n;
	uint32_t len;

	if (s->in_used == s->in_room) {
		s->in_room = s->in_room ? 2 * s->in_room : 64 * 1024;
		s->in = realloc(s->in, s->in_room);
	}
	n = read(FD_CALLS, s->in + s->in_used, s->in_room - s->in_used);
	if (n < 0 && errno == EINTR)
		return;
	if (n <= 0)
		_exit(0);
	s->in_used += (size_t)n;
	while (s->in_used >= FRAME_PREFIX) {
		len = (uint32_t)s->in[0] << 24 | (uint32_t)s->in[1] << 16 | (uint32_t)s->in[2] << 8 | s->in[3];
		if (s->in_used < FRAME_PREFIX + len)
			return;
		take_call(s, (struct span){ .p = s->in + FRAME_PREFIX, .len = len });
		s->in_used -= FRAME_PREFIX + len;
		memmove(s->in, s->in + FRAME_PREFIX + len, s->in_used);
	}
}

/* --- life --- */

static void on_dump(int signo)
{
	static const char text[] = "Stack (most recent call first):\n  File \"stub\", line 1 in stub\n\x0c";

	(void)signo;
	if (write(FD_DUMP, text, sizeof(text) - 1) < 0)
		return; /* nothing can be done */
}

static void on_interrupt(int signo)
{
	(void)signo; /* wakes wait_ms() up */
}

static void set_signals(void)
{
	struct sigaction sa = { .sa_handler = on_dump, .sa_flags = SA_RESTART };
	sigset_t closed;

	(void)sigaction(SIGUSR2, &sa, NULL);
	sa.sa_handler = on_interrupt;
	(void)sigaction(SIGUSR1, &sa, NULL);
	sigemptyset(&closed);
	sigaddset(&closed, SIGUSR1);
	(void)sigprocmask(SIG_BLOCK, &closed, NULL);
}

static void check_files(const struct stub *s)
{
	DIR *d = opendir("/proc/self/fd");
	const struct dirent *e;

	while ((e = readdir(d))) {
		int fd = atoi(e->d_name);

		if (fd >= FD_N && fd != s->log && fd != dirfd(d))
			note(s, 'F', (uint64_t)fd);
	}
	(void)closedir(d);
}

static void start(struct stub *s)
{
	const char *path = getenv("STUB_LOG"), *flaky = getenv("STUB_FLAKY");
	const char *down = getenv("STUB_DOWN"), *slow = getenv("STUB_SLOW");
	uint64_t every = flaky ? strtoull(flaky, NULL, 10) : 0;

	s->log = open(path ? path : "/dev/null", O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	s->page = mmap(NULL, sizeof(struct page), PROT_READ, MAP_SHARED, FD_PAGE, 0);
	if (s->log < 0 || s->page == MAP_FAILED)
		_exit(7);
	set_signals();
	while (!s->worker)
		serve_control(s);
	check_files(s);
	if (down && access(down, F_OK) == 0) {
		note(s, 'D', (uint64_t)getpid());
		_exit(3);
	}
	if (every && s->worker % every == 1)
		_exit(3);
	if (slow)
		(void)usleep((useconds_t)strtoul(slow, NULL, 10) * 1000);
	tell("hello", "protocol", 1);
	if (every && s->worker % every == 2)
		_exit(3);
	if (poll(&(struct pollfd){ .fd = FD_CALLS, .events = POLLIN }, 1, 0) > 0)
		note(s, 'B', 0);
	note(s, 'R', (uint64_t)getpid());
	tell("ready", "unused", 0);
}

int main(void)
{
	struct stub s = { .channel = -1 };

	start(&s);
	for (;;) {
		struct pollfd fds[] = { { .fd = FD_CALLS, .events = POLLIN }, { .fd = FD_CONTROL, .events = POLLIN } };

		if (poll(fds, 2, -1) < 0)
			continue;
		if (fds[0].revents)
			read_calls(&s);
		else if (fds[1].revents)
			serve_control(&s);
	}
}

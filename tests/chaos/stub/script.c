#include "tests/chaos/stub/script.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "proto/envelope.h"
#include "proto/pack.h"
#include "tests/chaos/stub/control.h"
#include "tests/chaos/stub/log.h"
#include "tests/chaos/stub/reply.h"
#include "tests/chaos/stub/stub.h"

#define NEVER (24 * 3600 * UINT64_C(1000))

static bool was_interrupted(const struct stub *s)
{
	return s->page->wanted == s->call;
}

/* False: the call was interrupted. Control is served meanwhile. */
static bool wait_ms(struct stub *s, uint64_t ms)
{
	uint64_t end = log_now_ns() + ms * 1000000;
	sigset_t open;

	sigemptyset(&open);
	for (;;) {
		uint64_t now = log_now_ns(), left = end > now ? end - now : 0;
		struct timespec ts = { .tv_sec = (time_t)(left / 1000000000), .tv_nsec = (long)(left % 1000000000) };
		struct pollfd p = { .fd = FD_CONTROL, .events = POLLIN };

		if (was_interrupted(s))
			return false;
		if (!left)
			return true;
		if (ppoll(&p, 1, &ts, &open) > 0)
			control_serve(s);
	}
}

/* Deaf to interrupts, which stay blocked outside of wait_ms(); SIGUSR2 takes a stack and it sleeps on. */
static void nap_ms(uint64_t ms)
{
	uint64_t end = log_now_ns() + ms * 1000000;
	const struct timespec ts = { .tv_sec = (time_t)(end / 1000000000), .tv_nsec = (long)(end % 1000000000) };

	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL) == EINTR)
		;
}

static void do_sleep(struct stub *s)
{
	if (wait_ms(s, s->n))
		return reply_tag(s);
	log_note(s, 'I', s->call);
	reply_error(s, s->call, s->page->reason == 2 ? "deadline_exceeded" : "cancelled");
}

static void do_big(struct stub *s)
{
	char *text = malloc(s->n + TAG_MAX + 1);

	memset(text, '.', s->n + TAG_MAX);
	memcpy(text, s->tag, strlen(s->tag));
	text[strlen(s->tag) + s->n] = '\0';
	log_note(s, 'E', s->call);
	reply_text(s, s->call, text, 0);
	free(text);
}

static void do_fail(struct stub *s)
{
	log_note(s, 'E', s->call);
	reply_error(s, s->call, "app_error");
}

static void do_die(struct stub *s)
{
	if (s->n < 100)
		_exit((int)s->n);
	(void)kill(getpid(), (int)s->n - 100);
}

static void do_reply_and_die(struct stub *s)
{
	reply_tag(s);
	do_die(s);
}

static void do_cut(struct stub *s)
{
	log_note(s, 'E', s->call);
	reply_text(s, s->call, s->tag, 1 + s->n % 8);
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

	wire_put(&s->wire, FD_CALLS, g->p, g->len);
}

static void do_wrong_id(struct stub *s)
{
	reply_text(s, s->call + 1000000 + s->n, "WRONG", 0);
}

static void do_twice(struct stub *s)
{
	reply_tag(s);
	if (s->n)
		(void)wait_ms(s, s->n);
	reply_text(s, s->call, "WRONG", 0);
}

static void do_unasked(struct stub *s)
{
	reply_tag(s);
	if (s->n)
		(void)wait_ms(s, s->n);
	reply_text(s, s->call + 1000000, "WRONG", 0);
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
	wire_put_frame(&s->wire, &buf, buf.size);
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
	reply_tag(s);
}

static void do_noise(struct stub *s)
{
	char line[1024];

	memset(line, 'x', sizeof(line));
	line[sizeof(line) - 1] = '\n';
	for (uint64_t i = 0; i < s->n; i++)
		wire_put(&s->wire, STDERR_FILENO, line, sizeof(line));
	reply_tag(s);
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
	reply_tag(s);
	_exit(0);
}

static void do_stop(struct stub *s)
{
	(void)raise(SIGSTOP);
	reply_tag(s);
}

static const struct action {
	const char *name;
	void (*run)(struct stub *s);
} actions[] = {
	{ "echo", reply_tag },
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

bool script_run(struct stub *s, struct span what)
{
	for (size_t i = 0; i < sizeof(actions) / sizeof(actions[0]); i++) {
		if (span_equals(what, actions[i].name)) {
			actions[i].run(s);
			return true;
		}
	}
	return false;
}

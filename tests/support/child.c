#include "tests/support/child.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <unistd.h>

struct loop *child_loop;
static unsigned fds_before;
static char self[4096];

char *child_self(void)
{
	return self;
}

void child_say(const char *text)
{
	(void)!write(1, text, strlen(text));
}

static void helper_wait(void)
{
	char c;

	(void)!read(3, &c, 1); /* until the test closes it */
}

void child_on_exited(struct process *p, const struct process_exit *how)
{
	struct child *c = container_of(p, struct child, process);

	ck_assert(!process_is_running(p));
	ck_assert_int_eq(process_signal(p, SIGKILL), -ESRCH); /* fault 57 */
	ck_assert_int_eq(process_signal_group(p, SIGKILL), -ESRCH);
	c->exits++;
	c->how = *how;
	loop_stop(child_loop);
}

static void on_control(struct process *p, struct span message)
{
	struct child *c = container_of(p, struct child, process);

	c->packets++;
	snprintf(c->packet, sizeof(c->packet), "%.*s", (int)message.len, (const char *)message.p);
	if (c->stop_at_packet)
		loop_stop(child_loop);
}

void child_on_control_closed(struct process *p)
{
	struct child *c = container_of(p, struct child, process);

	c->control_ends++;
	if (c->stop_at_control_end)
		loop_stop(child_loop);
}

static void on_dumped(struct process *p, struct span text, bool complete)
{
	struct child *c = container_of(p, struct child, process);

	ck_assert_uint_eq(c->exits, 0);
	c->dumps++;
	c->dump_complete = complete;
	c->dump_len = text.len;
	if (text.len) {
		memcpy(c->dump, text.p, text.len);
		c->dump[text.len] = '\0';
	}
	if (c->stop_at_dump)
		loop_stop(child_loop);
}

/* Keeps what a log would: all lines that are new. */
void child_on_output(struct process *p)
{
	struct child *c = container_of(p, struct child, process);

	ck_assert_uint_eq(c->exits, 0);
	ck_assert_uint_gt(tail_mark(p->tail), c->told);
	c->told = tail_mark(p->tail);
}

static const struct process_ops ops = { .exited = child_on_exited,
					.control = on_control,
					.control_closed = child_on_control_closed,
					.output = child_on_output,
					.dumped = on_dumped };

void child_init(struct child *c)
{
	memset(c, 0, sizeof(*c));
	c->calls = -1;
	process_init(&c->process, child_loop, &ops, 1 << 16, 100);
}

void child_deinit(struct child *c)
{
	cleanup_close(&c->calls);
	process_deinit(&c->process);
}

struct process_spec child_spec(char *const *argv)
{
	static char *const no_env[] = { "LANG=C", NULL };

	return (struct process_spec){ .path = argv[0], .argv = argv, .envp = no_env, .uid = (uid_t)-1 };
}

int child_start(struct child *c, const struct process_spec *spec)
{
	child_init(c);
	return process_start(&c->process, spawner_exec(), spec, &c->calls);
}

void child_start_shell(struct child *c, const char *script)
{
	char *argv[] = { "/bin/sh", "-c", (char *)script, NULL };
	struct process_spec spec = child_spec(argv);

	ck_assert_int_eq(child_start(c, &spec), 0);
}

void child_start_helper(struct child *c, const char *name)
{
	char *argv[] = { self, (char *)name, NULL };
	struct process_spec spec = child_spec(argv);

	ck_assert_int_eq(child_start(c, &spec), 0);
}

void child_line(const struct child *c, uint64_t number, char *out, size_t size)
{
	struct tail_line line;

	ck_assert(tail_next(c->process.tail, number, &line));
	snprintf(out, size, "%.*s", (int)line.text.len, (const char *)line.text.p);
}

void child_line_check(const struct child *c, uint64_t number, const char *want)
{
	char got[TAIL_LINE_MAX + 1];

	child_line(c, number, got, sizeof(got));
	ck_assert_str_eq(got, want);
}

void child_setup(void)
{
	fds_before = io_count_fds();
	child_loop = loop_new();
}

void child_teardown(void)
{
	child_loop = loop_free(child_loop);
	ck_assert_uint_eq(io_count_fds(), fds_before);
	ck_assert_int_eq(waitpid(-1, NULL, WNOHANG), -1);
	ck_assert_int_eq(errno, ECHILD);
}

static void run_helper(const struct child_helper *h, const char *name)
{
	signal(SIGALRM, SIG_DFL);
	alarm(55);
	if (strcmp(name, "wait") == 0)
		helper_wait();
	for (; h->name; h++) {
		if (strcmp(name, h->name) == 0)
			h->run();
	}
	_exit(0);
}

/* Linux has them since 5.3; valgrind 3.19 has not. */
static bool has_pidfds(void)
{
	_cleanup_close_ int fd = pidfd_open(getpid(), 0);

	return fd >= 0 || errno != ENOSYS;
}

bool child_main(int argc, char **argv, const struct child_helper *helpers)
{
	if (readlink("/proc/self/exe", self, sizeof(self) - 1) < 0)
		abort();
	if (argc == 2)
		run_helper(helpers, argv[1]);
	if (has_pidfds())
		return true;
	printf("skipped, there are no pidfds here\n");
	return false;
}

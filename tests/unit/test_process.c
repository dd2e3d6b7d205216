/* Children are /bin/sh, or this program itself with the name of a helper as its argument. */
#include "tests/unit/io_support.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/io/process.h"
#include "daemon/io/strays.h"

struct child {
	struct process process;
	int calls;
	unsigned exits, packets, control_ends, dumps;
	struct process_exit how;
	char packet[256], dump[70000];
	size_t dump_len;
	bool dump_complete, stop_at_packet, stop_at_dump, stop_at_control_end;
	uint64_t told; /* lines */
};

static struct loop *loop;
static unsigned fds_before;
static char self[4096];

/* --- helpers: run in the child --- */

static void say(const char *text)
{
	(void)!write(1, text, strlen(text));
}

/* Every open file, as "0 1 2", without the one that reads the folder. */
static void helper_fds(void)
{
	char line[256] = "";

	for (int fd = 0; fd < 1000; fd++) {
		if (fcntl(fd, F_GETFD) >= 0)
			snprintf(line + strlen(line), sizeof(line) - strlen(line), "%d ", fd);
	}
	strcat(line, "\n");
	say(line);
	snprintf(line, sizeof(line), "nonblock %d %d %d %d\n", !!(fcntl(1, F_GETFL) & O_NONBLOCK),
		 !!(fcntl(3, F_GETFL) & O_NONBLOCK), !!(fcntl(4, F_GETFL) & O_NONBLOCK),
		 !!(fcntl(5, F_GETFL) & O_NONBLOCK));
	say(line);
}

static void helper_echo_control(void)
{
	char buf[256];
	ssize_t n = recv(4, buf, sizeof(buf), 0);

	if (n > 0)
		(void)!send(4, buf, (size_t)n, 0);
	(void)!recv(4, buf, sizeof(buf), 0);
}

/* Dies with a packet unread: the daemon's socket reports a reset before the last word. */
static void helper_last_word(void)
{
	char c;

	(void)!recv(4, &c, 1, MSG_PEEK);
	(void)!send(4, "last word", 9, 0);
}

static void helper_many_words(void)
{
	for (unsigned i = 0; i < 100; i++)
		(void)!send(4, "word", 4, 0);
}

static void helper_close_control(void)
{
	char c;

	close(4);
	(void)!read(3, &c, 1);
}

static void helper_empty(void)
{
	char c;

	(void)!read(3, &c, 1); /* until the test closes it */
}

static volatile uint64_t *page;

static void on_interrupt(int signo)
{
	char line[64];

	(void)signo;
	snprintf(line, sizeof(line), "wanted %llu reason %llu\n", (unsigned long long)page[0],
		 (unsigned long long)page[1]);
	say(line);
	_exit(0);
}

static void helper_page(void)
{
	page = mmap(NULL, 4096, PROT_READ, MAP_SHARED, 6, 0);
	signal(SIGUSR1, on_interrupt);
	say(page[0] == 0 && ftruncate(6, 0) < 0 && errno == EPERM ? "sealed\n" : "not sealed\n");
	(void)!send(4, "ready", 5, 0);
	for (;;)
		pause();
}

static void on_dump(int signo)
{
	static const char text[] = "\n\x11Stack (most recent call first):\n\x1e  File \"x.py\", line 1\n\x0c";

	(void)signo;
	(void)!write(5, text, sizeof(text) - 1);
}

static void on_dump_cut(int signo)
{
	(void)signo;
	(void)!write(5, "Stack cut", 9);
	(void)!send(4, "cut", 3, 0);
}

static void on_dump_die(int signo)
{
	(void)signo;
	(void)!write(5, "Stack last\x0c", 11);
	_exit(0);
}

static void on_dump_huge(int signo)
{
	(void)signo;
	for (unsigned i = 0; i < 100000;) {
		if (write(5, "x", 1) == 1)
			i++;
	}
	while (write(5, "\x0c", 1) != 1)
		;
}

static void helper_dump_with(void (*handler)(int))
{
	static const char old[] = "Stack that is old\x0c more of it";

	(void)!write(5, old, sizeof(old) - 1);
	signal(SIGUSR2, handler);
	(void)!send(4, "ready", 5, 0);
	for (;;)
		pause();
}

static void helper_nonblocking_stdio(void)
{
	fcntl(1, F_SETFL, fcntl(1, F_GETFL) | O_NONBLOCK);
	fcntl(2, F_SETFL, fcntl(2, F_GETFL) | O_NONBLOCK);
	say("still here\n");
}

/* A daemon that dies as soon as its child runs. */
static void helper_dying_daemon(void);

static int run_helper(const char *name)
{
	signal(SIGALRM, SIG_DFL);
	alarm(55);
	if (strcmp(name, "fds") == 0)
		helper_fds();
	else if (strcmp(name, "echo-control") == 0)
		helper_echo_control();
	else if (strcmp(name, "last-word") == 0)
		helper_last_word();
	else if (strcmp(name, "many-words") == 0)
		helper_many_words();
	else if (strcmp(name, "close-control") == 0)
		helper_close_control();
	else if (strcmp(name, "wait") == 0)
		helper_empty();
	else if (strcmp(name, "page") == 0)
		helper_page();
	else if (strcmp(name, "dump") == 0)
		helper_dump_with(on_dump);
	else if (strcmp(name, "dump-cut") == 0)
		helper_dump_with(on_dump_cut);
	else if (strcmp(name, "dump-die") == 0)
		helper_dump_with(on_dump_die);
	else if (strcmp(name, "dump-huge") == 0)
		helper_dump_with(on_dump_huge);
	else if (strcmp(name, "nonblocking-stdio") == 0)
		helper_nonblocking_stdio();
	else if (strcmp(name, "dying-daemon") == 0)
		helper_dying_daemon();
	_exit(0);
}

/* --- the test's side --- */

static void on_exited(struct process *p, const struct process_exit *how)
{
	struct child *c = container_of(p, struct child, process);

	ck_assert(!process_is_running(p));
	ck_assert_int_eq(process_signal(p, SIGKILL), -ESRCH); /* fault 57 */
	ck_assert_int_eq(process_signal_group(p, SIGKILL), -ESRCH);
	c->exits++;
	c->how = *how;
	loop_stop(loop);
}

static void on_control(struct process *p, struct span message)
{
	struct child *c = container_of(p, struct child, process);

	c->packets++;
	snprintf(c->packet, sizeof(c->packet), "%.*s", (int)message.len, (const char *)message.p);
	if (c->stop_at_packet)
		loop_stop(loop);
}

static void on_control_closed(struct process *p)
{
	struct child *c = container_of(p, struct child, process);

	c->control_ends++;
	if (c->stop_at_control_end)
		loop_stop(loop);
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
		loop_stop(loop);
}

/* Keeps what a log would: all lines that are new. */
static void on_output(struct process *p)
{
	struct child *c = container_of(p, struct child, process);

	ck_assert_uint_eq(c->exits, 0);
	ck_assert_uint_gt(tail_mark(p->tail), c->told);
	c->told = tail_mark(p->tail);
}

static const struct process_ops ops = { .exited = on_exited,
					.control = on_control,
					.control_closed = on_control_closed,
					.output = on_output,
					.dumped = on_dumped };

static void child_init(struct child *c)
{
	memset(c, 0, sizeof(*c));
	c->calls = -1;
	process_init(&c->process, loop, &ops, 1 << 16, 100);
}

static void child_deinit(struct child *c)
{
	cleanup_close(&c->calls);
	process_deinit(&c->process);
}

static struct process_spec spec_of(char *const *argv)
{
	static char *const no_env[] = { "LANG=C", NULL };

	return (struct process_spec){ .path = argv[0], .argv = argv, .envp = no_env, .uid = (uid_t)-1 };
}

static int child_start(struct child *c, const struct process_spec *spec)
{
	child_init(c);
	return process_start(&c->process, spawner_exec(), spec, &c->calls);
}

static void start_shell(struct child *c, const char *script)
{
	char *argv[] = { "/bin/sh", "-c", (char *)script, NULL };
	struct process_spec spec = spec_of(argv);

	ck_assert_int_eq(child_start(c, &spec), 0);
}

static void start_helper(struct child *c, const char *name)
{
	char *argv[] = { self, (char *)name, NULL };
	struct process_spec spec = spec_of(argv);

	ck_assert_int_eq(child_start(c, &spec), 0);
}

static void line_get(const struct child *c, uint64_t number, char *out, size_t size)
{
	struct tail_line line;

	ck_assert(tail_next(c->process.tail, number, &line));
	snprintf(out, size, "%.*s", (int)line.text.len, (const char *)line.text.p);
}

static void line_check(const struct child *c, uint64_t number, const char *want)
{
	char got[TAIL_LINE_MAX + 1];

	line_get(c, number, got, sizeof(got));
	ck_assert_str_eq(got, want);
}

static void setup(void)
{
	fds_before = io_count_fds();
	loop = loop_new();
}

static void teardown(void)
{
	loop = loop_free(loop);
	ck_assert_uint_eq(io_count_fds(), fds_before);
	ck_assert_int_eq(waitpid(-1, NULL, WNOHANG), -1);
	ck_assert_int_eq(errno, ECHILD);
}

START_TEST(process_tells_exit_code_and_last_lines)
	{
		struct child c;

		start_shell(&c, "echo out; echo err >&2; printf open; exit 7");
		ck_assert(process_is_running(&c.process));
		ck_assert_uint_ne(c.process.start_ticks, 0);
		ck_assert_uint_ge(c.process.exec_ns, c.process.spawned_ns);
		io_run(loop);
		ck_assert_uint_eq(c.exits, 1);
		ck_assert(c.how.known);
		ck_assert_int_eq(c.how.exit_code, 7);
		ck_assert_int_eq(c.how.signal, 0);
		ck_assert_uint_ne(c.how.max_rss_kib, 0);
		ck_assert_uint_eq(tail_mark(c.process.tail), 3); /* the open line too */
		ck_assert_uint_eq(c.told, 3);
		child_deinit(&c);
	}
END_TEST

START_TEST(process_tells_the_signal_that_killed_it)
	{
		struct child c;

		start_helper(&c, "wait");
		ck_assert_int_eq(process_signal(&c.process, SIGTERM), 0);
		io_run(loop);
		ck_assert_int_eq(c.how.exit_code, -1);
		ck_assert_int_eq(c.how.signal, SIGTERM);
		child_deinit(&c);
	}
END_TEST

START_TEST(process_can_be_started_again)
	{
		char *argv[] = { "/bin/true", NULL };
		struct process_spec spec = spec_of(argv);
		struct child c;

		ck_assert_int_eq(child_start(&c, &spec), 0);
		io_run(loop);
		cleanup_close(&c.calls);
		ck_assert_int_eq(process_start(&c.process, spawner_exec(), &spec, &c.calls), 0);
		io_run(loop);
		ck_assert_uint_eq(c.exits, 2);
		child_deinit(&c);
	}
END_TEST

static void check_start_fails(const char *path, uint64_t nofile, int want)
{
	char *argv[] = { (char *)path, NULL };
	struct process_spec spec = spec_of(argv);
	struct child c;
	unsigned before = io_count_fds();

	spec.limit_nofile = nofile;
	spec.die_with_daemon = true;
	ck_assert_int_eq(child_start(&c, &spec), want);
	ck_assert(!process_is_running(&c.process));
	ck_assert_int_eq(c.calls, -1);
	ck_assert_uint_eq(io_count_fds(), before);
	ck_assert_int_eq(waitpid(-1, NULL, WNOHANG), -1);
	child_deinit(&c);
}

START_TEST(fault_51_failed_exec_is_known_at_once_with_its_errno)
	{
		check_start_fails("/nonexistent/python3", 0, -ENOENT);
		check_start_fails("/etc/passwd", 0, -EACCES);
		check_start_fails("/", 0, -EACCES);
	}
END_TEST

START_TEST(fault_51_failure_before_the_exec_is_known_too)
	{
		struct rlimit limit;

		if (geteuid() == 0) /* root may raise limits, not above the kernel's */
			return;
		getrlimit(RLIMIT_NOFILE, &limit);
		check_start_fails("/bin/true", limit.rlim_max + 1, -EPERM);
	}
END_TEST

/* Each file of the plumbing in turn is the one that cannot be had. */
START_TEST(fault_61_spawn_that_fails_midway_leaks_nothing)
	{
		char *argv[] = { "/bin/true", NULL };
		struct process_spec spec = spec_of(argv);
		unsigned failed = 0, before = io_count_fds();
		struct rlimit old, limit;
		int top = open("/dev/null", O_RDONLY);
		struct child c;

		getrlimit(RLIMIT_NOFILE, &old);
		close(top);
		for (int room = 0; room < 20; room++) {
			int r;

			limit = old;
			limit.rlim_cur = (rlim_t)(top + room);
			setrlimit(RLIMIT_NOFILE, &limit);
			r = child_start(&c, &spec);
			setrlimit(RLIMIT_NOFILE, &old);
			if (r == 0) {
				io_run(loop);
				child_deinit(&c);
				break;
			}
			ck_assert_int_eq(r, -EMFILE);
			ck_assert(!process_is_running(&c.process));
			ck_assert_int_eq(waitpid(-1, NULL, WNOHANG), -1);
			child_deinit(&c);
			ck_assert_uint_eq(io_count_fds(), before);
			failed++;
		}
		ck_assert_uint_ge(failed, 12);
	}
END_TEST

static unsigned n_started, n_reaped, n_wanted;
static struct child crowd[8];
static struct loop_task restart;

static void on_crowd_exited(struct process *p, const struct process_exit *how)
{
	ck_assert(how->known && how->exit_code == 0);
	(void)p;
	n_reaped++;
	loop_defer(loop, &restart);
}

static const struct process_ops crowd_ops = { .exited = on_crowd_exited, .control_closed = on_control_closed };

static void on_restart(struct loop_task *t)
{
	char *argv[] = { "/bin/true", NULL };
	struct process_spec spec = spec_of(argv);

	(void)t;
	for (unsigned i = 0; i < ARRAY_SIZE(crowd) && n_started < n_wanted; i++) {
		if (process_is_running(&crowd[i].process))
			continue;
		cleanup_close(&crowd[i].calls);
		ck_assert_int_eq(process_start(&crowd[i].process, spawner_exec(), &spec, &crowd[i].calls), 0);
		n_started++;
	}
	if (n_reaped == n_wanted)
		loop_stop(loop);
}

START_TEST(fault_56_process_that_exits_before_it_is_watched_is_reaped)
	{
		n_wanted = 2000;
		restart.run = on_restart;
		for (unsigned i = 0; i < ARRAY_SIZE(crowd); i++) {
			child_init(&crowd[i]);
			crowd[i].process.ops = &crowd_ops;
		}
		loop_defer(loop, &restart);
		io_run(loop);
		ck_assert_uint_eq(n_reaped, 2000);
		for (unsigned i = 0; i < ARRAY_SIZE(crowd); i++)
			child_deinit(&crowd[i]);
	}
END_TEST

START_TEST(fault_58_child_has_the_expected_files_and_environment)
	{
		int stray = fcntl(2, F_DUPFD, 50); /* a library's, without O_CLOEXEC */
		struct child c;

		start_helper(&c, "fds");
		io_run(loop);
		line_check(&c, 0, "0 1 2 3 4 5 6 ");
		line_check(&c, 1, "nonblock 0 0 0 1");
		child_deinit(&c);
		start_shell(&c, "/usr/bin/env");
		io_run(loop);
		for (uint64_t i = 0; i < tail_mark(c.process.tail); i++) {
			char line[300];

			line_get(&c, i, line, sizeof(line));
			ck_assert_msg(strcmp(line, "LANG=C") == 0 || strncmp(line, "PWD=", 4) == 0 ||
					      strncmp(line, "_=", 2) == 0 || strncmp(line, "OLDPWD=", 7) == 0 ||
					      strncmp(line, "SHLVL=", 6) == 0,
				      "%s", line);
		}
		child_deinit(&c);
		close(stray);
	}
END_TEST

/* The places of the child's files are taken by the daemon's own, in any order. */
START_TEST(process_starts_when_the_daemon_has_closed_its_stdio)
	{
		int saved[3];
		struct child c;

		for (int i = 0; i < 3; i++) {
			saved[i] = fcntl(i, F_DUPFD_CLOEXEC, 100);
			close(i);
		}
		start_helper(&c, "fds");
		io_run(loop);
		for (int i = 0; i < 3; i++) {
			dup2(saved[i], i);
			close(saved[i]);
		}
		line_check(&c, 0, "0 1 2 3 4 5 6 ");
		child_deinit(&c);
	}
END_TEST

START_TEST(process_has_default_signals_and_its_own_group)
	{
		struct child c;
		sigset_t set, old;
		char line[300];

		signal(SIGPIPE, SIG_IGN);
		signal(SIGUSR1, SIG_IGN);
		sigemptyset(&set);
		sigaddset(&set, SIGTERM);
		sigprocmask(SIG_BLOCK, &set, &old);
		/* 32 and 33 are glibc's own: its posix_spawn (make's) leaves them ignored, and nobody can set them */
		start_shell(&c, "grep '^SigBlk' /proc/$$/status; ignored=$(sed -n 's/^SigIgn:.//p' /proc/$$/status); "
				"echo ignored $((0x$ignored & ~0x180000000)); ps -o pgid= -p $$ | tr -d ' '; echo $$");
		io_run(loop);
		sigprocmask(SIG_SETMASK, &old, NULL);
		line_check(&c, 0, "SigBlk:\t0000000000000000");
		line_check(&c, 1, "ignored 0");
		line_get(&c, 3, line, sizeof(line));
		line_check(&c, 2, line);
		child_deinit(&c);
	}
END_TEST

START_TEST(process_has_its_limits)
	{
		char *argv[] = { "/bin/sh", "-c", "ulimit -n; ulimit -v", NULL };
		struct process_spec spec = spec_of(argv);
		struct child c;

		spec.limit_nofile = 77;
		spec.limit_as = UINT64_C(1) << 32;
		ck_assert_int_eq(child_start(&c, &spec), 0);
		io_run(loop);
		line_check(&c, 0, "77");
		line_check(&c, 1, "4194304");
		child_deinit(&c);
	}
END_TEST

START_TEST(process_runs_as_its_user_alone)
	{
		char *argv[] = { "/bin/sh", "-c", "id -u; id -g; id -G; grep PDEATH /dev/null; exit 0", NULL };
		struct process_spec spec = spec_of(argv);
		struct child c;

		if (geteuid() != 0)
			return;
		spec.uid = 65534;
		spec.gid = 65534;
		spec.die_with_daemon = true;
		ck_assert_int_eq(child_start(&c, &spec), 0);
		io_run(loop);
		ck_assert_int_eq(c.how.exit_code, 0);
		line_check(&c, 0, "65534");
		line_check(&c, 1, "65534");
		line_check(&c, 2, "65534");
		child_deinit(&c);
	}
END_TEST

START_TEST(fault_40_ten_mebibytes_of_stderr_are_drained)
	{
		struct child c;

		start_shell(&c, "yes 0123456789012345678901234567890123456789012345678901234567890 | head -c 10485760 "
				">&2; echo >&2; echo done >&2");
		io_run(loop);
		ck_assert_int_eq(c.how.exit_code, 0);
		ck_assert_uint_gt(tail_mark(c.process.tail), 160000);
		line_check(&c, tail_mark(c.process.tail) - 1, "done");
		child_deinit(&c);
	}
END_TEST

static pid_t line_pid(const struct child *c, uint64_t number)
{
	char line[32];

	line_get(c, number, line, sizeof(line));
	ck_assert_int_gt(atoi(line), 1);
	return atoi(line);
}

START_TEST(fault_43_grandchild_that_keeps_the_pipes_does_not_delay_the_exit)
	{
		struct child c;
		pid_t orphan;
		int status;

		prctl(PR_SET_CHILD_SUBREAPER, 1);
		start_shell(&c, "setsid sleep 20 & echo $!; exit 3");
		io_run(loop);
		ck_assert_int_eq(c.how.exit_code, 3);
		orphan = line_pid(&c, 0);
		child_deinit(&c);
		ck_assert_int_eq(kill(orphan, SIGKILL), 0); /* it was alive: it is not in the group */
		ck_assert_int_eq(waitpid(orphan, &status, 0), orphan);
	}
END_TEST

START_TEST(process_takes_its_group_with_it)
	{
		struct child c;
		pid_t orphan;
		int status;

		prctl(PR_SET_CHILD_SUBREAPER, 1);
		start_shell(&c, "sleep 20 & echo $!; exit 0");
		io_run(loop);
		orphan = line_pid(&c, 0);
		ck_assert_int_eq(waitpid(orphan, &status, 0), orphan);
		ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
		child_deinit(&c);
	}
END_TEST

START_TEST(process_group_is_signalled_as_a_whole)
	{
		struct child c;
		int status;

		prctl(PR_SET_CHILD_SUBREAPER, 1);
		start_shell(&c, "sleep 20 & echo $!; echo >&4; wait");
		c.stop_at_packet = true;
		io_run(loop);
		ck_assert_int_eq(process_signal_group(&c.process, SIGTERM), 0);
		io_run(loop);
		ck_assert_int_eq(c.how.signal, SIGTERM);
		ck_assert_int_gt(waitpid(line_pid(&c, 0), &status, 0), 0);
		ck_assert_int_eq(WTERMSIG(status), SIGTERM);
		child_deinit(&c);
	}
END_TEST

START_TEST(fault_44_nonblocking_stdio_of_the_child_changes_nothing)
	{
		struct child c;

		start_helper(&c, "nonblocking-stdio");
		io_run(loop);
		ck_assert_int_eq(c.how.exit_code, 0);
		line_check(&c, 0, "still here");
		child_deinit(&c);
	}
END_TEST

START_TEST(process_that_closes_its_output_lives_on)
	{
		struct child c;

		start_shell(&c, "exec >&- 2>&-; echo x >&4; read x <&3; exit 5");
		c.stop_at_packet = true;
		io_run(loop);
		ck_assert(process_is_running(&c.process));
		shutdown(c.calls, SHUT_RDWR);
		io_run(loop);
		ck_assert_int_eq(c.how.exit_code, 5);
		child_deinit(&c);
	}
END_TEST

static void helper_dying_daemon(void)
{
	char *argv[] = { self, "wait", NULL };
	struct process_spec spec = spec_of(argv);
	struct child *c = calloc(1, sizeof(*c));

	spec.die_with_daemon = true;
	loop = loop_new();
	if (child_start(c, &spec) < 0)
		_exit(1);
	(void)!dup(c->calls); /* so that the child does not leave by itself before */
	(void)!send(4, &c->process.pid, sizeof(pid_t), 0);
	_exit(0);
}

static pid_t killed_pid;

static void on_pid(struct process *p, struct span message)
{
	(void)p;
	memcpy(&killed_pid, message.p, sizeof(killed_pid));
}

START_TEST(fault_59_child_dies_with_the_daemon)
	{
		static const struct process_ops pid_ops = {
			.exited = on_exited, .control = on_pid, .control_closed = on_control_closed, .output = on_output
		};
		struct child c;
		int status;

		prctl(PR_SET_CHILD_SUBREAPER, 1);
		start_helper(&c, "dying-daemon");
		c.process.ops = &pid_ops;
		io_run(loop);
		ck_assert_int_gt(killed_pid, 0);
		ck_assert_int_eq(waitpid(killed_pid, &status, 0), killed_pid);
		ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
		child_deinit(&c);
	}
END_TEST

/* --- control, page, dump --- */

START_TEST(process_control_packets_go_both_ways)
	{
		struct child c;

		start_helper(&c, "echo-control");
		c.stop_at_packet = true;
		ck_assert_int_eq(process_control_send(&c.process, "hello", 5), 0);
		io_run(loop);
		ck_assert_str_eq(c.packet, "hello");
		ck_assert_int_eq(process_control_send(&c.process, "bye", 3), 0);
		io_run(loop);
		ck_assert_int_eq(c.how.exit_code, 0);
		ck_assert_int_eq(process_control_send(&c.process, "x", 1), -EPIPE);
		child_deinit(&c);
	}
END_TEST

START_TEST(process_control_that_nobody_reads_is_full_one_day)
	{
		struct child c;
		char packet[1000] = "";
		int r = 0;

		start_helper(&c, "wait");
		for (unsigned i = 0; r == 0 && i < 10000; i++)
			r = process_control_send(&c.process, packet, sizeof(packet));
		ck_assert_int_eq(r, -EAGAIN);
		process_signal(&c.process, SIGKILL);
		io_run(loop);
		child_deinit(&c);
	}
END_TEST

START_TEST(process_last_word_is_read_although_a_packet_was_left_unread)
	{
		for (unsigned i = 0; i < 20; i++) {
			struct child c;

			start_helper(&c, "last-word");
			ck_assert_int_eq(process_control_send(&c.process, "unread", 6), 0);
			io_run(loop);
			ck_assert_uint_eq(c.packets, 1);
			ck_assert_str_eq(c.packet, "last word");
			child_deinit(&c);
		}
	}
END_TEST

START_TEST(process_is_heard_to_the_end_before_its_exit)
	{
		struct child c;
		siginfo_t si;

		start_helper(&c, "many-words");
		ck_assert_int_eq(waitid(P_PID, (id_t)c.process.pid, &si, WEXITED | WNOWAIT), 0);
		io_run(loop);
		ck_assert_uint_eq(c.packets, 100);
		child_deinit(&c);
	}
END_TEST

START_TEST(process_whose_control_is_closed_may_live_on)
	{
		struct child c;

		start_helper(&c, "close-control");
		c.stop_at_control_end = true;
		io_run(loop);
		ck_assert_uint_eq(c.control_ends, 1);
		ck_assert(process_is_running(&c.process));
		cleanup_close(&c.calls);
		c.calls = -1;
		io_run(loop);
		ck_assert_uint_eq(c.control_ends, 1);
		child_deinit(&c);
	}
END_TEST

START_TEST(process_interrupt_brings_call_and_reason)
	{
		struct child c;

		start_helper(&c, "page");
		c.stop_at_packet = true;
		io_run(loop);
		ck_assert_int_eq(process_interrupt(&c.process, UINT64_C(1) << 40, 2), 0);
		io_run(loop);
		line_check(&c, 0, "sealed");
		line_check(&c, 1, "wanted 1099511627776 reason 2");
		ck_assert_int_eq(process_interrupt(&c.process, 1, 1), -ESRCH);
		child_deinit(&c);
	}
END_TEST

static void start_dumper(struct child *c, const char *name)
{
	start_helper(c, name);
	c->stop_at_packet = true;
	io_run(loop);
	c->stop_at_packet = false;
	c->stop_at_dump = true;
}

static void child_kill(struct child *c)
{
	c->stop_at_dump = false;
	process_signal(&c->process, SIGKILL);
	io_run(loop);
	child_deinit(c);
}

START_TEST(process_dump_is_cleaned_and_ends_at_its_last_byte)
	{
		struct child c;

		start_dumper(&c, "dump");
		for (unsigned i = 1; i <= 3; i++) {
			process_dump(&c.process, 10 * NS_PER_S);
			process_dump(&c.process, 10 * NS_PER_S);
			io_run(loop);
			ck_assert_uint_eq(c.dumps, i);
			ck_assert(c.dump_complete);
			ck_assert_str_eq(c.dump, "Stack (most recent call first):\n  File \"x.py\", line 1\n");
		}
		child_kill(&c);
	}
END_TEST

START_TEST(process_dump_that_does_not_end_is_what_has_come)
	{
		struct child c;

		start_dumper(&c, "dump-cut");
		process_dump(&c.process, 300 * NS_PER_MS);
		io_run(loop);
		ck_assert_uint_eq(c.dumps, 1);
		ck_assert(!c.dump_complete);
		ck_assert_str_eq(c.dump, "Stack cut");
		child_kill(&c);
	}
END_TEST

START_TEST(process_dump_of_a_dying_process_comes_before_its_exit)
	{
		struct child c;

		start_dumper(&c, "dump-die");
		c.stop_at_dump = false;
		process_dump(&c.process, 10 * NS_PER_S);
		io_run(loop);
		ck_assert_uint_eq(c.dumps, 1);
		ck_assert(c.dump_complete);
		ck_assert_str_eq(c.dump, "Stack last");
		process_dump(&c.process, 10 * NS_PER_S); /* of a dead one: empty, and not during the call */
		c.exits = 0;
		c.stop_at_dump = true;
		ck_assert_uint_eq(c.dumps, 1);
		io_run(loop);
		ck_assert_uint_eq(c.dumps, 2);
		ck_assert(!c.dump_complete);
		ck_assert_uint_eq(c.dump_len, 0);
		child_deinit(&c);
	}
END_TEST

START_TEST(process_dump_is_bounded)
	{
		struct child c;

		start_dumper(&c, "dump-huge");
		process_dump(&c.process, 15 * NS_PER_S);
		io_run(loop);
		ck_assert(c.dump_complete);
		ck_assert_uint_eq(c.dump_len, 65536);
		child_kill(&c);
	}
END_TEST

START_TEST(process_dump_that_is_on_is_dropped_with_the_process)
	{
		struct child c;

		start_dumper(&c, "dump-cut");
		process_dump(&c.process, 10 * NS_PER_S);
		c.stop_at_packet = true;
		io_run(loop);
		c.stop_at_dump = false;
		process_signal(&c.process, SIGKILL);
		io_run(loop);
		ck_assert_uint_eq(c.dumps, 1);
		ck_assert(!c.dump_complete);
		child_deinit(&c);
	}
END_TEST

/* --- strays --- */

static struct child *own;
static struct strays strays;
static struct loop_timer poll_timer;

static bool is_own(struct strays *s, pid_t pid)
{
	(void)s;
	return own && own->process.pid == pid;
}

static void on_poll(struct loop_timer *t)
{
	if (strays.reaped >= n_wanted)
		loop_stop(loop);
	else
		loop_timer_set(t, loop_now(loop) + NS_PER_MS);
}

START_TEST(strays_reap_orphans_and_leave_processes_to_their_pidfd)
	{
		struct child c;

		own = &c;
		n_wanted = 3;
		ck_assert_int_eq(strays_start(&strays, loop, is_own), 0);
		start_shell(&c, "for i in 1 2 3; do (setsid true &) ; done; exit 4");
		io_run(loop);
		ck_assert(c.how.known);
		ck_assert_int_eq(c.how.exit_code, 4);
		loop_timer_init(&poll_timer, loop, on_poll);
		loop_timer_set(&poll_timer, loop_now(loop));
		io_run(loop);
		ck_assert_uint_eq(strays.reaped, 3);
		strays_stop(&strays);
		child_deinit(&c);
	}
END_TEST

static void add_start_tests(TCase *c)
{
	tcase_add_test(c, process_tells_exit_code_and_last_lines);
	tcase_add_test(c, process_tells_the_signal_that_killed_it);
	tcase_add_test(c, process_can_be_started_again);
	tcase_add_test(c, fault_51_failed_exec_is_known_at_once_with_its_errno);
	tcase_add_test(c, fault_51_failure_before_the_exec_is_known_too);
	tcase_add_test(c, fault_61_spawn_that_fails_midway_leaks_nothing);
	tcase_add_test(c, fault_56_process_that_exits_before_it_is_watched_is_reaped);
	tcase_add_test(c, fault_58_child_has_the_expected_files_and_environment);
	tcase_add_test(c, process_starts_when_the_daemon_has_closed_its_stdio);
	tcase_add_test(c, process_has_default_signals_and_its_own_group);
	tcase_add_test(c, process_has_its_limits);
	tcase_add_test(c, process_runs_as_its_user_alone);
	tcase_add_test(c, fault_59_child_dies_with_the_daemon);
}

static void add_life_tests(TCase *c)
{
	tcase_add_test(c, fault_40_ten_mebibytes_of_stderr_are_drained);
	tcase_add_test(c, fault_43_grandchild_that_keeps_the_pipes_does_not_delay_the_exit);
	tcase_add_test(c, process_takes_its_group_with_it);
	tcase_add_test(c, process_group_is_signalled_as_a_whole);
	tcase_add_test(c, fault_44_nonblocking_stdio_of_the_child_changes_nothing);
	tcase_add_test(c, process_that_closes_its_output_lives_on);
	tcase_add_test(c, process_control_packets_go_both_ways);
	tcase_add_test(c, process_control_that_nobody_reads_is_full_one_day);
	tcase_add_test(c, process_last_word_is_read_although_a_packet_was_left_unread);
	tcase_add_test(c, process_is_heard_to_the_end_before_its_exit);
	tcase_add_test(c, process_whose_control_is_closed_may_live_on);
	tcase_add_test(c, process_interrupt_brings_call_and_reason);
	tcase_add_test(c, process_dump_is_cleaned_and_ends_at_its_last_byte);
	tcase_add_test(c, process_dump_that_does_not_end_is_what_has_come);
	tcase_add_test(c, process_dump_of_a_dying_process_comes_before_its_exit);
	tcase_add_test(c, process_dump_is_bounded);
	tcase_add_test(c, process_dump_that_is_on_is_dropped_with_the_process);
	tcase_add_test(c, strays_reap_orphans_and_leave_processes_to_their_pidfd);
}

/* Linux has them since 5.3; valgrind 3.19 has not. */
static bool has_pidfds(void)
{
	_cleanup_close_ int fd = pidfd_open(getpid(), 0);

	return fd >= 0 || errno != ENOSYS;
}

int main(int argc, char **argv)
{
	Suite *s;
	TCase *c;
	SRunner *r;
	int failed;

	if (readlink("/proc/self/exe", self, sizeof(self) - 1) < 0)
		return 1;
	if (argc == 2)
		return run_helper(argv[1]);
	if (!has_pidfds()) {
		printf("process: skipped, there are no pidfds here\n");
		return 0;
	}
	s = suite_create("process");
	c = tcase_create("process");
	r = srunner_create(s);
	tcase_set_timeout(c, 60);
	tcase_add_checked_fixture(c, setup, teardown);
	add_start_tests(c);
	add_life_tests(c);
	suite_add_tcase(s, c);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? 1 : 0;
}

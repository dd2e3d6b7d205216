/* Stacks that a child writes when it is asked. */
#include "tests/support/child.h"

#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

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

/* As when the signal meets faulthandler while it hands on the last one: twice an end without a text. */
static void on_dump_bare(int signo)
{
	static unsigned n;

	if (++n <= 2)
		(void)!write(5, "\x0c", 1);
	else
		on_dump(signo);
}

static void on_dump_never(int signo)
{
	(void)signo;
	(void)!write(5, "\x0c", 1);
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

static void helper_dump(void)
{
	helper_dump_with(on_dump);
}

static void helper_dump_cut(void)
{
	helper_dump_with(on_dump_cut);
}

static void helper_dump_die(void)
{
	helper_dump_with(on_dump_die);
}

static void helper_dump_huge(void)
{
	helper_dump_with(on_dump_huge);
}

static void helper_dump_bare(void)
{
	helper_dump_with(on_dump_bare);
}

static void helper_dump_never(void)
{
	helper_dump_with(on_dump_never);
}

static void start_dumper(struct child *c, const char *name)
{
	child_start_helper(c, name);
	c->stop_at_packet = true;
	io_run(child_loop);
	c->stop_at_packet = false;
	c->stop_at_dump = true;
}

static void child_kill(struct child *c)
{
	c->stop_at_dump = false;
	process_signal(&c->process, SIGKILL);
	io_run(child_loop);
	child_deinit(c);
}

START_TEST(process_dump_is_cleaned_and_ends_at_its_last_byte)
	{
		struct child c;

		start_dumper(&c, "dump");
		for (unsigned i = 1; i <= 3; i++) {
			process_dump(&c.process, 10 * NS_PER_S);
			process_dump(&c.process, 10 * NS_PER_S);
			io_run(child_loop);
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
		process_dump(&c.process, NS_PER_S);
		io_run(child_loop);
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
		io_run(child_loop);
		ck_assert_uint_eq(c.dumps, 1);
		ck_assert(c.dump_complete);
		ck_assert_str_eq(c.dump, "Stack last");
		process_dump(&c.process, 10 * NS_PER_S); /* of a dead one: empty, and not during the call */
		c.exits = 0;
		c.stop_at_dump = true;
		ck_assert_uint_eq(c.dumps, 1);
		io_run(child_loop);
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
		io_run(child_loop);
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
		io_run(child_loop);
		c.stop_at_dump = false;
		process_signal(&c.process, SIGKILL);
		io_run(child_loop);
		ck_assert_uint_eq(c.dumps, 1);
		ck_assert(!c.dump_complete);
		child_deinit(&c);
	}
END_TEST

START_TEST(process_dump_whose_end_came_without_a_text_is_asked_for_again)
	{
		struct child c;

		start_dumper(&c, "dump-bare");
		process_dump(&c.process, 10 * NS_PER_S);
		io_run(child_loop);
		ck_assert_uint_eq(c.dumps, 1);
		ck_assert(c.dump_complete);
		ck_assert_str_eq(c.dump, "Stack (most recent call first):\n  File \"x.py\", line 1\n");
		ck_assert_uint_eq(c.process.dumps_again, 2);
		child_kill(&c);
	}
END_TEST

START_TEST(process_dump_is_not_asked_for_again_without_end)
	{
		struct child c;

		start_dumper(&c, "dump-never");
		process_dump(&c.process, NS_PER_S);
		io_run(child_loop);
		ck_assert_uint_eq(c.dumps, 1);
		ck_assert(!c.dump_complete);
		ck_assert_uint_eq(c.dump_len, 0);
		ck_assert_uint_eq(c.process.dumps_again, 8);
		child_kill(&c);
	}
END_TEST

int main(int argc, char **argv)
{
	static const struct child_helper helpers[] = {
		{ "dump", helper_dump },
		{ "dump-cut", helper_dump_cut },
		{ "dump-die", helper_dump_die },
		{ "dump-huge", helper_dump_huge },
		{ "dump-bare", helper_dump_bare },
		{ "dump-never", helper_dump_never },
		{ NULL, NULL },
	};

	if (!child_main(argc, argv, helpers))
		return 0;
	return SUITE_RUN("process dump", child_setup, child_teardown, process_dump_is_cleaned_and_ends_at_its_last_byte,
			 process_dump_that_does_not_end_is_what_has_come,
			 process_dump_of_a_dying_process_comes_before_its_exit, process_dump_is_bounded,
			 process_dump_that_is_on_is_dropped_with_the_process,
			 process_dump_whose_end_came_without_a_text_is_asked_for_again,
			 process_dump_is_not_asked_for_again_without_end);
}

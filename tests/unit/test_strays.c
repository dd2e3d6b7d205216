#include "tests/support/child.h"

#include "daemon/io/strays.h"

static struct child *own;
static struct strays strays;
static struct loop_timer poll_timer;
static unsigned n_wanted;

static bool is_own(struct strays *s, pid_t pid)
{
	(void)s;
	return own && own->process.pid == pid;
}

static void on_poll(struct loop_timer *t)
{
	if (strays.reaped >= n_wanted)
		loop_stop(child_loop);
	else
		loop_timer_set(t, loop_now(child_loop) + NS_PER_MS);
}

START_TEST(strays_reap_orphans_and_leave_processes_to_their_pidfd)
	{
		struct child c;

		own = &c;
		n_wanted = 3;
		ck_assert_int_eq(strays_start(&strays, child_loop, is_own), 0);
		child_start_shell(&c, "for i in 1 2 3; do (setsid true &) ; done; exit 4");
		io_run(child_loop);
		ck_assert(c.how.known);
		ck_assert_int_eq(c.how.exit_code, 4);
		loop_timer_init(&poll_timer, child_loop, on_poll);
		loop_timer_set(&poll_timer, loop_now(child_loop));
		io_run(child_loop);
		ck_assert_uint_eq(strays.reaped, 3);
		strays_stop(&strays);
		child_deinit(&c);
	}
END_TEST

int main(int argc, char **argv)
{
	static const struct child_helper helpers[] = {
		{ NULL, NULL },
	};

	if (!child_main(argc, argv, helpers))
		return 0;
	return SUITE_RUN("strays", child_setup, child_teardown, strays_reap_orphans_and_leave_processes_to_their_pidfd);
}

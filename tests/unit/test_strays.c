#include "tests/support/child.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/io/mark.h"
#include "daemon/io/strays.h"

/* A process in a session of its own, without environment, whose parent is gone; told is its pid. */
#define LEAVE "echo $(env -i /usr/bin/setsid -f /bin/sh -c 'echo $$; exec /bin/sleep 600 >&-')"
#define N_LIVING 8 /* the number of a worker */

static struct child *own;
static struct strays strays;
static struct loop_timer poll_timer;
static unsigned n_wanted;
static bool one_lives;

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

static bool lives(struct strays *s, uint64_t worker)
{
	(void)s;
	return worker == N_LIVING && one_lives;
}

/* Runs script as that worker to its end. */
static void run_worker(struct child *c, uint64_t worker, const char *script)
{
	char *argv[] = { (char *)"/bin/sh", (char *)"-c", (char *)script, NULL };
	struct process_spec spec = child_spec(argv);

	spec.worker = worker;
	own = c;
	ck_assert_int_eq(child_start(c, &spec), 0);
	io_run(child_loop);
	ck_assert_int_eq(c->how.exit_code, 0);
}

/* The process that it has left behind. */
static pid_t run_leaver(uint64_t worker)
{
	struct child c;
	char pid[64];

	run_worker(&c, worker, LEAVE);
	child_line(&c, 0, pid, sizeof(pid));
	child_deinit(&c);
	ck_assert_int_gt(atoi(pid), 1);
	return (pid_t)atoi(pid);
}

static void run_until_reaped(unsigned n)
{
	n_wanted = n;
	loop_timer_set(&poll_timer, loop_now(child_loop));
	io_run(child_loop);
	ck_assert_uint_eq(strays.reaped, n);
}

START_TEST(fault_45_an_orphan_without_its_environment_goes_with_its_worker_and_no_other)
	{
		struct child c;
		pid_t of_dead, of_living, of_nobody;

		loop_timer_init(&poll_timer, child_loop, on_poll);
		one_lives = true;
		ck_assert_int_eq(strays_start(&strays, child_loop, is_own), 0);
		of_nobody = run_leaver(0);
		of_living = run_leaver(N_LIVING);
		strays.lives = lives;
		of_dead = run_leaver(7);
		ck_assert_uint_eq(mark_read(of_living), N_LIVING);
		ck_assert_uint_eq(mark_read(of_nobody), 0);
		run_until_reaped(1);
		ck_assert_uint_ge(strays.killed, 1);
		ck_assert_int_eq(kill(of_dead, 0), -1);
		ck_assert_int_eq(kill(of_living, 0), 0);

		one_lives = false;
		run_worker(&c, N_LIVING, "exit 0"); /* its death is what makes the daemon look */
		child_deinit(&c);
		run_until_reaped(2);
		ck_assert_uint_ge(strays.killed, 2); /* a look before it is reaped kills it again */
		ck_assert_int_eq(kill(of_living, 0), -1);
		ck_assert_int_eq(kill(of_nobody, 0), 0);

		strays_stop(&strays);
		ck_assert_int_eq(waitpid(of_nobody, NULL, WNOHANG),
				 0); /* our child, not yet dead: the number is its own */
		ck_assert_int_eq(kill(of_nobody, SIGKILL), 0);
		ck_assert_int_eq(waitpid(of_nobody, NULL, 0), of_nobody);
	}
END_TEST

static unsigned n_asked;
static bool one_is_expected;

static bool is_expecting(struct strays *s)
{
	(void)s;
	if (one_is_expected && ++n_asked == 4) /* at the start, when it dies, and twice later */
		loop_stop(child_loop);
	return one_is_expected;
}

START_TEST(nobody_is_reaped_while_a_fork_is_under_way_whose_pid_is_not_known)
	{
		uint64_t begin = loop_now(child_loop);
		siginfo_t si;
		pid_t pid;

		one_is_expected = true;
		ck_assert_int_eq(strays_start(&strays, child_loop, is_own), 0);
		strays.expecting = is_expecting;
		pid = fork();
		if (pid == 0)
			_exit(9);
		io_run(child_loop);
		ck_assert_uint_ge(loop_now(child_loop) - begin, 20 * NS_PER_MS); /* it does not look all the time */
		ck_assert_int_eq(waitid(P_PID, (id_t)pid, &si, WEXITED | WNOHANG | WNOWAIT), 0);
		ck_assert_int_eq(si.si_pid, pid);
		ck_assert_int_eq(si.si_status, 9);
		one_is_expected = false;
		loop_timer_init(&poll_timer, child_loop, on_poll);
		run_until_reaped(1);
		ck_assert_int_eq(waitpid(pid, NULL, WNOHANG), -1);
		strays_stop(&strays);
	}
END_TEST

START_TEST(a_mark_that_another_has_set_is_no_mark)
	{
		ck_assert_uint_eq(mark_make(UINT64_C(1) << 32), 0);
		ck_assert_uint_eq(mark_read(getpid()), 0);
		mark_set(5); /* as ulimit does */
		ck_assert_uint_eq(mark_read(getpid()), 0);
		mark_set(mark_make(5));
		ck_assert_uint_eq(mark_read(getpid()), 5);
	}
END_TEST

int main(int argc, char **argv)
{
	static const struct child_helper helpers[] = {
		{ NULL, NULL },
	};

	if (!child_main(argc, argv, helpers))
		return 0;
	return SUITE_RUN("strays", child_setup, child_teardown, strays_reap_orphans_and_leave_processes_to_their_pidfd,
			 fault_45_an_orphan_without_its_environment_goes_with_its_worker_and_no_other,
			 nobody_is_reaped_while_a_fork_is_under_way_whose_pid_is_not_known,
			 a_mark_that_another_has_set_is_no_mark);
}

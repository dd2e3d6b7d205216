#include "tests/unit/io_support.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static struct loop *loop;
static unsigned fds_before;
static char trace[256]; /* what ran, a letter each */

static bool epoll_is_full;

/* In the place of libc's, for libev too. */
int epoll_ctl(int epfd, int op, int fd, struct epoll_event *event)
{
	if (epoll_is_full && op == EPOLL_CTL_ADD) {
		errno = ENOSPC;
		return -1;
	}
	return (int)syscall(SYS_epoll_ctl, epfd, op, fd, event);
}

static void note(char c)
{
	size_t n = strlen(trace);

	if (n + 1 < sizeof(trace))
		trace[n] = c;
}

static void setup(void)
{
	memset(trace, 0, sizeof(trace));
	fds_before = io_count_fds();
	loop = loop_new();
	ck_assert_ptr_nonnull(loop);
}

static void teardown(void)
{
	loop = loop_free(loop);
	ck_assert_uint_eq(io_count_fds(), fds_before);
}

/* --- timers --- */

struct test_timer {
	struct loop_timer timer;
	uint64_t want, fired;
	unsigned *left;
};

static void on_timer(struct loop_timer *t)
{
	struct test_timer *x = container_of(t, struct test_timer, timer);

	x->fired = loop_now(t->loop);
	ck_assert_uint_eq(t->at, LOOP_NEVER);
	if (--*x->left == 0)
		loop_stop(t->loop);
}

START_TEST(loop_timer_never_fires_early)
	{
		struct test_timer t[100] = { 0 };
		unsigned left = ARRAY_SIZE(t);

		for (unsigned i = 0; i < ARRAY_SIZE(t); i++) {
			loop_timer_init(&t[i].timer, loop, on_timer);
			t[i].left = &left;
			t[i].want = loop_now(loop) + i * 300000;
			loop_timer_set(&t[i].timer, t[i].want);
		}
		io_run(loop);
		for (unsigned i = 0; i < ARRAY_SIZE(t); i++)
			ck_assert_uint_ge(t[i].fired, t[i].want);
	}
END_TEST

static struct test_timer second;

static void on_long_callback(struct loop_timer *t)
{
	io_burn(t->loop, 400 * NS_PER_MS);
	second.want = loop_now(t->loop) + 20 * NS_PER_MS;
	loop_timer_set(&second.timer, second.want);
}

/* libev's clock is 400 ms behind then: the timer would fire at once, or as much too late. */
START_TEST(loop_timer_armed_late_in_a_long_callback_fires_in_time)
	{
		struct loop_timer first;
		unsigned left = 1;

		second = (struct test_timer){ .left = &left };
		loop_timer_init(&second.timer, loop, on_timer);
		loop_timer_init(&first, loop, on_long_callback);
		loop_timer_set(&first, loop_now(loop));
		io_run(loop);
		ck_assert_uint_ge(second.fired, second.want);
		ck_assert_uint_lt(second.fired, second.want + 300 * NS_PER_MS); /* a busy machine has its share */
	}
END_TEST

START_TEST(loop_timer_is_moved_later_and_earlier)
	{
		struct test_timer t[2] = { 0 };
		unsigned left = 2;

		for (unsigned i = 0; i < 2; i++) {
			loop_timer_init(&t[i].timer, loop, on_timer);
			t[i].left = &left;
		}
		t[0].want = loop_now(loop) + 40 * NS_PER_MS;
		loop_timer_set(&t[0].timer, loop_now(loop) + 5 * NS_PER_MS);
		loop_timer_set(&t[0].timer, t[0].want);
		t[1].want = loop_now(loop) + 5 * NS_PER_MS;
		loop_timer_set(&t[1].timer, loop_now(loop) + 10 * NS_PER_S);
		loop_timer_set(&t[1].timer, t[1].want);
		io_run(loop);
		ck_assert_uint_ge(t[0].fired, t[0].want);
		ck_assert_uint_ge(t[1].fired, t[1].want);
		ck_assert_uint_lt(t[1].fired, t[0].fired);
	}
END_TEST

START_TEST(loop_timer_that_is_stopped_does_not_fire)
	{
		struct test_timer t = { 0 };

		loop_timer_init(&t.timer, loop, on_timer);
		loop_timer_set(&t.timer, loop_now(loop));
		loop_timer_stop(&t.timer);
		loop_timer_set(&t.timer, loop_now(loop) + NS_PER_MS);
		loop_timer_set(&t.timer, LOOP_NEVER);
		io_run_for(loop, 5 * NS_PER_MS);
		ck_assert_uint_eq(t.fired, 0);
	}
END_TEST

START_TEST(loop_timer_of_the_past_fires_in_the_next_turn)
	{
		struct test_timer t = { 0 };
		unsigned left = 1;

		loop_timer_init(&t.timer, loop, on_timer);
		t.left = &left;
		loop_timer_set(&t.timer, 1);
		io_run(loop);
		ck_assert_uint_ne(t.fired, 0);
	}
END_TEST

/* --- tasks --- */

struct test_task {
	struct loop_task task;
	char letter;
	unsigned again; /* marks itself so many times */
	struct test_task *defers, *flushes;
	bool stops, next_turn;
};

static void on_task(struct loop_task *t)
{
	struct test_task *x = container_of(t, struct test_task, task);

	note(x->letter);
	if (x->again) {
		x->again--;
		(x->next_turn ? loop_next_turn : loop_defer)(loop, t);
	} else if (x->stops) {
		loop_stop(loop);
	}
	if (x->defers)
		loop_defer(loop, &x->defers->task);
	if (x->flushes)
		loop_flush_later(loop, &x->flushes->task);
}

struct test_grave {
	struct loop_grave grave;
};

static void on_release(struct loop_grave *g)
{
	note('g');
	free(container_of(g, struct test_grave, grave));
}

START_TEST(loop_turn_ends_with_tasks_then_flushes_then_graves)
	{
		struct test_task a = { .task.run = on_task, .letter = 'a', .again = 2 };
		struct test_task f = { .task.run = on_task, .letter = 'f', .stops = true };
		struct test_grave *g = calloc(1, sizeof(*g));

		loop_bury(loop, &g->grave, on_release);
		loop_flush_later(loop, &f.task);
		loop_defer(loop, &a.task);
		loop_defer(loop, &a.task); /* marking twice runs once */
		io_run(loop);
		ck_assert_str_eq(trace, "aaafg");
	}
END_TEST

START_TEST(loop_task_of_a_flush_and_its_flush_run_in_the_same_turn)
	{
		struct test_task last = { .task.run = on_task, .letter = 'l', .stops = true };
		struct test_task d = { .task.run = on_task, .letter = 'd', .flushes = &last };
		struct test_task f = { .task.run = on_task, .letter = 'f', .defers = &d };
		struct test_grave *g = calloc(1, sizeof(*g));

		loop_bury(loop, &g->grave, on_release);
		loop_flush_later(loop, &f.task);
		io_run(loop);
		ck_assert_str_eq(trace, "fdlg");
	}
END_TEST

static void on_pipe(struct loop_io *io, int events)
{
	ck_assert_int_eq(events, LOOP_READ);
	(void)io;
	note('i');
}

/* The work that was cut short goes on without waiting, and others get their turn between. */
START_TEST(loop_next_turn_does_not_wait_and_lets_others_run)
	{
		struct test_task t = {
			.task.run = on_task, .letter = 't', .again = 3, .next_turn = true, .stops = true
		};
		struct loop_io io;
		int fds[2];

		ck_assert_int_eq(pipe2(fds, O_NONBLOCK), 0);
		ck_assert_int_eq(write(fds[1], "x", 1), 1);
		loop_io_init(&io, loop, fds[0], LOOP_PRIO_NORMAL, on_pipe);
		loop_io_watch(&io, LOOP_READ);
		loop_next_turn(loop, &t.task);
		io_run(loop);
		ck_assert_str_eq(trace, "itititit");
		loop_io_close(&io);
		close(fds[1]);
	}
END_TEST

START_TEST(loop_task_is_cancelled_wherever_it_is_marked)
	{
		struct test_task t[6];
		void (*const mark[3])(struct loop *, struct loop_task *) = { loop_defer, loop_flush_later,
									     loop_next_turn };

		for (unsigned i = 0; i < 6; i++) {
			t[i] = (struct test_task){ .task.run = on_task, .letter = (char)('0' + i) };
			mark[i / 2](loop, &t[i].task);
		}
		for (unsigned i = 1; i < 6; i += 2)
			loop_task_cancel(loop, &t[i].task); /* the last of each queue: its end moves */
		loop_task_cancel(loop, &t[0].task);
		loop_task_cancel(loop, &t[0].task);
		loop_defer(loop, &t[1].task);
		t[4].stops = true;
		io_run(loop);
		ck_assert_str_eq(trace, "124");
	}
END_TEST

START_TEST(loop_stop_before_the_run_is_not_lost)
	{
		struct test_task t = { .task.run = on_task, .letter = 't' };

		loop_defer(loop, &t.task);
		loop_stop(loop);
		loop_run(loop);
		ck_assert_str_eq(trace, "t"); /* the turn is ended all the same */
	}
END_TEST

/* --- fds --- */

static void on_output(struct loop_io *io, int events)
{
	(void)events;
	note('o');
	loop_io_watch(io, 0);
}

static void on_worker(struct loop_io *io, int events)
{
	(void)events;
	note('w');
	loop_io_watch(io, 0);
}

static void on_late_timer(struct loop_timer *t)
{
	note('t');
	loop_stop(t->loop);
}

/* Fault 104 stands on this: after a stop of the daemon both are due. */
START_TEST(fault_104_ready_output_and_replies_go_before_expired_timers)
	{
		struct loop_io out, reply;
		struct loop_timer timer;
		int a[2], b[2];

		ck_assert_int_eq(pipe2(a, O_NONBLOCK), 0);
		ck_assert_int_eq(pipe2(b, O_NONBLOCK), 0);
		ck_assert_int_eq(write(a[1], "x", 1), 1);
		ck_assert_int_eq(write(b[1], "x", 1), 1);
		loop_timer_init(&timer, loop, on_late_timer);
		loop_timer_set(&timer, loop_now(loop));
		loop_io_init(&reply, loop, b[0], LOOP_PRIO_WORKER, on_worker);
		loop_io_watch(&reply, LOOP_READ);
		loop_io_init(&out, loop, a[0], LOOP_PRIO_OUTPUT, on_output);
		loop_io_watch(&out, LOOP_READ);
		io_burn(loop, NS_PER_MS);
		io_run(loop);
		ck_assert_str_eq(trace, "owt");
		loop_io_close(&out);
		loop_io_close(&reply);
		close(a[1]);
		close(b[1]);
	}
END_TEST

static void on_both(struct loop_io *io, int events)
{
	note(events == LOOP_WRITE ? 'w' : events == LOOP_READ ? 'r' : '?');
	loop_io_watch(io, events == LOOP_WRITE ? LOOP_READ : 0);
	if (events == LOOP_READ)
		loop_stop(io->loop);
}

START_TEST(loop_io_watches_exactly_what_is_asked_for)
	{
		struct loop_io io;
		int fds[2];

		ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
		ck_assert_int_eq(write(fds[1], "x", 1), 1);
		loop_io_init(&io, loop, fds[0], LOOP_PRIO_NORMAL, on_both);
		loop_io_watch(&io, LOOP_WRITE);
		io_run(loop);
		ck_assert_str_eq(trace, "wr");
		loop_io_close(&io);
		ck_assert_int_eq(io.fd, -1);
		loop_io_close(&io);
		close(fds[1]);
	}
END_TEST

START_TEST(loop_io_that_is_closed_leaves_its_number_to_the_next)
	{
		struct loop_io old, new;
		int a[2], b[2];

		ck_assert_int_eq(pipe2(a, O_NONBLOCK), 0);
		loop_io_init(&old, loop, a[0], LOOP_PRIO_NORMAL, on_output);
		loop_io_watch(&old, LOOP_READ);
		io_run_for(loop, NS_PER_MS); /* the kernel knows it now */
		loop_io_close(&old);
		ck_assert_int_eq(pipe2(b, O_NONBLOCK), 0);
		ck_assert_int_eq(b[0], a[0]);
		loop_io_init(&new, loop, b[0], LOOP_PRIO_NORMAL, on_worker);
		loop_io_watch(&new, LOOP_READ);
		ck_assert_int_eq(write(b[1], "x", 1), 1);
		io_run_for(loop, 5 * NS_PER_MS);
		ck_assert_str_eq(trace, "w");
		loop_io_close(&new);
		close(b[1]);
		close(a[1]);
	}
END_TEST

static void on_broken(struct loop_io *io, int events)
{
	ck_assert_int_eq(events, LOOP_BROKEN);
	ck_assert_int_eq(io->events, 0);
	note('b');
	loop_stop(io->loop);
}

START_TEST(loop_io_that_the_kernel_refuses_is_told_to_its_owner)
	{
		struct loop_io io;
		int fds[2];

		ck_assert_int_eq(pipe2(fds, O_NONBLOCK), 0);
		io_run_for(loop, NS_PER_MS);
		epoll_is_full = true;
		loop_io_init(&io, loop, fds[0], LOOP_PRIO_NORMAL, on_broken);
		loop_io_watch(&io, LOOP_READ);
		io_run(loop); /* at once, though nothing else happens */
		epoll_is_full = false;
		ck_assert_str_eq(trace, "b");
		loop_io_close(&io);
		close(fds[1]);
	}
END_TEST

/* --- half-closed peers --- */

struct test_hup {
	struct loop_hup hup;
	struct test_hup *other;
};

static unsigned n_hups;

static void on_hup(struct loop_hup *h)
{
	struct test_hup *x = container_of(h, struct test_hup, hup);

	ck_assert_int_eq(h->fd, -1);
	n_hups++;
	if (x->other)
		loop_hup_stop(&x->other->hup);
	loop_stop(h->loop);
}

START_TEST(loop_hup_comes_with_the_full_close_only)
	{
		struct test_hup x = { 0 };
		int fds[2];

		n_hups = 0;
		ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
		ck_assert_int_eq(loop_hup_start(&x.hup, loop, fds[0], on_hup), 0);
		shutdown(fds[1], SHUT_WR);
		io_run_for(loop, 5 * NS_PER_MS);
		ck_assert_uint_eq(n_hups, 0);
		close(fds[1]);
		io_run(loop);
		ck_assert_uint_eq(n_hups, 1);
		loop_hup_stop(&x.hup);
		close(fds[0]);
	}
END_TEST

START_TEST(loop_hup_callback_may_stop_another_that_is_due)
	{
		struct test_hup x[2] = { 0 };
		int a[2], b[2];

		n_hups = 0;
		x[0].other = &x[1];
		x[1].other = &x[0];
		ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, a), 0);
		ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, b), 0);
		ck_assert_int_eq(loop_hup_start(&x[0].hup, loop, a[0], on_hup), 0);
		ck_assert_int_eq(loop_hup_start(&x[1].hup, loop, b[0], on_hup), 0);
		close(a[1]);
		close(b[1]);
		io_run(loop);
		io_run_for(loop, 2 * NS_PER_MS);
		ck_assert_uint_eq(n_hups, 1);
		close(a[0]);
		close(b[0]);
	}
END_TEST

/* --- the rest --- */

static void on_signal(struct loop_signal *s, int signo)
{
	ck_assert_int_eq(signo, SIGUSR2);
	note('s');
	loop_stop(s->loop);
}

START_TEST(loop_signal_is_received)
	{
		struct loop_signal s;

		loop_signal_start(&s, loop, SIGUSR2, on_signal);
		raise(SIGUSR2);
		io_run(loop);
		ck_assert_str_eq(trace, "s");
		loop_signal_stop(&s);
		loop_signal_stop(&s);
	}
END_TEST

START_TEST(loop_leaves_children_to_others)
	{
		pid_t pid = fork();
		siginfo_t si;

		if (pid == 0)
			_exit(3);
		ck_assert_int_eq(waitid(P_PID, (id_t)pid, &si, WEXITED | WNOWAIT), 0);
		io_run_for(loop, 5 * NS_PER_MS);
		ck_assert_int_eq(waitid(P_PID, (id_t)pid, &si, WEXITED), 0);
		ck_assert_int_eq(si.si_status, 3);
	}
END_TEST

static void on_stall(struct loop_timer *t)
{
	io_burn(t->loop, 30 * NS_PER_MS);
}

START_TEST(loop_measures_its_worst_stall)
	{
		struct loop_timer t;

		io_run_for(loop, 400 * NS_PER_MS); /* waiting is no stall */
		ck_assert_uint_lt(loop_worst_stall(loop), 300 * NS_PER_MS);
		loop_timer_init(&t, loop, on_stall);
		loop_timer_set(&t, loop_now(loop));
		io_run_for(loop, 60 * NS_PER_MS);
		ck_assert_uint_ge(loop_worst_stall(loop), 30 * NS_PER_MS);
	}
END_TEST

int main(void)
{
	Suite *s = suite_create("loop");
	TCase *c = tcase_create("loop");
	SRunner *r = srunner_create(s);
	int failed;

	tcase_set_timeout(c, 60);
	tcase_add_checked_fixture(c, setup, teardown);
	tcase_add_test(c, loop_timer_never_fires_early);
	tcase_add_test(c, loop_timer_armed_late_in_a_long_callback_fires_in_time);
	tcase_add_test(c, loop_timer_is_moved_later_and_earlier);
	tcase_add_test(c, loop_timer_that_is_stopped_does_not_fire);
	tcase_add_test(c, loop_timer_of_the_past_fires_in_the_next_turn);
	tcase_add_test(c, loop_turn_ends_with_tasks_then_flushes_then_graves);
	tcase_add_test(c, loop_task_of_a_flush_and_its_flush_run_in_the_same_turn);
	tcase_add_test(c, loop_next_turn_does_not_wait_and_lets_others_run);
	tcase_add_test(c, loop_task_is_cancelled_wherever_it_is_marked);
	tcase_add_test(c, loop_stop_before_the_run_is_not_lost);
	tcase_add_test(c, fault_104_ready_output_and_replies_go_before_expired_timers);
	tcase_add_test(c, loop_io_watches_exactly_what_is_asked_for);
	tcase_add_test(c, loop_io_that_is_closed_leaves_its_number_to_the_next);
	tcase_add_test(c, loop_io_that_the_kernel_refuses_is_told_to_its_owner);
	tcase_add_test(c, loop_hup_comes_with_the_full_close_only);
	tcase_add_test(c, loop_hup_callback_may_stop_another_that_is_due);
	tcase_add_test(c, loop_signal_is_received);
	tcase_add_test(c, loop_leaves_children_to_others);
	tcase_add_test(c, loop_measures_its_worst_stall);
	suite_add_tcase(s, c);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? 1 : 0;
}

/* Whoever writes a ledger may die at any instruction: what is left is the state before or after an operation. */
#include "daemon/io/ledger.h"

#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "daemon/base/cleanup.h"
#include "daemon/io/ledger_half.h"
#include "tests/support/suite.h"
#include "tests/unit/ledger_support.h"

#define KILLS 200
#define OPS 6000
#define STEPS_AFTER 2000 /* a wipe then erases for long */

/* PYPOOL_SEED, or one by the clock; printed, so that a failure can be had again. */
static uint64_t seed_get(void)
{
	const char *given = getenv("PYPOOL_SEED");
	struct timespec ts;
	uint64_t seed;

	(void)clock_gettime(CLOCK_REALTIME, &ts);
	seed = given ? strtoull(given, NULL, 0) : (uint64_t)ts.tv_nsec;
	printf("PYPOOL_SEED=%llu\n", (unsigned long long)seed);
	(void)fflush(stdout);
	return seed;
}

/* In every second one the writer is replaced as well: what is taken goes on to be written. */
START_TEST(after_any_operations_another_process_takes_exactly_what_was_put)
	{
		struct model m = { .seed = seed_get() };
		struct ledger *l = ledger_new();
		char why[200] = "";

		ck_assert_ptr_nonnull(l);
		for (unsigned i = 1; i <= OPS; i++) {
			struct model_op op = model_op(m.seed, m.n);

			ck_assert(ledger_do(l, &op));
			model_step(&m);
			if (i % 11 == 0) {
				struct ledger *other = ledger_retake(l, why, sizeof(why));

				ck_assert_msg(other != NULL, "after %u: %s", i, why);
				ck_assert_msg(model_is(&m, other), "after %u", i);
				ck_assert_msg(model_is(&m, l), "after %u, of its own", i);
				ledger_free(i % 2 ? other : l);
				l = i % 2 ? l : other;
			}
		}
		ck_assert_uint_lt(ledger_bytes(l), 8000000);
		ledger_free(l);
	}
END_TEST

/* Writes the sequence for ever and counts what it has confirmed. */
static pid_t writer_start(struct ledger *l, uint64_t seed, uint64_t *confirmed)
{
	pid_t pid = fork();

	ck_assert_int_ge(pid, 0);
	if (pid)
		return pid;
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (uint64_t n = 0;; n++) {
		struct model_op op = model_op(seed, n);

		if (!ledger_do(l, &op))
			_exit(1);
		__atomic_store_n(confirmed, n + 1, __ATOMIC_RELEASE);
	}
}

static void writer_kill(pid_t pid, const uint64_t *confirmed, uint64_t when, unsigned later)
{
	int status;

	while (__atomic_load_n(confirmed, __ATOMIC_ACQUIRE) < when)
		sched_yield();
	for (volatile unsigned i = 0; i < later; i++)
		;
	ck_assert_int_eq(kill(pid, SIGKILL), 0);
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert(WIFSIGNALED(status));
}

START_TEST(a_writer_that_is_killed_leaves_what_it_has_confirmed_or_one_operation_more)
	{
		uint64_t seed = seed_get(),
			 *confirmed = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
		char why[200] = "";

		for (unsigned i = 0; i < KILLS; i++) {
			struct ledger *l = ledger_new(), *left;
			struct model m = { .seed = seed + i };
			uint64_t r = mix(seed + i);
			bool before;

			*confirmed = 0;
			writer_kill(writer_start(l, m.seed, confirmed), confirmed, r % 1500,
				    (unsigned)(r >> 32) % 5000);
			left = ledger_retake(l, why, sizeof(why));
			ck_assert_msg(left != NULL, "round %u, after %llu: %s", i, (unsigned long long)*confirmed, why);
			while (m.n < *confirmed)
				model_step(&m);
			before = model_is(&m, left);
			model_step(&m);
			ck_assert_msg(before || model_is(&m, left), "round %u, after %llu", i,
				      (unsigned long long)*confirmed);
			ledger_free(left);
			ledger_free(l);
		}
	}
END_TEST

/* --- instruction by instruction --- */

static void print_hash(void *user, const struct ledger_entry *e)
{
	uint64_t *hash = user;

	*hash = mix(*hash ^ e->kind) ^ mix(e->id);
	for (size_t i = 0; i < e->bytes.len; i++)
		*hash = mix(*hash + e->bytes.p[i]);
}

/* All that a process would take up, as a number; 0: nothing, because it was wiped. */
static uint64_t print_of(const struct ledger *l)
{
	char why[200] = "";
	struct ledger *left = ledger_retake(l, why, sizeof(why));
	uint64_t hash = 1;

	if (!left) {
		ck_assert_str_eq(why, "it was wiped in an orderly end");
		return 0;
	}
	for (uint32_t kind = 0; kind < MODEL_KINDS; kind++)
		ledger_each(left, kind, print_hash, &hash);
	ledger_free(left);
	return hash;
}

/* Not enough that is superseded, yet, for a move to the other half. */
static void put_some(struct ledger *l)
{
	static const uint8_t bytes[15000];

	for (uint64_t id = 1; id <= 3; id++)
		ck_assert(ledger_put(l, 0, id, (struct span){ .p = bytes, .len = 70 + id }));
	for (unsigned i = 0; i < 3; i++)
		ck_assert(ledger_put(l, 1, 1, (struct span){ .p = bytes, .len = sizeof(bytes) }));
}

/* What is put next moves what is live. */
static void put_small(struct ledger *l)
{
	put_some(l);
	ck_assert(ledger_put(l, 1, 1, SPAN_LIT("what is large is superseded")));
}

static const uint8_t new_bytes[1100] = { 1, 2, 3 };

static void do_put(struct ledger *l)
{
	(void)ledger_put(l, 1, 1, (struct span){ .p = new_bytes, .len = 80 });
}

static void do_put_much(struct ledger *l)
{
	(void)ledger_put(l, 0, 1, (struct span){ .p = new_bytes, .len = sizeof(new_bytes) });
}

static void do_remove(struct ledger *l)
{
	ledger_remove(l, 0, 1);
}

/* Three of 20,000 bytes that live, and no room for the next. */
static void put_live(struct ledger *l)
{
	static const uint8_t bytes[20000];

	for (uint64_t id = 1; id <= 3; id++)
		ck_assert(ledger_put(l, 0, id, (struct span){ .p = bytes, .len = sizeof(bytes) }));
	ck_assert(ledger_put(l, 0, 4, (struct span){ .p = bytes, .len = 900 }));
}

/* What is left of it, at one go. */
static void stepped_end(pid_t pid)
{
	int status = 0;

	do {
		ck_assert_int_eq(ptrace(PTRACE_CONT, pid, 0, 0), 0);
		ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	} while (WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP);
	ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0, "it ended: %x", status);
}

static pid_t stepped_start(struct ledger *l, void (*op)(struct ledger *l))
{
	pid_t pid = fork();
	int status = 0;

	ck_assert_int_ge(pid, 0);
	if (pid == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (ptrace(PTRACE_TRACEME, 0, 0, 0) < 0)
			_exit(2);
		(void)raise(SIGSTOP);
		op(l);
		(void)raise(SIGSTOP);
		_exit(0);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_msg(WIFSTOPPED(status), "no ptrace: %x", status);
	return pid;
}

/* One instruction, or one system call. False: the operation has ended. */
static bool stepped_step(pid_t pid)
{
	int status = 0;

	ck_assert_int_eq(ptrace(PTRACE_SINGLESTEP, pid, 0, 0), 0);
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_msg(WIFSTOPPED(status), "it ended: %x", status);
	return WSTOPSIG(status) != SIGSTOP;
}

/* Bit by bit, the halves with an epoch. */
static unsigned epochs_of(const struct ledger *l)
{
	struct ledger_half_state states[2];
	uint32_t found;

	for (unsigned i = 0; i < 2; i++) {
		struct ledger_half h;

		ck_assert_ptr_null(
			ledger_half_take(&h, fcntl(ledger_fd(l, i), F_DUPFD_CLOEXEC, 3), &states[i], &found));
		ledger_half_close(&h);
	}
	return (states[0].epoch ? BIT(0) : 0) | (states[1].epoch ? BIT(1) : 0);
}

static bool under_valgrind(void)
{
	const char *preloaded = getenv("LD_PRELOAD");

	return preloaded && strstr(preloaded, "vgpreload");
}

static const struct scene {
	const char *name;
	void (*before)(struct ledger *l), (*op)(struct ledger *l);
	unsigned current; /* the half that is current then */
} scenes[] = {
	{ "put", put_some, do_put, 0 },
	{ "remove", put_some, do_remove, 0 },
	{ "put that moves", put_small, do_put_much, 1 },
	{ "put that grows", put_live, do_put_much, 0 },
	{ "wipe", put_some, ledger_wipe, 0 },
};

START_TEST(at_each_instruction_of_an_operation_the_state_is_the_one_before_or_the_one_after)
	{
		const struct scene *sc = &scenes[_i];
		struct ledger *l, *other;
		uint64_t before, after;
		unsigned n = 0, n_after = 0;
		pid_t pid;

		if (under_valgrind()) {
			printf("skipped: it would be valgrind's instructions\n");
			return;
		}
		l = ledger_new();
		other = ledger_new();
		sc->before(other);
		before = print_of(other);
		sc->op(other);
		after = print_of(other);
		ck_assert_uint_ne(before, after);
		sc->before(l);
		ck_assert_uint_eq(print_of(l), before);
		pid = stepped_start(l, sc->op);
		for (; n_after < STEPS_AFTER && stepped_step(pid); n++) {
			uint64_t now = print_of(l);

			ck_assert_msg(now == after || (now == before && !n_after), "after %u instructions", n);
			n_after += now == after;
		}
		stepped_end(pid);
		printf("%s: %u instructions, %u after the change\n", sc->name, n, n_after);
		ck_assert_uint_gt(n, n_after);
		ck_assert_uint_gt(n_after, 0);
		ck_assert_uint_eq(print_of(l), after);
		ck_assert_uint_eq(epochs_of(l), BIT(sc->current));
		ledger_free(l);
		ledger_free(other);
	}
END_TEST

/* What it has written lies in both halves then, and both have an epoch. */
START_TEST(a_writer_that_dies_as_it_changes_halves_leaves_a_ledger_that_is_taken_and_written_on)
	{
		struct ledger *l, *left;
		struct model m = { .seed = 3 };
		char why[200] = "";
		uint64_t before;
		pid_t pid;

		if (under_valgrind())
			return;
		l = ledger_new();
		put_small(l);
		before = print_of(l);
		pid = stepped_start(l, do_put_much);
		while (epochs_of(l) != (BIT(0) | BIT(1)))
			ck_assert(stepped_step(pid));
		ck_assert_int_eq(kill(pid, SIGKILL), 0);
		ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
		ck_assert_uint_eq(print_of(l), before);
		left = ledger_retake(l, why, sizeof(why));
		ledger_remove(left, 1, 1);
		for (uint64_t id = 1; id <= 3; id++)
			ledger_remove(left, 0, id);
		for (unsigned i = 0; i < 1500; i++) {
			struct model_op op = model_op(m.seed, i);
			struct ledger *other;

			ck_assert(ledger_do(left, &op));
			model_step(&m);
			other = ledger_retake(left, why, sizeof(why));
			ck_assert_msg(other && model_is(&m, other), "after %u: %s", i, why);
			ledger_free(other);
		}
		ledger_free(left);
		ledger_free(l);
	}
END_TEST

int main(void)
{
	Suite *s = suite_create("ledger_crash");
	TCase *c = tcase_create("ledger_crash");
	SRunner *r = srunner_create(s);
	int failed;

	tcase_set_timeout(c, 60);
	tcase_add_test(c, after_any_operations_another_process_takes_exactly_what_was_put);
	tcase_add_test(c, a_writer_that_is_killed_leaves_what_it_has_confirmed_or_one_operation_more);
	tcase_add_loop_test(c, at_each_instruction_of_an_operation_the_state_is_the_one_before_or_the_one_after, 0,
			    ARRAY_SIZE(scenes));
	tcase_add_test(c, a_writer_that_dies_as_it_changes_halves_leaves_a_ledger_that_is_taken_and_written_on);
	suite_add_tcase(s, c);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? 1 : 0;
}

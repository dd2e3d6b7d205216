/* What the tests of daemon/io share: running a loop with a deadline, and counting open files. */
#pragma once

#include <check.h>
#include <dirent.h>
#include <stdlib.h>

#include "daemon/base/cleanup.h"
#include "daemon/io/loop.h"

#define IO_DEADLINE (50 * NS_PER_S) /* of a test that hangs */

struct io_deadline {
	struct loop_timer timer;
	bool late;
};

static inline void io_on_deadline(struct loop_timer *t)
{
	container_of(t, struct io_deadline, timer)->late = true;
	loop_stop(t->loop);
}

/* Runs until a callback of the test stops the loop. */
static inline void io_run(struct loop *l)
{
	struct io_deadline d = { .late = false };

	loop_timer_init(&d.timer, l, io_on_deadline);
	loop_timer_set(&d.timer, loop_now(l) + IO_DEADLINE);
	loop_run(l);
	loop_timer_stop(&d.timer);
	ck_assert_msg(!d.late, "nothing has stopped the loop");
}

/* Runs for some time, for what must not happen meanwhile. */
static inline void io_run_for(struct loop *l, uint64_t ns)
{
	struct io_deadline d = { .late = false };

	loop_timer_init(&d.timer, l, io_on_deadline);
	loop_timer_set(&d.timer, loop_now(l) + ns);
	loop_run(l);
	loop_timer_stop(&d.timer);
}

static inline unsigned io_count_fds(void)
{
	DIR *d = opendir("/proc/self/fd");
	unsigned n = 0;

	ck_assert_ptr_nonnull(d);
	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

static inline void io_burn(const struct loop *l, uint64_t ns)
{
	uint64_t end = loop_now(l) + ns;

	while (loop_now(l) < end)
		;
}

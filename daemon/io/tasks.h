/*
 * Work that waits for the end of a turn of the loop, and what is buried there: the part of loop.h that is the same in
 * each of its implementations. tasks.c defines loop_turn(), loop_defer(), loop_flush_later(), loop_task_cancel() and
 * loop_bury().
 */
#pragma once

#include "daemon/io/loop.h"

struct task_queue {
	struct loop_task *head, **end;
};

struct tasks {
	struct task_queue deferred, flushes, next;
	struct loop_grave *graves;
	uint64_t turn; /* number */
};

/* Each implementation of struct loop says where it has them. */
struct tasks *loop_tasks(struct loop *l);

void tasks_init(struct tasks *t);
/* For loop_next_turn(). */
void tasks_mark_next(struct tasks *t, struct loop_task *task);
/* What was marked for the next turn is due at the end of this one. */
void tasks_begin_turn(struct tasks *t);
/* Until nothing is marked for this turn and all graves are empty. */
void tasks_end_turn(struct tasks *t);
void tasks_empty_graves(struct tasks *t);
/* Something is marked, for this turn or the next. */
bool tasks_are_marked(const struct tasks *t);

#include "daemon/io/tasks.h"

#include <stddef.h>

static void queue_init(struct task_queue *q)
{
	q->head = NULL;
	q->end = &q->head;
}

static void queue_push(struct task_queue *q, struct loop_task *t)
{
	if (t->marked)
		return;
	t->marked = true;
	t->next = NULL;
	*q->end = t;
	q->end = &t->next;
}

static struct loop_task *queue_pop(struct task_queue *q)
{
	struct loop_task *t = q->head;

	if (!t)
		return NULL;
	q->head = t->next;
	if (!q->head)
		q->end = &q->head;
	t->next = NULL;
	t->marked = false;
	return t;
}

static bool queue_remove(struct task_queue *q, struct loop_task *t)
{
	for (struct loop_task **at = &q->head; *at; at = &(*at)->next) {
		if (*at != t)
			continue;
		*at = t->next;
		if (!t->next)
			q->end = at;
		t->next = NULL;
		t->marked = false;
		return true;
	}
	return false;
}

static void queue_move_all(struct task_queue *to, struct task_queue *from)
{
	if (!from->head)
		return;
	*to->end = from->head;
	to->end = from->end;
	queue_init(from);
}

static void queue_run(struct task_queue *q)
{
	struct loop_task *t;

	while ((t = queue_pop(q)))
		t->run(t);
}

uint64_t loop_turn(struct loop *l)
{
	return loop_tasks(l)->turn;
}

void loop_defer(struct loop *l, struct loop_task *t)
{
	queue_push(&loop_tasks(l)->deferred, t);
}

void loop_flush_later(struct loop *l, struct loop_task *t)
{
	queue_push(&loop_tasks(l)->flushes, t);
}

void loop_task_cancel(struct loop *l, struct loop_task *t)
{
	struct tasks *tasks = loop_tasks(l);

	if (!t->marked)
		return;
	if (!queue_remove(&tasks->deferred, t) && !queue_remove(&tasks->flushes, t))
		(void)queue_remove(&tasks->next, t); /* marked, so it is here */
}

void loop_bury(struct loop *l, struct loop_grave *g, void (*release)(struct loop_grave *g))
{
	struct tasks *t = loop_tasks(l);

	g->release = release;
	g->next = t->graves;
	t->graves = g;
}

void tasks_init(struct tasks *t)
{
	queue_init(&t->deferred);
	queue_init(&t->flushes);
	queue_init(&t->next);
	t->graves = NULL;
	t->turn = 1;
}

void tasks_mark_next(struct tasks *t, struct loop_task *task)
{
	queue_push(&t->next, task);
}

void tasks_begin_turn(struct tasks *t)
{
	t->turn++;
	queue_move_all(&t->deferred, &t->next);
}

void tasks_empty_graves(struct tasks *t)
{
	while (t->graves) {
		struct loop_grave *g = t->graves;

		t->graves = g->next;
		g->release(g);
	}
}

/* A flush may end a stream, which defers work, which may flush and bury again: all of it belongs to this turn. */
void tasks_end_turn(struct tasks *t)
{
	do {
		do {
			queue_run(&t->deferred);
			queue_run(&t->flushes);
		} while (t->deferred.head);
		tasks_empty_graves(t);
	} while (t->deferred.head || t->flushes.head);
}

bool tasks_are_marked(const struct tasks *t)
{
	return t->deferred.head || t->flushes.head || t->next.head;
}

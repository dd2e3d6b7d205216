/* pypoolctl logs -f. It listens first and asks for the last lines then, so that none is missing in between; those that come before
 * the answer wait for it, and are left out if the answer has them. */
#include <stdlib.h>

#include "client/ctl/cell.h"
#include "client/ctl/follow.h"
#include "client/ctl/json.h"
#include "client/ctl/logs.h"
#include "proto/cursor.h"

/* How far the output of a worker has been shown. */
struct shown {
	uint64_t worker;
	uint64_t next; /* number of the first line that has not been */
};

struct logs_tail {
	struct follow follow;
	const struct logs_filter *filter;
	bool waiting;         /* the answer has not come */
	msgpack_sbuffer held; /* events that came before it, one after the other */
	struct shown *shown;  /* owns */
	size_t n_shown;
	bool failed; /* there is no memory */
};

static uint64_t tail_uint(struct span line, const char *key)
{
	struct span value = cell_of(line, key);
	uint64_t v = 0;

	(void)mp_read_uint(&value, &v); /* of another type: 0, which no worker has */
	return v;
}

static struct shown *tail_find(const struct logs_tail *t, uint64_t worker)
{
	for (size_t i = 0; i < t->n_shown; i++) {
		if (t->shown[i].worker == worker)
			return &t->shown[i];
	}
	return NULL;
}

static void tail_note(struct logs_tail *t, struct span line)
{
	uint64_t worker = tail_uint(line, "worker"), next = tail_uint(line, "number") + 1;
	struct shown *s = tail_find(t, worker), *all;

	if (!s) {
		all = reallocarray(t->shown, t->n_shown + 1, sizeof(*all));
		if (!all) {
			t->failed = true;
			return;
		}
		t->shown = all;
		s = &all[t->n_shown++];
	}
	*s = (struct shown){ .worker = worker, .next = next };
}

static void tail_print(const struct logs_tail *t, struct span line)
{
	if (!t->follow.ctl->json) {
		logs_print_line(line);
		return;
	}
	json_print(stdout, line);
	putchar('\n');
}

static void tail_on_told(struct follow *f, struct span event)
{
	struct logs_tail *t = (struct logs_tail *)f; /* its first member */

	if (t->filter->has_worker && tail_uint(event, "worker") != t->filter->worker)
		return;
	if (!t->waiting)
		tail_print(t, event);
	else if (msgpack_sbuffer_write(&t->held, (const char *)event.p, event.len) < 0)
		t->failed = true;
}

/* A line that has not ended comes as an event when it has. */
static void tail_print_last(struct logs_tail *t, struct span list)
{
	struct span line, partial;
	uint32_t n;
	bool is;

	if (!mp_read_array(&list, &n))
		n = 0;
	for (; n > 0 && mp_read_any(&list, &line); n--) {
		partial = cell_of(line, "partial");
		if (mp_read_bool(&partial, &is) && is)
			continue;
		tail_print(t, line);
		tail_note(t, line);
	}
}

static void tail_print_held(struct logs_tail *t)
{
	struct span rest = { .p = (const uint8_t *)t->held.data, .len = t->held.size }, event;
	const struct shown *s;

	while (rest.len && mp_read_any(&rest, &event)) {
		s = tail_find(t, tail_uint(event, "worker"));
		if (!s || tail_uint(event, "number") >= s->next)
			tail_print(t, event);
	}
	t->waiting = false;
}

static int tail_begin(struct logs_tail *t)
{
	char *kinds[] = { (char *)"output" };
	struct pypool_reply *reply;
	int r = follow_begin(&t->follow, kinds, 1, t->filter->pool);

	if (r == CTL_OK)
		r = logs_ask(t->follow.ctl, t->filter, &reply);
	if (r != CTL_OK)
		return r;
	tail_print_last(t, ctl_value(reply));
	tail_print_held(t);
	(void)pypool_reply_free(reply);
	if (!t->failed)
		return CTL_OK;
	fprintf(stderr, "pypoolctl: out of memory\n");
	return CTL_FAILED;
}

int logs_follow(struct ctl *ctl, const struct logs_filter *filter)
{
	struct logs_tail t = { .follow = { .ctl = ctl, .told = tail_on_told, .what = "lines" }, .filter = filter, .waiting = true };
	int r;

	msgpack_sbuffer_init(&t.held);
	r = tail_begin(&t);
	if (r == CTL_OK)
		r = follow_run(&t.follow);
	msgpack_sbuffer_destroy(&t.held);
	free(t.shown);
	return r;
}

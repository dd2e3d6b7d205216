#include "client/ctl/wait.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "client/ctl/failure.h"
#include "client/ctl/progress.h"
#include "client/ctl/why.h"

#define LOOK_MS 100

/* ---- what is left */

enum wait_state wait_quiet(struct span pool, char text[WAIT_TEXT])
{
	uint64_t running = why_uint(pool, "running");

	(void)snprintf(text, WAIT_TEXT, "%llu %s", (unsigned long long)running, running == 1 ? "call runs" : "calls run"); /* fits */
	return running ? WAIT_ON : WAIT_DONE;
}

/* The first start of a worker has failed since; nil again when one succeeds. */
static bool wait_says_failure(struct span pool, char text[WAIT_TEXT])
{
	struct span message = cell_of(cell_of(pool, "last_failure"), "message");
	char *why = message.len ? cell_first_line(message) : NULL;

	if (why)
		(void)snprintf(text, WAIT_TEXT, "workers do not start: %s", why); /* cut */
	free(why);
	return message.len > 0;
}

enum wait_state wait_replaced(struct span pool, char text[WAIT_TEXT])
{
	uint64_t left = why_uint(pool, "due") + why_uint(pool, "draining") + why_uint(pool, "stopping");

	if (!left)
		return WAIT_DONE;
	if (wait_says_failure(pool, text))
		return WAIT_FAILED;
	(void)snprintf(text, WAIT_TEXT, "%llu %s left to replace", (unsigned long long)left, left == 1 ? "worker" : "workers"); /* fits */
	return WAIT_ON;
}

enum wait_state wait_sized(struct span pool, char text[WAIT_TEXT])
{
	uint64_t serving = why_uint(pool, "idle") + why_uint(pool, "busy");
	uint64_t moving = why_uint(pool, "starting") + why_uint(pool, "initializing") + why_uint(pool, "draining") +
			  why_uint(pool, "stopping");
	uint64_t min = why_uint(pool, "min_workers"), max = why_uint(pool, "max_workers");

	if (!moving && serving >= min && serving <= max)
		return WAIT_DONE;
	if (serving < min && wait_says_failure(pool, text))
		return WAIT_FAILED;
	(void)snprintf(text, WAIT_TEXT, "%llu %s, %llu come or go; %llu to %llu are wanted",
		       (unsigned long long)serving, serving == 1 ? "worker serves" : "workers serve",
		       (unsigned long long)moving, (unsigned long long)min, (unsigned long long)max); /* fits */
	return WAIT_ON;
}

/* ---- looking */

/* The pool of that name; the reply is the caller's. */
static int wait_ask(struct ctl *ctl, struct span name, struct pypool_reply **reply, struct span *pool)
{
	struct span list;
	uint32_t n;
	int r = ctl_askf(ctl, "pools", CTL_TIMEOUT_MS, reply, "**{st}", "pool", name.p, name.len);

	if (r != CTL_OK)
		return r;
	list = ctl_value(*reply);
	if (!mp_read_array(&list, &n) || !n || !mp_read_any(&list, pool))
		*pool = (struct span){ 0 }; /* it has nothing left */
	return CTL_OK;
}

static void wait_draw(struct progress *p, struct span name, const char *text)
{
	char line[WAIT_TEXT + 80];

	(void)snprintf(line, sizeof(line), "pool %.*s: %s", (int)name.len, (const char *)name.p, text); /* cut */
	progress_draw(p, line);
}

int wait_for(struct ctl *ctl, struct span name, wait_fn *look)
{
	enum wait_state state = WAIT_ON;
	char text[WAIT_TEXT] = "";
	struct progress progress;
	int r = CTL_OK;

	progress_open(&progress);
	while (r == CTL_OK && state == WAIT_ON) {
		struct pypool_reply *reply;
		struct span pool;

		r = wait_ask(ctl, name, &reply, &pool);
		if (r != CTL_OK)
			break;
		state = look(pool, text);
		(void)pypool_reply_free(reply);
		if (state != WAIT_ON)
			break;
		wait_draw(&progress, name, text);
		(void)poll(NULL, 0, LOOK_MS); /* sooner is no harm */
	}
	progress_close(&progress);
	if (state == WAIT_FAILED)
		fprintf(stderr, "pypoolctl: pool %.*s: %s\n", (int)name.len, (const char *)name.p, text);
	return state == WAIT_FAILED ? CTL_FAILED : r;
}

/* ---- a worker */

/* Is it among the living? */
static bool is_living(struct span list, uint64_t id)
{
	struct span worker;
	uint32_t n;

	if (!mp_read_array(&list, &n))
		return false;
	for (; n > 0 && mp_read_any(&list, &worker); n--) {
		if (why_uint(worker, "worker") == id)
			return !why_is(worker, "state", "dead");
	}
	return false;
}

int wait_for_end(struct ctl *ctl, uint64_t id)
{
	struct progress progress;
	bool lives = true;
	int r = CTL_OK;

	progress_open(&progress);
	while (lives) {
		struct pypool_reply *reply;
		char text[WAIT_TEXT];

		r = ctl_ask(ctl, "workers", (struct pypool_span){ 0 }, CTL_TIMEOUT_MS, &reply);
		if (r != CTL_OK)
			break;
		lives = is_living(ctl_value(reply), id);
		(void)pypool_reply_free(reply);
		if (!lives)
			break;
		(void)snprintf(text, sizeof(text), "worker %llu is not gone yet", (unsigned long long)id); /* fits */
		progress_draw(&progress, text);
		(void)poll(NULL, 0, LOOK_MS); /* sooner is no harm */
	}
	progress_close(&progress);
	return r;
}

/* ---- a reload */

struct reload_wait {
	bool over;
	struct pypool_reply *reply; /* owns */
};

static void reload_on_done(struct pypool *p, struct pypool_reply *reply, void *data)
{
	struct reload_wait *w = data;

	(void)p; /* the waiter has it */
	w->over = true;
	w->reply = reply;
}

/* How many workers are of the newest generation, and how many are not. */
static void count_generations(struct span list, uint64_t *new, uint64_t *old)
{
	struct span rest = list, worker;
	uint64_t newest = 0, g;
	uint32_t n;

	*new = *old = 0;
	for (int pass = 0; pass < 2; pass++) {
		rest = list;
		if (!mp_read_array(&rest, &n))
			return;
		for (; n > 0 && mp_read_any(&rest, &worker); n--) {
			if (why_is(worker, "state", "dead"))
				continue;
			g = why_uint(worker, "generation");
			if (pass == 0)
				newest = g > newest ? g : newest;
			else if (g < newest)
				++*old;
			else if (why_is(worker, "state", "idle") || why_is(worker, "state", "busy"))
				++*new;
		}
	}
}

/* Nothing is told when it cannot be asked: the reload itself will. */
static void reload_draw(struct ctl *ctl, struct progress *progress, struct span name)
{
	struct pypool_reply *reply, *workers;
	char text[WAIT_TEXT], *state;
	struct span pool;
	uint64_t new, old;

	if (wait_ask(ctl, name, &reply, &pool) != CTL_OK)
		return;
	state = cell_of(pool, "reload").len ? cell_any(cell_of(pool, "reload")) : NULL;
	if (ctl_askf(ctl, "workers", CTL_TIMEOUT_MS, &workers, "**{st}", "pool", name.p, name.len) == CTL_OK) {
		count_generations(ctl_value(workers), &new, &old);
		(void)snprintf(text, sizeof(text), "reload, %s: %llu new workers serve, %llu old ones are left", state ? state : "-",
			       (unsigned long long)new, (unsigned long long)old); /* fits */
		wait_draw(progress, name, text);
		(void)pypool_reply_free(workers);
	}
	free(state);
	(void)pypool_reply_free(reply);
}

/* Until it is over or time to look again. */
static void reload_turn(struct pypool *p, struct reload_wait *w)
{
	uint64_t until = ctl_now_ms() + LOOK_MS, now;

	while (!w->over && (now = ctl_now_ms()) < until) {
		struct pollfd fd = { .fd = pypool_fd(p), .events = pypool_events(p) };

		(void)poll(&fd, 1, (int)(until - now)); /* sooner is no harm */
		(void)pypool_dispatch(p);               /* a lost connection ends the call, with its error */
	}
}

int wait_for_reload(struct ctl *ctl, struct span name, struct pypool_span params, struct pypool_reply **reply)
{
	struct reload_wait w = { .over = false };
	struct progress progress;
	int r = ctl_connect(ctl);

	if (r != CTL_OK)
		return r;
	progress_open(&progress);
	if (!progress.shows)
		return ctl_ask(ctl, "pool.reload", params, 0, reply);
	if (pypool_submit(ctl->pool, "pool.reload", params, 0, reload_on_done, &w, NULL) < 0)
		return ctl_fail(ctl);
	for (reload_turn(ctl->pool, &w); !w.over; reload_turn(ctl->pool, &w))
		reload_draw(ctl, &progress, name);
	progress_close(&progress);
	if (pypool_reply_error(w.reply)) {
		failure_print(stderr, pypool_reply_error(w.reply), ctl->json);
		(void)pypool_reply_free(w.reply);
		return CTL_FAILED;
	}
	*reply = w.reply;
	return CTL_OK;
}

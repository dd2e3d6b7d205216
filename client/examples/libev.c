/* Calls from inside a libev loop that has other work too: ./libev file... counts the words of all files at once. */
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>

#include <ev.h>
#include <pypool.h>

struct app {
	struct pypool *pool;
	ev_io io;
	ev_timer timer;
	int status;
};

/* Descriptor, events and timeout may have changed: to be asked for after each dispatch, submit and cancel. */
static void watch(struct ev_loop *loop, struct app *app)
{
	int fd = pypool_fd(app->pool), events = pypool_events(app->pool), ms = pypool_timeout_ms(app->pool);

	ev_io_stop(loop, &app->io);
	ev_timer_stop(loop, &app->timer);
	if (pypool_in_flight(app->pool) == 0)
		return; /* nothing to wait for; ev_run() returns when nobody watches anything */
	if (fd >= 0) {
		ev_io_set(&app->io, fd, (events & POLLIN ? EV_READ : 0) | (events & POLLOUT ? EV_WRITE : 0));
		ev_io_start(loop, &app->io);
	}
	if (ms >= 0) {
		ev_timer_set(&app->timer, ms / 1000.0, 0);
		ev_timer_start(loop, &app->timer);
	}
}

/* The descriptor is ready, or the time has come. */
static void go_on(struct ev_loop *loop, struct app *app)
{
	if (pypool_dispatch(app->pool) < 0) { /* all calls in flight have been answered with that */
		fprintf(stderr, "%s\n", pypool_error_message(pypool_last_error(app->pool)));
		app->status = 1;
	}
	watch(loop, app);
}

static void on_io(struct ev_loop *loop, ev_io *io, int revents)
{
	(void)revents;
	go_on(loop, io->data);
}

static void on_timer(struct ev_loop *loop, ev_timer *timer, int revents)
{
	(void)revents;
	go_on(loop, timer->data);
}

/* Runs in pypool_dispatch(), once for each call. The reply is ours to free. */
static void on_done(struct pypool *p, struct pypool_reply *reply, void *data)
{
	const struct pypool_error *e = pypool_reply_error(reply);
	const char *name = data;
	struct pypool_span words;
	int64_t n = 0;

	(void)p;
	if (e)
		printf("%s: %s: %s\n", name, pypool_error_code(e), pypool_error_message(e));
	else if (pypool_get_key(pypool_reply_value(reply), "words", &words) == 0 && pypool_get_int(words, &n) == 0)
		printf("%s: %" PRId64 " words\n", name, n);
	pypool_reply_free(reply);
}

static int submit(struct app *app, char *path)
{
	struct pypool_span args = { 0 };
	void *packed = NULL;
	int r;

	r = pypool_packf(&packed, &args.size, "**{ss}", "path", path);
	if (r < 0)
		return r;
	args.data = packed;
	r = pypool_submit_execute(app->pool, "word_count", args, NULL, on_done, path, NULL);
	free(packed);
	return r;
}

int main(int argc, char **argv)
{
	struct ev_loop *loop = ev_default_loop(0);
	struct app app = { .status = 0 };
	int r;

	if (!loop || pypool_new(&app.pool) < 0)
		return 1;
	ev_io_init(&app.io, on_io, -1, 0);
	ev_timer_init(&app.timer, on_timer, 0, 0);
	app.io.data = app.timer.data = &app;
	r = pypool_connect_start(app.pool, NULL, 2000);
	for (int i = 1; i < argc && r == 0; i++)
		r = submit(&app, argv[i]);
	if (r < 0) {
		fprintf(stderr, "%s\n", pypool_error_message(pypool_last_error(app.pool)));
		app.status = 1;
	} else {
		watch(loop, &app);
		ev_run(loop, 0);
	}
	pypool_free(app.pool);
	return app.status;
}

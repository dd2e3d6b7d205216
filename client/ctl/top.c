/* pypoolctl top: pools, workers and what waits, again and again: in one place on a terminal, else one after the other. */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/ctl/screen.h"
#include "client/ctl/signals.h"
#include "client/ctl/top_view.h"

#define INTERVAL_MS 2000
#define INTERVAL_MAX_S 3600

enum { OPTION_POOL = 512, OPTION_ONCE };

struct top {
	struct ctl *ctl;
	const char *pool;
	uint32_t interval_ms;
	uint64_t rounds; /* 0: until it is stopped */
	struct screen screen;
	struct signals signals;
	struct sample samples[2];
	unsigned now; /* which of the two is the last */
	bool has_before;
};

/* --- options --- */

static bool top_read_interval(const char *text, uint32_t *ms)
{
	char *end;
	double s = strtod(text, &end);

	if (end == text || *end || !(s >= 0.01 && s <= INTERVAL_MAX_S))
		return false;
	*ms = (uint32_t)(s * 1000);
	return true;
}

/* CTL_OK: go on; else *over, and what to return. */
static int top_options(struct top *t, int argc, char **argv, bool *over)
{
	static const struct option options[] = { { "pool", required_argument, NULL, OPTION_POOL },
						 { "once", no_argument, NULL, OPTION_ONCE },
						 { NULL, 0, NULL, 0 } };
	int c;

	*over = true;
	while ((c = ctl_option(t->ctl, argc, argv, "hd:n:", options)) != -1) {
		if (c == OPTION_POOL)
			t->pool = optarg;
		else if (c == OPTION_ONCE)
			t->rounds = 1;
		else if (c == 'd' && !top_read_interval(optarg, &t->interval_ms))
			return ctl_usage(t->ctl, "-d %s: accepted are 0.01 to %d seconds", optarg, INTERVAL_MAX_S);
		else if (c == 'n' && (!ctl_number(optarg, &t->rounds) || t->rounds == 0))
			return ctl_usage(t->ctl, "-n %s: accepted are 1, 2, ...", optarg);
		else if (c != 'd' && c != 'n')
			return c == 'h' ? CTL_OK : CTL_USAGE;
	}
	if (optind < argc)
		return ctl_usage(t->ctl, "no argument is expected, got '%s'", argv[optind]);
	*over = false;
	return CTL_OK;
}

/* --- looking --- */

/* What it says on stderr is not to be drawn over. */
static int top_fail(struct top *t)
{
	screen_close(&t->screen);
	return ctl_fail(t->ctl);
}

static int top_look(struct top *t, bool is_first)
{
	struct sample *next = &t->samples[!t->now];

	sample_clear(next);
	if (sample_take(t->ctl, t->pool, next) < 0)
		return top_fail(t);
	t->now = !t->now;
	t->has_before = !is_first;
	return CTL_OK;
}

/* --- showing --- */

static int top_show(struct top *t)
{
	const struct sample *now = &t->samples[t->now], *before = t->has_before ? &t->samples[!t->now] : NULL;
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);
	bool done = out && (t->ctl->json ? top_view_write_json(out, now, before) : top_view_write(out, now, before));

	if (out && fclose(out) != 0)
		done = false;
	if (!done) {
		screen_close(&t->screen);
		fprintf(stderr, "pypoolctl: out of memory\n");
	} else if (t->screen.open) {
		screen_draw(text);
	} else {
		fputs(text, stdout);
		(void)fflush(stdout); /* a failed write shows in ferror() at the end */
	}
	free(text);
	return done ? CTL_OK : CTL_FAILED;
}

/* --- waiting --- */

/* Ctrl-Z: the shell gets its terminal back as it was. */
static void top_stop(struct top *t)
{
	bool was_open = t->screen.open;

	screen_close(&t->screen);
	(void)kill(getpid(), SIGSTOP); /* cannot fail */
	if (was_open)
		screen_open(&t->screen);
}

/* False: it is over. *draw: what is on the screen is to be drawn anew. */
static bool top_hear(struct top *t, bool *draw)
{
	int signo = signals_take(&t->signals);

	if (signals_is_end(signo) || signo == SIGHUP)
		return false;
	if (signo == SIGTSTP)
		top_stop(t);
	*draw |= signo != 0;
	return true;
}

/* Until it is time for the next look. False: it is over. */
static bool top_wait(struct top *t)
{
	uint64_t due = t->samples[t->now].at_ms + t->interval_ms, now;

	while ((now = ctl_now_ms()) < due) {
		struct pollfd fds[] = {
			{ .fd = t->signals.fd, .events = POLLIN },
			{ .fd = t->screen.open && t->screen.has_keys ? STDIN_FILENO : -1, .events = POLLIN },
			{ .fd = STDOUT_FILENO }, /* POLLERR: nobody reads any more */
		};
		bool draw = false;
		char key;

		(void)poll(fds, sizeof(fds) / sizeof(fds[0]), (int)(due - now)); /* failed: we look at the time again */
		if (fds[2].revents & POLLERR || (fds[0].revents && !top_hear(t, &draw)))
			return false;
		key = fds[1].revents ? screen_key(&t->screen) : '\0';
		if (key == 'q' || key == 'Q' || (fds[1].revents && !key))
			return false; /* also when the terminal is gone */
		if (key == ' ')
			return true;
		if (draw && t->screen.open)
			(void)top_show(t); /* when it fails, the next look does too */
	}
	return true;
}

/* On a terminal the first tables come at once, without rates; else all have them. */
static int top_run(struct top *t)
{
	int r = top_look(t, true);

	if (r == CTL_OK && t->screen.open)
		r = top_show(t);
	for (uint64_t i = 0; r == CTL_OK && (t->rounds == 0 || i < t->rounds) && top_wait(t); i++) {
		r = top_look(t, false);
		if (r == CTL_OK && i > 0 && !t->screen.open && !t->ctl->json)
			putchar('\n');
		if (r == CTL_OK)
			r = top_show(t);
	}
	return r;
}

int command_top(struct ctl *ctl, int argc, char **argv)
{
	static const int more[] = { SIGHUP, SIGTSTP, SIGWINCH, 0 };
	struct top t = { .ctl = ctl, .interval_ms = INTERVAL_MS };
	bool over;
	int r = top_options(&t, argc, argv, &over);

	if (over)
		return r;
	r = ctl_connect(ctl);
	if (r != CTL_OK)
		return r;
	if (!signals_open(&t.signals, more)) {
		fprintf(stderr, "pypoolctl: signalfd failed: %s\n", strerrordesc_np(errno));
		return CTL_FAILED;
	}
	if (!t.rounds && !ctl->json && screen_is_possible())
		screen_open(&t.screen);
	r = top_run(&t);
	screen_close(&t.screen);
	signals_close(&t.signals);
	sample_clear(&t.samples[0]);
	sample_clear(&t.samples[1]);
	return r;
}

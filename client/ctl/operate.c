/* pypoolctl pause, resume, drain, resize, recycle, kill, shutdown: what an operator does with a daemon that runs. */
#include <string.h>

#include "client/ctl/ctl.h"
#include "client/ctl/each.h"
#include "client/ctl/wait.h"
#include "client/ctl/why.h"
#include "proto/cursor.h"

static const struct option wait_option[] = { { "wait", no_argument, NULL, 'w' }, { NULL, 0, NULL, 0 } };

/* --- pause, resume, drain --- */

struct pause_way {
	const char *method;
	bool wait;
	bool is_done; /* when it is answered: with --wait as without */
};

static int pause_print(struct span answer)
{
	printf("pool ");
	why_put(answer, "pool", cell_any);
	printf(" is ");
	why_put(answer, "state", cell_any);
	printf(": ");
	why_put(answer, "running", cell_any);
	printf(why_uint(answer, "running") == 1 ? " call runs, " : " calls run, ");
	why_put(answer, "queued", cell_any);
	puts(why_uint(answer, "queued") == 1 ? " waits" : " wait");
	return CTL_OK;
}

static int pause_one(struct ctl *ctl, struct span pool, void *arg)
{
	const struct pause_way *way = arg;
	struct pypool_reply *reply;
	int r = ctl_askf(ctl, way->method, CTL_TIMEOUT_MS, &reply, "**{st}", "pool", pool.p, pool.len);

	if (r == CTL_OK)
		r = ctl_show(ctl, reply, pause_print);
	(void)fflush(stdout); /* what cannot be written shows at the end */
	return r == CTL_OK && way->wait && !way->is_done ? wait_for(ctl, pool, wait_quiet) : r;
}

static int pause_command(struct ctl *ctl, int argc, char **argv, struct pause_way way)
{
	int c;

	while ((c = ctl_option(ctl, argc, argv, "hw", wait_option)) != -1) {
		if (c != 'w')
			return c == 'h' ? CTL_OK : CTL_USAGE;
		way.wait = true;
	}
	return each_pool(ctl, argc, argv, pause_one, &way);
}

int command_pause(struct ctl *ctl, int argc, char **argv)
{
	return pause_command(ctl, argc, argv, (struct pause_way){ .method = "pool.pause" });
}

int command_resume(struct ctl *ctl, int argc, char **argv)
{
	return pause_command(ctl, argc, argv, (struct pause_way){ .method = "pool.resume", .is_done = true });
}

int command_drain(struct ctl *ctl, int argc, char **argv)
{
	return pause_command(ctl, argc, argv, (struct pause_way){ .method = "pool.pause", .wait = true });
}

/* --- resize --- */

static int resize_print(struct span answer)
{
	printf("pool ");
	why_put(answer, "pool", cell_any);
	printf(" has ");
	why_put(answer, "min_workers", cell_any);
	printf(" to ");
	why_put(answer, "max_workers", cell_any);
	puts(why_uint(answer, "max_workers") == 1 ? " worker until its next reload" : " workers until its next reload");
	return CTL_OK;
}

/* What one end of the size is to be. */
struct bound {
	bool given;
	uint64_t n;
};

static int resize(struct ctl *ctl, const char *pool, struct bound min, struct bound max)
{
	struct pypool_reply *reply;
	int r;

	if (min.given && max.given)
		r = ctl_askf(ctl, "pool.resize", CTL_TIMEOUT_MS, &reply, "**{sssUsU}", "pool", pool, "min_workers", min.n,
			     "max_workers", max.n);
	else
		r = ctl_askf(ctl, "pool.resize", CTL_TIMEOUT_MS, &reply, "**{sssU}", "pool", pool,
			     min.given ? "min_workers" : "max_workers", min.given ? min.n : max.n);
	return r == CTL_OK ? ctl_show(ctl, reply, resize_print) : r;
}

int command_resize(struct ctl *ctl, int argc, char **argv)
{
	static const struct option options[] = { { "min", required_argument, NULL, 'm' },
						 { "max", required_argument, NULL, 'M' },
						 { "wait", no_argument, NULL, 'w' },
						 { NULL, 0, NULL, 0 } };
	struct bound min = { 0 }, max = { 0 }, *bound;
	bool wait = false;
	int c, r;

	while ((c = ctl_option(ctl, argc, argv, "hw", options)) != -1) {
		if (c == 'w') {
			wait = true;
			continue;
		}
		if (c != 'm' && c != 'M')
			return c == 'h' ? CTL_OK : CTL_USAGE;
		bound = c == 'm' ? &min : &max;
		bound->given = true;
		if (!ctl_number(optarg, &bound->n))
			return ctl_usage(ctl, "'%s' is no number of workers", optarg);
	}
	if (optind != argc - 1)
		return ctl_usage(ctl, "which pool? one at a time");
	if (!min.given && !max.given)
		return ctl_usage(ctl, "to what? --min N, --max N or both");
	r = resize(ctl, argv[optind], min, max);
	(void)fflush(stdout); /* as above */
	return r == CTL_OK && wait ? wait_for(ctl, span_str(argv[optind]), wait_sized) : r;
}

/* --- recycle --- */

static int recycle_print(struct span answer)
{
	printf("pool ");
	why_put(answer, "pool", cell_any);
	printf(": ");
	why_put(answer, "recycled", cell_any);
	puts(why_uint(answer, "recycled") == 1 ? " worker will be replaced, after its call" :
						   " workers will be replaced, each after its call");
	return CTL_OK;
}

/* POOL/N: a worker of it; what is left in *name is the pool. */
static bool recycle_worker(struct span *name, uint64_t *worker)
{
	const uint8_t *slash = memrchr(name->p, '/', name->len);

	/* a word of the command line, which has an end: names of pools have no slash */
	if (!slash || !ctl_number((const char *)slash + 1, worker))
		return false;
	name->len = (size_t)(slash - name->p);
	return true;
}

static int recycle_one(struct ctl *ctl, struct span pool, void *arg)
{
	const bool *wait = arg;
	struct pypool_reply *reply;
	uint64_t worker;
	int r;

	if (recycle_worker(&pool, &worker))
		r = ctl_askf(ctl, "pool.recycle", CTL_TIMEOUT_MS, &reply, "**{stsU}", "pool", pool.p, pool.len, "worker", worker);
	else
		r = ctl_askf(ctl, "pool.recycle", CTL_TIMEOUT_MS, &reply, "**{st}", "pool", pool.p, pool.len);
	if (r == CTL_OK)
		r = ctl_show(ctl, reply, recycle_print);
	(void)fflush(stdout); /* as above */
	return r == CTL_OK && *wait ? wait_for(ctl, pool, wait_replaced) : r;
}

int command_recycle(struct ctl *ctl, int argc, char **argv)
{
	bool wait = false;
	int c;

	while ((c = ctl_option(ctl, argc, argv, "hw", wait_option)) != -1) {
		if (c != 'w')
			return c == 'h' ? CTL_OK : CTL_USAGE;
		wait = true;
	}
	return each_pool(ctl, argc, argv, recycle_one, &wait);
}

/* --- kill --- */

static int kill_print(struct span answer)
{
	printf("worker ");
	why_put(answer, "worker", cell_any);
	printf(" (pid ");
	why_put(answer, "pid", cell_any);
	printf(") of pool ");
	why_put(answer, "pool", cell_any);
	puts(" is being killed");
	return CTL_OK;
}

/* POOL/N must be of that pool. */
static int kill_one(struct ctl *ctl, const char *word, bool wait)
{
	const char *slash = strrchr(word, '/');
	struct pypool_reply *reply;
	uint64_t worker;
	int r;

	if (!ctl_worker(word, &worker))
		return ctl_usage(ctl, "a worker has a number, got '%s'", word);
	if (slash)
		r = ctl_askf(ctl, "worker.kill", CTL_TIMEOUT_MS, &reply, "**{stsU}", "pool", word, (size_t)(slash - word),
			     "worker", worker);
	else
		r = ctl_askf(ctl, "worker.kill", CTL_TIMEOUT_MS, &reply, "**{sU}", "worker", worker);
	if (r == CTL_OK)
		r = ctl_show(ctl, reply, kill_print);
	(void)fflush(stdout); /* as above */
	return r == CTL_OK && wait ? wait_for_end(ctl, worker) : r;
}

int command_kill(struct ctl *ctl, int argc, char **argv)
{
	bool wait = false;
	int r, c, worst = CTL_OK;

	while ((c = ctl_option(ctl, argc, argv, "hw", wait_option)) != -1) {
		if (c != 'w')
			return c == 'h' ? CTL_OK : CTL_USAGE;
		wait = true;
	}
	if (optind == argc)
		return ctl_usage(ctl, "which one? the number of a worker");
	for (; optind < argc && worst != CTL_USAGE; optind++) {
		r = kill_one(ctl, argv[optind], wait);
		worst = r > worst ? r : worst;
	}
	return worst;
}

/* --- shutdown --- */

static int shutdown_print(struct span answer)
{
	puts(why_true(answer, "now") ? "the daemon ends now" : "the daemon ends when what runs has ended");
	return CTL_OK;
}

int command_shutdown(struct ctl *ctl, int argc, char **argv)
{
	static const struct option options[] = { { "now", no_argument, NULL, 'n' }, { NULL, 0, NULL, 0 } };
	struct pypool_reply *reply;
	bool now = false;
	int c, r;

	while ((c = ctl_option(ctl, argc, argv, "h", options)) != -1) {
		if (c != 'n')
			return c == 'h' ? CTL_OK : CTL_USAGE;
		now = true;
	}
	if (optind != argc)
		return ctl_usage(ctl, "nothing else is expected");
	r = ctl_askf(ctl, "shutdown", CTL_TIMEOUT_MS, &reply, "**{sb}", "now", now);
	return r == CTL_OK ? ctl_show(ctl, reply, shutdown_print) : r;
}

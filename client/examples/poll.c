/* Many calls in flight in an event loop of one's own: ./poll file... counts the words of all files at once. */
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>

#include <pypool.h>

/* Runs once for each call, in whatever order the answers come. The reply is ours to free. */
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

static int submit(struct pypool *p, char *path)
{
	/* word_count is marked as idempotent: should its worker die, another one counts. */
	const struct pypool_options options = { .timeout_ms = 10000, .idempotent = 1 };
	struct pypool_span args = { 0 };
	void *packed = NULL;
	int r;

	r = pypool_packf(&packed, &args.size, "**{ss}", "path", path); /* keyword arguments: path=... */
	if (r < 0)
		return r;
	args.data = packed;
	r = pypool_submit_execute(p, "word_count", args, &options, on_done, path, NULL);
	free(packed); /* was copied */
	return r;
}

int main(int argc, char **argv)
{
	struct pypool *p = NULL;
	int r;

	if (pypool_new(&p) < 0)
		return 1;
	r = pypool_connect_start(p, NULL, 2000);
	for (int i = 1; i < argc && r == 0; i++)
		r = submit(p, argv[i]);
	while (r == 0 && pypool_in_flight(p) > 0) {
		/* Descriptor, events and timeout may change with every turn. A negative descriptor is ignored by poll(). */
		struct pollfd pfd = { .fd = pypool_fd(p), .events = pypool_events(p) };

		(void)poll(&pfd, 1, pypool_timeout_ms(p));
		r = pypool_dispatch(p);
	}
	if (r < 0)
		fprintf(stderr, "%s\n", pypool_error_message(pypool_last_error(p)));
	pypool_free(p);
	return r < 0;
}

/* One worker for a while, called with nobody in between: ./direct file... counts the words of one file after the other. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include <pypool.h>

static void complain(const char *what, const struct pypool_error *e)
{
	fprintf(stderr, "%s: %s: %s (executed: %s)\n", what, pypool_error_code(e), pypool_error_message(e),
		pypool_executed_name(pypool_error_executed(e)));
}

/* The same function as without a lease: the number of the lease says where the call goes. */
static int count(struct pypool *p, uint64_t lease, const char *path)
{
	const struct pypool_options options = { .lease = lease };
	struct pypool_reply *reply = NULL;
	struct pypool_span args = { 0 }, words;
	void *packed = NULL;
	int64_t n = 0;
	int r;

	if (pypool_packf(&packed, &args.size, "ns", path) < 0) /* word_count(None, path) */
		return -1;
	args.data = packed;
	r = pypool_execute(p, "word_count", args, &options, &reply);
	free(packed);
	if (r < 0) {
		complain(path, pypool_last_error(p));
		return r;
	}
	if (pypool_get_key(pypool_reply_value(reply), "words", &words) == 0 && pypool_get_int(words, &n) == 0)
		printf("%s: %" PRId64 " words\n", path, n);
	pypool_reply_free(reply);
	return 0;
}

int main(int argc, char **argv)
{
	const struct pypool_options options = { .direct = 1, .timeout_ms = 10000, .ttl_ms = 60000 };
	struct pypool_lease lease;
	struct pypool *p = NULL;
	int status = 0;

	if (pypool_new(&p) < 0)
		return 1;
	if (pypool_connect(p, NULL, 2000) < 0 || pypool_checkout(p, &options, &lease) < 0) {
		complain("no worker", pypool_last_error(p));
		pypool_free(p);
		return 1;
	}
	for (int i = 1; i < argc; i++)
		if (count(p, lease.lease, argv[i]) < 0)
			status = 1;
	if (pypool_checkin(p, lease.lease, 0) < 0)
		complain("checkin", pypool_last_error(p));
	pypool_free(p);
	return status;
}

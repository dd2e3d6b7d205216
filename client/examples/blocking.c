/* One call that waits: cc blocking.c $(pkg-config --cflags --libs libpypool) -o blocking && ./blocking "to be or not" */
#include <inttypes.h>
#include <stdio.h>

#include <pypool.h>

/* What a caller wants to know about a failure. Only `never` may be sent again by a program. */
static int complain(const struct pypool_error *e)
{
	fprintf(stderr, "%s: %s (executed: %s)\n", pypool_error_code(e), pypool_error_message(e),
		pypool_executed_name(pypool_error_executed(e)));
	return 1;
}

int main(int argc, char **argv)
{
	const char *text = argc > 1 ? argv[1] : "the quick brown fox jumps over the lazy dog";
	struct pypool_reply *reply = NULL;
	struct pypool_span words;
	struct pypool *p = NULL;
	int64_t n = 0;
	int status = 0;

	if (pypool_new(&p) < 0)
		return 1;
	pypool_set_timeout(p, 10000);
	if (pypool_connect(p, NULL, 2000) < 0) { /* NULL: $PYPOOL_SOCKET, or the usual place */
		status = complain(pypool_last_error(p));
	} else if (pypool_executef(p, "word_count", &reply, "s", text) < 0) {
		status = complain(pypool_last_error(p));
	} else if (pypool_get_key(pypool_reply_value(reply), "words", &words) == 0 && pypool_get_int(words, &n) == 0) {
		printf("%" PRId64 " words\n", n);
	}
	pypool_reply_free(reply);
	pypool_free(p);
	return status;
}

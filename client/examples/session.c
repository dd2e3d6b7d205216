/* Calls that remember: ./session NAME item... adds items to what the session NAME has collected, and prints all of it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <pypool.h>

static int complain(const struct pypool_error *e)
{
	fprintf(stderr, "%s: %s (executed: %s)\n", pypool_error_code(e), pypool_error_message(e),
		pypool_executed_name(pypool_error_executed(e)));
	return 1;
}

static int add(struct pypool *p, const char *session, const char *item)
{
	const struct pypool_options options = { .session = session };
	struct pypool_reply *reply = NULL;
	struct pypool_span args = { 0 };
	void *packed = NULL;
	int r;

	if (pypool_packf(&packed, &args.size, "s", item) < 0)
		return 1;
	args.data = packed;
	r = pypool_execute(p, "collect", args, &options, &reply);
	if (r < 0 && strcmp(pypool_error_code(pypool_last_error(p)), "session_lost") == 0 &&
	    pypool_error_executed(pypool_last_error(p)) == PYPOOL_NEVER &&
	    pypool_session_open(p, session, NULL, NULL) == 0) /* its values are kept */
		r = pypool_execute(p, "collect", args, &options, &reply);
	free(packed);
	pypool_reply_free(reply);
	return r < 0 ? complain(pypool_last_error(p)) : 0;
}

/* What is committed: without a worker, and also while a call runs. */
static int show(struct pypool *p, const char *session)
{
	struct pypool_reply *reply = NULL;
	struct pypool_span item, text;

	if (pypool_session_get(p, session, "items", NULL, &reply) < 0)
		return complain(pypool_last_error(p));
	for (size_t i = 0; pypool_get_item(pypool_reply_value(reply), i, &item) == 0; i++)
		if (pypool_get_text(item, &text) == 0)
			printf("%.*s\n", (int)text.size, (const char *)text.data);
	pypool_reply_free(reply);
	return 0;
}

int main(int argc, char **argv)
{
	struct pypool *p = NULL;
	int status = 0;

	if (argc < 2 || pypool_new(&p) < 0)
		return 2;
	pypool_set_timeout(p, 10000);
	if (pypool_connect(p, NULL, 2000) < 0)
		status = complain(pypool_last_error(p));
	for (int i = 2; i < argc && status == 0; i++)
		status = add(p, argv[1], argv[i]);
	if (status == 0)
		status = show(p, argv[1]);
	pypool_free(p);
	return status;
}

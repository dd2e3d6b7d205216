/* The files of the configuration: are they right, and are they what is in force? Only pypoold reads them: it is run with --show,
 * as the daemon's user, whom it trusts less than root. */
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "client/ctl/doctor.h"
#include "client/ctl/doctor_program.h"
#include "client/ctl/doctor_run.h"

#define CHECK "configuration"
#define SHOW_MS 10000
#define NAMED_MAX 5 /* options that are named; more are counted */

/* What pypoold says of the files; owned by the caller. NULL when they are refused or it cannot be run, which is told. socket: of
 * the daemon that runs, because the default depends on who asks. */
static char *show(struct doctor *d, const char *file, const char *socket, size_t *len)
{
	char *program = doctor_find_pypoold(), *found = NULL;
	char *argv[] = { program, (char *)"--show", NULL, NULL, NULL, NULL, NULL };
	const struct doctor_run run = { .argv = argv, .uid = d->uid, .timeout_ms = SHOW_MS };
	struct doctor_said said;
	int r, n = 2;

	if (file)
		argv[n++] = (char *)"--config", argv[n++] = (char *)file;
	if (socket)
		argv[n++] = (char *)"--socket", argv[n] = (char *)socket;
	if (!program) {
		doctor_tell(d, DOCTOR_WARNING, CHECK, NULL, "there is no pypoold beside pypoolctl: the files are not checked");
		return NULL;
	}
	r = doctor_run(&run, &said);
	if (r < 0 || !WIFEXITED(said.status)) {
		doctor_tell(d, DOCTOR_WARNING, CHECK, NULL, "%s --show did not end well", program);
	} else if (WEXITSTATUS(said.status) != 0) {
		doctor_tell(d, d->reached ? DOCTOR_WARNING : DOCTOR_ERROR, CHECK, NULL, "the files are refused%s",
			    d->reached ? ", and the next reload or start will be" : "");
		doctor_advise(d, "%s", said.err);
	} else if (cursor_check((struct span){ .p = (const uint8_t *)said.out, .len = said.out_len }) != CURSOR_DONE) {
		doctor_tell(d, DOCTOR_WARNING, CHECK, NULL, "%s --show is not understood; is it of another version?", program);
	} else {
		found = said.out;
		*len = said.out_len;
		said.out = NULL;
	}
	doctor_said_free(&said);
	free(program);
	return found;
}

/* ---- what differs */

struct difference {
	unsigned n;
	FILE *names;
};

/* The socket may be the command line's, and the environment is made of that of who starts the daemon. */
static bool is_comparable(struct span name)
{
	return !span_equals(name, "socket") && !span_equals(name, "environment");
}

static void compare_options(struct span ours, struct span theirs, const char *pool, struct difference *diff)
{
	struct span name, option, a, b;
	uint32_t n;

	if (!mp_read_map(&ours, &n))
		return;
	for (; n > 0 && mp_read_text(&ours, &name) && mp_read_any(&ours, &option); n--) {
		char *key = strndup((const char *)name.p, name.len);

		a = cell_of(option, "text");
		b = cell_of(cell_of(theirs, key ? key : ""), "text");
		if (is_comparable(name) && (a.len != b.len || memcmp(a.p, b.p, a.len) != 0) && diff->n++ < NAMED_MAX)
			fprintf(diff->names, "%s%s%s%s", diff->n > 1 ? ", " : "", pool, *pool ? "." : "", key ? key : "");
		free(key);
	}
}

static void compare_pools(struct span ours, struct span theirs, struct difference *diff)
{
	struct span a, b;
	uint32_t n, m;

	if (!mp_read_array(&ours, &n) || !mp_read_array(&theirs, &m))
		return;
	for (n = n < m ? n : m; n > 0 && mp_read_any(&ours, &a) && mp_read_any(&theirs, &b); n--) {
		char *name = doctor_text(cell_of(a, "name"));

		compare_options(cell_of(a, "options"), cell_of(b, "options"), name ? name : "", diff);
		free(name);
	}
}

/* shown: what the files say; pools are the same, or a reload would be refused. */
static void compare(struct doctor *d, struct span shown)
{
	struct difference diff = { 0 };
	char *names = NULL;
	size_t size;

	diff.names = open_memstream(&names, &size);
	if (!diff.names)
		return;
	compare_options(cell_of(d->answers[ANSWER_CONFIG], "options"), cell_of(shown, "options"), "", &diff);
	compare_pools(cell_of(d->answers[ANSWER_CONFIG], "pools"), cell_of(shown, "pools"), &diff);
	if (fclose(diff.names) == 0 && diff.n) {
		doctor_tell(d, DOCTOR_WARNING, CHECK, NULL, "the files say something else than what is in force: %s%s", names,
			    diff.n > NAMED_MAX ? ", ..." : "");
		doctor_advise(d, "pypoolctl config shows what is in force; pypoolctl reload takes the files over. Some options need a\n"
				 "restart: the reload names them in the log (config.needs_restart).");
	} else {
		doctor_tell(d, DOCTOR_OK, CHECK, NULL, "the files are what is in force");
	}
	free(names);
}

static void check_running(struct doctor *d)
{
	char **files = doctor_list(cell_of(d->answers[ANSWER_CONFIG], "files"));
	char *socket = doctor_text(doctor_option(cell_of(d->answers[ANSWER_CONFIG], "options"), "socket")), *shown = NULL;
	size_t len;

	/* the first is the one that was named, the others are its conf.d; none: --app */
	if (files && files[0] && (geteuid() == 0 || access(files[0], R_OK) == 0) && (shown = show(d, files[0], socket, &len)))
		compare(d, (struct span){ .p = (const uint8_t *)shown, .len = len });
	free(shown);
	free(socket);
	doctor_list_free(files);
}

/* pypoold is run in another directory. NULL: there is no file, or no memory. */
static char *absolute(const char *file)
{
	char *here = file && *file != '/' ? getcwd(NULL, 0) : NULL, *path;

	if (file && (*file == '/' || !here))
		return strdup(file);
	if (!file || asprintf(&path, "%s/%s", here, file) < 0)
		path = NULL;
	free(here);
	return path;
}

static void check_alone(struct doctor *d)
{
	char *file = absolute(d->file);
	size_t len;

	d->shown = show(d, file, NULL, &len);
	free(file);
	if (!d->shown)
		return;
	d->answers[ANSWER_CONFIG] = (struct span){ .p = d->shown, .len = len };
	doctor_tell(d, DOCTOR_OK, CHECK, NULL, "the files are accepted");
}

void doctor_check_files(struct doctor *d)
{
	if (!d->reached)
		check_alone(d);
	else if (d->answers[ANSWER_CONFIG].len)
		check_running(d);
}

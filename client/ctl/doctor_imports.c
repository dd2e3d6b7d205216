/*
 * The time of each module: the pool's interpreter imports what a worker would, under -X importtime. What counts is the time of a
 * package's own modules, without those that they import, so that the sum is the whole.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "client/ctl/doctor.h"
#include "client/ctl/doctor_program.h"
#include "client/ctl/doctor_run.h"

#define CHECK "imports"
#define PACKAGES_MAX 4096
#define TOP 5
#define PATIENCE_MS 600000 /* when init_timeout is 0 */

/* argv: library, how many directories, the directories, the modules. As run_worker.py: only the package comes within reach. */
static const char script[] = "import sys\n"
			     "library, n = sys.argv[1], int(sys.argv[2])\n"
			     "path, modules = sys.argv[3:3 + n], sys.argv[3 + n:]\n"
			     "sys.argv[:] = ['']\n"
			     "sys.path[:] = [library] + [e for e in sys.path if e not in ('', '.')]\n"
			     "import pypool_worker\n"
			     "del sys.path[0]\n"
			     "sys.path[:0] = path\n"
			     "sys.stderr.write('pypool: begin\\n'); sys.stderr.flush()\n"
			     "for module in modules:\n"
			     "    __import__(module)\n"
			     "sys.stderr.write('pypool: end\\n'); sys.stderr.flush()\n";

struct package {
	const char *name; /* borrows from what was said */
	size_t len;
	uint64_t us;
};

struct packages {
	struct package all[PACKAGES_MAX];
	unsigned n;
	uint64_t us;
};

static void packages_add(struct packages *p, const char *name, size_t len, uint64_t us)
{
	unsigned i = 0;

	p->us += us;
	while (i < p->n && (p->all[i].len != len || memcmp(p->all[i].name, name, len) != 0))
		i++;
	if (i == PACKAGES_MAX)
		return; /* it is in the sum */
	if (i == p->n)
		p->all[p->n++] = (struct package){ .name = name, .len = len };
	p->all[i].us += us;
}

/* "import time:       123 |        456 |   numpy.core" */
static void take_line(struct packages *p, const char *line)
{
	unsigned long long self;
	int name = 0;

	if (sscanf(line, "import time: %llu | %*u | %n", &self, &name) != 1 || !name)
		return;
	line += name;
	packages_add(p, line, strcspn(line, ".\n "), self);
}

static int by_time(const void *a, const void *b)
{
	const struct package *x = a, *y = b;

	return x->us < y->us ? 1 : x->us > y->us ? -1 : 0;
}

static void tell_times(struct doctor *d, const char *pool, const char *begin)
{
	struct packages *p = calloc(1, sizeof(*p));
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	for (const char *line = begin; p && line; line = strchr(line, '\n'), line = line ? line + 1 : NULL)
		take_line(p, line);
	if (p && out) {
		qsort(p->all, p->n, sizeof(p->all[0]), by_time);
		for (unsigned i = 0; i < p->n && i < TOP; i++)
			fprintf(out, "%s%.*s %.0f", i ? ", " : "", (int)p->all[i].len, p->all[i].name, (double)p->all[i].us / 1000);
	}
	if (out && fclose(out) == 0 && p)
		doctor_tell(d, DOCTOR_OK, CHECK, pool, "%.0f ms in %u %s; the slowest, without what they import (ms): %s",
			    (double)p->us / 1000, p->n, p->n == 1 ? "package" : "packages", *text ? text : "none");
	free(text);
	free(p);
}

static const char *last_line(char *text)
{
	size_t n = strlen(text);
	char *newline;

	while (n > 0 && text[n - 1] == '\n')
		text[--n] = '\0';
	newline = strrchr(text, '\n');
	return newline ? newline + 1 : text;
}

static void tell(struct doctor *d, const char *pool, int r, struct doctor_said *said)
{
	char *begin = strstr(said->err, "pypool: begin\n");

	if (r == -ETIMEDOUT) {
		doctor_tell(d, DOCTOR_ERROR, CHECK, pool, "the imports do not end");
		doctor_advise(d, "pypoolctl stack WORKER shows where a worker is that starts.");
	} else if (r < 0 || !WIFEXITED(said->status) || WEXITSTATUS(said->status) != 0 || !begin || !strstr(begin, "pypool: end\n")) {
		doctor_tell(d, DOCTOR_ERROR, CHECK, pool, "they fail: %s", *said->err ? last_line(said->err) : "it was killed");
		doctor_advise(d, "pypoolctl why pool %s has the traceback of the last worker that failed.", pool);
	} else {
		tell_times(d, pool, begin);
	}
}

/* ---- what to run */

static size_t length(char **list)
{
	size_t n = 0;

	while (list && list[n])
		n++;
	return n;
}

static size_t put_all(char **argv, size_t n, char **list)
{
	for (; list && *list; list++)
		argv[n++] = *list;
	return n;
}

static void run_imports(struct doctor *d, const char *pool, struct doctor_run *run, char *library, char **lists[4], char *app)
{
	char count[24], **argv = calloc(16 + length(lists[0]) + length(lists[1]) + length(lists[2]), sizeof(*argv));
	struct doctor_said said;
	size_t n = 0;

	if (!argv)
		return;
	(void)snprintf(count, sizeof(count), "%zu", length(lists[0])); /* fits */
	argv[n++] = run->argv[0];
	argv[n++] = (char *)"-X", argv[n++] = (char *)"importtime";
	argv[n++] = (char *)"-c", argv[n++] = (char *)script;
	argv[n++] = library, argv[n++] = count;
	n = put_all(argv, n, lists[0]);
	n = put_all(argv, n, lists[1]);
	argv[n++] = app;
	(void)put_all(argv, n, lists[2]);
	run->argv = argv;
	tell(d, pool, doctor_run(run, &said), &said);
	doctor_said_free(&said);
	free(argv);
}

void doctor_check_imports(struct doctor *d, struct span options, const char *pool)
{
	uint64_t limit = doctor_number(options, "init_timeout");
	char **lists[4] = { doctor_list(doctor_option(options, "path")), doctor_list(doctor_option(options, "preload")),
			    doctor_list(doctor_option(options, "modules")), doctor_list(doctor_option(options, "environment")) };
	char *python = doctor_text(doctor_option(options, "python")), *app = doctor_text(doctor_option(options, "app"));
	char *library = doctor_find_library(), *argv[] = { python, NULL };
	struct doctor_run run = {
		.argv = argv,
		.envp = lists[3],
		.uid = doctor_worker_uid(d, options),
		.timeout_ms = limit && limit < PATIENCE_MS ? (uint32_t)limit : PATIENCE_MS,
	};

	if (!library)
		doctor_tell(d, DOCTOR_WARNING, CHECK, pool, "the package pypool_worker is not beside pypoolctl");
	else if (python && app)
		run_imports(d, pool, &run, library, lists, app);
	for (int i = 0; i < 4; i++)
		doctor_list_free(lists[i]);
	free(python);
	free(app);
	free(library);
}

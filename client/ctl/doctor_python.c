/* What the configuration names on the disk: interpreters and directories. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "client/ctl/doctor.h"
#include "client/ctl/doctor_run.h"

#define PROBE_MS 10000
#define OLDEST 9 /* of Python 3 */

/* Of Python 3.5 and newer, and told apart from a program that is something else. */
static const char probe[] = "import sys\n"
			    "try:\n"
			    "    import msgpack\n"
			    "    codec = 'c' if '_cmsgpack' in str(msgpack.Packer.__module__) else 'python'\n"
			    "except ImportError:\n"
			    "    codec = 'none'\n"
			    "print('pypool-probe', sys.version_info[0], sys.version_info[1], codec)\n";

static void tell_probed(struct doctor *d, const char *pool, const char *python, const char *said)
{
	unsigned major, minor;
	char codec[16];

	if (sscanf(said, "pypool-probe %u %u %15s", &major, &minor, codec) != 3) {
		doctor_tell(d, DOCTOR_ERROR, "python", pool, "%s is no Python that works", python);
		doctor_advise(d, "Run it by hand: %s -c 'print(1)'", python);
	} else if (major < 3 || (major == 3 && minor < OLDEST)) {
		doctor_tell(d, DOCTOR_ERROR, "python", pool, "%s is Python %u.%u, and 3.%d is the oldest that will do", python, major, minor, OLDEST);
		doctor_advise(d, "Name a newer one: python = \"/PATH\"");
	} else if (strcmp(codec, "c") != 0) {
		doctor_tell(d, DOCTOR_WARNING, "codec", pool, "%s has no msgpack in C: about 20 us more for each call", python);
		doctor_advise(d, "%s -m pip install msgpack, or for the system's Python: apt install python3-msgpack", python);
	} else {
		doctor_tell(d, DOCTOR_OK, "python", pool, "%s is Python %u.%u with msgpack in C", python, major, minor);
	}
}

/* Asks the interpreter itself, as the user and with the environment that a worker has. */
static void probe_python(struct doctor *d, struct span options, const char *pool, char *python)
{
	char *const argv[] = { python, (char *)"-c", (char *)probe, NULL };
	char **environment = doctor_list(doctor_option(options, "environment"));
	const struct doctor_run run = {
		.argv = argv, .envp = environment, .uid = doctor_worker_uid(d, options), .timeout_ms = PROBE_MS
	};
	struct doctor_said said;

	if (doctor_run(&run, &said) == -ETIMEDOUT) {
		doctor_tell(d, DOCTOR_ERROR, "python", pool, "%s did not end within %d s", python, PROBE_MS / 1000);
		doctor_advise(d, "Run it by hand: %s -c 'print(1)'", python);
	} else if (WIFEXITED(said.status) && WEXITSTATUS(said.status) == 0) {
		tell_probed(d, pool, python, said.out);
	} else {
		doctor_tell(d, DOCTOR_ERROR, "python", pool, "%s does not run: %s", python, *said.err ? said.err : "it was killed");
		doctor_advise(d, "A venv is broken when the Python that it was made from is gone: make it again.");
	}
	doctor_said_free(&said);
	doctor_list_free(environment);
}

static void check_python(struct doctor *d, struct span options, const char *pool)
{
	char *python = doctor_text(doctor_option(options, "python"));
	struct stat st;

	if (!python)
		return;
	if (stat(python, &st) < 0) {
		doctor_tell(d, errno == EACCES ? DOCTOR_WARNING : DOCTOR_ERROR, "python", pool, "%s: %s", python, strerror(errno));
		doctor_advise(d, "Name one that is there: python = \"/PATH\"");
	} else if (!S_ISREG(st.st_mode) || !(st.st_mode & 0111)) {
		doctor_tell(d, DOCTOR_ERROR, "python", pool, "%s is not executable", python);
		doctor_advise(d, "Name an interpreter: python = \"/PATH\"");
	} else {
		probe_python(d, options, pool, python);
	}
	free(python);
}

/* As far as we may look: another user's private directory is not missing. */
static void check_directories(struct doctor *d, struct span options, const char *pool)
{
	char **path = doctor_list(doctor_option(options, "path"));
	struct stat st;

	for (char **p = path; p && *p; p++) {
		if (stat(*p, &st) == 0 ? S_ISDIR(st.st_mode) || S_ISREG(st.st_mode) : errno == EACCES)
			continue;
		doctor_tell(d, DOCTOR_ERROR, "path", pool, "there is no directory %s", *p);
		doctor_advise(d, "Correct path = {\"...\"}, or make it.");
	}
	doctor_list_free(path);
}

static void check_pool(struct doctor *d, struct span options, const char *pool)
{
	check_python(d, options, pool);
	check_directories(d, options, pool);
	if (d->imports)
		doctor_check_imports(d, options, pool);
}

void doctor_check_python(struct doctor *d)
{
	doctor_each_pool(d, check_pool);
	if (d->imports && !d->answers[ANSWER_CONFIG].len) {
		doctor_tell(d, DOCTOR_WARNING, "imports", NULL, "which modules there are is told to admins only");
		doctor_advise(d, "Run it as root.");
	}
}

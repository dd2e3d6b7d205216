/* What the daemon says about itself, and who we are for it. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/ctl/doctor.h"

#define STALL_US 1000000 /* of the loop: nobody was served meanwhile */

static const char *const methods[ANSWER_N] = {
	[ANSWER_STATUS] = "status", [ANSWER_POOLS] = "pools", [ANSWER_WORKERS] = "workers", [ANSWER_CONFIG] = "config.show"
};

static void ask(struct doctor *d, enum doctor_answer what)
{
	if (pypool_call(d->ctl->pool, methods[what], (struct pypool_span){ 0 }, CTL_TIMEOUT_MS, &d->replies[what]) == 0) {
		d->answers[what] = ctl_value(d->replies[what]);
		return;
	}
	if (strcmp(pypool_error_code(pypool_last_error(d->ctl->pool)), "denied") == 0)
		return; /* told of the role */
	doctor_tell(d, DOCTOR_ERROR, "daemon", NULL, "it does not answer %s: %s", methods[what],
		    pypool_error_message(pypool_last_error(d->ctl->pool)));
	doctor_advise(d, "Look at its log.");
}

/* The uid in /proc/PID/status; the owner of the directory is root when the process hides itself. */
static bool read_uid(pid_t pid, uid_t *uid)
{
	char path[64], line[256];
	bool found = false;
	FILE *f;

	(void)snprintf(path, sizeof(path), "/proc/%d/status", pid); /* fits */
	f = fopen(path, "re");
	while (f && !found && fgets(line, sizeof(line), f))
		found = sscanf(line, "Uid: %u", uid) == 1;
	if (f)
		(void)fclose(f); /* was only read */
	return found;
}

static void check_version(struct doctor *d, struct span hello)
{
	char *version = doctor_text(cell_of(hello, "version"));

	if (version && strcmp(version, PYPOOL_VERSION) == 0) {
		doctor_tell(d, DOCTOR_OK, "version", NULL, "pypoolctl and pypoold are both %s", version);
	} else {
		doctor_tell(d, DOCTOR_WARNING, "version", NULL, "pypoolctl is %s, pypoold is %s", PYPOOL_VERSION, version ? version : "unknown");
		doctor_advise(d, "After an upgrade of the package: systemctl restart pypoold.");
	}
	free(version);
}

static void check_role(struct doctor *d, struct span hello)
{
	char *role = doctor_text(cell_of(hello, "role"));

	if (role && strcmp(role, "admin") == 0) {
		doctor_tell(d, DOCTOR_OK, "role", NULL, "uid %u has the role admin", geteuid());
	} else {
		doctor_tell(d, DOCTOR_WARNING, "role", NULL, "uid %u has the role %s: what only admins see is not checked", geteuid(),
			    role ? role : "unknown");
		doctor_advise(d, "Run it as root: configuration, interpreters, limits and memory are looked at too.");
	}
	free(role);
}

static void check_status(struct doctor *d)
{
	struct span status = d->answers[ANSWER_STATUS], value = cell_of(status, "pid");
	uint64_t n;
	char *state = doctor_text(cell_of(status, "state"));

	if (mp_read_uint(&value, &n) && read_uid((pid_t)n, &d->uid))
		d->pid = (pid_t)n;
	doctor_tell(d, state && strcmp(state, "draining") == 0 ? DOCTOR_WARNING : DOCTOR_OK, "daemon", NULL, "pid %d is %s", d->pid,
		    state ? state : "-");
	free(state);
	value = cell_of(status, "log_dropped");
	if (mp_read_uint(&value, &n) && n > 0) {
		doctor_tell(d, DOCTOR_WARNING, "log", NULL, "%llu records were dropped", (unsigned long long)n);
		doctor_advise(d, "log_level = warning, or fewer lines from handlers; LogRateLimitBurst= for the journal.");
	}
	value = cell_of(status, "worst_stall_us");
	if (mp_read_uint(&value, &n) && n > STALL_US) {
		doctor_tell(d, DOCTOR_WARNING, "loop", NULL, "the daemon's loop once stood still for %llu ms", (unsigned long long)n / 1000);
		doctor_advise(d, "The machine was out of memory or CPU, or stopped; see memory below, and CPUWeight= for the unit.");
	}
}

void doctor_check_daemon(struct doctor *d)
{
	struct pypool_span answer;
	struct span hello;

	if (!d->reached || pypool_hello(d->ctl->pool, &answer, CTL_CONNECT_MS) < 0)
		return;
	hello = (struct span){ .p = answer.data, .len = answer.size };
	check_version(d, hello);
	check_role(d, hello);
	for (unsigned i = 0; i < ANSWER_N; i++)
		ask(d, i);
	if (d->answers[ANSWER_STATUS].len)
		check_status(d);
}

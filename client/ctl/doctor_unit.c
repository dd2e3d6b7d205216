/* The unit that systemd runs the daemon by, as systemctl show tells it. */
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "client/ctl/doctor.h"
#include "client/ctl/doctor_cgroup.h"
#include "client/ctl/doctor_run.h"

#define CHECK "unit"
#define SHOW_MS 5000
#define STORE_OF_A_WORKER 6 /* fds that are kept for one over a restart */
#define STORE_OF_THE_DAEMON 8
#define FOREVER UINT64_MAX

static const char properties[] = "--property=LoadState,Type,NotifyAccess,KillMode,TimeoutStopUSec,WatchdogUSec,FileDescriptorStoreMax,"
				 "PrivateUsers,User,Restart,NeedDaemonReload";

/* The value of NAME=value as a string, for the caller to free; NULL: there is none. */
static char *property(const char *shown, const char *name)
{
	size_t len = strlen(name);

	for (const char *line = shown; line; line = strchr(line, '\n'), line = line ? line + 1 : NULL) {
		if (strncmp(line, name, len) == 0 && line[len] == '=')
			return strndup(line + len + 1, strcspn(line + len + 1, "\n"));
	}
	return NULL;
}

static bool property_is(const char *shown, const char *name, const char *value)
{
	char *is = property(shown, name);
	bool same = is && strcmp(is, value) == 0;

	free(is);
	return same;
}

/* "1min 30s", as systemd writes it, in ms; FOREVER for infinity, 0 for nothing. */
static uint64_t span_ms(const char *text)
{
	static const struct {
		const char *name;
		double ms;
	} units[] = { { "us", 0.001 }, { "ms", 1 }, { "s", 1e3 }, { "min", 60e3 }, { "h", 3600e3 }, { "d", 86400e3 }, { "w", 604800e3 } };
	double sum = 0, v;
	char unit[16];
	int used;

	if (strcmp(text, "infinity") == 0)
		return FOREVER;
	for (; sscanf(text, " %lf%15[a-z]%n", &v, unit, &used) == 2; text += used) {
		for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
			if (strcmp(units[i].name, unit) == 0)
				sum += v * units[i].ms;
		}
	}
	return (uint64_t)sum;
}

static uint64_t property_ms(const char *shown, const char *name)
{
	char *text = property(shown, name);
	uint64_t ms = text ? span_ms(text) : 0;

	free(text);
	return ms;
}

/* ---- rules */

static void check_notify(struct doctor *d, const char *shown)
{
	if (!property_is(shown, "Type", "notify") && !property_is(shown, "Type", "notify-reload")) {
		doctor_tell(d, DOCTOR_WARNING, CHECK, NULL, "its Type is not notify: systemd does not know when the pools are ready");
		doctor_advise(d, "Type=notify");
	} else if (property_is(shown, "NotifyAccess", "none")) {
		doctor_tell(d, DOCTOR_ERROR, CHECK, NULL, "NotifyAccess=none: systemd does not hear that the daemon is ready, and will end it");
		doctor_advise(d, "NotifyAccess=main");
	}
	if (property_ms(shown, "WatchdogUSec") == 0) {
		doctor_tell(d, DOCTOR_WARNING, CHECK, NULL, "there is no watchdog: a daemon that hangs stays");
		doctor_advise(d, "WatchdogSec=10");
	}
	if (property_is(shown, "Restart", "no")) {
		doctor_tell(d, DOCTOR_WARNING, CHECK, NULL, "Restart=no: a daemon that dies stays dead");
		doctor_advise(d, "Restart=on-failure");
	}
}

/* Until a daemon that drains has ended, ms; FOREVER without drain_timeout. */
static uint64_t time_to_stop(struct doctor *d)
{
	struct span config = d->answers[ANSWER_CONFIG], pools = cell_of(config, "pools"), pool;
	uint64_t drain = doctor_number(cell_of(config, "options"), "drain_timeout"), stop = 0, ms;
	uint32_t n;

	if (!mp_read_array(&pools, &n))
		n = 0;
	for (; n > 0 && mp_read_any(&pools, &pool); n--) {
		ms = doctor_number(cell_of(pool, "options"), "stop_timeout");
		stop = ms > stop ? ms : stop;
	}
	return drain ? drain + stop : FOREVER;
}

static void check_stop(struct doctor *d, const char *shown)
{
	uint64_t have = property_ms(shown, "TimeoutStopUSec"), need = time_to_stop(d);

	if (property_is(shown, "KillMode", "control-group") || property_is(shown, "KillMode", "none")) {
		doctor_tell(d, DOCTOR_WARNING, CHECK, NULL, "its KillMode is neither mixed nor process: a stop ends workers in the middle of calls, "
							    "or leaves them behind");
		doctor_advise(d, "KillMode=mixed");
	}
	if (!d->answers[ANSWER_CONFIG].len || have >= need)
		return;
	if (need == FOREVER)
		doctor_tell(d, DOCTOR_WARNING, CHECK, NULL, "drain_timeout = 0 has no end, but TimeoutStopSec has one: %llu s",
			    (unsigned long long)have / 1000);
	else
		doctor_tell(d, DOCTOR_WARNING, CHECK, NULL, "TimeoutStopSec is %llu s, and drain_timeout with stop_timeout takes up to %llu s",
			    (unsigned long long)have / 1000, (unsigned long long)need / 1000);
	doctor_advise(d, "Else systemd kills what still drains: TimeoutStopSec=%s", need == FOREVER ? "infinity" : "longer than that");
}

/* Over a crash workers live by the fds that systemd keeps meanwhile. */
static void check_store(struct doctor *d, const char *shown)
{
	char *text = property(shown, "FileDescriptorStoreMax");
	uint64_t max = 0, need = doctor_workers(d) * STORE_OF_A_WORKER + STORE_OF_THE_DAEMON;

	if (text && ctl_number(text, &max) && max > 0 && d->answers[ANSWER_CONFIG].len && max < need) {
		doctor_tell(d, DOCTOR_WARNING, CHECK, NULL, "FileDescriptorStoreMax=%llu: as many workers as there may be need %llu",
			    (unsigned long long)max, (unsigned long long)need);
		doctor_advise(d, "FileDescriptorStoreMax=%llu", (unsigned long long)need);
	} else if (max == 0 && property_is(shown, "KillMode", "process")) {
		doctor_tell(d, DOCTOR_WARNING, CHECK, NULL, "KillMode=process without FileDescriptorStoreMax: workers that a "
			    "crash leaves behind are lost");
		doctor_advise(d, "FileDescriptorStoreMax=%llu, or KillMode=mixed", (unsigned long long)need);
	}
	free(text);
}

static void check_user(struct doctor *d, const char *shown)
{
	if (property_is(shown, "PrivateUsers", "yes")) {
		doctor_tell(d, DOCTOR_ERROR, CHECK, NULL, "PrivateUsers=yes: the daemon sees all its callers as one user, 65534");
		doctor_advise(d, "PrivateUsers=no: roles and quotas go by uid.");
	}
	if (property_is(shown, "User", "") || property_is(shown, "User", "root")) {
		doctor_tell(d, DOCTOR_WARNING, CHECK, NULL, "it runs as root, and so do the workers of pools without user");
		doctor_advise(d, "User=pypool, unless a pool has a user of its own: only root can give it one.");
	}
}

static void check_shown(struct doctor *d, const char *unit, const char *shown)
{
	unsigned before = d->n;

	if (property_is(shown, "LoadState", "not-found")) {
		if (d->reached || d->unit)
			doctor_tell(d, DOCTOR_WARNING, CHECK, NULL, "systemd does not know %s", unit);
		return;
	}
	if (property_is(shown, "NeedDaemonReload", "yes")) {
		doctor_tell(d, DOCTOR_WARNING, CHECK, NULL, "the file of %s has changed, and systemd has not read it again", unit);
		doctor_advise(d, "systemctl daemon-reload");
	}
	check_notify(d, shown);
	check_stop(d, shown);
	check_store(d, shown);
	check_user(d, shown);
	if (d->n == before)
		doctor_tell(d, DOCTOR_OK, CHECK, NULL, "%s is as it should be", unit);
}

/* ---- which one */

/* That the daemon runs in; without one that answers, that of the package. NULL: none. The caller frees it. */
static char *find_unit(const struct doctor *d)
{
	char groups[64], *group, *slash, *unit = NULL;

	if (d->unit)
		return strdup(d->unit);
	if (!d->pid)
		return strdup("pypoold.service");
	(void)snprintf(groups, sizeof(groups), "/proc/%d/cgroup", d->pid); /* fits */
	group = doctor_cgroup(groups);
	slash = group ? strrchr(group, '/') : NULL;
	if (slash && strlen(slash) > strlen(".service") && strcmp(slash + strlen(slash) - strlen(".service"), ".service") == 0)
		unit = strdup(slash + 1);
	free(group);
	return unit;
}

void doctor_check_unit(struct doctor *d)
{
	char *unit = d->unit || access("/run/systemd/system", F_OK) == 0 ? find_unit(d) : NULL;
	char *const argv[] = { (char *)"systemctl", (char *)"show", (char *)properties, (char *)"--", unit, NULL };
	const struct doctor_run run = { .argv = argv, .uid = geteuid(), .timeout_ms = SHOW_MS };
	struct doctor_said said;

	if (!unit)
		return; /* no systemd here, or it has not started the daemon */
	if (doctor_run(&run, &said) == 0 && WIFEXITED(said.status) && WEXITSTATUS(said.status) == 0)
		check_shown(d, unit, said.out);
	else
		doctor_tell(d, DOCTOR_WARNING, CHECK, NULL, "systemctl show %s failed: %s", unit, said.err ? said.err : "-");
	doctor_said_free(&said);
	free(unit);
}

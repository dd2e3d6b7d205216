/* Limits of the daemon's process, against what its configuration may need. */
#include <ctype.h>
#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "client/ctl/doctor.h"

#define CHECK "limits"
#define FDS_OF_A_WORKER 8 /* pidfd, two sockets, three pipes, page, one to spare */
#define FDS_OF_THE_DAEMON 40
#define UNLIMITED UINT64_MAX

struct limit {
	uint64_t soft, hard;
};

/* A line of /proc/PID/limits; false: it cannot be read. */
static bool limit_read(pid_t pid, const char *name, struct limit *limit)
{
	char path[64], line[256], soft[32], hard[32];
	bool found = false;
	FILE *f;

	(void)snprintf(path, sizeof(path), "/proc/%d/limits", pid); /* fits */
	f = fopen(path, "re");
	while (f && !found && fgets(line, sizeof(line), f))
		found = strncmp(line, name, strlen(name)) == 0 && sscanf(line + strlen(name), " %31s %31s", soft, hard) == 2;
	if (f)
		(void)fclose(f); /* was only read */
	if (found && !ctl_number(soft, &limit->soft))
		limit->soft = UNLIMITED;
	if (found && !ctl_number(hard, &limit->hard))
		limit->hard = UNLIMITED;
	return found;
}

static void check_files(struct doctor *d)
{
	uint64_t clients = doctor_number(cell_of(d->answers[ANSWER_CONFIG], "options"), "max_clients");
	uint64_t workers = doctor_workers(d), needed = clients + workers * FDS_OF_A_WORKER + FDS_OF_THE_DAEMON;
	struct limit limit;

	if (!limit_read(d->pid, "Max open files", &limit))
		return;
	if (limit.soft >= needed) {
		doctor_tell(d, DOCTOR_OK, CHECK, NULL, "%llu open files are enough for max_clients = %llu and %llu workers",
			    (unsigned long long)limit.soft, (unsigned long long)clients, (unsigned long long)workers);
		return;
	}
	doctor_tell(d, DOCTOR_WARNING, CHECK, NULL, "%llu open files: max_clients = %llu and %llu workers may need %llu",
		    (unsigned long long)limit.soft, (unsigned long long)clients, (unsigned long long)workers, (unsigned long long)needed);
	doctor_advise(d, "LimitNOFILE=%llu in the unit (systemctl edit pypoold), or a lower max_clients.", (unsigned long long)needed);
}

/* A worker cannot have more than the daemon may give. */
static void check_files_of_pool(struct doctor *d, struct span options, const char *pool)
{
	uint64_t wanted = doctor_number(options, "limit_nofile");
	struct limit limit;

	if (d->uid == 0 || !limit_read(d->pid, "Max open files", &limit) || wanted <= limit.hard)
		return;
	doctor_tell(d, DOCTOR_ERROR, CHECK, pool, "limit_nofile = %llu is above the daemon's own limit of %llu: no worker starts",
		    (unsigned long long)wanted, (unsigned long long)limit.hard);
	doctor_advise(d, "LimitNOFILE=%llu in the unit, or a lower limit_nofile.", (unsigned long long)wanted);
}

/* Of a user; threads count too, but are not looked for. */
static uint64_t count_processes(uid_t uid)
{
	DIR *dir = opendir("/proc");
	const struct dirent *entry;
	uint64_t n = 0;
	struct stat st;

	while (dir && (entry = readdir(dir)))
		n += isdigit((unsigned char)entry->d_name[0]) && fstatat(dirfd(dir), entry->d_name, &st, 0) == 0 && st.st_uid == uid;
	if (dir)
		(void)closedir(dir); /* was only read */
	return n;
}

static void check_processes(struct doctor *d)
{
	uint64_t workers = doctor_workers(d), now = count_processes(d->uid);
	struct limit limit;

	if (d->uid == 0 || !limit_read(d->pid, "Max processes", &limit))
		return; /* root has no such limit */
	if (limit.soft >= now + workers) {
		doctor_tell(d, DOCTOR_OK, CHECK, NULL, "%llu processes and threads of uid %u are enough for %llu workers",
			    (unsigned long long)limit.soft, d->uid, (unsigned long long)workers);
		return;
	}
	doctor_tell(d, DOCTOR_WARNING, CHECK, NULL, "uid %u may have %llu processes and threads; it has %llu now, and workers may be %llu",
		    d->uid, (unsigned long long)limit.soft, (unsigned long long)now, (unsigned long long)workers);
	doctor_advise(d, "LimitNPROC= in the unit, nproc in /etc/security/limits.conf for a user's daemon, or fewer workers.");
}

static void check_locked(struct doctor *d)
{
	struct limit limit;

	if (!limit_read(d->pid, "Max locked memory", &limit))
		return;
	if (limit.soft == UNLIMITED)
		doctor_tell(d, DOCTOR_OK, CHECK, NULL, "workers may lock as much memory as they want");
	else
		doctor_tell(d, DOCTOR_OK, CHECK, NULL, "a worker may lock %llu KiB of memory (LimitMEMLOCK=, for libraries that need more)",
			    (unsigned long long)limit.soft / 1024);
}

void doctor_check_limits(struct doctor *d)
{
	if (!d->pid || !d->answers[ANSWER_CONFIG].len)
		return;
	check_files(d);
	doctor_each_pool(d, check_files_of_pool);
	check_processes(d);
	check_locked(d);
}

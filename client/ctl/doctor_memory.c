/* What the workers weigh, and would if there were as many as there may be, against the memory that there is. */
#include <stdlib.h>
#include <string.h>

#include "client/ctl/doctor.h"
#include "client/ctl/doctor_cgroup.h"
#include "client/ctl/pss.h"

#define CHECK "memory"
#define MIB(kib) ((unsigned long long)((kib) / 1024))

/* A number of /proc/meminfo, KiB; 0: not there. */
static uint64_t read_meminfo(const char *name)
{
	unsigned long long v = 0;
	char line[128];
	bool found = false;
	FILE *f = fopen("/proc/meminfo", "re");

	while (f && !found && fgets(line, sizeof(line), f))
		found = strncmp(line, name, strlen(name)) == 0 && sscanf(line + strlen(name), ": %llu", &v) == 1;
	if (f)
		(void)fclose(f); /* was only read */
	return found ? v : 0;
}

static uint64_t weigh(struct span list, const char *pool, unsigned *n_weighed)
{
	struct span worker, value, text;
	uint64_t pid, kib, sum = 0;
	uint32_t n;

	*n_weighed = 0;
	if (!mp_read_array(&list, &n))
		return 0;
	for (; n > 0 && mp_read_any(&list, &worker); n--) {
		value = cell_of(worker, "pool");
		if (!mp_read_text(&value, &text) || !span_equals(text, pool))
			continue;
		value = cell_of(worker, "state");
		if (!mp_read_text(&value, &text) || span_equals(text, "dead"))
			continue;
		value = cell_of(worker, "pid");
		if (mp_read_uint(&value, &pid) && pid && pss_read(pid, &kib)) {
			sum += kib;
			++*n_weighed;
		}
	}
	return sum;
}

struct weight {
	uint64_t kib; /* of all pools, with as many workers as they may have */
};

static struct weight weigh_all(struct doctor *d)
{
	struct span pools = cell_of(d->answers[ANSWER_CONFIG], "pools"), map;
	struct weight all = { 0 };
	uint32_t n;

	if (!mp_read_array(&pools, &n))
		return all;
	for (; n > 0 && mp_read_any(&pools, &map); n--) {
		char *name = doctor_text(cell_of(map, "name"));
		uint64_t most = doctor_number(cell_of(map, "options"), "max_workers");
		unsigned weighed = 0;
		uint64_t kib = name ? weigh(d->answers[ANSWER_WORKERS], name, &weighed) : 0;

		if (weighed) {
			doctor_tell(d, DOCTOR_OK, CHECK, name, "%u %s %llu MiB%s; %llu may be", weighed,
				    weighed == 1 ? "worker weighs" : "workers weigh", MIB(kib / weighed), weighed == 1 ? "" : " each",
				    (unsigned long long)most);
			all.kib += kib / weighed * most;
		}
		free(name);
	}
	return all;
}

/* Of the machine, or of the group that the daemon is in, KiB. */
static uint64_t read_room(const struct doctor *d, const char **of)
{
	uint64_t total = read_meminfo("MemTotal"), group;
	char groups[64];

	(void)snprintf(groups, sizeof(groups), "/proc/%d/cgroup", d->pid); /* fits */
	*of = "the machine has";
	if (doctor_cgroup_memory(groups, "/sys/fs/cgroup", &group) && (group / 1024 < total || !total)) {
		*of = "the control group of the daemon may have";
		return group / 1024;
	}
	return total;
}

static void check_room(struct doctor *d)
{
	struct weight all = weigh_all(d);
	const char *of;
	uint64_t room = read_room(d, &of);

	if (!room || !all.kib)
		return;
	if (all.kib > room / 10 * 9) {
		doctor_tell(d, DOCTOR_WARNING, CHECK, NULL, "all workers that may be would weigh %llu MiB, and %s %llu", MIB(all.kib), of, MIB(room));
		doctor_advise(d, "Lower max_workers, or give the pools max_rss, so that workers which have grown are replaced.");
	} else {
		doctor_tell(d, DOCTOR_OK, CHECK, NULL, "all workers that may be would weigh %llu MiB, and %s %llu", MIB(all.kib), of, MIB(room));
	}
}

static void check_max_rss(struct doctor *d, struct span options, const char *pool)
{
	uint64_t max_rss = doctor_number(options, "max_rss") / 1024, workers = doctor_number(options, "max_workers");
	const char *of;
	uint64_t room = read_room(d, &of);

	if (!max_rss || !room || max_rss * workers <= room)
		return;
	doctor_tell(d, DOCTOR_WARNING, CHECK, pool, "max_rss = %llu MiB in each of %llu workers is more than the %llu that %s",
		    MIB(max_rss), (unsigned long long)workers, MIB(room), of);
	doctor_advise(d, "What forked workers share counts in each of them; if that does not explain it: lower max_rss or max_workers.");
}

static void check_overcommit(struct doctor *d)
{
	FILE *f = fopen("/proc/sys/vm/overcommit_memory", "re");
	uint64_t limit = read_meminfo("CommitLimit"), used = read_meminfo("Committed_AS");
	int mode = 0;

	if (f && fscanf(f, "%d", &mode) != 1)
		mode = 0;
	if (f)
		(void)fclose(f); /* was only read */
	if (mode != 2)
		return;
	doctor_tell(d, DOCTOR_WARNING, CHECK, NULL, "vm.overcommit_memory = 2: each fork must be able to copy all, and %llu MiB are left for that",
		    limit > used ? MIB(limit - used) : 0);
	doctor_advise(d, "sysctl vm.overcommit_memory=0, or a higher vm.overcommit_ratio, or swap that is never used.");
}

void doctor_check_memory(struct doctor *d)
{
	if (!d->pid || !d->answers[ANSWER_CONFIG].len)
		return;
	check_room(d);
	doctor_each_pool(d, check_max_rss);
	check_overcommit(d);
}

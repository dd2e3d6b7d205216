/* Options that can be what they are, and yet will bite. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/ctl/doctor.h"

#define CHECK "options"

static bool is_zero(struct span options, const char *name)
{
	struct span value = doctor_option(options, name);
	uint64_t n;

	return mp_read_uint(&value, &n) && n == 0;
}

/* NAME=N of a list of NAME=value; 0: it is not there, or no number. */
static uint64_t threads_of(char **environment, const char *name)
{
	size_t len = strlen(name);
	uint64_t n, most = 0;

	for (char **e = environment; e && *e; e++) {
		if (strncmp(*e, name, len) == 0 && (*e)[len] == '=' && ctl_number(*e + len + 1, &n))
			most = n;
	}
	return most;
}

static void check_threads(struct doctor *d, struct span options, const char *pool)
{
	static const char *const names[] = { "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS" };
	char **environment = doctor_list(doctor_option(options, "environment"));
	uint64_t workers = doctor_number(options, "max_workers");
	long cores = sysconf(_SC_NPROCESSORS_ONLN);

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		uint64_t n = threads_of(environment, names[i]);

		if (n < 2 || cores < 1 || n * workers <= (uint64_t)cores)
			continue;
		doctor_tell(d, DOCTOR_WARNING, CHECK, pool, "%s=%llu in each of %llu workers is more than the %ld cores", names[i],
			    (unsigned long long)n, (unsigned long long)workers, cores);
		doctor_advise(d, "Threads that wait for a core make each other slower: fewer of them, or fewer workers.");
	}
	doctor_list_free(environment);
}

static void check_pool(struct doctor *d, struct span options, const char *pool)
{
	if (is_zero(options, "call_timeout") && is_zero(options, "max_timeout")) {
		doctor_tell(d, DOCTOR_WARNING, CHECK, pool, "call_timeout = 0: a call that hangs has its worker for ever");
		doctor_advise(d, "Give the pool a call_timeout; a caller may still ask for more. Or max_timeout for all.");
	}
	if (is_zero(options, "ping_interval")) {
		doctor_tell(d, DOCTOR_WARNING, CHECK, pool, "ping_interval = 0: a worker that hangs between calls is found by the next caller");
		doctor_advise(d, "ping_interval = \"30s\" is the default.");
	}
	if (is_zero(options, "breaker_failures")) {
		doctor_tell(d, DOCTOR_WARNING, CHECK, pool, "breaker_failures = 0: workers that fail are started for ever");
		doctor_advise(d, "breaker_failures = 5 is the default.");
	}
	if (is_zero(options, "max_queue")) {
		doctor_tell(d, DOCTOR_WARNING, CHECK, pool, "max_queue = 0: what waits is bounded by uid_max_calls and uid_max_bytes only");
		doctor_advise(d, "max_queue = 1000 is the default.");
	}
	check_threads(d, options, pool);
}

static void check_socket(struct doctor *d)
{
	struct span config = d->answers[ANSWER_CONFIG], rules = cell_of(config, "access");
	char *mode = doctor_text(doctor_option(cell_of(config, "options"), "socket_mode"));
	uint32_t n;

	if (mode && (strtoul(mode, NULL, 8) & 02) && mp_read_array(&rules, &n) && n == 0) {
		doctor_tell(d, DOCTOR_WARNING, CHECK, NULL, "socket_mode = %s and no access block: everybody on this machine may call", mode);
		doctor_advise(d, "Close the socket to others (socket_mode = \"0660\", socket_group), or write access blocks.");
	}
	free(mode);
}

void doctor_check_options(struct doctor *d)
{
	if (!d->answers[ANSWER_CONFIG].len)
		return;
	check_socket(d);
	doctor_each_pool(d, check_pool);
}

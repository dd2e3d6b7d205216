/* Thin over libsystemd. The watchdog is fed by a timer of the loop, so that a loop that hangs is seen. */
#include "daemon/io/systemd.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <systemd/sd-daemon.h>

#include "daemon/base/cleanup.h"
#include "daemon/base/mem.h"

/* NOTIFY_SOCKET stays in the environment, where libsystemd looks each time; workers have an environment of their own. */
void systemd_notify(const char *format, ...)
{
	_cleanup_free_ char *state = NULL;
	va_list ap;
	int n;

	va_start(ap, format);
	n = vasprintf(&state, format, ap);
	va_end(ap);
	if (n < 0)
		mem_exhausted(0); /* READY=1 must not be lost: systemd would wait for it, and then kill */
	(void)sd_notify(0, state); /* see the header */
}

/* A shell in a session of systemd's has the variables of its unit too: they tell whose main process they are for. Before
 * version 248 they do not, but then a main process is a child of pid 1. */
bool systemd_is_our_parent(void)
{
	const char *pid = getenv("SYSTEMD_EXEC_PID");

	if (pid)
		return strtol(pid, NULL, 10) == getpid();
	return getenv("INVOCATION_ID") && getppid() == 1;
}

/* --- files --- */

static void names_free(char ***names)
{
	for (char **at = *names; at && *at; at++)
		free(*at);
	free(*names);
}

static int socket_check(int fd, const char *name, char *why, size_t why_size)
{
	int flags;

	if (sd_is_socket_unix(fd, SOCK_STREAM, 1, NULL, 0) <= 0) {
		(void)snprintf(why, why_size, "fd %d (%s) from LISTEN_FDS is not a listening stream socket of AF_UNIX",
			       fd, name);
		return -EINVAL;
	}
	flags = fcntl(fd, F_GETFL);
	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0) {
		int r = -errno;

		(void)snprintf(why, why_size, "fd %d (%s) from LISTEN_FDS: %s", fd, name, strerror(-r));
		return r;
	}
	return 0;
}

int systemd_take_fds(struct named_fds *sockets, struct named_fds *stored, char *why, size_t why_size)
{
	_cleanup_(names_free) char **names = NULL;
	_cleanup_(named_fds_deinit) struct named_fds taken = { 0 };
	int n = sd_listen_fds_with_names(1, &names), r;

	if (n < 0) {
		(void)snprintf(why, why_size, "LISTEN_PID, LISTEN_FDS or LISTEN_FDNAMES is wrong: %s", strerror(-n));
		return n;
	}
	for (int i = 0; i < n; i++) {
		bool is_stored = strncmp(names[i], SYSTEMD_STORED, strlen(SYSTEMD_STORED)) == 0;

		named_fds_add(is_stored ? stored : &taken, names[i], SD_LISTEN_FDS_START + i);
	}
	for (size_t i = 0; i < taken.n; i++) {
		r = socket_check(taken.all[i].fd, taken.all[i].name, why, why_size);
		if (r < 0)
			return r;
	}
	*sockets = taken;
	taken = (struct named_fds){ 0 };
	return 0;
}

/* --- store --- */

/* A unit without a store (FileDescriptorStoreMax=0) closes what it is sent: then nothing outlives this process, as without it. */
bool systemd_has_store(void)
{
	return getenv("NOTIFY_SOCKET") && systemd_is_our_parent();
}

/* FDPOLL=0: what is at its end is still wanted. */
void systemd_store(const char *name, const int *fds, unsigned n)
{
	_cleanup_free_ char *state = mem_printf("FDSTORE=1\nFDPOLL=0\nFDNAME=%s", name);

	(void)sd_pid_notify_with_fds(0, 0, state, fds, n); /* see the header */
}

void systemd_unstore(const char *name)
{
	systemd_notify("FDSTOREREMOVE=1\nFDNAME=%s", name);
}

/* --- watchdog --- */

static void watchdog_on_timer(struct loop_timer *t)
{
	struct systemd_watchdog *w = container_of(t, struct systemd_watchdog, timer);

	systemd_notify("WATCHDOG=1");
	loop_timer_set(t, loop_now(t->loop) + w->interval);
}

int systemd_watchdog_start(struct systemd_watchdog *w, struct loop *l)
{
	uint64_t usec = 0;
	int r = sd_watchdog_enabled(1, &usec);

	*w = (struct systemd_watchdog){ 0 };
	loop_timer_init(&w->timer, l, watchdog_on_timer);
	if (r <= 0)
		return r;
	w->interval = usec * 1000 / 2;
	loop_timer_set(&w->timer, loop_now(l)); /* the first at once */
	return 1;
}

void systemd_watchdog_hand_over(const struct systemd_watchdog *w)
{
	char usec[32], pid[16];

	if (!w->interval)
		return;
	(void)snprintf(usec, sizeof(usec), "%llu", (unsigned long long)(w->interval * 2 / 1000));
	(void)snprintf(pid, sizeof(pid), "%d", getpid());
	if (setenv("WATCHDOG_USEC", usec, 1) < 0 || setenv("WATCHDOG_PID", pid, 1) < 0)
		mem_exhausted(0); /* a watchdog that is not fed kills */
}

void systemd_watchdog_stop(struct systemd_watchdog *w)
{
	if (w->timer.loop)
		loop_timer_stop(&w->timer);
}

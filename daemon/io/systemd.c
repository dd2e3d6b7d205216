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

/* --- sockets --- */

static void names_free(char ***names)
{
	for (char **at = *names; at && *at; at++)
		free(*at);
	free(*names);
}

void systemd_sockets_deinit(struct systemd_sockets *s)
{
	for (size_t i = 0; i < s->n; i++) {
		cleanup_close(&s->all[i].fd);
		free(s->all[i].name);
	}
	free(s->all);
	*s = (struct systemd_sockets){ 0 };
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

int systemd_take_sockets(struct systemd_sockets *s, char *why, size_t why_size)
{
	_cleanup_(names_free) char **names = NULL;
	_cleanup_(systemd_sockets_deinit) struct systemd_sockets taken = { 0 };
	int n = sd_listen_fds_with_names(1, &names), r;

	if (n < 0) {
		(void)snprintf(why, why_size, "LISTEN_PID, LISTEN_FDS or LISTEN_FDNAMES is wrong: %s", strerror(-n));
		return n;
	}
	taken.all = n ? mem_new((size_t)n * sizeof(*taken.all)) : NULL;
	for (int i = 0; i < n; i++)
		taken.all[taken.n++] =
			(struct systemd_socket){ .name = mem_strdup(names[i]), .fd = SD_LISTEN_FDS_START + i };
	for (size_t i = 0; i < taken.n; i++) {
		r = socket_check(taken.all[i].fd, taken.all[i].name, why, why_size);
		if (r < 0)
			return r;
	}
	*s = taken;
	taken = (struct systemd_sockets){ 0 };
	return 0;
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

void systemd_watchdog_stop(struct systemd_watchdog *w)
{
	if (w->timer.loop)
		loop_timer_stop(&w->timer);
}

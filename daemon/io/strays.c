/*
 * SIGCHLD only says that some child has died, so look without reaping, and reap by pid what is nobody's. waitid() shows the
 * same dead child until it is reaped: when that is a worker's, look again after its pidfd had its turn.
 */
#include "daemon/io/strays.h"

#include <errno.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "daemon/base/cleanup.h"
#include "daemon/base/log.h"

#define STRAYS_PER_TURN 64

static void strays_reap(struct strays *s)
{
	for (unsigned n = 0; n < STRAYS_PER_TURN; n++) {
		siginfo_t si = { 0 };

		if (waitid(P_ALL, 0, &si, WEXITED | WNOHANG | WNOWAIT) < 0 || si.si_pid == 0)
			return;
		if (s->owned(s, si.si_pid))
			break;
		if (waitid(P_PID, (id_t)si.si_pid, &si, WEXITED | WNOHANG) < 0)
			return;
		s->reaped++;
		LOG(DEBUG, "stray.reaped", KV("pid", si.si_pid), KV("status", si.si_status));
	}
	loop_next_turn(s->loop, &s->again);
}

static void strays_on_signal(struct loop_signal *sig, int signo)
{
	(void)signo;
	strays_reap(container_of(sig, struct strays, chld));
}

static void strays_on_again(struct loop_task *t)
{
	strays_reap(container_of(t, struct strays, again));
}

int strays_start(struct strays *s, struct loop *l, bool (*owned)(struct strays *s, pid_t pid))
{
	*s = (struct strays){ .loop = l, .again.run = strays_on_again, .owned = owned };
	if (prctl(PR_SET_CHILD_SUBREAPER, 1) < 0)
		return -errno;
	loop_signal_start(&s->chld, l, SIGCHLD, strays_on_signal);
	strays_reap(s); /* what has died before */
	return 0;
}

void strays_stop(struct strays *s)
{
	if (!s->loop)
		return;
	loop_signal_stop(&s->chld);
	loop_task_cancel(s->loop, &s->again);
	s->loop = NULL;
}

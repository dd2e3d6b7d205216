#include "client/ctl/signals.h"

#include <stddef.h>
#include <sys/signalfd.h>
#include <unistd.h>

bool signals_open(struct signals *s, const int *more)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	for (; more && *more; more++)
		sigaddset(&set, *more);
	s->fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (s->fd < 0)
		return false;
	(void)sigprocmask(SIG_BLOCK, &set, &s->before); /* cannot fail with valid arguments */
	return true;
}

void signals_close(struct signals *s)
{
	if (s->fd < 0)
		return;
	close(s->fd);
	s->fd = -1;
	(void)sigprocmask(SIG_SETMASK, &s->before, NULL);
}

int signals_take(struct signals *s)
{
	struct signalfd_siginfo info;

	return read(s->fd, &info, sizeof(info)) == sizeof(info) ? (int)info.ssi_signo : 0;
}

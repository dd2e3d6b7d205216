#include "client/ctl/doctor_run.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "client/ctl/ctl.h"

#define SAID_MAX (1 << 20) /* bytes of each stream: more is read, and dropped */

/* ---- the child */

static int child_become(uid_t uid)
{
	const struct passwd *user;

	if (geteuid() != 0 || uid == 0)
		return 0;
	user = getpwuid(uid);
	if (user ? initgroups(user->pw_name, user->pw_gid) < 0 : setgroups(0, NULL) < 0)
		return -1;
	if (setgid(user ? user->pw_gid : (gid_t)uid) < 0 || setuid(uid) < 0)
		return -1;
	return 0;
}

static void __attribute__((noreturn)) child_run(const struct doctor_run *run, const int fds[2])
{
	int null = open("/dev/null", O_RDONLY | O_CLOEXEC);

	if (setsid() < 0 || null < 0 || dup2(null, 0) < 0 || dup2(fds[0], 1) < 0 || dup2(fds[1], 2) < 0 || chdir("/") < 0 ||
	    child_become(run->uid) < 0)
		_exit(127);
	(void)signal(SIGPIPE, SIG_DFL); /* cannot fail */
	if (run->envp)
		(void)execve(run->argv[0], run->argv, run->envp); /* returns only to fail */
	else
		(void)execvp(run->argv[0], run->argv);
	dprintf(2, "%s: %s\n", run->argv[0], strerror(errno));
	_exit(127);
}

/* ---- what it says */

struct ear {
	int fd;
	FILE *to;
	size_t heard;
};

/* False: it has ended. */
static bool ear_hear(struct ear *e)
{
	char buf[4096];
	ssize_t n = read(e->fd, buf, sizeof(buf));

	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return true;
	if (n <= 0)
		return false;
	if (e->heard + (size_t)n <= SAID_MAX)
		e->heard += fwrite(buf, 1, (size_t)n, e->to);
	return true;
}

/* Until both have ended or the time is over; 0 or a negative errno. */
static int hear(struct ear ears[2], uint32_t timeout_ms)
{
	uint64_t end = ctl_now_ms() + timeout_ms, now;
	struct pollfd fds[2] = { { .fd = ears[0].fd, .events = POLLIN }, { .fd = ears[1].fd, .events = POLLIN } };

	while (fds[0].fd >= 0 || fds[1].fd >= 0) {
		now = ctl_now_ms();
		if (now >= end)
			return -ETIMEDOUT;
		if (poll(fds, 2, (int)(end - now)) < 0 && errno != EINTR)
			return -errno;
		for (int i = 0; i < 2; i++) {
			if (fds[i].fd >= 0 && fds[i].revents && !ear_hear(&ears[i]))
				fds[i].fd = -1;
		}
	}
	return 0;
}

/* Its output has ended, but it may go on. */
static int wait_for(pid_t pid, uint32_t timeout_ms, int *status)
{
	uint64_t end = ctl_now_ms() + timeout_ms;
	pid_t r;

	while ((r = waitpid(pid, status, WNOHANG)) == 0 && ctl_now_ms() < end)
		(void)poll(NULL, 0, 2);
	return r == pid ? 0 : -ETIMEDOUT;
}

/* What pid says until it ends, or is ended. */
static int hear_out(pid_t pid, struct ear ears[2], uint32_t timeout_ms, int *status)
{
	int r = hear(ears, timeout_ms);

	if (r == 0)
		r = wait_for(pid, 1000, status);
	if (r < 0) {
		(void)kill(-pid, SIGKILL); /* of the session that it began: nobody else is in it */
		(void)waitpid(pid, status, 0);
	}
	return r;
}

static int run_and_hear(const struct doctor_run *run, struct ear ears[2], int *status)
{
	int out[2], err[2], r;
	pid_t pid;

	if (pipe2(out, O_CLOEXEC) < 0)
		return -errno;
	if (pipe2(err, O_CLOEXEC) < 0) {
		r = -errno;
		(void)close(out[0]), (void)close(out[1]);
		return r;
	}
	pid = fork();
	if (pid == 0)
		child_run(run, (const int[2]){ out[1], err[1] });
	r = pid < 0 ? -errno : 0;
	(void)close(out[1]), (void)close(err[1]);
	ears[0].fd = out[0], ears[1].fd = err[0];
	if (pid > 0)
		r = hear_out(pid, ears, run->timeout_ms, status);
	(void)close(out[0]), (void)close(err[0]);
	return r;
}

int doctor_run(const struct doctor_run *run, struct doctor_said *said)
{
	FILE *out, *err;
	int r = -ENOMEM;

	*said = (struct doctor_said){ 0 };
	out = open_memstream(&said->out, &said->out_len);
	err = open_memstream(&said->err, &said->err_len);
	if (out && err)
		r = run_and_hear(run, (struct ear[2]){ { .to = out }, { .to = err } }, &said->status);
	if (out && fclose(out) != 0)
		r = -ENOMEM;
	if (err && fclose(err) != 0)
		r = -ENOMEM;
	return r;
}

void doctor_said_free(struct doctor_said *said)
{
	free(said->out);
	free(said->err);
	*said = (struct doctor_said){ 0 };
}

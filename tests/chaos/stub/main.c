/*
 * A worker in C that does what each call tells it to, good or bad: a pool's `python` that starts within a millisecond.
 * It speaks docs/worker-protocol.md. The arguments of a call are [tag, what, n]: `tag` is unique over all callers,
 * `what` names a row of the table in script.c, `n` is its parameter. It keeps a log of its own in the file named by
 * STUB_LOG, one line a write: LETTER worker call tag nanoseconds, where the letter is
 *   R ready (the call is its pid)   S a call was begun   E its reply is about to be written   I it was interrupted
 *   F a file descriptor that it should not have   B bytes of a call before it was ready
 *   D it was started during an outage (the call is its pid)
 *   L a direct lease was begun   M it is over
 *   X the hooks of a session were run (the call is the session's number, the tag its name)
 *   H it was sent half of what a call had written (the call is the session's number)
 * Calls over the socket of a direct lease are the same; each has the number of the lease's own call.
 * A call in a session counts: what it answers ends with the count in the session's values, and with how many calls of
 * the session this worker has begun. The count is written twice, under two keys, so that half of it can be told from
 * all.
 * STUB_FLAKY=n: every n-th worker of the daemon dies before it says hello, and every n-th before it is ready.
 * STUB_DOWN=path: as long as there is such a file, none gets as far as hello. STUB_SLOW=n: a start takes n ms.
 */
#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/chaos/stub/control.h"
#include "tests/chaos/stub/inbox.h"
#include "tests/chaos/stub/log.h"
#include "tests/chaos/stub/stub.h"

static void on_dump(int signo)
{
	static const char text[] = "Stack (most recent call first):\n  File \"stub\", line 1 in stub\n\x0c";

	(void)signo;
	if (write(FD_DUMP, text, sizeof(text) - 1) < 0)
		return; /* nothing can be done */
}

static void on_interrupt(int signo)
{
	(void)signo; /* wakes wait_ms() up */
}

static void set_signals(void)
{
	struct sigaction sa = { .sa_handler = on_dump, .sa_flags = SA_RESTART };
	sigset_t closed;

	(void)sigaction(SIGUSR2, &sa, NULL);
	sa.sa_handler = on_interrupt;
	(void)sigaction(SIGUSR1, &sa, NULL);
	sigemptyset(&closed);
	sigaddset(&closed, SIGUSR1);
	(void)sigprocmask(SIG_BLOCK, &closed, NULL);
}

static void check_files(const struct stub *s)
{
	DIR *d = opendir("/proc/self/fd");
	const struct dirent *e;

	while ((e = readdir(d))) {
		int fd = atoi(e->d_name);

		if (fd >= FD_N && fd != s->log && fd != dirfd(d))
			log_note(s, 'F', (uint64_t)fd);
	}
	(void)closedir(d);
}

static void start(struct stub *s)
{
	const char *path = getenv("STUB_LOG"), *flaky = getenv("STUB_FLAKY");
	const char *down = getenv("STUB_DOWN"), *slow = getenv("STUB_SLOW");
	uint64_t every = flaky ? strtoull(flaky, NULL, 10) : 0;

	s->log = open(path ? path : "/dev/null", O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	s->page = mmap(NULL, sizeof(struct page), PROT_READ, MAP_SHARED, FD_PAGE, 0);
	if (s->log < 0 || s->page == MAP_FAILED)
		_exit(7);
	set_signals();
	while (!s->worker)
		control_serve(s);
	check_files(s);
	if (down && access(down, F_OK) == 0) {
		log_note(s, 'D', (uint64_t)getpid());
		_exit(3);
	}
	if (every && s->worker % every == 1)
		_exit(3);
	if (slow)
		(void)usleep((useconds_t)strtoul(slow, NULL, 10) * 1000);
	control_tell("hello", "protocol", 1);
	if (every && s->worker % every == 2)
		_exit(3);
	if (poll(&(struct pollfd){ .fd = FD_CALLS, .events = POLLIN }, 1, 0) > 0)
		log_note(s, 'B', 0);
	log_note(s, 'R', (uint64_t)getpid());
	control_tell("ready", "unused", 0);
}

int main(void)
{
	struct stub s = { .channel = -1, .wire = { .fd = FD_CALLS } };

	start(&s);
	for (;;) {
		struct pollfd fds[] = { { .fd = FD_CALLS, .events = POLLIN }, { .fd = FD_CONTROL, .events = POLLIN } };

		if (poll(fds, 2, -1) < 0)
			continue;
		if (fds[0].revents)
			inbox_read(&s);
		else if (fds[1].revents)
			control_serve(&s);
	}
}

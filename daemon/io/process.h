/*
 * One child process with its plumbing: pidfd, call socket, control socket, stdio, dump pipe, shared page. It knows bytes and
 * exits, not what a worker is; news goes up through process_ops. tests/sim has a second implementation of this header.
 *
 * How a process comes to be is a spawner's business, or that of another process which forks it.
 */
#pragma once

#include <sys/types.h>

#include "daemon/io/loop.h"
#include "daemon/io/tail.h"
#include "proto/span.h"

/* What to run. Borrowed during process_start() only. */
struct process_spec {
	const char *path; /* of the program, absolute */
	char *const *argv;
	char *const *envp;
	uid_t uid; /* (uid_t)-1: as the daemon; else gid and the user's groups are set too */
	gid_t gid;
	uint64_t limit_nofile; /* 0: as the daemon */
	uint64_t limit_as;     /* bytes; 0: none */
	bool die_with_daemon;  /* SIGKILL when the daemon dies */
	uint64_t worker;       /* its number, to mark what descends from it: see mark.h; 0: no mark */
};

struct process_exit {
	bool known;    /* false: gone, but its status cannot be had (an adopted process) */
	int exit_code; /* -1 when killed by a signal */
	int signal;    /* 0 when it exited */
	bool core_dumped;
	bool oom;        /* the kernel has killed a process of its own cgroup for want of memory */
	uint64_t max_rss_kib; /* never below that of the daemon at the fork: the kernel counts it in */
	uint64_t cpu_us;
};

struct cgroup;
struct process;

struct process_ops {
	/* Reaped: the last news, once. Control, output and dump have been read to the end (or to EAGAIN) before. What
	 * the process had started in its own process group or cgroup has been killed. p may be started again or deinited. */
	void (*exited)(struct process *p, const struct process_exit *how);
	/* One control packet. */
	void (*control)(struct process *p, struct span message);
	/* The control socket is at its end, or was closed because of a packet that is too large (then p->oversized); the
	 * process may still live. */
	void (*control_closed)(struct process *p);
	/* New lines are in the tail. */
	void (*output)(struct process *p);
	/* A dump that was asked for has ended, or its time is over (complete = false). Text is valid during the call. */
	void (*dumped)(struct process *p, struct span text, bool complete);
};

#define PROCESS_CONTROL_MAX (64 * 1024) /* bytes of one control packet */
/* uint64: the call to interrupt, the reason; the call that it has been given, its deadline, its session; how many it has done */
#define PROCESS_PAGE_WORDS 6

/* Beside the call socket, which is its owner's. Without those before OUT nobody can go on with a process; the others it may have closed. */
enum process_fd {
	PROCESS_FD_PIDFD,
	PROCESS_FD_CONTROL,
	PROCESS_FD_PAGE,
	PROCESS_FD_OUT,
	PROCESS_FD_ERR,
	PROCESS_FD_DUMP,
	PROCESS_FDS,
};

/* While an adopted process has not been heard of, its call socket may be any of those that it was sent, or the one before them: so many
 * daemons may come and go meanwhile. */
#define PROCESS_OLD_CALLS 16

struct process {
	const struct process_ops *ops;
	struct loop *loop;
	struct tail *tail;    /* owns: output lines; TAKE_PTR it to keep them */
	pid_t pid;            /* 0: not running */
	uint64_t spawned_ns;  /* when process_start() was called */
	uint64_t exec_ns;     /* when exec had succeeded */
	struct cgroup *group; /* owns: it and what it starts are in there; or NULL. Made by whoever starts it, before that */
	struct loop_io pidfd, control, out, err, dump;
	struct loop_timer dump_timer;
	char *dump_text; /* owns */
	size_t dump_len;
	uint64_t dump_until;  /* ns */
	unsigned dumps_again; /* how often the dump that is on was asked for again */
	bool dumping;
	bool oversized; /* it has sent a control packet over PROCESS_CONTROL_MAX */
	bool foreign;   /* another daemon's child: how it exits nobody can tell */
	char *fatal; /* owns: what was written to the dump pipe when a fatal signal came; once it has exited, or NULL */
	volatile uint64_t *page; /* owns: mapping */
	int page_fd;
	char *unsent; /* owns: the packet that new_calls goes with, until there is room for it; or NULL */
	size_t unsent_len;
	/* owns; -1: none */
	int new_calls;                    /* an adopted one's end of its new call socket, until it is sent */
	int old_calls[PROCESS_OLD_CALLS]; /* our ends of those that it may still have, and which must not end under it */
};

/* A way to make processes. */
struct spawner {
	const char *name; /* "exec" */
	/* Starts spec with its plumbing into *p. *calls_fd: our end of the call socket, non-blocking, the caller's.
	 * 0 or a negative errno (that of exec, fork, pipe ...; nothing is left behind, *p is not running). */
	/* What it fills in: pid, exec_ns, page, page_fd and the fd of pidfd, control, out, err and dump, which
	 * process_start() then begins to watch. */
	int (*start)(struct spawner *sp, struct process *p, const struct process_spec *spec, int *calls_fd);
};

/* A new interpreter for each process. */
struct spawner *spawner_exec(void);

void process_init(struct process *p, struct loop *l, const struct process_ops *ops, size_t tail_bytes,
		  unsigned tail_lines);
/* Stops watching, closes and frees everything; the process must be reaped or never have run. */
void process_deinit(struct process *p);
int process_start(struct process *p, struct spawner *sp, const struct process_spec *spec, int *calls_fd);
/* False before process_born() and after the exit. */
bool process_is_running(const struct process *p);

/*
 * A fork by another process of ours, `parent`, which understands the control packet `message` and is sent the other ends of
 * p's plumbing with it: stdout, stderr, calls, control, dump and page. Control messages can be sent to p from now on, and wait
 * for it; nothing of p is read until it is known that it lives. 0 or a negative errno; then p has nothing.
 */
int process_fork(struct process *p, struct process *parent, const void *message, size_t len, int *calls_fd);
/* The parent says that p lives as pid: it enters p->group. 0 or a negative errno, -ECHILD: we have no such child; then p has
 * nothing, as after process_unborn(). */
int process_born(struct process *p, pid_t pid);
/* The parent says that it could not, or is gone, or nobody wants p any more: its plumbing is closed. A child that there is
 * nevertheless finds its control channel at its end. */
void process_unborn(struct process *p);

/* Borrowed; -1 where there is none. */
void process_fds(const struct process *p, int fds[PROCESS_FDS]);
/*
 * Goes on with a process that lives as pid already, where another daemon (or this one, before it executed another program) has left it.
 * Takes fds and old_calls, in any case. Control messages that lie there are thrown away. It gets a new call socket, *calls_fd, the
 * caller's, is our end of that: nobody knows what lies in the old one. 0 or a negative errno; then p has nothing, and the process finds
 * its channels at their end.
 */
int process_adopt(struct process *p, pid_t pid, int fds[PROCESS_FDS], int old_calls[PROCESS_OLD_CALLS], int *calls_fd);
/* Sends it the other end with a control packet, once: when its buffer is full, as soon as there is room. 0 or a negative errno. */
int process_send_calls(struct process *p, const void *message, size_t len);
/* It has heard of the new one: the old ones are closed. */
void process_drop_old_calls(struct process *p);
/* The same of a process that knows nothing of it: this one was another program when it was started. Its call socket goes on too. */
int process_go_on(struct process *p, pid_t pid, int fds[PROCESS_FDS]);
/* For whoever goes on with p: the call that it has been given (0: none), when that ends (ns, LOOP_NEVER), and of which session it is
 * (0: of none). */
static inline void process_note_call(struct process *p, uint64_t call, uint64_t deadline, uint64_t session)
{
	if (p->page) {
		p->page[4] = session;
		p->page[3] = deadline;
		p->page[2] = call;
	}
}
/* What that has noted last; 0: nothing. */
static inline uint64_t process_noted_call(const struct process *p)
{
	return p->page ? p->page[2] : 0;
}
static inline uint64_t process_noted_deadline(const struct process *p)
{
	return p->page ? p->page[3] : 0;
}
static inline void process_note_done(struct process *p, uint64_t calls)
{
	if (p->page)
		p->page[5] = calls;
}
static inline uint64_t process_noted_done(const struct process *p)
{
	return p->page ? p->page[5] : 0;
}
static inline uint64_t process_noted_session(const struct process *p)
{
	return process_noted_call(p) ? p->page[4] : 0;
}

/* One control packet. 0 or a negative errno (-EAGAIN: its buffer is full). */
int process_control_send(struct process *p, const void *message, size_t len);
/* The same with a copy of an fd; -ETOOMANYREFS: too many are under way. */
int process_control_send_fd(struct process *p, const void *message, size_t len, int fd);
/* By pidfd; a reaped process is -ESRCH. Never a pid that is not ours. */
int process_signal(struct process *p, int signo);
/* To the process group that the process leads. */
int process_signal_group(struct process *p, int signo);
/* Without a signal: no handler begins for that call any more, and one that runs goes on. */
int process_set_wanted(struct process *p, uint64_t call, uint64_t reason);
/* Asks that call number `call` be interrupted, if it is still the one that runs. */
int process_interrupt(struct process *p, uint64_t call, uint64_t reason);
/* Asks for the Python stack; ops->dumped comes within `timeout` ns. Asked twice is asked once. */
void process_dump(struct process *p, uint64_t timeout);
/* Takes a dump that lies ready: ops->dumped is called before this returns. */
void process_drain_dump(struct process *p);
/* Takes what lies ready on stdout and stderr, so that the lines are in the tail. */
void process_drain_output(struct process *p);

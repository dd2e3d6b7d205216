/* How a worker of a pool is started and spoken to over its control socket: argv, environment, init and stop messages. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct worker;

/* It would be forked by its generation's template, if it were started now. */
bool launch_forks(const struct worker *w);
/* Asks its template for it; then w->fork is set. False: there is none that could be asked. *calls_fd: our end of its call
 * socket. */
bool launch_asks(struct worker *w, int *calls_fd);
/* Starts it in an interpreter of its own. 0 or a negative errno. */
int launch_exec(struct worker *w, int *calls_fd);
/* What another daemon has started goes on in its cgroup, with its limits as they are now. */
void launch_confine_again(struct worker *w);
/* Asks `process`, that of a template, to fork w. */
int launch_fork(struct worker *w, struct worker *process, int *calls_fd);
/* Gives it the other end of its new call socket: it answers with hello and ready, which have seq in them. 0 or a negative errno. */
int launch_send_adopt(struct worker *w, uint64_t seq);
/* 0 or a negative errno. */
int launch_send_init(struct worker *w);
int launch_send_stop(struct worker *w);
/* With the next number of w->ping_seq. */
int launch_send_ping(struct worker *w);
/* Gives it a copy of fd, over which it will serve that lease. 0 or a negative errno. */
int launch_send_channel(struct worker *w, uint64_t lease, int fd);
/* Its copy of the values of a session is of no use any more, unless it was sent anew: more often than `sends`. */
int launch_send_forget(struct worker *w, uint64_t session, uint64_t sends);

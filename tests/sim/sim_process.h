/* What the files of a simulated process, and who ends a daemon, need of it. */
#pragma once

#include "daemon/io/process.h"

/* All fds that the daemon has of p are closed. */
void sim_process_cut(struct process *p);
void sim_process_watch(struct process *p);

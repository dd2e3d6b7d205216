/* What the files of struct process have between them; for nobody else. */
#pragma once

#include "daemon/io/process.h"

/* The fds that p has are watched from now on. */
void process_watch_all(struct process *p);
/* Closes them all, and the page. */
void process_close(struct process *p);
/* There is room for the packet that process_send_calls() could not send. */
void process_send_unsent(struct process *p);

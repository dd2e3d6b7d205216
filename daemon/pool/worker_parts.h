/* What the files of struct worker have between them; for nobody else. */
#pragma once

#include "daemon/pool/worker.h"

/* In no list of its pool, and in no state of its counters yet. */
struct worker *worker_make(struct pool *p, uint64_t id, uint64_t generation);
/* Takes the fd. */
void worker_open_calls(struct worker *w, int fd);
/* The time is over that one which was taken up has to answer. */
void worker_press_adopted(struct worker *w);

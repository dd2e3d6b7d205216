/* What a simulated template answers when it is asked for a fork: by its script, also what it must not. */
#pragma once

#include "proto/span.h"

struct sim_child;

/* params: of the message; unborn: who came with it. */
void sim_template_fork(struct sim_child *t, struct span params, struct sim_child *unborn);

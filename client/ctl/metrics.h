/* The metrics of a daemon, out of what it answers to `status` and `pools`. */
#pragma once

#include <stdbool.h>
#include <stdio.h>

#include "proto/span.h"

struct ctl;

/* open: OpenMetrics 1.0, else the text format 0.0.4. */
void metrics_print(FILE *out, bool open, struct span status, struct span pools);
/* Asks, and prints. An enum ctl_exit; nothing is printed when it fails. */
int metrics_ask(struct ctl *ctl, FILE *out, bool open);
/* Answers one HTTP request for /metrics, on stdin and stdout. */
int metrics_serve(struct ctl *ctl);

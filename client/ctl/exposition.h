/* Prometheus' text format 0.0.4, and OpenMetrics 1.0: a metric is a row of a table, and its samples are found in an answer
 * of the daemon. */
#pragma once

#include <stdbool.h>
#include <stdio.h>

#include "proto/span.h"

struct metric;

struct exposition {
	FILE *out;
	bool open;                   /* OpenMetrics */
	const struct metric *metric; /* that is being written */
	bool headed;                 /* its first lines are: there are none of a metric without samples */
	struct span pool;            /* label of all samples; len 0: none */
};

enum metric_type {
	METRIC_COUNTER, /* _total is added to its name */
	METRIC_GAUGE,
	METRIC_HISTOGRAM,
	METRIC_INFO, /* _info is added */
};

/* Writes the samples of e->metric that map has. What is absent, nil or of another type has none. */
typedef void metric_fn(struct exposition *e, struct span map);

struct metric {
	const char *name;
	enum metric_type type;
	const char *help;
	metric_fn *write;
	const char *path; /* keys, with dots between them */
	unsigned digits;  /* a number is one of 10^-digits of the unit */
	const char *label;
	const char *values; /* of the label, with blanks between them */
};

metric_fn metric_number;    /* the number at path */
metric_fn metric_label;     /* 1, and the text at path as the label */
metric_fn metric_keys;      /* the number of each key in values */
metric_fn metric_states;    /* 1 for the one of values that is the text at path, 0 for the others */
metric_fn metric_map;       /* the number of each key of the map at path */
metric_fn metric_histogram; /* {count, sum_us, buckets} */
metric_fn metric_phases;    /* ms of each phase; of one that comes several times the sum */

/* Writes m for the daemon (e->pool is empty) or, in a row, for each map of a list of pools. m->name ends the table. */
void exposition_of_map(struct exposition *e, const struct metric *m, struct span map);
void exposition_of_pools(struct exposition *e, const struct metric *m, struct span pools);

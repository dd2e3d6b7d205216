/*
 * The post-mortem of a request: an outcome with a message for people and a cause for machines, gathered from what the daemon
 * knows at that moment: exit status, output lines of this call, Python stack, times, who held the workers.
 */
#pragma once

#include "daemon/io/process.h"
#include "daemon/pool/outcome.h"

struct failure;
struct glance;
struct poison_entry;
struct pool;
struct request;
struct worker;

struct postmortem {
	struct outcome outcome; /* its cause points into `cause` */
	msgpack_sbuffer cause;
};

void postmortem_deinit(struct postmortem *pm);
/* It waited until its queue timeout or deadline. */
void postmortem_waited(struct postmortem *pm, struct request *r);
/* It ran over its deadline, and this was seen then. */
void postmortem_overdue(struct postmortem *pm, const struct request *r, const struct glance *g);
/* Its worker is dead (w->exit is known). */
void postmortem_died(struct postmortem *pm, const struct request *r, const struct worker *w);
/* The breaker of the pool is not closed. */
void postmortem_open(struct postmortem *pm, const struct pool *p);
/* Its like have killed too many workers. */
void postmortem_poisoned(struct postmortem *pm, const struct request *r, const struct poison_entry *e);
/* The pool has no worker and cannot start one. */
void postmortem_down(struct postmortem *pm, const struct pool *p);

#define POSTMORTEM_TEXT 200
/* "exited with status 3", "was killed by pypoold (deadline, SIGTERM)", "was killed by signal 11 (SIGSEGV)". Returns out. */
const char *postmortem_exit_text(const struct worker *w, char out[POSTMORTEM_TEXT]);
#define POSTMORTEM_FATE (POSTMORTEM_TEXT + 64)
/* "worker 3 (pid 812) exited with status 3", or, as long as it is not dead, "... is being stopped (max_age)". Returns out. */
const char *postmortem_fate_text(const struct worker *w, char out[POSTMORTEM_FATE]);
/* Packs POSTMORTEM_EXIT_KEYS keys: reason, exit, exit_code, signal, core_dumped, core, max_rss_kib; of a worker that is dead. */
#define POSTMORTEM_EXIT_KEYS 7
void postmortem_pack_exit(msgpack_packer *pk, const struct worker *w);
/* Packs key and the text of a stack, without the frames of the worker itself. */
void postmortem_pack_stack(msgpack_packer *pk, const char *key, struct span stack);
/* The stack that a fatal signal left; len 0 when there is none. */
struct span postmortem_fatal(const struct worker *w);
/* Packs key and the output lines from mark on: [text, ...], the last 50 at most. */
void postmortem_pack_lines(msgpack_packer *pk, const char *key, const struct tail *t, uint64_t from);
/* The last line on stderr from mark on that says something; len 0 when there is none. Valid until the tail changes. */
struct span postmortem_last_line(const struct tail *t, uint64_t from);

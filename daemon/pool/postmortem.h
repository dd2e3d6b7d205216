/*
 * The post-mortem of a request: an outcome with a message for people and a cause for machines, gathered from what the daemon
 * knows at that moment: exit status, output lines of this call, Python stack, times, who held the workers.
 */
#pragma once

#include "daemon/io/process.h"
#include "daemon/pool/outcome.h"

struct failure;
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
void postmortem_waited(struct postmortem *pm, const struct request *r);
/* It ran over its deadline; stack: of its Python code. */
void postmortem_overdue(struct postmortem *pm, const struct request *r, struct span stack, bool complete);
/* Its worker is dead (w->exit is known). */
void postmortem_died(struct postmortem *pm, const struct request *r, const struct worker *w);
/* The breaker of the pool is not closed. */
void postmortem_open(struct postmortem *pm, const struct pool *p);
/* Its like have killed too many workers. */
void postmortem_poisoned(struct postmortem *pm, const struct request *r, const struct poison_entry *e);
/* The pool has no worker and cannot start one. */
void postmortem_down(struct postmortem *pm, const struct pool *p);

#define POSTMORTEM_TEXT 200
/* "exit status 3", "killed by SIGKILL", "killed by pypoold (deadline)". Returns out. */
const char *postmortem_exit_text(const struct worker *w, char out[POSTMORTEM_TEXT]);
/* "app.py line 5 in slow", the innermost frame of a faulthandler dump; "" when there is none. Returns out. */
const char *postmortem_frame(struct span stack, char out[POSTMORTEM_TEXT]);
/* Packs key and the output lines from mark on: [text, ...], the last 50 at most. */
void postmortem_pack_lines(msgpack_packer *pk, const char *key, const struct tail *t, uint64_t from);
/* The last line on stderr from mark on that says something; len 0 when there is none. Valid until the tail changes. */
struct span postmortem_last_line(const struct tail *t, uint64_t from);

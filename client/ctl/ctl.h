/* What every command of pypoolctl gets: the options before it, and a connection that is made when it is first needed. */
#pragma once

#include <getopt.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "client/pypool.h"
#include "proto/span.h"

enum ctl_exit {
	CTL_OK = 0,
	CTL_FAILED = 1, /* the daemon answered with an error, or the connection was lost */
	CTL_USAGE = 2,
	CTL_CANNOT_CONNECT = 3,
};

#define CTL_CONNECT_MS 2000
#define CTL_TIMEOUT_MS 10000 /* of questions about the daemon; calls of handlers have their own */

struct ctl {
	struct pypool *pool; /* owns; NULL until it is needed */
	const char *socket;  /* borrows from argv; NULL: the default */
	bool json;
	const struct command *command;
};

struct command {
	const char *name;
	const char *arguments; /* for the usage line */
	const char *summary;
	int (*run)(struct ctl *ctl, int argc, char **argv); /* argv[0] is the command; returns an enum ctl_exit */
};

/* The next option of a command, as getopt_long() tells it; options: its own ones, ended by zeros. Takes --json, --socket
 * and --help (-h) itself. Returns '?' when the command shall end with CTL_USAGE, 'h' when it shall end with CTL_OK. */
int ctl_option(struct ctl *ctl, int argc, char **argv, const char *letters, const struct option *options);
/* For commands with no options of their own but perhaps --pool (pool may be NULL) and no other arguments. Returns true
 * if the command shall go on, else *exit is set. */
bool ctl_options(struct ctl *ctl, int argc, char **argv, const char **pool, int *exit);
/* How to use one command. */
int ctl_help(struct ctl *ctl, const char *name);
/* Complains on stderr and returns CTL_USAGE. */
int ctl_usage(const struct ctl *ctl, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Of a clock that never goes back. */
uint64_t ctl_now_ms(void);
/* A whole decimal number. */
bool ctl_number(const char *text, uint64_t *v);
/* The number of a worker: N, or POOL/N as pypoolctl logs writes it. */
bool ctl_worker(const char *text, uint64_t *v);
/* CTL_OK or CTL_CANNOT_CONNECT, which is told on stderr. */
int ctl_connect(struct ctl *ctl);
/* Connects if need be and asks; failure is told on stderr. On CTL_OK *reply is the caller's. params as pypool_call(). */
int ctl_ask(struct ctl *ctl, const char *method, struct pypool_span params, uint32_t timeout_ms,
	    struct pypool_reply **reply);
/* The same with params in a format of pypool_packf(). */
int ctl_askf(struct ctl *ctl, const char *method, uint32_t timeout_ms, struct pypool_reply **reply, const char *format, ...);
/* Tells the last error of the connection on stderr and returns CTL_FAILED. */
int ctl_fail(struct ctl *ctl);
/* Asks for a list, with {pool} if pool is given. */
int ctl_ask_about(struct ctl *ctl, const char *method, const char *pool, struct pypool_reply **reply);
static inline struct span ctl_value(const struct pypool_reply *reply)
{
	struct pypool_span v = pypool_reply_value(reply);

	return (struct span){ .p = v.data, .len = v.size };
}

/* Prints the answer as JSON or with `print`, whose exit status it returns, and frees the reply. */
int ctl_show(const struct ctl *ctl, struct pypool_reply *reply, int (*print)(struct span answer));

/* commands.c; ends with a NULL name */
const struct command *command_list(void);
const struct command *command_find(const char *name);

int command_status(struct ctl *ctl, int argc, char **argv);
int command_pools(struct ctl *ctl, int argc, char **argv);
int command_workers(struct ctl *ctl, int argc, char **argv);
int command_sessions(struct ctl *ctl, int argc, char **argv);
int command_leases(struct ctl *ctl, int argc, char **argv);
int command_clients(struct ctl *ctl, int argc, char **argv);
int command_queue(struct ctl *ctl, int argc, char **argv);
int command_logs(struct ctl *ctl, int argc, char **argv);
int command_top(struct ctl *ctl, int argc, char **argv);
int command_events(struct ctl *ctl, int argc, char **argv);
int command_why(struct ctl *ctl, int argc, char **argv);
int command_stack(struct ctl *ctl, int argc, char **argv);
int command_metrics(struct ctl *ctl, int argc, char **argv);
int command_doctor(struct ctl *ctl, int argc, char **argv);
int command_reload(struct ctl *ctl, int argc, char **argv);
int command_pause(struct ctl *ctl, int argc, char **argv);
int command_resume(struct ctl *ctl, int argc, char **argv);
int command_drain(struct ctl *ctl, int argc, char **argv);
int command_resize(struct ctl *ctl, int argc, char **argv);
int command_recycle(struct ctl *ctl, int argc, char **argv);
int command_kill(struct ctl *ctl, int argc, char **argv);
int command_config(struct ctl *ctl, int argc, char **argv);
int command_upgrade(struct ctl *ctl, int argc, char **argv);
int command_shutdown(struct ctl *ctl, int argc, char **argv);
int command_call(struct ctl *ctl, int argc, char **argv);
int command_ping(struct ctl *ctl, int argc, char **argv);
int command_version(struct ctl *ctl, int argc, char **argv);
int command_help(struct ctl *ctl, int argc, char **argv);
int command_words(struct ctl *ctl, int argc, char **argv);

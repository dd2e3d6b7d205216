/*
 * A second implementation of daemon/io/process.h for fuzzing: worker processes that are puppets. The call channel is
 * a real socketpair, so that the daemon's real stream reads it; all else is told by function call. A puppet does
 * nothing by itself.
 */
#pragma once

#include "daemon/io/process.h"
#include "proto/frame.h"

struct puppets;

struct puppet {
	uint64_t page[PROCESS_PAGE_WORDS]; /* the page of the process */
	struct puppets *stage;             /* borrows */
	struct puppet *prev, *next;
	struct process *process; /* borrows: the daemon's */
	int calls_fd;            /* owns: the worker's end; -1: closed */
	struct frame_reader reader;
	uint8_t *in; /* owns: calls that are not complete yet */
	size_t in_len;
	bool killed;     /* got SIGKILL */
	bool terminated; /* got SIGTERM */
	bool asked;      /* was told to stop */
	bool honest;     /* has only said what a worker may say */
	uint64_t call;   /* the last that it was sent and has not answered; 0: none */
	unsigned n_calls;
};

/* Where they live; it is the spawner that the pools are given. */
struct puppets {
	struct spawner spawner;
	struct puppet *list; /* owns: the living */
	pid_t last_pid;
	int spawn_error; /* negative errno of the next start */
};

void puppets_init(struct puppets *s);
/* The n-th of the living, counted around; NULL when none lives. */
struct puppet *puppets_at(const struct puppets *s, unsigned n);
/* NULL when it is dead. */
struct puppet *puppets_find(const struct puppets *s, pid_t pid);
/* SIGKILL takes effect. */
void puppets_reap(struct puppets *s);

/* Takes what the daemon has written. */
void puppet_read(struct puppet *p);
/* Raw bytes on the call channel, and one message with its length before it. */
void puppet_write(struct puppet *p, struct span bytes);
void puppet_write_frame(struct puppet *p, struct span body);
/* The value that a call is answered with is its number. */
void puppet_reply(struct puppet *p);
void puppet_reply_error(struct puppet *p, const char *code, struct span message);
void puppet_control(struct puppet *p, struct span message);
/* [2, name, [{...}]] with the encoded map given, or without one. */
void puppet_tell(struct puppet *p, const char *name, struct span map);
void puppet_get_ready(struct puppet *p);
void puppet_print(struct puppet *p, bool is_stderr, struct span text);
void puppet_show_stack(struct puppet *p, struct span text);
void puppet_close_calls(struct puppet *p);
/* Frees p. */
void puppet_exit(struct puppet *p, int exit_code, int signal);

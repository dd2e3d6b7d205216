/*
 * What a starting worker has told: who it is, the phases of its init with their times, and why it failed if it did. Plain
 * data, filled from control messages; it decides nothing.
 */
#pragma once

#include "daemon/base/blob.h"
#include "proto/envelope.h"

#define HANDSHAKE_PROTOCOL 1
#define HANDSHAKE_PHASES 16

struct handshake_phase {
	char name[24];
	char module[64]; /* "" when none */
	uint64_t begun, ended; /* ns; ended 0: this is where it is now */
};

struct handshake {
	bool hello; /* it has said that, or its first other word if it is introduced: its files are in their places */
	bool ready, failed;
	bool introduced; /* forked to go on at once: no hello is expected */
	char python[24];
	char codec[8];
	struct handshake_phase phases[HANDSHAKE_PHASES];
	unsigned n_phases;
	unsigned n_targets;
	bool session_close; /* it has a hook for the end of a session */
	uint8_t *idempotent; /* owns: encoded array of the targets that may be run again, or NULL; the pool takes it */
	size_t idempotent_len;
	uint64_t pong; /* last sequence number answered */
	uint64_t adopt; /* only the hello and the ready that answer this `adopt` are its own; 0: it was started by us */
	/* of a template's ready */
	char fork[112]; /* how it forks: "clone", "double", "double: libx.so.1" */
	char *unfit;    /* owns: why it must not be forked, or NULL */
	char *fds;      /* owns: files that the application has opened in it, "9: socket:[1], ...", or NULL */
	/* of its last answer */
	uint64_t forked; /* worker */
	uint64_t forked_pid, forked_errno;
	/* of `failed`; owned, NULL when not said */
	char *type, *message, *file, *traceback;
	char *summary; /* one sentence: type, message, file and line, the import chain, a hint */
	uint64_t line;
	uint8_t *imported_by; /* owns: MessagePack, an array of {file, line} */
	size_t imported_by_len;
	char *wrong; /* owns: how it broke the rules, or NULL */
	char *stack; /* owns: Python stack at the init timeout, or NULL */
	char activity[120]; /* what the process did then */
};

enum handshake_news {
	HANDSHAKE_NOTHING,
	HANDSHAKE_HELLO,
	HANDSHAKE_READY,
	HANDSHAKE_FORKED, /* a template has answered: see forked */
	HANDSHAKE_BROKEN, /* not what a worker may say now: *c says why */
};

void handshake_deinit(struct handshake *h);
/* It was forked by `parent`, whose hello stands for its own: it goes on at once. */
void handshake_introduce(struct handshake *h, const struct handshake *parent);
/* Begins a phase, which ends the one before. */
void handshake_begin(struct handshake *h, const char *name, const char *module, uint64_t at);
/* No phase is open any more. */
void handshake_close(struct handshake *h, uint64_t at);
enum handshake_news handshake_take(struct handshake *h, struct span message, struct complaint *c);
/* The phase it is in or was last; "exec" before any. */
const struct handshake_phase *handshake_last(const struct handshake *h);

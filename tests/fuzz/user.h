/*
 * A client of the daemon under fuzz, and its bookkeeping: which answers it is owed by what it has sent, and which it
 * got. Each id that the daemon has taken has exactly one response, or its connection was closed for a reason.
 */
#pragma once

#include <uthash.h>

#include "proto/frame.h"

struct user_id {
	uint64_t id;
	unsigned asked, answered;
	UT_hash_handle hh;
};

struct user {
	int fd; /* owns; -1: none */
	struct frame_reader out_reader, in_reader;
	uint8_t *out, *in; /* owns: bytes of messages that are not complete */
	size_t out_len, in_len;
	struct user_id *ids; /* uthash; owns */
	unsigned nil_asked, nil_answered;
	bool bad;     /* sent what is no frame: it will be closed */
	bool half;    /* sent SHUT_WR */
	bool over;    /* the daemon has closed */
	bool lazy;    /* does not read for now */
	bool at_risk; /* was lazy, or slow with a message: the daemon may close it */
};

/* Takes fd. */
void user_init(struct user *u, int fd, uint32_t max_frame);
/* Closes. */
void user_deinit(struct user *u);
static inline bool user_is_there(const struct user *u)
{
	return u->fd >= 0;
}
/* It is over a limit: it is told so, in the bare framing, and closed. */
void user_note_refused(struct user *u);
void user_send(struct user *u, struct span bytes);
void user_half_close(struct user *u);
/* Reads what lies ready, unless it is lazy. Returns the number of answers. */
unsigned user_read(struct user *u);
/* Time is about to pass. */
void user_note_time(struct user *u);
/* Everything that it is owed has come, or its connection was closed for a reason. */
void user_check(const struct user *u);

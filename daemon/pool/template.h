/*
 * The warm process that workers of one generation of a pool are forked from (start = fork). It has imported the application,
 * holds nothing of any call, and its process is a struct worker that never serves: so its start, its failure and its end are
 * told as a worker's are.
 *
 *   NONE → STARTING → WARM            a pool's first worker waits for that: code that cannot be imported fails once
 *   WARM → LOST → STARTING → WARM     it died or hung: until it is back, new interpreters are started in place of forks
 *   WARM, or STARTING → UNFIT         it must not be forked (it has threads): new interpreters, and it says why
 */
#pragma once

#include "daemon/io/loop.h"

struct pool;
struct worker;

enum template_state {
	TEMPLATE_NONE,
	TEMPLATE_STARTING,
	TEMPLATE_WARM,
	TEMPLATE_UNFIT,
	TEMPLATE_LOST,
};

struct template {
	struct pool *pool; /* borrows: the pool owns its templates */
	uint64_t generation;
	enum template_state state;
	struct worker *worker; /* borrows: the pool's list of templates owns it; NULL when no process is wanted */
	bool proven;           /* it has been warm: whatever happens, workers do not wait for it */
	char *unfit;           /* owns: why it is not forked, or NULL */
	char *lost;            /* owns: what became of the last process, or NULL */
	struct worker *waiting; /* list, first asked first; borrows: forks that it has not answered */
	uint64_t heard;        /* ns: when it last answered a fork */
	uint64_t asked_seq, asked_at; /* of its last ping; ns */
	unsigned deaths_in_row;
	uint64_t n_forks, n_lost;
	struct loop_timer timer; /* WARM: of the eldest question, or of the next ping; LOST: until the next start */
	struct loop_grave grave;
};

struct template *template_new(struct pool *p, uint64_t generation);
/* Its process is told to leave, and lives on in the pool's list until it has. */
struct template *template_free(struct template *t);
/* t takes the place of `before`: its counts go on from there. Either may be NULL. */
void template_follow(struct template *t, const struct template *before);
/* NONE: starts its process, at the gate. Nothing to do in any other state. */
void template_start(struct template *t);

/* Workers may be started: by a fork if it is warm, else in an interpreter of their own. */
bool template_is_settled(const struct template *t);
static inline bool template_is_warm(const struct template *t)
{
	return t->state == TEMPLATE_WARM;
}
const char *template_state_name(const struct template *t);

/* Asks for w. *calls_fd: our end of its call socket. 0 or a negative errno; the answer moves w on. */
int template_fork(struct template *t, struct worker *w, int *calls_fd);
/* w, which waits for a fork, is not wanted any more. */
void template_forget(struct worker *w);

/* News of w, which is the process of a template: its state, and that it has answered a fork or a ping. */
void template_note(struct worker *w);
void template_note_forked(struct worker *process);
void template_note_pong(struct worker *process);

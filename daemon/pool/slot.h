/*
 * The slot of a worker: the one call that it may be running. The slot stays taken until the worker has answered or is gone, also
 * when the request was answered long before (deadline, cancel, caller gone): `call` is then still set and `request` is NULL.
 * A direct lease takes it with a call that has no request from the start.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "daemon/base/blob.h"
#include "daemon/pool/glance.h"
#include "daemon/base/digest.h"

struct lease;
struct request;
struct session;
struct worker;

/* Why a call is interrupted: the second word of the worker's page. */
enum slot_reason {
	SLOT_CANCELLED = 1,
	SLOT_DEADLINE = 2,
};

struct slot {
	uint64_t call;                /* its number; 0: the slot is free */
	uint64_t last_call;           /* what the worker prints is this one's; 0: nobody's */
	struct request *request;      /* borrows: request_finish() cuts it */
	struct session *session;      /* borrows: of an answered call; points back; session_note_slot_free() cuts it */
	struct glance_waiter overdue; /* at its deadline */
	struct glance_waiter slow;    /* for the log, when it runs for longer than slow_call */
	struct loop_timer slow_timer; /* armed for a call that may have ended: cheaper than at each start */
	uint64_t slow_call;           /* number of the call that the log has */
	uint64_t run_us;              /* as the worker told with its last reply */
	char target[64];              /* of the call, for people; cut */
	char traceparent[256];        /* of last_call; empty: none was given */
	uint64_t started;             /* ns */
	bool digested;                /* digest is known: see poison.h */
	bool direct;                  /* the call is that of a direct lease, which may have ended */
	bool broken;                  /* its worker broke the protocol: its call is to be tried again */
	struct digest digest;         /* of the call, also when its request is gone */
};

void slot_init(struct worker *w);
bool slot_is_free(const struct worker *w);
/* It is taken by a call that nobody waits for any more: the worker is to give it up. */
bool slot_is_abandoned(const struct worker *w);
/* Sends r to the worker. The slot must be free. */
void slot_start(struct worker *w, struct request *r);
/* Has the worker serve the socket of l, which it has been given. The slot must be free. */
void slot_start_direct(struct worker *w, const struct lease *l);
/* What a free worker prints from now on, when it leaves, is no call's. */
void slot_end_output(struct worker *w);
/* A message on the call channel. */
void slot_take_frame(struct worker *w, const struct slice *body);
/* It has done so many. */
void slot_count(struct worker *w, uint64_t calls);
/* The deadline of the running call is over: takes the reply if it lies ready, else asks for the stack. */
void slot_overdue(struct worker *w);
/* Ends the running call with worker_protocol and kills the worker. what: for people. */
void slot_break(struct worker *w, const char *what);
/* There is no memory for its reply, or for what is sent to it: the running call ends with overloaded, and the worker. */
void slot_starve(struct worker *w);
/* What another daemon has noted of a call of w is over. */
void slot_forget_noted(struct worker *w);
/* The worker is dead: its slot waits for nothing. */
void slot_close(struct worker *w);
/* The request is answered but the worker still runs it: interrupt, and arm the grace. */
void slot_abandon(struct worker *w, enum slot_reason reason);
/* Its grace is not over, and it may have missed the interrupt. */
void slot_interrupt_again(struct worker *w);

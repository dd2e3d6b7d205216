/*
 * The start gate: how many workers of the whole daemon may be starting at once, so that a cold start of many pools does not
 * thrash the machine. A place is held until its worker is ready or gone, and for GATE_SLICE at most: by then a worker that
 * still starts is mostly waiting (for a licence server, a disk, a sleep) and must not hold up the others.
 */
#pragma once

#include "daemon/io/loop.h"

#define GATE_SLICE (250 * NS_PER_MS)

enum gate_state {
	GATE_OUT,
	GATE_WAITING,
	GATE_INSIDE,
};

struct gate_ticket {
	struct gate *gate; /* borrows: the daemon's gate outlives its pools */
	enum gate_state state;
	bool light;        /* it costs next to nothing, and takes no place */
	struct loop_timer slice;
	void (*admitted)(struct gate_ticket *t);
	struct gate_ticket *prev, *next;
};

struct gate {
	struct loop *loop;
	unsigned limit, inside;
	struct gate_ticket *waiting; /* list, first in first out */
	struct loop_task admit;
};

void gate_init(struct gate *g, struct loop *l, unsigned limit);
void gate_deinit(struct gate *g);

void gate_ticket_init(struct gate_ticket *t, struct gate *g, void (*admitted)(struct gate_ticket *t));
/* `admitted` is called at the end of this turn or a later one, never from inside this function. light: it need not wait for a
 * place. */
void gate_join(struct gate_ticket *t, bool light);
/* Gives the place, or the place in line, back; nothing to do for a ticket that is out. */
void gate_leave(struct gate_ticket *t);

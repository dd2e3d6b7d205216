#include "tests/sim/ledger.h"

#include <stdlib.h>

#include "daemon/base/mem.h"

void ledger_init(struct ledger *l)
{
	*l = (struct ledger){ 0 };
}

void ledger_deinit(struct ledger *l)
{
	struct record *r, *next_record;
	struct story *s, *next_story;

	HASH_ITER (hh, l->records, r, next_record) {
		HASH_DEL(l->records, r);
		free(r);
	}
	HASH_ITER (hh, l->stories, s, next_story) {
		HASH_DEL(l->stories, s);
		free(s);
	}
	*l = (struct ledger){ 0 };
}

bool ledger_open(struct ledger *l, uint64_t call, uint64_t caller, uint64_t id, bool checkout)
{
	struct record *r = ledger_find(l, call);

	if (r)
		return false;
	r = MEM_NEW(struct record);
	*r = (struct record){ .call = call, .caller = caller, .id = id, .checkout = checkout };
	HASH_ADD(hh, l->records, call, sizeof(r->call), r);
	l->n_open++;
	return true;
}

struct record *ledger_find(const struct ledger *l, uint64_t call)
{
	struct record *r;

	HASH_FIND(hh, l->records, &call, sizeof(call), r);
	return r;
}

struct story *ledger_story(struct ledger *l, uint64_t session)
{
	struct story *s;

	HASH_FIND(hh, l->stories, &session, sizeof(session), s);
	if (!s) {
		s = MEM_NEW(struct story);
		s->session = session;
		HASH_ADD(hh, l->stories, session, sizeof(s->session), s);
	}
	return s;
}

bool ledger_runs_beside(const struct ledger *l, uint64_t direct)
{
	for (const struct story *s = l->stories; s; s = s->hh.next) {
		if (s->direct == direct && s->running)
			return true;
	}
	return false;
}

void ledger_note_ended(struct ledger *l, uint64_t call)
{
	for (struct story *s = call ? l->stories : NULL; s; s = s->hh.next) {
		if (s->running == call)
			s->running = 0;
	}
}

void ledger_cut(struct ledger *l)
{
	for (struct record *r = l->records; r; r = r->hh.next) {
		if (r->answered)
			continue;
		r->answered = 1;
		r->abandoned = true;
		r->code = ERROR_INTERNAL;
		r->executed = EXECUTED_MAYBE;
	}
	l->n_open = 0;
}

const char *record_complaint(const struct record *r)
{
	unsigned most = r->idempotent ? 2 : 1;

	if (r->answered > 1)
		return "invariant 1: answered twice";
	if (r->saw > most || r->began > most)
		return "invariant 4: executed twice";
	if (!r->answered)
		return NULL;
	if (r->executed == EXECUTED_NEVER && r->began)
		return "invariant 4: told never, and was executed";
	if (r->executed == EXECUTED_NEVER && r->saw && r->code != ERROR_UNKNOWN_TARGET)
		return "invariant 4: told never, and a worker saw it";
	if (r->executed == EXECUTED_YES && !r->began && !r->checkout)
		return "invariant 4: told yes, and was not executed";
	if (r->code == ERROR_NONE && !r->checkout && (r->began < 1 || r->began > most || r->ended < 1))
		return "invariant 5: success without one start and one end";
	if (r->replied && !r->retried && (r->code == ERROR_DEADLINE_EXCEEDED || r->code == ERROR_WORKER_DIED || r->code == ERROR_SESSION_LOST))
		return "fault 32, 104: a reply that lay ready was not delivered";
	return NULL;
}

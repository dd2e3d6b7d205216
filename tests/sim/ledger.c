#include "tests/sim/ledger.h"

#include <stdlib.h>
#include <string.h>

#include "daemon/base/mem.h"

void ledger_init(struct ledger *l)
{
	*l = (struct ledger){ 0 };
}

void ledger_deinit(struct ledger *l)
{
	free(l->records);
	free(l->stories);
	*l = (struct ledger){ 0 };
}

void ledger_open(struct ledger *l, uint64_t call, uint64_t caller, uint64_t id, bool checkout)
{
	if (call >= l->room) {
		l->room = 2 * call + 64;
		l->records = mem_resize(l->records, l->room, sizeof(*l->records));
	}
	while (l->n <= call)
		l->records[l->n++] = (struct record){ 0 };
	l->records[call] = (struct record){ .caller = caller, .id = id, .checkout = checkout };
	l->n_open++;
}

struct record *ledger_find(const struct ledger *l, uint64_t call)
{
	return call < l->n && l->records[call].caller ? &l->records[call] : NULL;
}

struct story *ledger_story(struct ledger *l, uint64_t session)
{
	if (session >= l->n_stories) {
		uint64_t n = 2 * session + 16;

		l->stories = mem_resize(l->stories, n, sizeof(*l->stories));
		memset(l->stories + l->n_stories, 0, (n - l->n_stories) * sizeof(*l->stories));
		l->n_stories = n;
	}
	return &l->stories[session];
}

bool ledger_runs_beside(const struct ledger *l, uint64_t direct)
{
	for (uint64_t i = 0; i < l->n_stories; i++) {
		if (l->stories[i].direct == direct && l->stories[i].running)
			return true;
	}
	return false;
}

void ledger_note_ended(struct ledger *l, uint64_t call)
{
	for (uint64_t i = 0; call && i < l->n_stories; i++) {
		if (l->stories[i].running == call)
			l->stories[i].running = 0;
	}
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

/* What the tests of reloads share: somebody who has asked for one. */
#pragma once

#include "daemon/pool/failure.h"
#include "daemon/pool/reload.h"
#include "tests/unit/pool_support.h"

struct seen {
	struct reload_waiter waiter;
	unsigned n;
	bool failed, cut;
	uint64_t generation;
	unsigned replaced;
	char message[300];
};

static inline void seen_on_done(struct reload_waiter *rw, const struct reload_result *r)
{
	struct seen *s = container_of(rw, struct seen, waiter);

	s->n++;
	s->failed = r->failure != NULL;
	s->cut = r->cut;
	s->generation = r->generation;
	s->replaced = r->replaced;
	if (r->failure)
		(void)snprintf(s->message, sizeof(s->message), "%s", r->failure->message);
}

static inline void ask(struct scene *sc, struct seen *s)
{
	*s = (struct seen){ .waiter = { .done = seen_on_done } };
	reload_start(sc->stage.pool, sc->stage.pool->settings, &s->waiter);
}

static inline void ck_reloaded(const struct seen *s)
{
	ck_assert_msg(s->n == 1 && !s->failed && !s->cut, "told %u times: %s", s->n, s->message);
}

/* Because of what the message says. */
static inline void ck_failed(const struct seen *s, const char *why)
{
	ck_assert_msg(s->n == 1 && s->failed && strstr(s->message, why), "told %u times: %s", s->n, s->message);
}

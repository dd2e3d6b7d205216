/* Who hears all events of a pool and knows nothing else of it. What it believes must be what is, after every step. */
#pragma once

#include "daemon/pool/feed.h"
#include "daemon/pool/pool.h"

struct heard_worker;
struct heard_session;

struct listener {
	struct feed feed;
	struct heard_worker *workers;   /* uthash; owns: that are not dead */
	struct heard_session *sessions; /* uthash; owns: that are open or lost */
	uint64_t n_leases;
	bool paused;
	enum breaker_state breaker;
	const char *wrong; /* static: an event that cannot be; NULL: there was none */
};

/* Listens to the feed of that registry from now on. */
void listener_init(struct listener *l, struct registry *g);
/* The daemon has died, and another one begins: what it has taken up is what there is. */
void listener_begin_anew(struct listener *l, struct registry *g, const struct pool *p);
void listener_deinit(struct listener *l);
/* NULL, or how what it believes of p differs from what is. Static. */
const char *listener_complaint(const struct listener *l, const struct pool *p);

/* One request of a client as its method sees it, and what methods have in common: to find what it names, submit, refuse. */
#pragma once

#include "daemon/pool/request.h"
#include "proto/methods.h"

struct client;
struct lease;
struct outcome;
struct pool;
struct session;

struct query_late {
	uint64_t received; /* ns */
	uint64_t call;     /* its number */
	unsigned attempts; /* workers that it was given to */
	bool retried;      /* see struct request */
	bool leased;       /* it waited under a lease */
};

/* Valid during the call of its method. */
struct query {
	struct client *client;
	uint64_t id;
	uint64_t received; /* ns */
	const struct slice *body;
	const struct query_late *late; /* it has been taken before, by the program before this one; NULL: it has not */
	enum role needs; /* what its method needs, on the pool that it concerns */
	struct params params;
};

/* Answers q with this error, and says which session q named. */
void query_refuse(const struct query *q, const struct outcome *why);
/* Answers q with an error of the given code. */
void query_fail(const struct query *q, enum error_code code, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
/* The lease of s that q is to run under; NULL: none. One that has been taken may have waited for the end of that lease. */
struct lease *query_lease_of(const struct query *q, const struct session *s);

/* In what follows NULL and false mean: not to be had, and q is answered. */

/* The pool that q's params name, and may use. */
struct pool *query_find_pool(const struct query *q);
/* Is w of the pool that is named, if one is? Else q is answered. */
bool query_is_of_pool(const struct query *q, const struct worker *w);
/* The pool of that name. */
struct pool *query_find_pool_named(const struct query *q, struct span name);
/* Does the client have the role on p that q's method needs? */
bool query_may(const struct query *q, const struct pool *p);
/* The named pool, else "default", else the only one. */
struct pool *query_choose_pool(const struct query *q);
/* A session that is not there is opened, unless q says otherwise. */
static inline bool query_opens(const struct query *q)
{
	return !params_has(&q->params, PARAM_OPEN) || q->params.open;
}
/* The session that q's params name, for a call; with `open` it is opened if need be. */
struct session *query_choose_session(const struct query *q, struct pool *p, bool open);
/* Is p, one of all pools, what q asks about: named or no other is, and its client may? */
bool query_concerns(const struct query *q, const struct pool *p);

/* Its id is free, and its user has room for it. */
bool query_may_submit(const struct query *q, enum request_kind kind);
/* The same for what is no request of a pool: see errand.h. */
bool query_may_wait(const struct query *q);
struct request_spec query_spec(const struct query *q, enum request_kind kind);

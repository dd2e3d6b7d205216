/* From a message to its method. */
#pragma once

#include "daemon/base/blob.h"
#include "proto/methods.h"

struct client;
struct pool;

/* One request as its method sees it; valid during the call. */
struct query {
	struct client *client;
	uint64_t id;
	uint64_t received; /* ns */
	const struct slice *body;
	enum role needs; /* what its method needs, on the pool that it concerns */
	struct params params;
};

/* Takes one message of a client. */
void router_take(struct client *c, const struct slice *body);
/* The pool that q's params name; NULL: there is none, or it takes another role, and q is answered. */
struct pool *query_find_pool(const struct query *q);
/* Does the client have the role on p that q's method needs? False: q is answered. */
bool query_may(const struct query *q, const struct pool *p);
/* Answers q with an error of the given code. */
void query_fail(const struct query *q, enum error_code code, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* What happens to workers, sessions, leases and pools, told to the feed. Each costs a look at a bit while nobody wants it. */
#pragma once

#include "daemon/pool/feed.h"
#include "daemon/pool/worker.h"

struct lease;
struct reload_result;
struct session;
struct tail_line;

/* w is in its state now; `ms` is how long it was in the one before. A move between idle and busy is no event: there are two of
 * them in each call. */
void event_worker_moved(const struct worker *w, enum worker_state from, uint64_t ms);
/* w is new. */
void event_worker_began(const struct worker *w);
/* A line that w has printed; one that has ended. */
void event_output(const struct worker *w, const struct tail_line *line);
/* So many lines came at once that these were never seen. */
void event_output_missed(const struct worker *w, uint64_t lines);
/* So many processes have ended with the program before this one, which told nobody. */
void event_workers_missed(const struct pool *p, uint64_t n);
/* what: "opened", "reopened", "lost", "closed", "expired". reason: in words, or NULL. */
void event_session(const struct session *s, const char *what, const char *reason);
/* ended: NULL, the lease has begun; else how it has ended. */
void event_lease(const struct lease *l, const char *ended);
/* The breaker of p is in its state now. */
void event_breaker(const struct pool *p);
/* what: a word. reason: in words, or NULL. */
void event_pool(const struct pool *p, const char *what, const char *reason);
void event_pool_resized(const struct pool *p);
/* result: NULL, the reload has begun. */
void event_reload(const struct pool *p, const struct reload_result *result);
/* The configuration was taken, or with a reason refused. */
void event_config(struct feed *f, const char *reason);

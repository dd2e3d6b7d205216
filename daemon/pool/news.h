/* What callers are told without having asked. */
#pragma once

struct lease;

/* l ends, and its caller did not want that. how: in words, after "lease 7 has ended: "; NULL: because of what became of its
 * worker. */
void news_lease_lost(const struct lease *l, const char *reason, const char *how);

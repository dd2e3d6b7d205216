/* What the daemon does at one moment, and what that makes a second compared with an earlier moment. */
#pragma once

#include <msgpack.h>

#include "client/ctl/ctl.h"

/* How much a worker had done. */
struct sample_count {
	uint64_t worker;
	uint64_t calls;
};

struct sample {
	uint64_t at_ms;                /* of a clock that never goes back */
	struct pypool_reply *status;   /* owns; NULL: not for this user */
	struct pypool_reply *pools;    /* owns, as the rest */
	struct pypool_reply *workers;
	struct pypool_reply *queue;
	struct sample_count *counts;   /* in the order of their workers */
	size_t n_counts;
};

/* Asks; pool: NULL for all. Connected already. 0, or negative, and pypool_last_error() says why. */
int sample_take(struct ctl *ctl, const char *pool, struct sample *s);
/* Safe on a zeroed one, which it is then. */
void sample_clear(struct sample *s);

/* Lists of maps as the daemon has sent them, with more pairs. before: NULL, or an earlier one; a rate is nil when there is nothing
 * to compare with. False: there is no memory, or the answer is no list. */

/* calls_per_s, failed_per_s */
bool sample_pack_pools(const struct sample *now, const struct sample *before, msgpack_packer *pk);
/* The living, those first that have been busy for the longest, then those that have answered most: busy_ms, calls_per_s */
bool sample_pack_workers(const struct sample *now, const struct sample *before, msgpack_packer *pk);
/* Those calls that wait. */
bool sample_pack_queue(const struct sample *now, msgpack_packer *pk);

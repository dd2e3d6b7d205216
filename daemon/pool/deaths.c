#include "daemon/pool/deaths.h"

#include <stdlib.h>

#include "daemon/base/mem.h"
#include "daemon/base/wall.h"
#include "daemon/pool/text.h"
#include "daemon/pool/worker.h"
#include "proto/pack.h"

void deaths_deinit(struct deaths *d)
{
	for (unsigned i = 0; i < DEATHS_KEPT; i++)
		free(d->ring[i].text);
	*d = (struct deaths){ 0 };
}

void deaths_add(struct deaths *d, const struct worker *w, const char *text)
{
	struct death *last = &d->ring[d->n++ % DEATHS_KEPT];

	free(last->text);
	*last = (struct death){ .wall_ms = wall_ms(), .worker = w->id, .text = mem_strdup(text) };
	text_make_utf8(last->text);
}

/* n: 0 is the last; of those that are kept. */
static const struct death *deaths_get(const struct deaths *d, uint64_t n)
{
	return &d->ring[(d->n - 1 - n) % DEATHS_KEPT];
}

const struct death *deaths_last(const struct deaths *d, unsigned n)
{
	return n < DEATHS_KEPT && n < d->n ? deaths_get(d, n) : NULL;
}

void deaths_pack(msgpack_packer *pk, const char *key, const struct deaths *d)
{
	uint32_t n = d->n < DEATHS_KEPT ? (uint32_t)d->n : DEATHS_KEPT;

	pack_text(pk, key);
	msgpack_pack_array(pk, n);
	for (uint32_t i = 0; i < n; i++) {
		const struct death *one = deaths_get(d, i);

		msgpack_pack_map(pk, 3);
		pack_kv_uint(pk, "time_ms", one->wall_ms);
		pack_kv_uint(pk, "worker", one->worker);
		pack_kv_text(pk, "what", one->text);
	}
}

#include "daemon/base/blob.h"

#include <stdlib.h>

#include "daemon/base/log.h"

#define BLOB_SPARE_MAX 256 /* 4 MiB of them: what a burst leaves behind does not stay for ever */

void blob_pool_init(struct blob_pool *pool)
{
	*pool = (struct blob_pool){ 0 };
}

void blob_pool_deinit(struct blob_pool *pool)
{
	while (pool->spare) {
		struct blob *b = pool->spare;

		pool->spare = b->next;
		free(b);
	}
	pool->n_spare = 0;
	if (pool->n_live)
		LOG_BUG("blobs are still held at the end");
}

static struct blob *blob_pool_take(struct blob_pool *pool)
{
	struct blob *b = pool->spare;

	if (!b)
		return NULL;
	pool->spare = b->next;
	pool->n_spare--;
	return b;
}

struct blob *blob_new(struct blob_pool *pool, size_t size)
{
	struct blob *b = NULL;

	if (size <= BLOB_STANDARD) {
		size = BLOB_STANDARD;
		b = blob_pool_take(pool);
	}
	if (!b) {
		if (size > PTRDIFF_MAX - sizeof(*b))
			return NULL;
		b = malloc(sizeof(*b) + size); /* not zeroed: that would cost as much as the copy that is avoided */
	}
	if (!b)
		return NULL;
	b->refs = 1;
	b->size = size;
	b->pool = pool;
	b->next = NULL;
	pool->n_live++;
	pool->live_bytes += size;
	return b;
}

struct blob *blob_copy(struct blob_pool *pool, struct span s)
{
	struct blob *b = blob_new(pool, s.len);

	if (b && s.len)
		memcpy(b->data, s.p, s.len);
	return b;
}

struct blob *blob_ref(struct blob *b)
{
	b->refs++;
	return b;
}

struct blob *blob_unref(struct blob *b)
{
	struct blob_pool *pool;

	if (!b || --b->refs)
		return NULL;
	pool = b->pool;
	pool->n_live--;
	pool->live_bytes -= b->size;
	if (b->size != BLOB_STANDARD || pool->n_spare >= BLOB_SPARE_MAX) {
		free(b);
		return NULL;
	}
	b->next = pool->spare;
	pool->spare = b;
	pool->n_spare++;
	return NULL;
}

struct slice slice_ref(struct blob *b, struct span s)
{
	return (struct slice){ .blob = b ? blob_ref(b) : NULL, .span = s };
}

void slice_clear(struct slice *s)
{
	blob_unref(s->blob);
	*s = (struct slice){ 0 };
}

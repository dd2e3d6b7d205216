#include "daemon/base/blob.h"

#include <stdlib.h>

#include "daemon/base/log.h"

#define BLOB_BIG (256 * 1024)
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
	blob_pool_trim(pool);
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

/* A large one is mapped and faulted in anew each time otherwise, which costs more than the copy. */
static struct blob *blob_pool_take_big(struct blob_pool *pool, size_t size)
{
	struct blob *b = pool->big;

	if (!b || b->size < size || b->size / 2 > size)
		return NULL;
	pool->big = NULL;
	pool->big_used = true;
	return b;
}

/* True: it is kept for the next message of about its size. */
static bool blob_pool_keep_big(struct blob_pool *pool, struct blob *b)
{
	if (b->size < BLOB_BIG || (pool->big && pool->big->size >= b->size))
		return false;
	free(pool->big);
	pool->big = b;
	if (pool->kept_big)
		pool->kept_big(pool);
	return true;
}

void blob_pool_trim(struct blob_pool *pool)
{
	free(pool->big);
	pool->big = NULL;
}

static struct blob *blob_begin(struct blob_pool *pool, struct blob *b, size_t size)
{
	if (!b && size <= PTRDIFF_MAX - sizeof(*b)) {
		b = malloc(sizeof(*b) + size); /* not zeroed: that would cost as much as the copy that is avoided */
		if (b)
			b->size = size;
	}
	if (!b)
		return NULL;
	b->refs = 1;
	b->pool = pool;
	b->next = NULL;
	pool->n_live++;
	pool->live_bytes += b->size;
	return b;
}

struct blob *blob_new(struct blob_pool *pool, size_t size)
{
	if (size <= BLOB_STANDARD)
		return blob_begin(pool, blob_pool_take(pool), BLOB_STANDARD);
	return blob_begin(pool, blob_pool_take_big(pool, size), size);
}

struct blob *blob_exact(struct blob_pool *pool, size_t size)
{
	return size < BLOB_STANDARD ? blob_begin(pool, NULL, size) : blob_new(pool, size);
}

struct blob *blob_copy(struct blob_pool *pool, struct span s)
{
	struct blob *b = blob_exact(pool, s.len);

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
		if (!blob_pool_keep_big(pool, b))
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

/*
 * A blob is a counted piece of memory for message bodies. Streams read into blobs; frames, requests and replies hold
 * references, so that a body is never copied on its way through. Blobs of the standard size come from a free list.
 */
#pragma once

#include "proto/span.h"

#define BLOB_STANDARD (16 * 1024) /* data bytes of a blob from the free list */

/* Owner of the free list and of the count of bytes. The daemon has one; it must outlive its blobs. */
struct blob_pool {
	struct blob *spare; /* owns */
	unsigned n_spare;
	unsigned n_live;    /* blobs that somebody holds */
	size_t live_bytes;  /* their capacity together */
	struct blob *big;   /* owns: one large blob, kept for the next large message; or NULL */
	bool big_used;      /* it was taken since this was last set to false */
	void (*kept_big)(struct blob_pool *pool); /* NULL, or told when one is kept: for blob_pool_trim() some time later */
};

struct blob {
	unsigned refs;
	size_t size; /* capacity of data */
	struct blob_pool *pool; /* borrows: outlives all blobs */
	struct blob *next;      /* free list */
	uint8_t data[];
};

/* Counted piece of a blob; blob is NULL for static or borrowed bytes, and for an empty slice. */
struct slice {
	struct blob *blob; /* ref */
	struct span span;
};

void blob_pool_init(struct blob_pool *pool);
/* Frees the spare blobs. Logs a BUG line if any blob is still held. */
void blob_pool_deinit(struct blob_pool *pool);

/* One reference, of at least size bytes, and BLOB_STANDARD at the least; NULL when memory cannot be had (an outsider chose the size). */
struct blob *blob_new(struct blob_pool *pool, size_t size);
/* Frees the large blob that is kept. */
void blob_pool_trim(struct blob_pool *pool);
/* Of just the size, for what is kept for long; NULL when memory cannot be had. */
struct blob *blob_exact(struct blob_pool *pool, size_t size);
/* A new blob of just the size that holds a copy of s; NULL when memory cannot be had. */
struct blob *blob_copy(struct blob_pool *pool, struct span s);
struct blob *blob_ref(struct blob *b);
struct blob *blob_unref(struct blob *b); /* NULL in, NULL out */
static inline bool blob_is_shared(const struct blob *b)
{
	return b->refs > 1;
}

struct slice slice_ref(struct blob *b, struct span s); /* takes a reference; b may be NULL */
void slice_clear(struct slice *s);                     /* drops it; s becomes empty */
#define _cleanup_slice_ __attribute__((cleanup(slice_clear)))

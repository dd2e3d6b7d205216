#include "daemon/pool/values.h"

#include <stdlib.h>

#include "daemon/base/cleanup.h"
#include "daemon/base/mem.h"
#include "proto/cursor.h"
#include "proto/pack.h"

/* One key that is set, or deleted: then value.len is 0. */
struct edit {
	struct span key, value, pair; /* pair: both, as they were encoded */
	bool done;                    /* it has replaced or removed something */
};

struct edits {
	struct edit *list;    /* owns: in the order of the caller */
	struct edit **sorted; /* owns: the same by key */
	uint32_t n;
};

static void edits_deinit(struct edits *e)
{
	free(e->list);
	free(e->sorted);
}

static int span_compare(struct span a, struct span b)
{
	size_t len = a.len < b.len ? a.len : b.len;
	int order = memcmp(a.p, b.p, len);

	return order ? order : (a.len > b.len) - (a.len < b.len);
}

static int edit_compare(const void *a, const void *b)
{
	return span_compare((*(struct edit *const *)a)->key, (*(struct edit *const *)b)->key);
}

static bool edit_read(struct edit *e, struct span *from, bool with_value)
{
	const uint8_t *begin = from->p;

	*e = (struct edit){ 0 };
	if (!mp_read_text(from, &e->key) || !e->key.len || e->key.len > VALUES_KEY_MAX)
		return false;
	if (with_value && !mp_read_any(from, &e->value))
		return false;
	e->pair = (struct span){ .p = begin, .len = (size_t)(from->p - begin) };
	return true;
}

static bool edits_read_all(struct edits *e, struct span set, uint32_t n_set, struct span del, uint32_t n_del)
{
	for (uint32_t i = 0; i < n_set; i++) {
		if (!edit_read(&e->list[e->n++], &set, true))
			return false;
	}
	for (uint32_t i = 0; i < n_del; i++) {
		if (!edit_read(&e->list[e->n++], &del, false))
			return false;
	}
	return true;
}

static bool edits_sort(struct edits *e)
{
	for (uint32_t i = 0; i < e->n; i++)
		e->sorted[i] = &e->list[i];
	qsort(e->sorted, e->n, sizeof(struct edit *), edit_compare);
	for (uint32_t i = 1; i < e->n; i++) {
		if (span_compare(e->sorted[i - 1]->key, e->sorted[i]->key) == 0)
			return false;
	}
	return true;
}

static enum values_status edits_read(struct edits *e, struct span set, struct span del)
{
	uint32_t n_set = 0, n_del = 0;

	if ((set.len && !mp_read_map(&set, &n_set)) || (del.len && !mp_read_array(&del, &n_del)))
		return VALUES_MALFORMED;
	if (n_set > VALUES_KEYS_MAX || n_del > VALUES_KEYS_MAX)
		return VALUES_TOO_MANY;
	if (!(n_set + n_del))
		return VALUES_OK;
	e->list = mem_resize(NULL, n_set + n_del, sizeof(*e->list));
	e->sorted = mem_resize(NULL, n_set + n_del, sizeof(struct edit *));
	return edits_read_all(e, set, n_set, del, n_del) && edits_sort(e) ? VALUES_OK : VALUES_MALFORMED;
}

static struct edit *edits_find(const struct edits *e, struct span key)
{
	struct edit wanted = { .key = key }, *w = &wanted;
	struct edit **found = e->n ? bsearch(&w, e->sorted, e->n, sizeof(struct edit *), edit_compare) : NULL;

	return found ? *found : NULL;
}

/* Where the new contents are counted, and then written. */
struct sink {
	uint8_t *to; /* NULL: only counted */
	struct values_size size;
};

static void sink_put(struct sink *k, struct span pair)
{
	if (k->to)
		memcpy(k->to + k->size.bytes, pair.p, pair.len);
	k->size.bytes += pair.len;
	k->size.keys++;
}

/* What is kept, with its replacements in their places, then what is new. */
static void edits_apply(const struct edits *e, const struct values *v, struct sink *k)
{
	struct span rest = v->pairs.span;
	struct edit kept;

	for (uint32_t i = 0; i < e->n; i++)
		e->list[i].done = false;
	for (uint32_t i = 0; i < v->n && edit_read(&kept, &rest, true); i++) {
		struct edit *by = edits_find(e, kept.key);

		if (!by) {
			sink_put(k, kept.pair);
		} else {
			by->done = true;
			if (by->value.len)
				sink_put(k, by->pair);
			else
				k->size.removed++;
		}
	}
	for (uint32_t i = 0; i < e->n; i++) {
		if (e->list[i].value.len && !e->list[i].done)
			sink_put(k, e->list[i].pair);
	}
}

static enum values_status values_replace(struct values *v, struct blob_pool *blobs, const struct edits *e, size_t bytes)
{
	struct blob *b = blob_exact(blobs, bytes);
	struct sink k = { .to = b ? b->data : NULL };

	if (!b)
		return VALUES_NO_MEMORY;
	edits_apply(e, v, &k);
	values_clear(v);
	v->pairs = (struct slice){ .blob = b, .span = { .p = b->data, .len = bytes } };
	v->n = k.size.keys;
	return VALUES_OK;
}

enum values_status values_edit(struct values *v, struct blob_pool *blobs, struct span set, struct span del, size_t limit,
			       struct values_size *size)
{
	_cleanup_(edits_deinit) struct edits e = { 0 };
	enum values_status bad = edits_read(&e, set, del);
	struct sink k = { 0 };

	if (!bad)
		edits_apply(&e, v, &k);
	if (size)
		*size = k.size;
	if (bad)
		return bad;
	if (k.size.keys > VALUES_KEYS_MAX)
		return VALUES_TOO_MANY;
	if (limit && k.size.bytes > limit)
		return VALUES_TOO_LARGE;
	return e.n ? values_replace(v, blobs, &e, k.size.bytes) : VALUES_OK;
}

void values_clear(struct values *v)
{
	slice_clear(&v->pairs);
	v->n = 0;
}

bool values_get(const struct values *v, struct span key, struct span *value)
{
	struct span rest = v->pairs.span;
	struct edit kept;

	for (uint32_t i = 0; i < v->n && edit_read(&kept, &rest, true); i++) {
		if (span_compare(kept.key, key) == 0) {
			*value = kept.value;
			return true;
		}
	}
	return false;
}

void values_pack(const struct values *v, msgpack_packer *pk)
{
	msgpack_pack_map(pk, v->n);
	pack_raw(pk, v->pairs.span);
}

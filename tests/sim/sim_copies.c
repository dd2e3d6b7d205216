#include "tests/sim/sim_copies.h"

#include <stdlib.h>
#include <utlist.h>

#include "daemon/base/mem.h"
#include "proto/cursor.h"
#include "proto/pack.h"

/* {session: {id, send, values?}} */
struct header {
	uint64_t id, send;
	struct span values;
};

static bool header_read(struct span params, struct header *h)
{
	struct span key, value, session = { 0 };
	uint32_t pairs;

	*h = (struct header){ 0 };
	if (!mp_read_map(&params, &pairs))
		return false;
	while (pairs--) {
		if (!mp_read_text(&params, &key) || !mp_read_any(&params, &value))
			return false;
		if (span_equals(key, "session"))
			session = value;
	}
	if (!session.len)
		return true;
	if (!mp_read_map(&session, &pairs))
		return false;
	while (pairs--) {
		if (!mp_read_text(&session, &key) || !mp_read_any(&session, &value))
			return false;
		if (span_equals(key, "id"))
			(void)mp_read_uint(&value, &h->id);
		else if (span_equals(key, "send"))
			(void)mp_read_uint(&value, &h->send);
		else if (span_equals(key, "values"))
			h->values = value;
	}
	return h->id && h->send;
}

static struct sim_copy *copies_find(const struct sim_copies *c, uint64_t session)
{
	struct sim_copy *copy = c->list;

	while (copy && copy->session != session)
		copy = copy->next;
	return copy;
}

static uint64_t values_n(struct span values)
{
	struct span key, value;
	uint32_t pairs;
	uint64_t n = 0;

	if (!mp_read_map(&values, &pairs))
		return 0;
	while (pairs-- && mp_read_text(&values, &key) && mp_read_any(&values, &value)) {
		if (span_equals(key, "n"))
			(void)mp_read_uint(&value, &n);
	}
	return n;
}

static struct sim_copy *copies_replace(struct sim_copies *c, const struct header *h)
{
	struct sim_copy *copy = copies_find(c, h->id);

	if (!copy) {
		copy = MEM_NEW(struct sim_copy);
		copy->session = h->id;
		DL_APPEND(c->list, copy);
	}
	copy->send = h->send;
	copy->n = values_n(h->values);
	return copy;
}

bool sim_copies_take(struct sim_copies *c, struct span params)
{
	struct sim_copy *copy;
	struct header h;

	c->session = 0;
	if (!header_read(params, &h))
		return false;
	if (!h.id)
		return true;
	copy = h.values.len ? copies_replace(c, &h) : copies_find(c, h.id);
	if (!copy || copy->send != h.send)
		return false;
	c->session = h.id;
	c->n = copy->n;
	return true;
}

void sim_copies_pack_writes(struct sim_copies *c, msgpack_packer *pk)
{
	struct sim_copy *copy = copies_find(c, c->session);

	if (copy)
		copy->n = c->n + 1;
	msgpack_pack_map(pk, 1);
	pack_text(pk, "set");
	msgpack_pack_map(pk, 1);
	pack_kv_uint(pk, "n", c->n + 1);
}

void sim_copies_end(struct sim_copies *c)
{
	c->session = 0;
}

static void copies_drop(struct sim_copies *c, struct sim_copy *copy)
{
	DL_DELETE(c->list, copy);
	free(copy);
}

void sim_copies_forget(struct sim_copies *c, struct span params)
{
	uint64_t session = 0, send = 0;
	struct span key, value;
	struct sim_copy *copy;
	uint32_t pairs;

	if (!mp_read_map(&params, &pairs))
		return;
	while (pairs-- && mp_read_text(&params, &key) && mp_read_any(&params, &value))
		(void)mp_read_uint(&value, span_equals(key, "session") ? &session : &send);
	copy = copies_find(c, session);
	if (copy && copy->send <= send)
		copies_drop(c, copy);
}

void sim_copies_close(struct sim_copies *c, struct span params)
{
	struct sim_copy *copy;
	struct header h;

	copy = header_read(params, &h) ? copies_find(c, h.id) : NULL;
	if (copy)
		copies_drop(c, copy);
}

void sim_copies_deinit(struct sim_copies *c)
{
	while (c->list)
		copies_drop(c, c->list);
}
